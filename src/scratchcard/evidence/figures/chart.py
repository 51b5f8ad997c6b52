"""What all figures share: the record of one, its legend and axes, and the width it is drawn at."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import altair as alt
from altair.utils.schemapi import debug_mode

from scratchcard.evidence.figures.looks import GREY, INK, PAPER, RULE, Look
from scratchcard.evidence.summary import covers
from scratchcard.row import StudySpec

FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif"
LETTER, SYMBOL, AXIS = 7, 32, 40
"""Pixels taken by a letter of the legend, by a symbol with its gaps, and by the labels of the vertical axis."""
CELL, GAP, SIDE, ACROSS = 190, 26, 50, 3
"""Of a figure with one small chart per layer: their least width, the gap between them, the room of their vertical
axis and of what juts out at the right (all in pixels), and the most of them side by side."""

CONFIG = {
    "font": FONT,
    "axis": {
        "domainColor": GREY,
        "gridColor": RULE,
        "tickColor": GREY,
        "labelColor": GREY,
        "titleColor": INK,
        "labelFontSize": 12,
        "titleFontSize": 12.5,
        "titleLimit": 300,
        "titleFontWeight": "normal",
        "titlePadding": 10,
    },
    "axisY": {"domain": False, "ticks": False, "tickCount": 6},
    "header": {"labelColor": INK, "labelFontSize": 12.5},
    "title": {"color": INK},
}
"""How every figure looks."""

unchecked = debug_mode(False)
"""Decorates what draws: the charts are ours, a test holds each against the schema, and to do so with every part of
every figure would be half of the time of a report."""

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
    below: Sequence[str] = (),
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
        below: Lines written under everything else, in small letters; under `above` where that is given.
    """
    # what is no layer is put in last, for every step before would copy and check all that is there
    chart = alt.layer(*layers, data=alt.Data(values=[]))
    if style:
        chart = chart.add_params(style.pick)
    small: dict[str, Any] = {"anchor": "start", "fontWeight": "normal", "offset": 12}
    about: dict[str, Any] = {"description": description, "background": "white"}
    if per:
        field, order = per
        header = alt.Header(title=None, labelAnchor="start", labelLimit=alt.ExprRef("cell"), labelPadding=6)
        if any("\n" in name for name in order):
            header["labelExpr"] = "split(datum.label, '\\n')"
        chart = chart.properties(width=CELL, height=height).facet(
            facet=alt.Facet(f"{field}:N", sort=list(order), header=header), columns=ACROSS, spacing=GAP
        )
        about["resolve"] = {"axis": {"x": "independent"}}
    else:
        about |= {"width": 1000, "height": height, "autosize": {"type": "fit-x", "contains": "padding"}}
    if above:
        under = {"subtitle": list(below), "subtitleFontSize": 11, "subtitleColor": GREY} if below else {}
        about["title"] = {"text": above, "fontSize": 12.5, **small, **under}
    elif below:
        about["title"] = {"text": list(below), "orient": "bottom", "frame": "bounds", "fontSize": 11, "color": GREY}
        about["title"] |= small
    spec = chart.to_dict(validate=False)
    legend = {"labelFontSize": 12, "labelColor": INK, "columnPadding": 14, "offset": 36 if style and not per else 18}
    params = [*spec.get("params", []), {"name": "room", "value": 1000}, {"name": "cell", "value": CELL}]
    config = {**spec["config"], **CONFIG, "view": {**spec["config"]["view"], "stroke": None}, "legend": legend}
    return {**spec, **about, "params": params, "config": config, "data": {"values": [_rounded(one) for one in values]}}


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


LOWER = "lower is better"


def metric_title(study: StudySpec) -> str:
    """The study's metric as the title of an axis, with the direction that is good where that is down."""
    unit = ", %" if study.metric_is_fraction else ""
    return f"test {study.metric}{unit}" + ("" if study.higher_is_better else f", {LOWER}")


def intervals_of(study: StudySpec, kind: str) -> list[str]:
    """Two lines that stand under every figure with intervals: what they are, and what they cover.

    Args:
        study: What the study declared.
        kind: E.g. "95 % interval".
    """
    over, _, test = covers(study).partition("; ")
    if len(kind) > 30:  # the rest of the line would not be seen in one column of a paper
        return [f"{kind}s", f"{over}; {test}."]
    return [f"{kind}s {over};", f"{test}."]


def confidence(study: StudySpec) -> str:
    """An interval of the study as it is called: "95 % interval"."""
    return f"{100 * (1 - study.alpha):g} % interval"


def window(every: Sequence[dict[str, Any]], near: Sequence[dict[str, Any]], most: float = float("inf")) -> list[float]:
    """The range of a vertical axis: all that is `near`, and as much beyond it as `near` itself spans.

    A control that collapses at the last levels would otherwise flatten everything the verdict is about.

    Args:
        every: All marks, each with "low", "mean" and "high".
        near: Those that the axis is made for.
        most: How far from its mean the axis follows an interval; what is wider has arrows (`edged`).
    """

    def ends(entries: Sequence[dict[str, Any]]) -> tuple[float, float]:
        lows = (max(entry["low"], entry["mean"] - most) for entry in entries)
        return min(lows), max(min(entry["high"], entry["mean"] + most) for entry in entries)

    low, high = ends(near or every)
    lowest, highest = ends(every)
    reach = high - low or abs(high) / 100 or 1.0
    low, high = max(low - reach, lowest), min(high + reach, highest)
    margin = (high - low or reach) / 25
    return [low - margin, high + margin]


def typical(values: Sequence[dict[str, Any]]) -> float:
    """How far the ends of most intervals are from their means: twice the middle one's length; inf where none has one.

    Intervals of two seeds can be a hundred times as long as others.
    """
    lengths = [max(entry["high"] - entry["mean"], entry["mean"] - entry["low"]) for entry in values]
    return 2 * median(lengths) if any(lengths) and median(lengths) else float("inf")


def edged(values: Sequence[dict[str, Any]], shown: Sequence[float], beside: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The marks, each with the edges of an axis that it goes beyond; `arrows` draws them.

    Args:
        values: Each with "mean", and "low" and "high" where it has an interval or a range.
        shown: The ends of the axis.
        beside: Fields of equal value where marks stand at one place, so that their arrows stand one behind the other.

    Returns:
        The marks with "under" and "over" (the edge, where something of the mark lies beyond it), "under_place" and
        "over_place" (how many arrows are nearer to the edge), and "out" (whether the mean itself is beyond an edge).
    """
    taken: dict[tuple[Any, ...], int] = {}
    found = []
    for entry in values:
        ends = [entry["mean"], *(entry[end] for end in ("low", "high") if end in entry)]
        beyond = {"under": min(ends) < shown[0], "over": max(ends) > shown[1]}
        more: dict[str, Any] = {"out": not shown[0] <= entry["mean"] <= shown[1]}
        for side, edge in zip(beyond, shown, strict=True):
            if beyond[side]:
                spot = (side, *(entry[field] for field in beside))
                more[side], more[f"{side}_place"] = edge, taken.get(spot, 0) if beside else 0
                taken[spot] = taken.get(spot, 0) + 1
        found.append({**entry, **more})
    return found


def arrows(
    base: alt.Chart,
    values: Sequence[dict[str, Any]],
    along: Literal["x", "y"],
    scale: alt.Scale,
    colour: alt.Color | alt.ColorValue,
    aside: Any = alt.Undefined,
    **encodings: Any,
) -> list[alt.Chart]:
    """Triangles at the edges of an axis, pointing outwards: filled where a mean lies beyond, hollow for its interval.

    Args:
        base: A chart over the values, with what places it along the other axis.
        values: From `edged`.
        along: The axis.
        scale: Of that axis.
        colour: Of the triangles.
        aside: By how much they stand beside their place on the other axis, in pixels.
        **encodings: What else they have.
    """
    place = {"x": alt.X, "y": alt.Y}[along]
    across = {"x": "y", "y": "x"}[along]
    shapes = {"x": ("triangle-left", "triangle-right"), "y": ("triangle-down", "triangle-up")}[along]
    layers = []
    for side, shape, inwards in zip(("under", "over"), shapes, (1, -1) if along == "x" else (-1, 1), strict=True):
        if not any(side in entry for entry in values):
            continue
        offset = alt.ExprRef(f"{5 * inwards} + {9 * inwards} * datum.{side}_place")
        fill = alt.when(f"datum.mean {'<' if side == 'under' else '>'} datum.{side}").then(colour)
        chart = base.transform_filter(f"isValid(datum.{side})").mark_point(
            shape=shape,
            size=42,
            strokeWidth=1.6,
            opacity=1,
            aria=False,
            **{f"{along}Offset": offset, f"{across}Offset": aside},
        )
        layers.append(
            chart.encode(
                **{along: place(f"{side}:Q", scale=scale)},
                color=colour,
                fill=fill.otherwise(alt.value(PAPER)),
                **encodings,
            )
        )
    return layers


def outside(values: Sequence[dict[str, Any]], ends: str = "ranges") -> str:
    """A sentence about what goes on beyond an axis; empty when nothing does.

    Args:
        values: From `edged`.
        ends: What reaches from "low" to "high".
    """
    means = sum(entry["out"] for entry in values)
    said = f" {means} of {len(values)} means lie outside the axis: filled arrows at its edge." if means else ""
    if any(not entry["out"] and ("under" in entry or "over" in entry) for entry in values):
        said += f" Hollow arrows: {ends} that go on beyond the axis."
    return said + (" The table has the numbers." if said else "")
