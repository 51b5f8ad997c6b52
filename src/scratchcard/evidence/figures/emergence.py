"""When an early-bird ticket emerged: distances between the masks of its search, in pairs and one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import altair as alt

from scratchcard.evidence.emergence import Emerged, consecutive, drops_within
from scratchcard.evidence.figures.chart import Figure, axis, finished, tooltip, top_legend
from scratchcard.evidence.figures.looks import DISTANCES, GREY, INK, OTHERS, PAPER, RULE, TICKET
from scratchcard.evidence.price import NOTHING
from scratchcard.evidence.summary import thinned
from scratchcard.row import Emergence

MOST = 32
"""Masks in the heat map, each against each."""
LISTED = 16
"""Of these, in the table."""
FAR = 2.5
"""Random masks more than so many times as far apart as anything seen are named, and no axis is made for them."""
DROP, DRAWN = "learning rate drops", "ticket drawn"
READINGS = {
    "consecutive": "each of the last {patience} masks is within {epsilon:g} of the one before it",
    "window": "the newest mask is within {epsilon:g} of every other among the last {patience}",
}
"""What has to hold for a ticket to emerge, by reading."""


def emergence_figures(found: Emerged) -> list[Figure]:
    """The pairwise distances of one seed's masks, and the consecutive distances of all (You et al. 2020, Fig. 2 and 3).

    Args:
        found: The searches of one method at one level; without a seed that drew two masks there is nothing to draw.
    """
    seeds = {seed: one for seed, one in found.seeds.items() if len(one.steps) > 1}
    return [_matrix(seeds), _consecutive(seeds)] if seeds else []


def _matrix(seeds: dict[int, Emergence]) -> Figure:
    """Cell (i, j): distance of the masks drawn at steps i and j; yellow is none."""
    seed, one = next(iter(seeds.items()))
    masks = thinned(range(len(one.steps)), MOST)
    steps = [one.steps[at] for at in masks]
    largest = max(one.random, *(d for line in one.distances for d in line)) or 1.0
    values = [
        {
            "i": i,
            "step": one.steps[at],
            "j": list(range(len(masks))),
            "to": steps,
            "distance": [float(f"{one.distances[at][other]:.3g}") for other in masks],
        }
        for i, at in enumerate(masks)
    ]
    marks = _marks(one, steps)
    names = [name for name in (DRAWN, DROP) if any(mark["what"] == name for mark in marks)]
    dashes = {DRAWN: [1, 0], DROP: [5, 3]}
    labels = {str(i): f"{step:,}" for i, step in enumerate(steps)}
    ticks = [at + 0.5 for at in thinned(range(len(steps)), 5)]
    end = len(steps)
    scale, flipped = alt.Scale(domain=[0, end], nice=False), alt.Scale(domain=[end, 0], nice=False)

    def along(title: str | None, **more: Any) -> alt.Axis:
        expression = f"({labels})[format(floor(datum.value), 'd')]"
        return alt.Axis(
            title=title, values=ticks, labelExpr=expression, grid=False, domain=False, ticks=False,
            labelAngle=0, labelOverlap="greedy", **more,
        )  # fmt: skip

    cells = (
        alt.Chart()
        .transform_flatten(["j", "to", "distance"])
        .transform_calculate(left="datum.j", right="datum.j + 1.03", top="datum.i", bottom="datum.i + 1.03")
        .mark_rect(clip=True, aria=False)  # a little over the next cell, for no seams to show
        .encode(
            x=alt.X("left:Q", scale=scale, axis=along("step of the one mask")),
            x2="right:Q",
            y=alt.Y("top:Q", scale=flipped, axis=along("step of the other mask", **_above())),
            y2="bottom:Q",
            color=alt.Color(
                "distance:Q",
                scale=alt.Scale(type="quantize", domain=[0, largest], range=DISTANCES),
                legend=alt.Legend(
                    title="distance of two masks",
                    titleFontWeight="normal",
                    titleFontSize=12,
                    titleColor=INK,
                    orient="top",
                    format=".2~f",
                    gradientLength=alt.ExprRef(f"min(room - {2 * 40}, 260)"),
                    gradientThickness=12,
                ),
            ),
            tooltip=tooltip(step="step", and_step="to", distance="distance"),
        )
    )
    layers = [cells]
    if marks:
        lines = alt.Chart(alt.Data(values=marks))
        dash = alt.StrokeDash(
            "what:N",
            scale=alt.Scale(domain=names, range=[dashes[name] for name in names]),
            legend=_line_legend(names),
        )
        hover = tooltip(what="what", step="step")
        halo = lines.mark_rule(color=PAPER, strokeWidth=3.6, opacity=0.75, aria=False)
        line = lines.mark_rule(color=INK, strokeWidth=1.4, aria=False)
        layers += [halo.encode(x=alt.X("at:Q", scale=scale)), halo.encode(y=alt.Y("at:Q", scale=flipped))]
        layers += [
            line.encode(x=alt.X("at:Q", scale=scale), strokeDash=dash, tooltip=hover),
            line.encode(y=alt.Y("at:Q", scale=flipped), strokeDash=dash, tooltip=hover),
        ]
    spec = finished(values, layers, None, "distance between every two masks of a search", 340)
    spec["config"]["legend"] |= {
        "layout": {"top": {"direction": "vertical", "anchor": "start", "margin": 10}}, "offset": 36,
        "gradientStrokeColor": RULE,
    }  # fmt: skip
    caption = (
        f"Share of units in which two masks of the search differ, seed {seed}"
        + (f" of {len(seeds)}; the others are beside it as lines" if len(seeds) > 1 else "")
        + f". Yellow: no difference; two random masks differ in {one.random:.3g}."
    )
    if len(masks) < len(one.steps):
        caption += f" {len(masks)} of {len(one.steps)} masks are shown, evenly."
    listed = thinned(masks, LISTED)
    table = [[f"{one.steps[i]:,}", *(f"{one.distances[i][j]:.3f}" for j in listed)] for i in listed]
    header = ["step", *(f"{one.steps[j]:,}" for j in listed)]
    return Figure("masks", "When do the masks settle?", caption + _beyond(one), spec, header, table, half=True)


def _consecutive(seeds: dict[int, Emergence]) -> Figure:
    """Distance of each mask to the one before it, one line per seed, with the detector's threshold."""
    first = next(iter(seeds.values()))
    kinds = {
        "distance": TICKET,
        f"emerged, {first.reading}": TICKET,
        f"emerged, {_other(first.reading)}": OTHERS[0],
    }
    values = [
        {"seed": seed, "step": step, "distance": distance}
        for seed, one in seeds.items()
        for step, distance in zip(one.steps[1:], consecutive(one), strict=True)
    ]
    names = list(kinds)[1:]
    fired = [
        {"seed": seed, "step": step, "distance": _at(one, step), "what": what}
        for seed, one in seeds.items()
        for what, step in zip(names, (one.emerged, one.other_reading), strict=True)
        if step is not None
    ]
    highest = max([first.epsilon, *(entry["distance"] for entry in values)])
    far = first.random > FAR * highest
    highest = highest if far else max(highest, first.random)
    limits = [{"at": first.epsilon, "name": f"threshold {first.epsilon:g}"}]
    if not far:
        limits.append({"at": first.random, "name": f"two random masks {first.random:.3g}"})
    drops = sorted({drop for one in seeds.values() for drop in drops_within(one)})
    x = alt.X("step:Q").scale(nice=False).axis(title="training step", grid=False, format=",d", tickCount=5)
    scale = alt.Scale(domain=[0, 1.12 * highest], nice=False)
    y = alt.Y("distance:Q", scale=scale).axis(**axis("distance to the mask before"))
    hover = tooltip(seed="seed", step="step", distance="distance")
    level = alt.Chart(alt.Data(values=limits))
    words: dict[str, Any] = {"align": "right", "x": "width", "fontSize": 11.5, "dx": -2, "aria": False}
    layers: list[alt.Chart] = []
    if drops:
        drop = alt.Chart(alt.Data(values=[{"step": step, "what": DROP} for step in drops]))
        layers.append(
            drop.mark_rule(color=GREY, strokeDash=[5, 3]).encode(x=x, tooltip=tooltip(what="what", step="step"))
        )
        late = drops[0] > (values[0]["step"] + max(entry["step"] for entry in values)) / 3
        side, beside = ("right", drops[0]) if late else ("left", drops[-1])
        text = alt.Chart(alt.Data(values=[{"step": beside, "what": DROP}])).mark_text(
            align=side, dx=-5 if late else 5, color=GREY, fontSize=11.5, y=28, aria=False
        )
        layers.append(text.encode(x=x, text="what:N"))
    if far:
        beyond = alt.Chart(alt.Data(values=[{"name": f"two random masks: {first.random:.3g}, above this axis"}]))
        layers.append(beyond.mark_text(y=8, color=INK, **{**words, "dx": -14}).encode(text="name:N"))
        arrow = beyond.mark_point(shape="triangle-up", filled=True, size=50, opacity=1, color=INK, aria=False)
        layers.append(
            arrow.encode(x=alt.value("width"), y=alt.value(7), xOffset=alt.value(-6), tooltip=tooltip(beyond="name"))
        )
    at = alt.Y("at:Q", scale=scale)
    layers += [
        level.mark_rule(color=INK, strokeDash=[2, 3], aria=False).encode(y=at),
        level.mark_text(baseline="bottom", dy=-3, color=INK, **words).encode(y=at, text="name:N"),
        alt.Chart()
        .mark_line(color=TICKET.colour, strokeWidth=1.8, opacity=1 if len(seeds) == 1 else 0.55, aria=False)
        .encode(x=x, y=y, detail="seed:N"),
        alt.Chart().mark_point(size=60, filled=True, opacity=0, color=INK, aria=False).encode(x=x, y=y, tooltip=hover),
    ]
    if fired:
        shown = [name for name in names if any(entry["what"] == name for entry in fired)]
        legend = top_legend(shown).copy()
        layers.append(
            alt.Chart(alt.Data(values=fired))
            .mark_point(size=110, filled=True, opacity=1, stroke=PAPER, strokeWidth=0.8, aria=False)
            .encode(
                x=x,
                y=y,
                color=alt.Color(
                    "what:N",
                    scale=alt.Scale(domain=shown, range=[kinds[name].colour for name in shown]),
                    legend=legend,
                ),
                shape=alt.Shape(
                    "what:N",
                    scale=alt.Scale(domain=shown, range=[_SHAPES[names.index(name)] for name in shown]),
                    legend=legend,
                ),
                tooltip=tooltip(seed="seed", emerged="what", step="step", distance="distance"),
            )
        )
    spec = finished(values, layers, None, "distance of each mask to the one before it, one line for each seed", 340)
    spec["config"]["legend"]["offset"] = 36
    steps = sorted({entry["step"] for entry in values})
    cells = {(entry["seed"], entry["step"]): f"{entry['distance']:.3f}" for entry in values}
    table = [[f"{step:,}", *(cells.get((seed, step), NOTHING) for seed in seeds)] for step in steps]
    for name, of in (("emerged at", "emerged"), ("other reading at", "other_reading"), ("drawn at", "drawn")):
        numbers = (getattr(one, of) for one in seeds.values())
        table.append([name, *(NOTHING if number is None else f"{number:,}" for number in numbers)])
    header = ["step", *(f"seed {seed}" for seed in seeds)]
    return Figure("emergence", "When was the ticket drawn?", _said(seeds), spec, header, table, half=True)


_SHAPES = ["circle", "square"]


def _said(seeds: dict[int, Emergence]) -> str:
    """The detector, when it fired for each seed, and what the other reading would have done, in words."""
    first = next(iter(seeds.values()))
    what = READINGS.get(first.reading, first.reading).format(patience=first.patience, epsilon=first.epsilon)
    said = (
        f"One line per seed. By the reading {first.reading} a ticket emerges when {what}: "
        f"{_steps({seed: one.emerged for seed, one in seeds.items()})}. By the reading {_other(first.reading)}: "
        f"{_steps({seed: one.other_reading for seed, one in seeds.items()})}."
    )
    late: dict[int, int | None] = {seed: one.drawn for seed, one in seeds.items() if one.drawn != one.emerged}
    if late:
        said += f" Drawn instead at {_steps(late)}."
    if first.epsilon >= first.random:
        said += " The threshold lies above the distance of random masks, so it says nothing here."
    return said + _beyond(first)


def _steps(at: dict[int, int | None]) -> str:
    """Steps by seed in words: "step 1,200 (seed 0)"."""
    fired = {seed: step for seed, step in at.items() if step is not None}
    never = [str(seed) for seed in at if seed not in fired]
    parts = []
    if fired:
        parts.append("step " + ", ".join(f"{step:,} (seed {seed})" for seed, step in fired.items()))
    if never:
        parts.append(f"not before the search ended (seed{'s' if len(never) > 1 else ''} {', '.join(never)})")
    return ", ".join(parts)


def _beyond(one: Emergence) -> str:
    """A sentence about drops of the learning rate that the search never came to."""
    later = [f"{step:,}" for step in one.drops if step not in drops_within(one)]
    if not later:
        return ""
    return (
        f" Not reached by the search: the learning rate's drop at step {' and '.join(later)} of {one.search_steps:,}."
    )


def _other(reading: str) -> str:
    return "window" if reading == "consecutive" else "consecutive"


def _at(one: Emergence, step: int) -> float:
    """The consecutive distance at the last mask drawn by some step."""
    return consecutive(one)[max(0, bisect_right(one.steps, step) - 2)]


def _marks(one: Emergence, steps: Sequence[int]) -> list[dict[str, Any]]:
    """Where the draw and the drops stand among the masks shown, in cells."""
    marks = [{"what": DROP, "step": step, "at": _cell(step, steps)} for step in drops_within(one)]
    if steps[0] <= one.drawn <= steps[-1]:
        marks.append({"what": DRAWN, "step": one.drawn, "at": _cell(one.drawn, steps)})
    return marks


def _cell(step: int, steps: Sequence[int]) -> float:
    """A step as a place among cells, each of whose middles is the step of its mask."""
    at = min(bisect_right(steps, step) - 1, len(steps) - 2)
    return at + 0.5 + (step - steps[at]) / (steps[at + 1] - steps[at])


def _above() -> dict[str, Any]:
    """A title of the vertical axis that stands above it, as everywhere."""
    return {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleX": -36, "titleY": -12}


def _line_legend(names: Sequence[str]) -> alt.Legend:
    legend = top_legend(names, 12).copy()
    legend["symbolType"], legend["symbolSize"], legend["symbolStrokeColor"] = "stroke", 420, INK
    return legend
