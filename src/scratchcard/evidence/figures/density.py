"""What happens as weights go: test metric and early-stop step against density, by arm or by method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from statistics import median
from typing import Any

import altair as alt

from scratchcard.evidence.arms import FAMILIES, by_family
from scratchcard.evidence.figures.chart import (
    FAR,
    Figure,
    Style,
    arrows,
    axis,
    edged,
    finished,
    metric_title,
    outside,
    tooltip,
    window,
)
from scratchcard.evidence.figures.looks import DENSE, GREY, INK, Look, looks_of_arms, looks_of_methods
from scratchcard.evidence.summary import HEADER, Line, Spread, cells, density_text, metric_cell, step_cell
from scratchcard.row import StudySpec

TOGETHER = 4
"""So many controls stand in one chart; more are shown family by family, each beside the ticket and dense."""
STEP = 9
"""Pixels between marks that would stand on each other at one density."""


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
    caption = f"Test {study.metric} {_point(study)}, mean over seeds."
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
    every = [
        {**entry, "line": line.method if line.level else "dense", "large": primary.get(line.method) == line.level}
        for line in wanted
        if (entry := _entry(line, quantity))
    ]
    values = _placed(every)
    drawn = {entry["line"] for entry in values}
    methods = [name for name in study.methods if name in drawn]
    looks = {"dense": DENSE} if "dense" in drawn else {}
    looks |= dict(zip(methods, looks_of_methods(len(methods)), strict=True))
    shown = window(values, [entry for entry in values if entry["line"] == "dense" or entry["large"]])
    values = edged(values, shown, ("place",))
    about = f"{quantity.title} of every method's tickets"
    spec = _drawn(values, looks, shown, None, quantity.title, about, height=380)
    caption = f"Test {study.metric} of the tickets {_point(study)}, mean over seeds.{_reach(values)}"
    caption += f" Large marks: each method's primary level.{_everything_cut(every)}{outside(values)}"
    table = [cells(line, study) for line in wanted]
    return Figure("methods", "How small does each method get?", caption, spec, HEADER, table)


def _metric(study: StudySpec) -> Quantity:
    return Quantity(
        lambda line: line.metric(study),
        lambda line: metric_cell(line.metric(study), study),
        metric_title(study),
        100 if study.metric_is_fraction else 1,
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
    whole = _whole(lines)
    controls = [arm for arm in arms if arm not in ("dense", "ticket", *whole)]
    upright = _upright([entry for entry in every if entry["level"] <= primary], ["dense", *whole])
    seen = [entry for entry in every if entry["line"] in upright] or every
    shown = window(seen, [entry for entry in seen if entry["level"] <= primary])
    families = by_family(controls) if len(controls) > TOGETHER else {}
    groups = [(f" {FAMILIES[family].capitalize()}", f"-{family}", members) for family, members in families.items()]
    figures, columns = [], [HEADER.index(column) for column in header]
    for heading, suffix, members in groups or [("", "", controls)]:
        names = [arm for arm in arms if arm in ("dense", "ticket", *whole, *members)]
        own = [entry for entry in every if entry["line"] in names]
        values = edged(_placed(own, whole), shown, ("place",))
        looks = dict(zip(names, looks_of_arms(names), strict=True))
        about = f"{quantity.title} against density: {', '.join(names)}"
        spec = _drawn(values, looks, shown, primary, quantity.title, about, whole)
        table = [[cells(line, study)[at] for at in columns] for line in lines if line.arm in names]
        said = caption + _reach(values) * (not figures) + _everything_cut(own) + outside(values)
        figures.append(Figure(name + suffix, title + heading, said, spec, list(header), table, bool(suffix), words=0))
        caption = "The same for other controls."
    return figures


def _whole(lines: Sequence[Line]) -> list[str]:
    """The controls whose networks are the whole one, e.g. dense and trained longer: nothing of them is a density.

    They belong to a ticket, and so to its level, but are no larger or smaller where the ticket is.
    """
    tickets = {line.level: line.density for line in lines if line.arm == "ticket" and line.runs}
    mine = [line for line in lines if line.arm not in ("dense", "ticket") and line.runs]
    cut = {line.arm for line in mine if line.density < 1 or tickets.get(line.level, 0) == 1}
    return list(dict.fromkeys(line.arm for line in mine if line.arm not in cut))


def _reach(values: Sequence[dict[str, Any]]) -> str:
    """What is drawn around the means and across the figure, in words."""
    bars = any(entry["alone"] for entry in values)
    bands = any(not entry["alone"] for entry in values)
    what = "Bands, and bars at single marks," if bars and bands else "Bars" if bars else "Bands"
    said = f" {what} reach from the lowest to the highest run (a range, not an interval)"
    if any(entry["line"] == "dense" for entry in values):
        said += "; the horizontal line is the dense network"
    whole = list(dict.fromkeys(entry["line"] for entry in values if entry["rule"] and entry["line"] != "dense"))
    if whole:
        said += f"; dashed across: {', '.join(whole)}, of whole networks too"
    return said + "."


def _everything_cut(values: Sequence[dict[str, Any]]) -> str:
    count = sum(entry["percent"] <= 0 for entry in values)
    return f" {count} of {len(values)} means, at density 0, have no place on a log scale." if count else ""


def _placed(values: Sequence[dict[str, Any]], whole: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The marks with how each is drawn: with a bar where its line has no other mark, and beside what stands there.

    Args:
        values: Marks of one figure; those at density 0 are left out.
        whole: Lines that are drawn straight across, besides the dense network.
    """
    values = [entry for entry in values if entry["percent"] > 0]
    marks = [entry["line"] for entry in values]
    ends = [log(entry["percent"]) for entry in values] or [0.0]
    near = (max(ends) - min(ends)) / 50
    spots: list[float] = []
    taken: dict[int, int] = {}
    found = []
    # what no bar goes with, and the ticket, keep their place
    order = sorted(
        values, key=lambda entry: marks.count(entry["line"]) == 1 and entry["line"] not in ("dense", "ticket")
    )
    for entry in order:
        at = next((i for i, spot in enumerate(spots) if abs(spot - log(entry["percent"])) <= near), len(spots))
        if at == len(spots):
            spots.append(log(entry["percent"]))
        alone, nth = marks.count(entry["line"]) == 1, taken.get(at, 0)
        if alone or nth == 0:
            taken[at] = nth + 1
        shift = STEP * ((nth + 1) // 2) * (1 if nth % 2 else -1) if alone else 0
        found.append(
            {
                **entry,
                "alone": alone,
                "rule": entry["line"] in ("dense", *whole),
                "shift": shift,
                "place": f"{at} {shift}",
            }
        )
    return sorted(found, key=lambda entry: marks.index(entry["line"]))


def _upright(entries: list[dict[str, Any]], whole: Sequence[str]) -> set[str]:
    """The arms that have not collapsed, as far as those that are cut go in the middle."""
    if not entries:
        return set()
    centre = next((entry["mean"] for entry in entries if entry["line"] == "dense"), entries[0]["mean"])
    cut = [entry for entry in entries if entry["line"] not in whole] or entries
    # where most means agree, their ranges say what is near
    limit = FAR * max(median(abs(e["mean"] - centre) for e in cut), median(e["high"] - e["low"] for e in cut))
    limit = limit or float("inf")
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
    whole: Sequence[str] = (),
    height: int = 330,
) -> dict[str, Any]:
    values = [{**entry, "dash": looks[entry["line"]].dash} for entry in values]
    style = Style("line", list(looks), list(looks.values()), lines_only=False)
    widest = max((abs(entry["shift"]) for entry in values), default=0)
    x = alt.X("percent:Q").scale(type="log", reverse=True, nice=False, padding=16 + widest)
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
    at_primary = [entry for entry in values if entry["level"] == primary and not entry["rule"]][:1]
    layers = []
    if dense:
        layers.append(alt.Chart(alt.Data(values=dense)).mark_rule(color=INK, opacity=0.45, clip=True).encode(y=y))
    layers += _across([entry for entry in values if entry["line"] in whole], values, shown, scale, style)
    if at_primary:
        marker = alt.Chart(alt.Data(values=at_primary)).encode(x=x)
        layers.append(marker.mark_rule(color=GREY, strokeDash=[1, 3]))
        places = [log(entry["percent"]) for entry in values]
        right = 2 * log(at_primary[0]["percent"]) < min(places) + max(places)  # no room beyond it there
        label = {"fontSize": 11, "color": GREY, "align": "right" if right else "left", "dx": -5 if right else 5}
        layers.append(marker.mark_text(text="primary level", y="height", dy=-5, baseline="bottom", **label))
    hover = tooltip(line="line", level="level", weights_left="density", mean_and_extremes="value", n_seeds="seeds")
    size = alt.when("datum.large").then(alt.value(150)).otherwise(alt.value(45))
    beside = alt.ExprRef("datum.shift")
    reach = {"y": alt.Y("low:Q", scale=scale), "y2": "high:Q"}
    # a band of one place has no breadth; and a layer that draws nothing would be warned of
    if any(not entry["alone"] for entry in values):
        band = base.transform_filter("!datum.alone").mark_area(clip=True, interpolate="linear", aria=False)
        layers.append(band.encode(**reach, opacity=style.opacity(0.11)))
    if any(entry["alone"] for entry in values):
        bars = base.transform_filter("datum.alone").mark_rule(clip=True, strokeWidth=2, xOffset=beside, aria=False)
        layers.append(bars.encode(**reach, opacity=style.opacity(0.6)))
    layers += [
        base.mark_line(clip=True, strokeWidth=2, aria=False).encode(
            y=y, strokeDash=style.dash, opacity=style.opacity()
        ),
        *arrows(base, values, "y", scale, style.colour, aside=beside, opacity=style.opacity(), tooltip=hover),
        base.mark_point(clip=True, strokeWidth=1.6, opacity=1, xOffset=beside, aria=False).encode(
            y=y,
            shape=style.shape,
            fill=style.filled("datum.whole"),
            size=size,
            opacity=style.opacity(),
            tooltip=hover,
        ),
    ]
    return finished(values, layers, style, description, height)


def _across(
    entries: list[dict[str, Any]], values: list[dict[str, Any]], shown: Sequence[float], scale: alt.Scale, style: Style
) -> list[alt.Chart]:
    """A labelled rule for each of the arms whose networks are whole; beyond the axis, its name and mean at the edge.

    Args:
        entries: Their marks.
        values: All marks of the figure.
        shown: The ends of the vertical axis.
        scale: Of that axis.
        style: How lines are told apart.
    """
    curves, letters = [entry["mean"] for entry in values if not entry["rule"]], (shown[1] - shown[0]) / 15
    back, labelled = 4, []
    for entry in entries:  # labels side by side, for the rules may lie close to each other
        above = sum(0 < mean - entry["mean"] < letters for mean in curves)
        below = sum(0 < entry["mean"] - mean < letters for mean in curves)
        at, name = min(max(entry["mean"], shown[0]), shown[1]), entry["line"]
        if entry["out"]:
            below, above = (0, 1) if entry["mean"] > shown[1] else (1, 0)
            name += f": {entry['mean']:,.4g}"
        labelled.append({**entry, "at": at, "label": name, "back": back, "down": 14 if below < above else -3})
        back += 6 * len(name) + 12
    if not labelled:
        return []
    base = alt.Chart(alt.Data(values=labelled)).encode(y=alt.Y("at:Q", scale=scale), color=style.colour)
    place: dict[str, Any] = {"x": alt.ExprRef("width - datum.back"), "yOffset": alt.ExprRef("datum.down")}
    rule = base.transform_filter("!datum.out").mark_rule(clip=True, strokeWidth=1.6, aria=False)
    label = base.mark_text(align="right", baseline="bottom", fontSize=11, aria=False, **place)
    layers = [label.encode(text="label:N", opacity=style.opacity())]
    if not all(entry["out"] for entry in entries):
        layers.insert(0, rule.encode(strokeDash=style.dash, opacity=style.opacity(0.8)))
    return layers
