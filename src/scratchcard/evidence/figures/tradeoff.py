"""Metric against size for every method, arm and level; which size is the reader's choice."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

import altair as alt

from scratchcard.evidence.figures.chart import (
    Figure,
    arrows,
    axis,
    confidence,
    edged,
    finished,
    intervals_of,
    metric_title,
    outside,
    tooltip,
    top_legend,
    typical,
    window,
)
from scratchcard.evidence.figures.looks import DENSE, GREY, INK, looks_of_arms, looks_of_methods
from scratchcard.evidence.price import NOTHING, count_text
from scratchcard.evidence.summary import covers, metric_text, sd_text
from scratchcard.evidence.tradeoff import MASKED, SIZES, Place
from scratchcard.row import StudySpec

CHOICE = "against"
"""The parameter of the figure that holds the size chosen."""
SMALL = "physically small networks: "
"""Written before a size where masked networks, which have none of it, are in the same study."""


def trade_off_figure(places: Sequence[Place], study: StudySpec, conditions: Sequence[str]) -> Figure:
    """Seed means with their intervals against parameters, multiply-accumulates or latency, dense as a line.

    Args:
        places: Every point; those without a size are left out of that size's axis.
        study: What the study declared.
        conditions: Under which latencies were measured, in words.
    """
    sizes = [name for name in (*SIZES, MASKED) if sum(_has(place, name) for place in places) > 1]
    factor = 100 if study.metric_is_fraction else 1
    methods = list(dict.fromkeys(place.method for place in places if place.arm != "dense"))
    arms = list(dict.fromkeys(place.arm for place in sorted(places, key=lambda place: _order(place.arm, study))))
    values = [_entry(place, study, factor, sizes) for place in places]
    near = [entry for entry in values if entry["arm"] in ("dense", "ticket")]
    shown = window(values, near, typical(near))
    # at one level the ticket and its controls are mostly of one size
    values = edged(values, shown, ("level",))
    title = metric_title(study)
    about = f"{title} against size, one mark for every method, arm and level"
    dense = any(entry["arm"] == "dense" for entry in values)
    picture = _Picture(methods, arms, shown, title, dense, intervals_of(study, confidence(study)))
    better = "up" if study.higher_is_better else "down"
    caption = (
        f"Test {study.metric}: mean with its {confidence(study)} ({covers(study)}); the horizontal line is "
        f"the dense network. Large and filled: tickets, hollow: controls; colours are methods, shapes arms, thin lines "
        f"join the levels. Further left and further {better} is better; another size can be chosen below."
    )
    if MASKED in sizes:
        caption += (
            " Parameters, operations and latency are those of physically small networks alone. Networks whose cut "
            "weights are masked keep these zeros and multiply with them, so they save none of the three: they stand by "
            "themselves, against their weights that are not zero."
        )
    if len(conditions) == 1:
        caption += f" Latency is of one forward pass: {conditions[0]}, beside whatever else the machine did."
    elif conditions:
        caption += f" Latencies were measured under {len(conditions)} conditions and do not compare: "
        caption += f"{'; '.join(conditions)}."
    header = ["method", "arm", "level", "n seeds", f"test {study.metric}", "interval", "standard deviation", *sizes]
    return Figure(
        "tradeoff",
        "What does each size buy?",
        caption + outside(values, "intervals"),
        picture.to_choose_from(values, sizes, about),
        header,
        [_line(place, study, sizes) for place in places],
        words=2,
        paper=picture.side_by_side(values, sizes, about),
    )


class _Picture:
    """The marks of the figure, on one axis that is chosen or on several side by side."""

    def __init__(
        self,
        methods: Sequence[str],
        arms: Sequence[str],
        shown: Sequence[float],
        title: str,
        dense: bool,
        covered: Sequence[str],
    ) -> None:
        names = [*["dense"] * dense, *methods]
        colours = [DENSE.colour] * dense + [look.colour for look in looks_of_methods(len(methods))]
        shapes = [look.shape for look in looks_of_arms(arms)]
        self.scale, self.title, self.covered = alt.Scale(domain=list(shown), nice=False), title, covered
        self.colour = alt.Color("method:N", scale=alt.Scale(domain=names, range=colours), legend=top_legend(names))
        of_arms = top_legend(arms).copy()
        of_arms["symbolStrokeColor"], of_arms["symbolSize"] = GREY, 60
        of_arms["values"] = [arm for arm in arms if arm != "dense"]  # its colour tells it apart
        self.shape = alt.Shape("arm:N", scale=alt.Scale(domain=list(arms), range=shapes), legend=of_arms)
        self.methods = alt.selection_point(name="methods", fields=["method"], bind="legend")
        self.arms = alt.selection_point(name="arms", fields=["arm"], bind="legend")

    def to_choose_from(self, values: list[dict[str, Any]], sizes: Sequence[str], about: str) -> dict[str, Any]:
        """One axis, whose size is picked in a list below the figure."""
        place = {"x": f"datum.sizes[{CHOICE}]"}
        physical = f"{CHOICE} === '{MASKED}' ? '' : '{SMALL}'" if MASKED in sizes else "''"
        name = alt.Chart(alt.Data(values=[{}])).mark_text(
            text=alt.ExprRef(f"({physical}) + {CHOICE} + ' (log scale)'"),
            x=alt.ExprRef("width / 2"),
            y=alt.ExprRef("height + 38"),
            color=INK,
            fontSize=12.5,
            aria=False,
        )
        layers = [*self._layers(values, place, None), name]
        spec = finished(values, layers, None, about, 380, below=["", *self.covered])
        bind = {"input": "select", "options": list(sizes), "name": "size: "}
        spec["params"].append({"name": CHOICE, "value": sizes[0], "bind": bind})
        return _with_legends_below_each_other(spec)

    def side_by_side(self, values: list[dict[str, Any]], sizes: Sequence[str], about: str) -> dict[str, Any]:
        """One small chart for each size, for paper."""
        small = SMALL.strip() + "\n" if MASKED in sizes else ""
        names = {size: size.replace(": ", ":\n") if size == MASKED else small + size for size in sizes}
        folded = [{**entry, "sizes": {}, "of": names[size], "x": entry["sizes"][size]}
                  for entry in values for size in sizes if size in entry["sizes"]]  # fmt: skip
        layers, per = self._layers(values, None, "log scale"), ("of", list(names.values()))
        spec = finished(folded, layers, None, about, 230, per, self.title, self.covered)
        spec["resolve"] = {**spec.get("resolve", {}), "scale": {"x": "independent"}}
        return _with_legends_below_each_other(spec)

    def _layers(
        self, values: Sequence[dict[str, Any]], place: dict[str, str] | None, x_title: str | None
    ) -> list[alt.Chart]:
        vertical = alt.Axis(title=None, tickCount=5) if x_title else alt.Axis(**axis(self.title))
        x = alt.X("x:Q").scale(type="log", nice=False, padding=14)
        x = x.axis(
            title=x_title,
            grid=False,
            tickCount=5,
            labelExpr="format(datum.value, datum.value < 1000 ? '.3~g' : '.2~s')",
            labelOverlap="greedy",
            labelFlush=False,
            labelSeparation=6,
        )
        y = alt.Y("mean:Q", scale=self.scale, axis=vertical)

        def base() -> alt.Chart:
            chart = alt.Chart()
            if place:
                chart = chart.transform_calculate(**place).transform_filter("isValid(datum.x)")
            return chart

        def opacity(shown: float) -> Any:
            return alt.when(self.methods & self.arms).then(alt.value(shown)).otherwise(alt.value(shown / 8))

        marks = base().encode(x=x, color=self.colour)
        hover = tooltip(
            method="method", arm="arm", level="level", mean="value", standard_deviation="sd", n_seeds="n", size="size"
        )
        dense = base().transform_filter("datum.arm === 'dense'").mark_rule(color=INK, opacity=0.45, aria=False)
        whole = "datum.arm === 'ticket' || datum.arm === 'dense'"
        point = {"y": y, "shape": self.shape, "opacity": opacity(1), "tooltip": hover}
        controls = marks.transform_filter(f"!({whole})").mark_point(
            clip=True, size=42, strokeWidth=1.7, opacity=1, aria=False
        )
        # not filled, for the legend of the arms to show outlines: the fill is that of a second mark below
        found = marks.transform_filter(whole)
        body = found.mark_point(clip=True, size=95, filled=True, opacity=1, aria=False)
        edge = found.mark_point(clip=True, size=95, strokeWidth=1.7, opacity=1, aria=False)
        return [
            dense.encode(y=y),
            marks.mark_line(clip=True, strokeWidth=1, aria=False).encode(
                y=y, detail="arm:N", order="level:Q", opacity=opacity(0.4)
            ),
            marks.mark_rule(clip=True, strokeWidth=1.4, aria=False).encode(
                y=alt.Y("low:Q", scale=self.scale), y2="high:Q", opacity=opacity(0.45)
            ),
            *arrows(marks, values, "y", self.scale, self.colour, opacity=opacity(1), tooltip=hover),
            body.encode(y=y, opacity=opacity(1)),
            edge.encode(**point),
            controls.encode(**point).add_params(self.methods, self.arms),
        ]


def _with_legends_below_each_other(spec: dict[str, Any]) -> dict[str, Any]:
    spec["config"]["legend"]["layout"] = {"top": {"direction": "vertical", "anchor": "start", "margin": 6}}
    spec["config"]["legend"]["offset"] = 18 if "facet" in spec else 36
    return spec


def _has(place: Place, size: str) -> bool:
    """Whether the place has that size; none has a place on a log scale."""
    return size in place.sizes and place.sizes[size].mean > 0


def _order(arm: str, study: StudySpec) -> int:
    return study.arms.index(arm) if arm in study.arms else len(study.arms)


def _entry(place: Place, study: StudySpec, factor: float, sizes: Sequence[str]) -> dict[str, Any]:
    mean = place.mean
    low, high = (mean.mean if isnan(end) else end for end in (mean.low, mean.high))
    return {
        "method": place.method,
        "arm": place.arm,
        "level": place.level,
        "mean": factor * mean.mean,
        "low": factor * low,
        "high": factor * high,
        "value": f"{metric_text(mean.mean, study)} [{_interval(place, study)}]",
        "sd": NOTHING if isnan(mean.sd) else sd_text(mean.sd, study),
        "n": mean.n,
        "sizes": {name: float(f"{place.sizes[name].mean:.5g}") for name in sizes if _has(place, name)},
        "size": "; ".join(_size(name, place) for name in sizes if name in place.sizes),
    }


def _line(place: Place, study: StudySpec, sizes: Sequence[str]) -> list[str]:
    mean = place.mean
    return [
        place.method,
        place.arm,
        str(place.level),
        str(mean.n),
        metric_text(mean.mean, study),
        _interval(place, study),
        NOTHING if isnan(mean.sd) else sd_text(mean.sd, study),
        *(_number(place, name) for name in sizes),
    ]


def _interval(place: Place, study: StudySpec) -> str:
    mean = place.mean
    if isnan(mean.low):
        return "one seed"
    return f"{metric_text(mean.low, study).removesuffix(' %')} to {metric_text(mean.high, study)}"


def _size(name: str, place: Place) -> str:
    number = _number(place, name)
    if name == MASKED:
        return f"{number} weights that are not zero (masked)"
    return f"{number} ms" if name == "latency, ms" else f"{number} {name}"


def _number(place: Place, name: str) -> str:
    found = place.sizes.get(name)
    if found is None:
        return NOTHING
    mean, low, high = (count_text(number) for number in (found.mean, found.low, found.high))
    return mean if low == high else f"{mean} ({low} to {high})"
