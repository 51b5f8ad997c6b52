"""Linear mode connectivity as a figure: the error along the lines, and the instability against the step."""

from __future__ import annotations

from math import isfinite
from statistics import fmean

import altair as alt

from scratchcard.evidence.connectivity import advice, by_step, said
from scratchcard.evidence.figures.chart import Figure, Style, arrows, axis, edged, finished, outside, tooltip, unchecked
from scratchcard.evidence.figures.looks import GREY, INK, LEVELS, OTHERS, TICKET, Look
from scratchcard.row import Connectivity


@unchecked
def lines_figure(found: Connectivity) -> Figure:
    """Error along the straight line between the two ends, one line per step (Frankle et al. 2020, Fig. 2)."""
    steps = by_step(found)
    factor, unit = (100, ", %") if found.metric_is_fraction else (1, "")
    values = []
    for at in steps:
        paths = [path.values for path in found.paths if path.step == at.step]
        for place, numbers in enumerate(zip(*paths, strict=True)):
            errors = [1 - value if found.metric_is_fraction and found.higher_is_better else value for value in numbers]
            values.append(
                {
                    "from": f"step {at.step:,}",
                    "share": place / (len(paths[0]) - 1),
                    "mean": factor * fmean(errors),
                    "low": factor * min(errors),
                    "high": factor * max(errors),
                }
            )
    names = [f"step {at.step:,}" for at in steps]
    style = Style("from", names, _looks(len(names)), lines_only=True)
    what = _error(found)
    x = alt.X("share:Q").axis(
        title="share of the second network", grid=False, values=[0, 0.25, 0.5, 0.75, 1], format=".2~f"
    )
    better = "higher" if found.higher_is_better and not found.metric_is_fraction else "lower"
    y = alt.Y("mean:Q").scale(zero=False).axis(**axis(f"validation {what}{unit}, {better} is better"))
    hover = tooltip(trained_apart_from="from", share="share", mean="mean")
    layers = [
        alt.Chart()
        .mark_area(opacity=0.1)
        .encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=style.colour, opacity=style.opacity(0.12)),
        alt.Chart()
        .mark_line(strokeWidth=2.2)
        .encode(x=x, y=y, color=style.colour, strokeDash=style.dash, opacity=style.opacity(), tooltip=hover),
    ]
    spec = finished(values, layers, style, f"validation {what} between two networks trained apart, one line per step")
    caption = (
        f"Validation {what} of networks on the straight line between two that were trained alike up to a step and "
        "under two data orders from there on; mean and range over seeds."
    )
    table = [
        [at["from"], f"{at['share']:.3f}", f"{at['mean']:.4g}", f"{at['low']:.4g} to {at['high']:.4g}"] for at in values
    ]
    return Figure("lines", "Between two data orders", caption, spec, ["apart from", "share", what, "range"], table)


@unchecked
def instability_figure(found: Connectivity) -> Figure:
    """Instability against the step at which the trainings part (Frankle et al. 2020, Fig. 3)."""
    steps = by_step(found)
    unit = "%" if found.metric_is_fraction else "% of the ends"
    # ends of which nothing is wrong make any other point of a line infinitely worse, and no axis has a place for that
    seen = [100 * one for at in steps for one in (*at.each, found.threshold) if isfinite(one)]
    margin = (max(*seen, 0.0) - min(*seen, 0.0)) / 25
    shown = [min(*seen, 0.0) - margin * (min(seen) < 0), max(*seen, 0.0) + margin]
    values = [
        {
            "step": f"{at.step:,}",
            **{
                name: 100 * one if isfinite(one) else 2 * shown[1]
                for name, one in (("mean", at.mean), ("low", min(at.each)), ("high", max(at.each)))
            },
            "value": said(at, found),
            "n": len(at.each),
        }
        for at in steps
    ]
    values = edged(values, shown)
    scale = alt.Scale(domain=shown, nice=False)
    x = alt.X("step:O", sort=None).axis(title=f"step at which the trainings part (of {found.steps:,})", labelAngle=0)
    y = alt.Y("mean:Q", scale=scale).axis(**axis(f"instability, {unit}, lower is better"))
    hover = tooltip(step="step", instability="value", n="n")
    base = alt.Chart().encode(x=x)
    threshold = alt.Chart(alt.Data(values=[{"at": 100 * found.threshold, "label": "stable below"}]))
    layers = [
        threshold.mark_rule(color=GREY, strokeDash=[4, 3]).encode(y=alt.Y("at:Q", scale=scale)),
        threshold.mark_text(align="right", baseline="bottom", dy=-4, dx=-4, color=GREY, fontSize=11).encode(
            y=alt.Y("at:Q", scale=scale), x=alt.value("width"), text="label:N"
        ),
        base.mark_rule(color=INK, strokeWidth=2, clip=True).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        base.mark_line(color=TICKET.colour, strokeWidth=2, clip=True).encode(y=y),
        *arrows(base, values, "y", scale, alt.ColorValue(TICKET.colour), tooltip=hover),
        base.mark_point(color=TICKET.colour, filled=True, size=80, opacity=1, clip=True).encode(y=y, tooltip=hover),
    ]
    spec = finished(values, layers, None, "instability against the step at which trainings part", 260)
    caption = "How much worse the worst point of a line is than the mean of its ends; mean and range over seeds. "
    caption += advice(found) + outside(values)
    table = [[f"{at.step:,}", said(at, found), str(len(at.each)), "yes" if at.stable else "no"] for at in steps]
    return Figure("instability", "From which step on?", caption, spec, ["step", "instability", "n", "stable"], table)


def _error(found: Connectivity) -> str:
    return "error" if found.metric_is_fraction and found.higher_is_better else found.metric


def _looks(number: int) -> list[Look]:
    looks = [*LEVELS, *OTHERS]
    return [looks[at % len(looks)] for at in range(number)]
