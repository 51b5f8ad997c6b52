"""What happens as weights go: test metric and early-stop step against density, by arm or by method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import altair as alt

from scratchcard.evidence.arms import FAMILIES, by_family
from scratchcard.evidence.figures.chart import FAR, Figure, Style, axis, finished, outside, tooltip, window
from scratchcard.evidence.figures.looks import DENSE, GREY, INK, Look, looks_of_arms, looks_of_methods
from scratchcard.evidence.summary import HEADER, Line, Spread, cells, density_text, metric_cell, step_cell
from scratchcard.row import StudySpec

TOGETHER = 4
"""So many controls stand in one chart; more are shown family by family, each beside the ticket and dense."""


@dataclass(frozen=True)
class Quantity:
    """What is drawn of a line."""

    value: Callable[[Line], Spread | None]
    text: Callable[[Line], str]
    title: str
    factor: float = 1
    hollow: bool = False
    """Whether the mark of a mean that holds a censored run is hollow."""


def metric_figures(lines: Sequence[Line], study: StudySpec, primary: int) -> list[Figure]:
    """Test metric against density, one line per arm with its extremes (Frankle & Carbin 2019, Fig. 4).

    Args:
        lines: The lines of one method and of the dense network.
        study: What the study declared.
        primary: The level the verdict is about; marked.
    """
    caption = (
        f"Test {study.metric} {_point(study)}. Lines are means over seeds, bands reach from the lowest to the "
        "highest run, the horizontal line is the dense network."
    )
    header = HEADER[1:]
    return _by_arm("metric", "How small can it get?", caption, lines, study, primary, _metric(study), header)


def stop_figures(lines: Sequence[Line], study: StudySpec, primary: int) -> list[Figure]:
    """Early-stop step against density, one line per arm (Frankle & Carbin 2019, Fig. 4)."""
    caption = (
        f"Step at which the validation {study.loss} was lowest; lower is faster. A hollow mark holds a "
        "censored run (lowest in the last 5 % of its steps, so perhaps not yet its minimum): its mean is a "
        "lower bound."
    )
    quantity = Quantity(lambda line: line.stop_step, step_cell, "early-stop step", hollow=True)
    header = [*HEADER[1:6], HEADER[-1]]
    return _by_arm("early-stop", "How fast does it learn?", caption, lines, study, primary, quantity, header)


def overview_figure(lines: Sequence[Line], study: StudySpec) -> Figure:
    """Test metric of every method's tickets against density, beside the dense network.

    Args:
        lines: The lines of the study.
        study: What it declared; the level each method's verdict is about is drawn large.
    """
    wanted = [line for line in lines if line.arm in ("dense", "ticket")]
    quantity, primary = _metric(study), {name: plan.primary for name, plan in study.methods.items()}
    values = [
        {**entry, "line": line.method if line.level else "dense", "large": primary.get(line.method) == line.level}
        for line in wanted
        if (entry := _entry(line, quantity))
    ]
    drawn = {entry["line"] for entry in values}
    methods = [name for name in study.methods if name in drawn]
    looks = {"dense": DENSE} if "dense" in drawn else {}
    looks |= dict(zip(methods, looks_of_methods(len(methods)), strict=True))
    shown = window(values, [entry for entry in values if entry["line"] == "dense" or entry["large"]])
    spec = _drawn(values, looks, shown, None, quantity.title, f"{quantity.title} of every method's tickets", 380)
    caption = (
        f"Test {study.metric} of the tickets {_point(study)}, mean over seeds with the lowest and the highest run. "
        "Large marks: each method's primary level."
    )
    table = [cells(line, study) for line in wanted]
    return Figure("methods", "How small does each method get?", caption + outside(values, shown), spec, HEADER, table)


def _metric(study: StudySpec) -> Quantity:
    unit, factor = (", %", 100) if study.metric_is_fraction else ("", 1)
    return Quantity(
        lambda line: line.metric(study),
        lambda line: metric_cell(line.metric(study), study),
        f"test {study.metric}{unit}",
        factor,
    )


def _point(study: StudySpec) -> str:
    return "after the last step" if study.measure == "end" else "at the early-stop step"


def _by_arm(
    name: str,
    title: str,
    caption: str,
    lines: Sequence[Line],
    study: StudySpec,
    primary: int,
    quantity: Quantity,
    header: Sequence[str],
) -> list[Figure]:
    """One figure with all arms, or one per family of controls over the same axes where they are too many."""
    every = [entry for line in lines if (entry := _entry(line, quantity))]
    arms = list(dict.fromkeys(entry["line"] for entry in every))
    controls = [arm for arm in arms if arm not in ("dense", "ticket")]
    upright = _upright([entry for entry in every if entry["level"] <= primary])
    seen = [entry for entry in every if entry["line"] in upright] or every
    shown = window(seen, [entry for entry in seen if entry["level"] <= primary])
    families = by_family(controls) if len(controls) > TOGETHER else {}
    groups = [(f" {FAMILIES[family].capitalize()}", f"-{family}", members) for family, members in families.items()]
    figures, columns = [], [HEADER.index(column) for column in header]
    for heading, suffix, members in groups or [("", "", controls)]:
        names = [arm for arm in arms if arm in ("dense", "ticket", *members)]
        values = [entry for entry in every if entry["line"] in names]
        looks = dict(zip(names, looks_of_arms(names), strict=True))
        about = f"{quantity.title} against density: {', '.join(names)}"
        spec = _drawn(values, looks, shown, primary, quantity.title, about)
        table = [[cells(line, study)[at] for at in columns] for line in lines if line.arm in names]
        said = caption + outside(values, shown)
        figures.append(Figure(name + suffix, title + heading, said, spec, list(header), table, bool(suffix), words=0))
        caption = "The same for other controls."
    return figures


def _upright(entries: list[dict[str, Any]]) -> set[str]:
    """The arms that have not collapsed."""
    if not entries:
        return set()
    centre = next((entry["mean"] for entry in entries if entry["line"] == "dense"), entries[0]["mean"])
    limit = FAR * median(abs(entry["mean"] - centre) for entry in entries)
    far = {entry["line"] for entry in entries if abs(entry["mean"] - centre) > limit}
    return {entry["line"] for entry in entries} - (far - {"dense", "ticket"})


def _entry(line: Line, quantity: Quantity) -> dict[str, Any] | None:
    found = quantity.value(line)
    return found and {
        "line": line.arm,
        "level": line.level,
        "percent": round(100 * line.density, 6),
        "density": density_text(line.density),
        "mean": quantity.factor * found.mean,
        "low": quantity.factor * found.low,
        "high": quantity.factor * found.high,
        "value": quantity.text(line),
        "seeds": line.seeds,
        "whole": not (line.censored and quantity.hollow),
        "large": False,
    }


def _drawn(
    values: list[dict[str, Any]],
    looks: dict[str, Look],
    shown: Sequence[float],
    primary: int | None,
    title: str,
    description: str,
    height: int = 330,
) -> dict[str, Any]:
    values = [{**entry, "dash": looks[entry["line"]].dash} for entry in values]
    style = Style("line", list(looks), list(looks.values()), lines_only=False)
    x = alt.X("percent:Q").scale(type="log", reverse=True, nice=False, padding=16)
    x = x.axis(
        title="weights left, % (log scale)",
        values=sorted({entry["percent"] for entry in values}),
        labelExpr="format(datum.value, datum.value >= 99.5 ? '.3~r' : '.2~r')",
        labelOverlap="greedy",
        labelFlush=False,
        labelSeparation=3,
        grid=False,
    )
    scale = alt.Scale(domain=list(shown), nice=False)
    y = alt.Y("mean:Q", scale=scale).axis(**axis(title))
    base = alt.Chart().encode(x=x, color=style.colour)
    dense = [entry for entry in values if entry["line"] == "dense"][:1]
    at_primary = [entry for entry in values if entry["level"] == primary][:1]
    label = {"fontSize": 11, "color": GREY, "align": "left", "baseline": "bottom"}
    layers = []
    if dense:
        layers.append(alt.Chart(alt.Data(values=dense)).mark_rule(color=INK, opacity=0.45).encode(y=y))
    if at_primary:
        marker = alt.Chart(alt.Data(values=at_primary)).encode(x=x)
        layers.append(marker.mark_rule(color=GREY, strokeDash=[1, 3]))
        layers.append(marker.mark_text(text="primary level", y="height", dx=5, dy=-5, **label))
    hover = tooltip(line="line", level="level", weights_left="density", mean_and_extremes="value", n_seeds="seeds")
    size = alt.when("datum.large").then(alt.value(150)).otherwise(alt.value(45))
    layers += [
        base.mark_area(clip=True, interpolate="linear", aria=False).encode(
            y=alt.Y("low:Q", scale=scale), y2="high:Q", opacity=style.opacity(0.11)
        ),
        base.mark_line(clip=True, strokeWidth=2, aria=False).encode(
            y=y, strokeDash=style.dash, opacity=style.opacity()
        ),
        base.mark_point(clip=True, strokeWidth=1.6, opacity=1, aria=False).encode(
            y=y,
            shape=style.shape,
            fill=style.filled("datum.whole"),
            size=size,
            opacity=style.opacity(),
            tooltip=hover,
        ),
    ]
    return finished(values, layers, style, description, height)
