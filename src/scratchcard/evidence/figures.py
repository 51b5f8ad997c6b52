"""Figures as Vega-Lite specifications, drawn from the tables alone, each with the table it was drawn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import altair as alt

from scratchcard.evidence.comparison import Comparison
from scratchcard.evidence.looks import ARMS, GREY, INK, LEVELS, OTHER_ARM, ZONE, Style, axis, finished
from scratchcard.evidence.summary import (
    HEADER,
    CurvePoint,
    Line,
    Spread,
    cells,
    density_text,
    difference_text,
    metric_cell,
    metric_text,
    step_cell,
)
from scratchcard.row import StudySpec


@dataclass(frozen=True)
class Figure:
    """A picture, what it shows, and the table it was drawn from."""

    title: str
    caption: str
    spec: dict[str, Any]
    header: list[str]
    table: list[list[str]]
    half: bool = False
    """Whether two such figures stand side by side where there is room."""


def difference_figure(comparisons: Sequence[Comparison], study: StudySpec) -> Figure:
    """Ticket minus every other arm at the primary level: mean, interval, and the margin of equivalence.

    Args:
        comparisons: Those of one method; without a difference (n = 0) they are in the table only.
        study: What the study declared.
    """
    unit, factor = (", pp", 100) if study.metric_is_fraction else ("", 1)
    values = [
        {
            "arm": c.arm,
            "mean": factor * c.mean,
            "value": difference_text(c.mean, study),
            "n": c.n,
            **({} if isnan(c.low) else {"low": factor * c.low, "high": factor * c.high}),
            **({} if isnan(c.margin) else {"margin": factor * c.margin}),
        }
        for c in comparisons
        if not isnan(c.mean)
    ]
    arms = [entry["arm"] for entry in values]
    looks = [ARMS.get(arm, OTHER_ARM) for arm in arms]
    y = alt.Y("arm:N", sort=arms).axis(title=None, labelColor=INK, labelLimit=0, labelPadding=10, grid=False)
    x = alt.X("mean:Q").axis(title=f"advantage of the ticket{unit}", grid=True, tickCount=6)
    colour = alt.Color("arm:N", legend=None).scale(domain=arms, range=[look.colour for look in looks])
    shape = alt.Shape("arm:N", legend=None).scale(domain=arms, range=[look.shape for look in looks])
    base = alt.Chart().encode(y=y)
    zone = alt.Chart().transform_calculate(minus="-datum.margin").mark_rect(color=ZONE)
    tooltip = [alt.Tooltip(field=name) for name in ("arm", "value", "n")]
    layers = [
        alt.Chart(alt.Data(values=[{}])).mark_rule(color=GREY).encode(x=alt.datum(0)),
        base.mark_point(size=90, filled=True, opacity=1).encode(x=x, color=colour, shape=shape, tooltip=tooltip),
    ]
    if any("low" in entry for entry in values):
        layers.insert(1, base.mark_rule(strokeWidth=2.5).encode(x=alt.X("low:Q"), x2="high:Q", color=colour))
    if any("margin" in entry for entry in values):
        layers.insert(0, zone.encode(x="min(minus):Q", x2="max(margin):Q"))
    caption = (
        f"Mean difference of test {study.metric} over seeds with its {100 * (1 - study.alpha):g} % interval; right of "
        "zero the ticket is better. Shaded: the margin within which two networks match."
    )
    table = [[c.arm, str(c.n), str(c)] for c in comparisons]
    spec = finished(values, layers, None, "ticket minus every other arm, with intervals", 60 + 34 * len(arms))
    return Figure("Better or worse, and by how much?", caption, spec, ["arm", "n seeds", "comparison"], table)


def metric_figure(lines: Sequence[Line], study: StudySpec, primary: int) -> Figure:
    """Test metric against density, one line per arm with its extremes (Frankle & Carbin 2019, Fig. 4).

    Args:
        lines: The lines of one method and of the dense network.
        study: What the study declared.
        primary: The level the verdict is about; marked.
    """
    spec, outside = _against_density(
        lines,
        lambda line: line.metric(study),
        lambda line: metric_cell(line.metric(study), study),
        f"test {study.metric}" + (", %" if study.metric_is_fraction else ""),
        100 if study.metric_is_fraction else 1,
        primary,
        hollow=False,
    )
    point = "after the last step" if study.measure == "end" else "at the early-stop step"
    caption = (
        f"Test {study.metric} {point}, against the share of the weights left. Lines are means over seeds, "
        "bands reach from the lowest to the highest run, the horizontal line is the dense network."
    )
    return Figure("How small can it get?", caption + outside, spec, HEADER, [cells(line, study) for line in lines])


def stop_figure(lines: Sequence[Line], study: StudySpec, primary: int) -> Figure:
    """Early-stop step against density, one line per arm (Frankle & Carbin 2019, Fig. 4)."""
    spec, outside = _against_density(
        lines, lambda line: line.stop_step, step_cell, "early-stop step", 1, primary, hollow=True
    )
    caption = (
        f"Step at which the validation {study.loss} was lowest; lower is faster. A hollow mark holds a "
        "censored run (lowest in the last 5 % of its steps, so perhaps not yet its minimum): its mean is a "
        "lower bound."
    )
    return Figure("How fast does it learn?", caption + outside, spec, HEADER, [cells(line, study) for line in lines])


def curve_figures(curves: Sequence[CurvePoint], study: StudySpec, primary: int) -> list[Figure]:
    """Test metric and validation loss against step, dense and tickets (Frankle & Carbin 2019, Fig. 3).

    Args:
        curves: Mean learning curves of the dense network (level 0) and of tickets.
        study: What the study declared.
        primary: The level the verdict is about; drawn thicker.
    """
    unit, factor = (", %", 100) if study.metric_is_fraction else ("", 1)
    metric, loss = f"test {study.metric}", f"validation {study.loss}"
    pictures = [
        ("Learning curves", metric, unit, "test_metric", factor, lambda value: metric_text(value, study)),
        ("Validation loss", loss, "", "validation_loss", 1, "{:.4g}".format),
    ]
    figures = []
    for heading, name, unit, field, factor, text in pictures:
        spec, outside = _against_step(curves, field, name + unit, factor, text, primary)
        table = [
            [str(p.level), density_text(p.density), f"{p.step:,}", str(p.runs), text(getattr(p, field))] for p in curves
        ]
        caption = (
            f"{name[0].upper()}{name[1:]} along the training, mean over finished runs. "
            f"Black: the dense network; thick: the ticket at the primary level."
        )
        figures.append(
            Figure(heading, caption + outside, spec, ["level", "density", "step", "runs", name], table, half=True)
        )
    return figures


def _against_density(
    lines: Sequence[Line],
    value: Callable[[Line], Spread | None],
    text: Callable[[Line], str],
    title: str,
    factor: float,
    primary: int,
    hollow: bool,
) -> tuple[dict[str, Any], str]:
    """The specification, and a sentence about means outside its axis (empty when there is none)."""
    values = [
        {
            "arm": line.arm,
            "dash": ARMS.get(line.arm, OTHER_ARM).dash,
            "level": line.level,
            "percent": round(100 * line.density, 6),
            "density": density_text(line.density),
            "mean": factor * spread.mean,
            "low": factor * spread.low,
            "high": factor * spread.high,
            "value": text(line),
            "seeds": line.seeds,
            "whole": not (line.censored and hollow),
        }
        for line in lines
        if (spread := value(line))
    ]
    window = _window(values, [entry for entry in values if entry["level"] <= primary])
    arms = list(dict.fromkeys(entry["arm"] for entry in values))
    style = Style("arm", arms, [ARMS.get(arm, OTHER_ARM) for arm in arms], lines_only=False)
    x = alt.X("percent:Q").scale(type="log", reverse=True, nice=False, padding=16)
    x = x.axis(
        title="weights left, % (log scale)",
        values=sorted({entry["percent"] for entry in values}),
        labelExpr="format(datum.value, datum.value >= 9.95 ? '.3~r' : '.2~r')",
        labelOverlap="greedy",
        labelFlush=False,
        grid=False,
    )
    y = alt.Y("mean:Q").scale(domain=window, nice=False).axis(**axis(title))
    base = alt.Chart().encode(x=x, color=style.colour)
    dense = [entry for entry in values if entry["arm"] == "dense"][:1]
    at_primary = [entry for entry in values if entry["level"] == primary][:1]
    label = {"fontSize": 11, "color": GREY, "align": "left", "baseline": "bottom"}
    layers = []
    if dense:
        layers.append(alt.Chart(alt.Data(values=dense)).mark_rule(color=INK, opacity=0.45).encode(y=y))
    if at_primary:
        marker = alt.Chart(alt.Data(values=at_primary)).encode(x=x)
        layers.append(marker.mark_rule(color=GREY, strokeDash=[1, 3]))
        layers.append(marker.mark_text(text="primary level", y="height", dx=5, dy=-5, **label))
    layers += [
        base.mark_area(clip=True, interpolate="linear").encode(
            y=alt.Y("low:Q").scale(domain=window), y2="high:Q", opacity=style.opacity(0.11)
        ),
        base.mark_line(clip=True, strokeWidth=2).encode(y=y, strokeDash=style.dash, opacity=style.opacity()),
        base.mark_point(clip=True, size=45, strokeWidth=1.6, opacity=1).encode(
            y=y,
            shape=style.shape,
            fill=style.filled("datum.whole"),
            opacity=style.opacity(),
            tooltip=[alt.Tooltip(field=name) for name in ("arm", "level", "density", "value", "seeds")],
        ),
    ]
    return finished(values, layers, style, f"{title} against density, one line per arm"), _outside(values, window)


def _against_step(
    curves: Sequence[CurvePoint],
    field: str,
    title: str,
    factor: float,
    text: Callable[[float], str],
    primary: int,
) -> tuple[dict[str, Any], str]:
    """The specification, and a sentence about values outside its axis (empty when there is none)."""

    def name(point: CurvePoint) -> str:
        return "dense" if point.level == 0 else f"ticket, {density_text(point.density)}"

    values = [
        {
            "network": name(point),
            "step": point.step,
            "mean": factor * getattr(point, field),
            "value": text(getattr(point, field)),
            "runs": point.runs,
            "primary": point.level == primary,
        }
        for point in curves
    ]
    last = max((point.step for point in curves), default=0)
    settled = [{**entry, "low": entry["mean"], "high": entry["mean"]} for entry in values if entry["step"] >= last / 5]
    window = _window(settled, [entry for entry in settled if entry["primary"] or entry["network"] == "dense"])
    names = list(dict.fromkeys(name(point) for point in curves))
    looks = [ARMS["dense"]] * ("dense" in names) + LEVELS
    style = Style("network", names, looks[: len(names)], lines_only=True)
    y = alt.Y("mean:Q").scale(domain=window, nice=False).axis(**axis(title))
    x = alt.X("step:Q").scale(nice=False).axis(title="training step", grid=False, format=",d", tickCount=5)
    line = (
        alt.Chart()
        .mark_line(clip=True)
        .encode(
            x=x,
            y=y,
            color=style.colour,
            strokeDash=style.dash,
            strokeWidth=alt.when("datum.primary").then(alt.value(3.2)).otherwise(alt.value(1.7)),
            opacity=style.opacity(),
            tooltip=[alt.Tooltip(field=name) for name in ("network", "step", "value", "runs")],
        )
    )
    return finished(values, [line], style, f"{title} against training step"), _outside(values, window)


def _window(every: Sequence[dict[str, Any]], near: Sequence[dict[str, Any]]) -> list[float]:
    """The range of the vertical axis: all that is `near`, and as much beyond it as `near` itself spans.

    A control that collapses at the last levels would otherwise flatten everything the verdict is about.
    """
    near = near or every
    low, high = min(entry["low"] for entry in near), max(entry["high"] for entry in near)
    reach = high - low or abs(high) / 100 or 1.0
    low = max(low - reach, min(entry["low"] for entry in every))
    high = min(high + reach, max(entry["high"] for entry in every))
    margin = (high - low or reach) / 25
    return [low - margin, high + margin]


def _outside(values: Sequence[dict[str, Any]], window: Sequence[float]) -> str:
    count = sum(not window[0] <= entry["mean"] <= window[1] for entry in values)
    return f" {count} of {len(values)} means lie outside the axis; the table has them." if count else ""
