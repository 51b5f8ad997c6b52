"""Learning curves: test metric and validation loss against the training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt

from scratchcard.evidence.figures.chart import Figure, Style, axis, finished, outside, targets, tooltip, window
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
    unit, factor = (", %", 100) if study.metric_is_fraction else ("", 1)
    metric, loss = f"test {study.metric}", f"validation {study.loss}"
    pictures = [
        ("curves-metric", "Learning curves", metric, unit, "test_metric", factor, lambda v: metric_text(v, study)),
        ("curves-loss", "Validation loss", loss, "", "validation_loss", 1, "{:.4g}".format),
    ]
    figures = []
    for place, heading, name, unit, field, factor, text in pictures:
        spec, beyond = _against_step(curves, field, name + unit, factor, text, primary)
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
    place = {
        "x": alt.X("step:Q").scale(nice=False).axis(title="training step", grid=False, format=",d", tickCount=5),
        "y": alt.Y("mean:Q").scale(domain=shown, nice=False).axis(**axis(title)),
        "color": style.colour,
    }
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
    return finished(values, [lines, hover], style, f"{title} against training step"), outside(values, shown)
