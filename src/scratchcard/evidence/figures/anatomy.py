"""What tickets look like inside: surviving initial weights, how far weights travel, and how units are connected."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import erf, sqrt
from typing import Any

import altair as alt

from scratchcard.evidence.figures.chart import Figure, Style, finished, targets, tooltip
from scratchcard.evidence.figures.looks import GREY, LEVELS, ORANGE, TICKET, Look
from scratchcard.evidence.inside import Counts, Inside
from scratchcard.evidence.summary import density_text

NORMAL = "normal curve"


def anatomy_figures(found: Inside) -> list[Figure]:
    """Initial weights (Frankle & Carbin 2019, App. F.1 and F.2), movement (F.5) and connections (F.6) of tickets.

    Args:
        found: Of one method; a figure without counts is left out.
    """
    incoming, outgoing = ([c for c in found.connections if c.what == what] for what in ("incoming", "outgoing"))
    figures = []
    if found.initial:
        figures.append(_initial(found))
    if found.movement:
        figures.append(_movement(found))
    if incoming:
        about = "connections that lead into a unit of the layer (a row of its weight, a filter)"
        figures.append(_connections("connections-in", "How many connections lead in?", about, incoming, found))
    if outgoing:
        about = "connections of the layer that lead out of a unit before it (a column of its weight, a channel)"
        figures.append(_connections("connections-out", "How many connections lead out?", about, outgoing, found))
    return figures


def _initial(found: Inside) -> Figure:
    """Density of the initial values of the surviving weights, in units of sigma, beside the normal curve."""
    edges = found.initial[0].edges
    widths = [right - left for left, right in pairwise(edges)]
    middles = [(left + right) / 2 for left, right in pairwise(edges)]
    normal = [mass / width for mass, width in zip(_normal(edges), widths, strict=True)]
    shares = {(c.layer, c.level): [s / w for s, w in zip(c.shares, widths, strict=True)] for c in found.initial}
    names, looks = _levels(found.initial)
    values = [
        _value(c.layer, names[c.level], middle, share, f"{share:.3f}")
        for c in found.initial
        for middle, share in zip(middles, shares[c.layer, c.level], strict=True)
    ]
    values += [
        _value(layer, NORMAL, middle, share, f"{share:.3f}")
        for layer in found.layers
        for middle, share in zip(middles, normal, strict=True)
    ]
    x = alt.X("x:Q").scale(domain=[edges[0], edges[-1]], nice=False)
    x = x.axis(title="initial value / sigma", grid=False, tickCount=5)
    spec = _small_charts(
        values,
        [NORMAL, *names.values()],
        [Look(GREY, [1, 2], "circle"), *looks],
        x,
        found.layers,
        "density of the surviving weights' initial values",
        "step",
    )
    caption = (
        "Initial values of the weights that survive, in standard deviations of all initial values of their layer, all "
        "seeds together. Dotted: the normal curve, as a measure."
    )
    bins = [f"{left:.1f} to {right:.1f}" for left, right in pairwise(edges)]
    columns = {name: level for level, name in names.items()}
    table = [
        [layer, bins[at], *(_cell(shares.get((layer, level)), at) for level in columns.values()), f"{normal[at]:.3f}"]
        for layer in found.layers
        for at in range(len(bins))
    ]
    header = ["layer", "sigmas", *columns, NORMAL]
    return Figure(
        "initial-weights", "Which initial weights survive?", caption + _left_out(found), spec, header, table, words=2
    )


def _movement(found: Inside) -> Figure:
    """Share of the kept and of the cut weights by how far the dense training carried them."""
    edges = found.movement[0].edges
    names = {"kept": "kept by the ticket", "cut": "cut"}
    shares = {(c.layer, c.what): [100 * share for share in c.shares] for c in found.movement}
    values = [
        _value(layer, names[what], sqrt(left * right), share, f"{share:.2f} %")
        for (layer, what), of_layer in shares.items()
        for (left, right), share in zip(pairwise(edges), of_layer, strict=True)
    ]
    x = alt.X("x:Q").scale(type="log", domain=[edges[0], edges[-1]], nice=False)
    x = x.axis(title="distance / sigma (log scale)", grid=False, values=[0.001, 0.01, 0.1, 1, 10, 100])
    looks = [TICKET, Look(ORANGE, [7, 3], "square")]
    above = f"share of the weights, %, at density {density_text(found.movement[0].density)}"
    spec = _small_charts(values, list(names.values()), looks, x, found.layers, above, "step")
    caption = (
        "How far each weight is from its initial value after the dense training, in standard deviations of its "
        "layer's initial values, all seeds together: the weights that the ticket keeps against those it cuts. The "
        "first bin also holds all that moved less, the last all that moved more."
    )
    table = [
        [layer, f"{left:.2g} to {right:.2g}", *(_cell(shares.get((layer, what)), at, 2) for what in names)]
        for layer in found.layers
        for at, (left, right) in enumerate(pairwise(edges))
    ]
    header = ["layer", "sigmas", *(f"{name}, %" for name in names.values())]
    return Figure("movement", "How far do weights travel?", caption + _left_out(found), spec, header, table, words=2)


def _connections(name: str, title: str, about: str, counts: Sequence[Counts], found: Inside) -> Figure:
    """Share of a layer's units by the number of connections they have left."""
    names, looks = _levels(counts)
    bins = [_bin(at) for at in range(max(len(c.counts) for c in counts))]
    shares = {
        (c.layer, c.level): [100 * share for share in c.shares] + [0.0] * (len(bins) - len(c.counts)) for c in counts
    }
    values = [
        _value(c.layer, names[c.level], at, share, f"{share:.1f} %") | {"bin": bins[at]}
        for c in counts
        for at, share in enumerate(shares[c.layer, c.level])
    ]
    x = alt.X("bin:O", sort=bins).axis(title="connections left", grid=False, labelAngle=0, labelOverlap="greedy")
    spec = _small_charts(
        values, list(names.values()), looks, x, found.layers, "share of the units, %", "linear", markers=True
    )
    caption = f"Units by their number of surviving {about}, all seeds together; 0: the unit is cut off."
    table = [
        [layer, bins[at], *(_cell(shares.get((layer, level)), at, 1) for level in names)]
        for layer in found.layers
        for at in range(len(bins))
        if any(shares.get((layer, level), bins)[at] for level in names)
    ]
    header = ["layer", "connections", *(f"{text}, %" for text in names.values())]
    return Figure(name, title, caption + _left_out(found), spec, header, table, words=2)


def _small_charts(
    values: list[dict[str, Any]],
    names: Sequence[str],
    looks: Sequence[Look],
    x: alt.X,
    layers: Sequence[str],
    above: str,
    interpolate: Any,
    markers: bool = False,
) -> dict[str, Any]:
    """One small chart per layer, all with the same axes, one line per name."""
    style = Style("line", names, looks, lines_only=not markers)
    if markers:
        dashes = {name: look.dash for name, look in zip(names, looks, strict=True)}
        values = [{**entry, "dash": dashes[entry["line"]]} for entry in values]
    place = {"x": x, "y": alt.Y("y:Q").axis(title=None, tickCount=4), "color": style.colour}
    line = alt.Chart().mark_line(strokeWidth=1.8, interpolate=interpolate, aria=False)
    drawn = [line.encode(strokeDash=style.dash, opacity=style.opacity(), **place)]
    hover = tooltip(layer="layer", line="line", at="bin" if markers else "x", value="value")
    if markers:
        points = alt.Chart().mark_point(size=34, filled=True, opacity=1, aria=False)
        drawn.append(points.encode(shape=style.shape, opacity=style.opacity(), tooltip=hover, **place))
    else:
        drawn.append(targets(alt.Chart(), tooltip=hover, **place))
    return finished(values, drawn, style, f"{above}, one small chart per layer", 150, ("layer", layers), above)


def _value(layer: str, line: str, x: float, y: float, text: str) -> dict[str, Any]:
    return {"layer": layer, "line": line, "x": float(f"{x:.4g}"), "y": float(f"{y:.4g}"), "value": text}


def _levels(counts: Sequence[Counts]) -> tuple[dict[int, str], list[Look]]:
    """Level -> its name in legends, from the densest; and their looks."""
    names = {c.level: f"ticket, {density_text(c.density)}" for c in sorted(counts, key=lambda c: c.level)}
    return names, LEVELS[: len(names)]


def _normal(edges: Sequence[float]) -> list[float]:
    """The mass of the standard normal distribution between neighbouring edges."""
    below = [(1 + erf(edge / sqrt(2))) / 2 for edge in edges]
    return [right - left for left, right in pairwise(below)]


def _bin(at: int) -> str:
    """The numbers of connections that entry `at` of Connections counts."""
    low, high = (at, at) if at < 2 else (2 ** (at - 2) + 1, 2 ** (at - 1))
    if high >= 1024:
        return f"to {high // 1024}k"
    return f"{low}" if low == high else f"{low}-{high}"


def _cell(shares: Sequence[float] | None, at: int, digits: int = 3) -> str:
    return "–" if shares is None or at >= len(shares) else f"{shares[at]:.{digits}f}"  # noqa: RUF001


def _left_out(found: Inside) -> str:
    if not found.left_out:
        return ""
    return f" Of {found.left_out + len(found.layers)} prunable layers {found.left_out} are left out, evenly."
