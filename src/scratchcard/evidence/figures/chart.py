"""What all figures share: the record of one, its legend and axes, and the width it is drawn at."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import altair as alt

from scratchcard.evidence.figures.looks import GREY, INK, PAPER, RULE, Look

FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif"
LETTER, SYMBOL, AXIS = 7, 32, 40
"""Pixels taken by a letter of the legend, by a symbol with its gaps, and by the labels of the vertical axis."""
CELL, GAP, SIDE, ACROSS = 190, 26, 50, 3
"""Of a figure with one small chart per layer: their least width, the gap between them, the room of their vertical
axis and of what juts out at the right (all in pixels), and the most of them side by side."""

FAR = 4
"""What lies more than so many times as far off as the arms do in the middle has collapsed: no axis is made for it."""


@dataclass(frozen=True)
class Figure:
    """A picture, what it shows, and the table it was drawn from."""

    name: str
    """Short and of one method; of letters, digits and hyphens, so that it can name a file."""
    title: str
    caption: str
    spec: dict[str, Any]
    """Vega-Lite, in the colours of a white page; `sized` gives it a width."""
    header: list[str]
    table: list[list[str]]
    half: bool = False
    """Whether two such figures stand side by side where there is room."""
    words: int = 1
    """Columns at the left of the table that hold names and no numbers."""
    paper: dict[str, Any] | None = None
    """What a file shows instead, where `spec` leaves a choice to its reader."""


class Style:
    """The encodings by which the marks of one figure are told apart, and the selection made in its legend.

    Args:
        field: The field of the data that names a line; unless `lines_only`, "dash" must hold its dash.
        names: Its values, in the order of the legend.
        looks: One look for each of the names.
        lines_only: Whether the figure has no marks on its lines, so that the legend must show dashes.
    """

    def __init__(self, field: str, names: Sequence[str], looks: Sequence[Look], lines_only: bool) -> None:
        legend = top_legend(names, 12 * lines_only).copy()
        legend["symbolType"] = "stroke" if lines_only else alt.Undefined
        legend["symbolSize"] = 420 if lines_only else 70

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
        """The fill of a mark: its colour where the test on its datum holds, else that of the page."""
        return alt.when(test).then(self.colour).otherwise(alt.value(PAPER))

    def opacity(self, shown: float = 1.0) -> Any:
        """`shown`, and next to nothing for what is not picked in the legend."""
        return alt.when(self.pick).then(alt.value(shown)).otherwise(alt.value(shown / 8))


def top_legend(names: Sequence[str], wider: int = 0, room: str = f"(room - {AXIS})") -> alt.Legend:
    """A legend above the figure in as many columns as there is room for (a Vega expression, in pixels)."""
    entry = LETTER * max(map(len, names)) + SYMBOL + wider
    return alt.Legend(
        title=None,
        orient="top",
        columns=alt.ExprRef(f"clamp(floor({room} / {entry}), 1, {len(names)})"),
        labelLimit=alt.ExprRef(f"{room} - {SYMBOL + wider}"),
        symbolStrokeWidth=2,
        symbolOpacity=1,
    )


def axis(title: str) -> dict[str, Any]:
    """A vertical axis whose title is written horizontally above it."""
    place = {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleX": -36, "titleY": -12}
    return {"title": title, **place}


def tooltip(**fields: str) -> list[alt.Tooltip]:
    """What is shown where the pointer rests: title = field of the data; "_" in a title stands for a space."""
    return [alt.Tooltip(field=field, title=title.replace("_", " ")) for title, field in fields.items()]


def targets(chart: alt.Chart, **encodings: Any) -> alt.Chart:
    """Invisible marks on the values of a line, for the pointer to rest on."""
    return chart.mark_point(size=90, filled=True, opacity=0, clip=True, aria=False).encode(**encodings)


def finished(
    values: list[dict[str, Any]],
    layers: Sequence[alt.Chart],
    style: Style | None,
    description: str,
    height: int = 330,
    per: tuple[str, Sequence[str]] | None = None,
    above: str | None = None,
) -> dict[str, Any]:
    """The layers over the values as one Vega-Lite specification.

    Args:
        values: The data.
        layers: From the back to the front.
        style: Its legend's selection is made part of the figure.
        description: What a screen reader says.
        height: Of the figure, or of one of its small charts, in pixels.
        per: A field and its values in order: one small chart for each.
        above: Written over the small charts in place of a title of their vertical axis.
    """
    # the values are put in last, for every step before would copy and check them
    chart = alt.layer(*layers, data=alt.Data(values=[])).properties(height=height)
    if style:
        chart = chart.add_params(style.pick)
    if per:
        field, order = per
        header = alt.Header(title=None, labelAnchor="start", labelLimit=alt.ExprRef("cell"), labelPadding=6)
        chart = chart.properties(width=CELL).facet(
            facet=alt.Facet(f"{field}:N", sort=list(order), header=header), columns=ACROSS, spacing=GAP
        )
        chart = chart.resolve_axis(x="independent")
    else:
        chart = chart.properties(width=1000, autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
    if above:
        chart = chart.properties(
            title=alt.TitleParams(above, anchor="start", fontWeight="normal", fontSize=12.5, offset=12)
        )
    chart = (
        chart.properties(description=description, background="white")
        .add_params(alt.param("room", value=1000), alt.param("cell", value=CELL))
        .configure(font=FONT)
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
        .configure_legend(labelFontSize=12, labelColor=INK, columnPadding=14, offset=36 if style and not per else 18)
        .configure_header(labelColor=INK, labelFontSize=12.5)
        .configure_title(color=INK)
    )
    return {**chart.to_dict(), "data": {"values": [_rounded(entry) for entry in values]}}


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    """No figure shows more than eight digits."""
    return {name: float(f"{value:.8g}") if isinstance(value, float) else value for name, value in entry.items()}


def sized(spec: dict[str, Any], width: int) -> dict[str, Any]:
    """The specification for a box of so many pixels; the page does the same in the browser."""
    spec = deepcopy(spec)
    cell = width
    if "facet" in spec:
        charts = len(spec["facet"]["sort"])
        spec["columns"] = max(1, min(ACROSS, charts, (width - SIDE + GAP) // (CELL + GAP)))
        cell = (width - SIDE + GAP) // spec["columns"] - GAP
        spec["spec"]["width"] = cell
    else:
        spec["width"] = width
    for param in spec["params"]:
        if param["name"] in ("room", "cell"):
            param["value"] = {"room": width, "cell": cell}[param["name"]]
    return spec


def window(every: Sequence[dict[str, Any]], near: Sequence[dict[str, Any]]) -> list[float]:
    """The range of a vertical axis: all that is `near`, and as much beyond it as `near` itself spans.

    A control that collapses at the last levels would otherwise flatten everything the verdict is about.
    """
    near = near or every
    low, high = min(entry["low"] for entry in near), max(entry["high"] for entry in near)
    reach = high - low or abs(high) / 100 or 1.0
    low = max(low - reach, min(entry["low"] for entry in every))
    high = min(high + reach, max(entry["high"] for entry in every))
    margin = (high - low or reach) / 25
    return [low - margin, high + margin]


def outside(values: Sequence[dict[str, Any]], window: Sequence[float]) -> str:
    """A sentence about means that lie outside an axis; empty when there is none."""
    count = sum(not window[0] <= entry["mean"] <= window[1] for entry in values)
    return f" {count} of {len(values)} means lie outside the axis; the table has them." if count else ""
