"""Every arm at the primary level, side by side: means with intervals, and the ticket's advantage over each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isnan
from statistics import median
from typing import Any

import altair as alt

from scratchcard.evidence.arms import FAMILIES, by_family, family_of
from scratchcard.evidence.comparison import Comparison, effect_text
from scratchcard.evidence.figures.chart import (
    FAR,
    LOWER,
    Figure,
    arrows,
    confidence,
    edged,
    finished,
    intervals_of,
    metric_title,
    tooltip,
)
from scratchcard.evidence.figures.looks import GREY, INK, ZONE, looks_by_family
from scratchcard.evidence.means import ArmMean
from scratchcard.evidence.summary import covers, metric_text, sd_text
from scratchcard.row import StudySpec


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
            "value": effect_text(c, study),
            "n": c.n,
            **({} if isnan(c.low) else {"low": factor * c.low, "high": factor * c.high}),
        }
        for c in comparisons
        if not isnan(c.mean)
    ]
    margin = next((factor * c.margin for c in comparisons if not isnan(c.margin)), 0.0)
    # of a loss the difference itself would be negative where the ticket is better: `compare` has turned it
    turned = "" if study.higher_is_better else "turned so that "
    title = [f"ticket minus arm{unit}", f"{turned}right = ticket better"]
    spec, beyond = _forest(
        values,
        0.0,
        margin,
        title,
        "ticket minus every other arm, with intervals",
        intervals_of(study, confidence(study)),
    )
    caption = (
        f"Mean difference of test {study.metric} with its {confidence(study)} ({covers(study)}), "
        f"{turned}right of zero the ticket is better. Shaded: the margin within which two networks match."
    )
    table = [[c.arm, str(c.n), str(c)] for c in comparisons]
    header = ["arm", "n seeds", "comparison"]
    return Figure("differences", "Better or worse, and by how much?", caption + beyond, spec, header, table)


def arms_figure(means: Sequence[ArmMean], study: StudySpec) -> Figure:
    """Dense network, ticket and controls at the primary level: the mean of each with its interval and n.

    Args:
        means: Those of one method at its primary level.
        study: What the study declared.
    """
    factor = 100 if study.metric_is_fraction else 1
    values = [
        {
            "arm": m.arm,
            "mean": factor * m.mean,
            "value": _interval(m, study),
            "n": m.n,
            **({} if isnan(m.low) else {"low": factor * m.low, "high": factor * m.high}),
        }
        for m in means
    ]
    means_of = {entry["arm"]: entry["mean"] for entry in values}
    centre = means_of.get("dense", means_of.get("ticket", values[0]["mean"]))
    about = f"test {study.metric} of every arm, with intervals"
    title = [metric_title(study).removesuffix(f", {LOWER}"), *([] if study.higher_is_better else [LOWER])]
    spec, beyond = _forest(values, centre, 0.0, title, about, intervals_of(study, confidence(study)))
    caption = (
        f"Test {study.metric} of each arm by itself, {_seeds(means)}: mean with its {confidence(study)} "
        f"({covers(study)}), the vertical line is the dense network. Intervals that overlap may still belong to arms "
        "that differ: seeds are paired in the differences above, not here."
    )
    header = ["arm", "n seeds", "mean", confidence(study), "standard deviation"]
    table = [[m.arm, str(m.n), *_parts(m, study), "–" if isnan(m.sd) else sd_text(m.sd, study)] for m in means]  # noqa: RUF001
    return Figure("arms", "All arms side by side", caption + beyond, spec, header, table)


def _forest(
    values: list[dict[str, Any]],
    centre: float,
    zone: float,
    title: Sequence[str],
    description: str,
    covered: Sequence[str],
) -> tuple[dict[str, Any], str]:
    """One row per arm, controls under the headings of their families; and what lies off the axis, in sentences.

    Args:
        values: One for each arm.
        centre: Where the vertical line stands that they are compared with.
        zone: Half-width of what is shaded around it; 0 for none.
        title: Of the horizontal axis, line by line.
        description: What a screen reader says.
        covered: What the intervals cover, line by line.
    """
    arms = [entry["arm"] for entry in values]
    ends = [end for entry in values for end in (entry.get("low"), entry["mean"], entry.get("high")) if end is not None]
    reaches = [max(centre - entry["low"], entry["high"] - centre) for entry in values if "low" in entry]
    # at least the middle one of the intervals is seen whole: those of two seeds may be far longer than any difference
    far = [distance for entry in values if (distance := abs(entry["mean"] - centre))]
    limit = max(FAR * median(far or [0.0]), FAR * zone, median(reaches or [0.0]))
    near = [end for end in ends if abs(end - centre) <= (limit or float("inf"))] or ends
    low, high = min([*near, centre - zone]), max([*near, centre + zone])
    room = (high - low or abs(high) / 100 or 1.0) / 25
    low, high = low - room, high + room
    values = edged(values, [low, high])
    off = [entry for entry in values if entry["out"]]
    rows, headings = _rows(arms)
    looks = looks_by_family(arms)
    y = alt.Y("arm:N", scale=alt.Scale(domain=rows)).axis(
        title=None,
        labelColor=alt.condition(f"indexof({json.dumps(headings)}, datum.value) >= 0", alt.value(GREY), alt.value(INK)),
        labelLimit=alt.ExprRef("room * 0.5"),
        labelPadding=10,
        grid=False,
    )
    scale = alt.Scale(domain=[low, high], nice=False)
    x = alt.X("mean:Q", scale=scale).axis(
        title=title,
        # to the left of the plot is room for more of it, under the names of the arms
        titleAnchor="end",
        titleLimit=alt.ExprRef("room * 0.9"),
        grid=True,
        tickCount=6,
        labelOverlap="greedy",
        labelSeparation=6,
    )
    colour = alt.Color("arm:N", legend=None).scale(domain=arms, range=[look.colour for look in looks])
    shape = alt.Shape("arm:N", legend=None).scale(domain=arms, range=[look.shape for look in looks])
    hover = tooltip(arm="arm", mean_with_interval="value", n_seeds="n")
    base = alt.Chart().encode(y=y)
    middle = alt.Chart(alt.Data(values=[{"from": centre - zone, "to": centre + zone, "centre": centre}]))
    layers = [middle.mark_rule(color=GREY).encode(x=alt.X("centre:Q", scale=scale))]
    if zone:
        layers.insert(0, middle.mark_rect(color=ZONE).encode(x=alt.X("from:Q", scale=scale), x2="to:Q"))
    if any("low" in entry for entry in values):
        interval = base.mark_rule(strokeWidth=2.5, clip=True, aria=False)
        layers.append(interval.encode(x=alt.X("low:Q", scale=scale), x2="high:Q", color=colour, tooltip=hover))
    point = base.mark_point(size=90, filled=True, opacity=1, clip=True)
    layers.append(point.encode(x=x, color=colour, shape=shape, tooltip=hover))
    # of an arm off the axis the arrow below says more
    inside = base.transform_filter("!datum.out")
    layers += arrows(inside, [entry for entry in values if not entry["out"]], "x", scale, colour, tooltip=hover)
    for entry in off:
        side = "left" if entry["mean"] < low else "right"
        edge = low if side == "left" else high
        at_edge = alt.Chart(alt.Data(values=[{**entry, "edge": edge, "label": entry["value"].partition(" [")[0]}]))
        at_edge = at_edge.encode(x=alt.X("edge:Q", scale=scale), y=y, tooltip=hover)
        inwards = 1 if side == "left" else -1
        layers.append(
            at_edge.mark_point(shape=f"triangle-{side}", size=70, color=INK, filled=True, xOffset=5 * inwards)
        )
        layers.append(at_edge.mark_text(fontSize=12, color=INK, align=side, dx=14 * inwards).encode(text="label:N"))
    beyond = " Arms with a number at the edge lie outside the axis, at that value." if off else ""
    if any("under" in entry or "over" in entry for entry in values if not entry["out"]):
        beyond += " Hollow arrows: intervals that go on beyond the axis; the table has their ends."
    return finished(values, layers, None, description, 56 + 30 * len(rows), below=covered), beyond


def _rows(arms: Sequence[str]) -> tuple[list[str], list[str]]:
    """The rows of a forest and, among them, the headings: families where there are several, of more than four arms."""
    families = by_family(arms)
    if len(families) < 2 or sum(map(len, families.values())) <= 4:
        return list(arms), []
    rows = [arm for arm in arms if family_of(arm) is None]
    for family, members in families.items():
        rows += [FAMILIES[family] + ":", *members]
    return rows, [heading + ":" for heading in FAMILIES.values()]


def _seeds(means: Sequence[ArmMean]) -> str:
    """How many seeds stand behind the means, the odd ones by name."""
    most = max(m.n for m in means)
    odd = ", ".join(f"{m.arm} {m.n}" for m in means if m.n != most)
    return f"n = {most} seeds" + (f" ({odd})" if odd else "")


def _parts(mean: ArmMean, study: StudySpec) -> list[str]:
    if isnan(mean.low):
        return [metric_text(mean.mean, study), "–"]  # noqa: RUF001
    low, high = metric_text(mean.low, study).removesuffix(" %"), metric_text(mean.high, study)
    return [metric_text(mean.mean, study), f"{low} to {high}"]


def _interval(mean: ArmMean, study: StudySpec) -> str:
    value, interval = _parts(mean, study)
    return value if isnan(mean.low) else f"{value} [{interval.removesuffix(' %').replace(' to ', ', ')}]"
