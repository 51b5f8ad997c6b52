"""How arms and tickets look in every figure: fixed colours, dashes and shapes, and the page's typography."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

INK, GREY, RULE, ZONE = "#1f2328", "#5b626b", "#e6e8eb", "#eef3f7"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif"
LETTER, SYMBOL, AXIS = 7, 32, 40
"""Pixels taken by a letter of the legend, by a symbol with its gaps, and by the labels of the vertical axis."""


@dataclass(frozen=True)
class Look:
    """Colour, dash and shape together: nothing is told apart by colour alone."""

    colour: str
    dash: list[int]
    shape: str


ARMS = {
    "dense": Look(INK, [1, 0], "circle"),
    "ticket": Look("#0072B2", [1, 0], "circle"),
    "fresh-init": Look("#D55E00", [7, 3], "square"),
    "random-mask-layerwise": Look("#009E73", [2, 2], "triangle-up"),
    "random-mask-global": Look("#AA4499", [8, 3, 2, 3], "diamond"),
}
"""Hues that stay apart under the common colour-vision deficiencies (after Okabe and Ito)."""
OTHER_ARM = Look("#8a6d00", [4, 4], "cross")
LEVELS = [
    Look("#7db9e3", [6, 2], "square"),
    Look("#3d96d1", [2, 2], "triangle-up"),
    Look("#0072B2", [9, 3, 2, 3], "diamond"),
    Look("#00507e", [4, 4], "triangle-down"),
    Look("#7a2f8f", [12, 3], "cross"),
]
"""Tickets of one method, from the densest shown to the sparsest."""


class Style:
    """The encodings by which the marks of one figure are told apart, and the selection made in its legend.

    Args:
        field: The field of the data that names a line; unless `lines_only`, "dash" must hold its dash.
        names: Its values, in the order of the legend.
        looks: One look for each of the names.
        lines_only: Whether the figure has no marks on its lines, so that the legend must show dashes.
    """

    def __init__(self, field: str, names: Sequence[str], looks: Sequence[Look], lines_only: bool) -> None:
        room = LETTER * max(map(len, names)) + SYMBOL + 12 * lines_only
        legend = alt.Legend(
            title=None,
            orient="top",
            columns=alt.ExprRef(f"clamp(floor(((containerSize()[0] || 1000) - {AXIS}) / {room}), 1, {len(names)})"),
            symbolType="stroke" if lines_only else alt.Undefined,
            symbolSize=420 if lines_only else 70,
            symbolStrokeWidth=2,
            symbolOpacity=1,
        )

        def scale(values: Sequence[Any]) -> alt.Scale:
            return alt.Scale(domain=list(names), range=list(values))

        self.colour = alt.Color(f"{field}:N", scale=scale([look.colour for look in looks]), legend=legend)
        dashes = scale([look.dash for look in looks])
        if lines_only:
            self.dash = alt.StrokeDash(f"{field}:N", scale=dashes, legend=legend)
        else:  # read from the data, for a scale without a legend would still dash the marks in the legend
            self.dash = alt.StrokeDash("dash:N", scale=None)
        self.shape = alt.Shape(f"{field}:N", scale=scale([look.shape for look in looks]), legend=legend)
        self.pick = alt.selection_point(fields=[field], bind="legend")

    def filled(self, test: str) -> Any:
        """The fill of a mark: its colour where the test on its datum holds, else white."""
        return alt.when(test).then(self.colour).otherwise(alt.value("white"))

    def opacity(self, shown: float = 1.0) -> Any:
        """`shown`, and next to nothing for what is not picked in the legend."""
        return alt.when(self.pick).then(alt.value(shown)).otherwise(alt.value(shown / 8))


def axis(title: str) -> dict[str, Any]:
    """A vertical axis whose title is written horizontally above it."""
    place = {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleX": -36, "titleY": -12}
    return {"title": title, **place}


def finished(
    values: list[dict[str, Any]], layers: Sequence[alt.Chart], style: Style | None, description: str, height: int = 330
) -> dict[str, Any]:
    """The layers over the values as one Vega-Lite specification, as wide as the box it stands in."""
    chart = (
        alt.layer(*layers, data=alt.Data(values=values))
        .add_params(*([style.pick] if style else []))
        .properties(width="container", height=height, description=description, background="transparent")
        .configure(font=FONT, autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
        .configure_view(stroke=None)
        .configure_axis(
            domainColor=GREY,
            gridColor=RULE,
            tickColor=GREY,
            labelColor=GREY,
            titleColor=INK,
            labelFontSize=12,
            titleFontSize=12.5,
            titleLimit=300,
            titleFontWeight="normal",
            titlePadding=10,
        )
        .configure_axisY(domain=False, ticks=False, tickCount=6)
        .configure_legend(labelFontSize=12, labelColor=INK, labelLimit=0, columnPadding=14, offset=36)
    )
    return chart.to_dict()
