"""The lottery comparison as a figure: original minus fresh initial weights, against the initial learning rate."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from scratchcard.evidence.figures.chart import (
    Figure,
    Style,
    arrows,
    axis,
    edged,
    finished,
    intervals_of,
    outside,
    tooltip,
    typical,
    unchecked,
    window,
)
from scratchcard.evidence.figures.looks import GREY, OTHERS, TICKET
from scratchcard.evidence.lottery import Drawn, interval
from scratchcard.evidence.summary import covers
from scratchcard.row import StudySpec


@unchecked
def lottery_figure(lottery: Sequence[Drawn], study: StudySpec) -> Figure:
    """One mark per structure and rate, with its interval (Liu et al. 2019, Rethinking, Fig. 7)."""
    factor, unit = (100, ", pp") if study.metric_is_fraction else (1, "")
    structures = list(dict.fromkeys(one.structure for one in lottery))
    values = [
        {
            "structure": one.structure,
            "dash": at,
            "rate": f"{one.rate:g}",
            "mean": factor * float(one.difference.mean),
            "low": factor * float(one.difference.low if one.difference.n > 1 else one.difference.mean),
            "high": factor * float(one.difference.high if one.difference.n > 1 else one.difference.mean),
            "value": _difference(one, factor),
            "n": one.difference.n,
            "kept": f"{100 * one.density:.3g} %",
        }
        for at, structure in enumerate(structures)
        for one in lottery
        if one.structure == structure
    ]
    style = Style("structure", structures, [TICKET, *OTHERS][: len(structures)], lines_only=False)
    x = alt.X("rate:O", sort=None).axis(title="initial learning rate", labelAngle=0)
    beside = alt.XOffset("structure:N", sort=structures)
    zero = {"mean": 0.0, "low": 0.0, "high": 0.0}
    shown = window([*values, zero], [*values, zero], typical(values))
    values = edged(values, shown)
    # of a loss the difference itself would be negative where original weights are better: `drawn` has turned it
    turned = "" if study.higher_is_better else "turned so that "
    scale = alt.Scale(domain=shown, nice=False)
    y = alt.Y("mean:Q", scale=scale).axis(**axis(f"original minus fresh{unit}, {turned}up = original better"))
    hover = tooltip(structure="structure", learning_rate="rate", difference="value", n="n", weights_kept="kept")
    base = alt.Chart().encode(x=x, xOffset=beside, color=style.colour)
    layers = [
        alt.Chart(alt.Data(values=[{"at": 0}]))
        .mark_rule(color=GREY, strokeDash=[4, 3])
        .encode(y=alt.Y("at:Q", scale=scale)),
        base.mark_rule(strokeWidth=2.2, clip=True).encode(
            y=alt.Y("low:Q", scale=scale), y2="high:Q", opacity=style.opacity()
        ),
        *arrows(base, values, "y", scale, style.colour, tooltip=hover, opacity=style.opacity()),
        base.mark_point(filled=True, size=110, opacity=1, clip=True).encode(
            y=y, tooltip=hover, opacity=style.opacity()
        ),
    ]
    about = "what original initial weights are worth against the learning rate"
    kind = interval(lottery, study)
    spec = finished(values, layers, style, about, 280, below=intervals_of(study, kind))
    caption = (
        f"Test {study.metric} of tickets trained from their original initial weights minus that of the same structure "
        f"from another draw of them, mean with its {kind} ({covers(study)}); {turned}above 0 the original weights are "
        f"better.{outside(values, 'intervals')}"
    )
    table = [
        [
            one.structure,
            f"{one.rate:g}",
            f"{100 * one.density:.3g} %",
            _mean(one.own, factor),
            _mean(one.fresh, factor),
            f"{factor * one.dense:.2f}",
            _difference(one, factor),
            str(one.difference.n),
        ]
        for one in lottery
    ]
    header = ["structure", "learning rate", "weights kept", "original", "fresh", "dense", "difference", "n"]
    return Figure("lottery", "What are the original initial weights worth?", caption, spec, header, table)


def _mean(values: Sequence[float], factor: float) -> str:
    return f"{factor * sum(values) / len(values):.2f}"


def _difference(one: Drawn, factor: float) -> str:
    found = one.difference
    spread = "" if found.n < 2 else f" [{factor * float(found.low):+.2f}, {factor * float(found.high):+.2f}]"
    return f"{factor * float(found.mean):+.2f}{spread}"
