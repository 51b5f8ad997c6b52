"""Learning curves: test metric and validation loss against the training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import altair as alt

from scratchcard.evidence.figures.chart import (
    LOWER,
    Figure,
    Style,
    arrows,
    axis,
    edged,
    finished,
    metric_title,
    targets,
    tooltip,
    window,
)
from scratchcard.evidence.figures.looks import DENSE, LEVELS
from scratchcard.evidence.summary import CurvePoint, density_text, metric_text
from scratchcard.row import StudySpec


def curve_figures(curves: Sequence[CurvePoint], study: StudySpec, primary: int) -> list[Figure]:
    """Test metric and validation loss against step, dense and tickets (Frankle & Carbin 2019, Fig. 3).

    Args:
        curves: Mean learning curves of the dense network (level 0) and of tickets.
        study: What the study declared.
        primary: The level the verdict is about; drawn thicker.
    """
    factor = 100 if study.metric_is_fraction else 1
    metric, loss = f"test {study.metric}", f"validation {study.loss}"
    pictures = [
        ("curves-metric", "Learning curves", metric, metric_title(study), "test_metric", factor,
         lambda v: metric_text(v, study)),
        ("curves-loss", "Validation loss", loss, f"{loss}, {LOWER}", "validation_loss", 1, "{:.4g}".format),
    ]  # fmt: skip
    figures = []
    for place, heading, name, title, field, factor, text in pictures:
        spec, beyond = _against_step(curves, field, title, factor, text, primary)
        table = [
            [str(p.level), density_text(p.density), f"{p.step:,}", str(p.runs), text(getattr(p, field))] for p in curves
        ]
        caption = (
            f"{name[0].upper()}{name[1:]} along the training, mean over finished runs. "
            f"Solid: the dense network; thick: the ticket at the primary level."
        )
        header = ["level", "density", "step", "runs", name]
        figures.append(Figure(place, heading, caption + beyond, spec, header, table, half=True, words=0))
    return figures


def _against_step(
    curves: Sequence[CurvePoint],
    field: str,
    title: str,
    factor: float,
    text: Callable[[float], str],
    primary: int,
) -> tuple[dict[str, Any], str]:
    """The specification, and a sentence about values outside its axis."""

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
    shown = window(settled, [entry for entry in settled if entry["primary"] or entry["network"] == "dense"])
    names = list(dict.fromkeys(name(point) for point in curves))
    looks = [DENSE] * ("dense" in names) + LEVELS
    style = Style("network", names, looks[: len(names)], lines_only=True)
    scale = alt.Scale(domain=shown, nice=False)
    x = alt.X("step:Q").scale(nice=False).axis(title="training step", grid=False, format=",d", tickCount=5)
    place = {"x": x, "y": alt.Y("mean:Q", scale=scale).axis(**axis(title)), "color": style.colour}
    lines = (
        alt.Chart()
        .mark_line(clip=True)
        .encode(
            strokeDash=style.dash,
            strokeWidth=alt.when("datum.primary").then(alt.value(3.2)).otherwise(alt.value(1.7)),
            opacity=style.opacity(),
            **place,
        )
    )
    hover = targets(alt.Chart(), tooltip=tooltip(network="network", step="step", mean="value", runs="runs"), **place)
    layers, stretches = [lines, hover], _beyond(edged(values, shown), shown)
    if stretches:
        hints = tooltip(network="network", beyond_the_axis="steps", farthest="value", there="at")
        base = alt.Chart(alt.Data(values=stretches)).encode(x=x)
        layers += arrows(base, stretches, "y", scale, style.colour, opacity=style.opacity(), tooltip=hints)
    outside = " Arrows: where a curve leaves the axis or comes onto it; the table has the numbers." if stretches else ""
    return finished(values, layers, style, f"{title} against training step"), outside


def _beyond(values: Sequence[dict[str, Any]], shown: Sequence[float]) -> list[dict[str, Any]]:
    """One mark for each stretch of a curve beyond the axis, at its edge, where the line crosses it."""
    stretches: list[dict[str, Any]] = []
    for network in dict.fromkeys(entry["network"] for entry in values):
        curve = [entry for entry in values if entry["network"] == network]
        for side, edge, farthest in zip(("under", "over"), shown, (min, max), strict=True):
            out = [side in entry for entry in curve]
            starts = [at for at, beyond in enumerate(out) if beyond and not (at and out[at - 1])]
            for start in starts:
                end = next((at for at in range(start, len(out)) if not out[at]), len(out)) - 1
                inner = start - 1 if start else end + 1
                extreme = farthest(curve[start : end + 1], key=lambda entry: entry["mean"])
                stretches.append(
                    {
                        "network": network,
                        "step": _crossing(curve[start if start else end], curve[inner], edge)
                        if inner < len(curve)
                        else curve[end]["step"],
                        "mean": extreme["mean"],
                        "value": extreme["value"],
                        "at": f"at step {extreme['step']:,}",
                        "steps": f"steps {curve[start]['step']:,} to {curve[end]['step']:,}",
                        side: edge,
                    }
                )
    # curves that cross at nearly the same step have their arrows one behind the other
    reach = (max((entry["step"] for entry in values), default=0)) / 40
    for side in ("under", "over"):
        mine = sorted((entry for entry in stretches if side in entry), key=lambda entry: entry["step"])
        for entry in mine:
            entry[f"{side}_place"] = 0
        for before, entry in pairwise(mine):
            if entry["step"] - before["step"] < reach:
                entry[f"{side}_place"] = before[f"{side}_place"] + 1
    return stretches


def _crossing(outer: dict[str, Any], inner: dict[str, Any], edge: float) -> float:
    share = (edge - inner["mean"]) / (outer["mean"] - inner["mean"])
    return inner["step"] + share * (outer["step"] - inner["step"])
