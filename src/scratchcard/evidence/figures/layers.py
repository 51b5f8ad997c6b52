"""The density of every layer at every level: where a method cuts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import altair as alt

from scratchcard.evidence.figures.chart import Figure, finished, tooltip, top_legend
from scratchcard.evidence.figures.looks import GREY, INK, ON_PALE, ON_STRONG, PAPER, SHARES
from scratchcard.evidence.inside import LayerDensity
from scratchcard.evidence.summary import density_text, thinned

MOST = 120
"""Layers drawn; the table has them all."""
STRONG = 3
"""So many of the classes are coloured strongly enough to bear light text."""


def layer_figure(densities: Sequence[LayerDensity], overall: dict[int, float]) -> Figure:
    """Layers from the first to the last, levels from the densest to the sparsest, coloured by the share kept.

    Args:
        densities: Those of one method's tickets.
        overall: Level -> density of the whole ticket.
    """
    names = list(dict.fromkeys(entry.layer for entry in densities))
    levels = sorted({entry.level for entry in densities})
    shown = thinned(names, MOST)
    height = max(8, min(30, 640 // len(shown)))
    columns = [f"{level}" for level in levels]
    values = [
        {
            "layer": entry.layer,
            "level": f"{entry.level}",
            "overall": density_text(overall[entry.level]),
            "kept": density_text(entry.kept),
            "text": f"{100 * entry.kept:.3g}",
            "class": CLASSES[_class(entry.kept)],
            "strong": _class(entry.kept) < STRONG,
        }
        for entry in densities
        if entry.layer in set(shown)
    ]
    x = alt.X("level:O", sort=columns).axis(
        title="level: weights left overall, %",
        labelExpr=_overall(levels, overall),
        labelAngle=0,
        labelOverlap="greedy",
        domain=False,
        ticks=False,
    )
    y = alt.Y("layer:N", sort=shown).axis(
        title=None, labelColor=INK, labelOverlap="greedy", labelLimit=alt.ExprRef("room * 0.3"), labelPadding=8
    )
    base = alt.Chart().encode(x=x, y=y)
    legend = top_legend(CLASSES, 6, "(room * 0.64)")
    legend["symbolStrokeColor"], legend["symbolStrokeWidth"] = GREY, 0.5
    cells = base.mark_rect(stroke=PAPER, strokeWidth=1 if height > 12 else 0.4, aria=False).encode(
        color=alt.Color("class:N", scale=alt.Scale(domain=CLASSES, range=SHARES), legend=legend),
        tooltip=tooltip(layer="layer", share_kept="kept", level="level", overall="overall"),
    )
    layers = [cells]
    if height >= 18:
        wide = f"room * 0.7 / {len(levels)} > 28 ? 1 : 0"
        text = base.mark_text(fontSize=11, opacity=alt.ExprRef(wide), aria=False)
        colour = alt.when("datum.strong").then(alt.value(ON_STRONG)).otherwise(alt.value(ON_PALE))
        layers.append(text.encode(text="text:N", color=colour))
    spec = finished(values, layers, None, "density of every layer at every level", 60 + height * len(shown))
    caption = "Share of its own weights that each layer keeps, mean over seeds; layers in the network's order."
    if len(shown) < len(names):
        caption += f" {len(names) - len(shown)} of {len(names)} layers are left out, evenly; the table has them."
    kept = {(entry.layer, entry.level): entry for entry in densities}
    table = [
        [name, f"{next(e.weights for e in densities if e.layer == name):,}"]
        + [density_text(kept[name, level].kept) if (name, level) in kept else "–" for level in levels]  # noqa: RUF001
        for name in names
    ]
    header = ["layer", "weights", *(f"overall {density_text(overall[level])}" for level in levels)]
    return Figure("layers", "Where does it cut?", caption, spec, header, table)


_BOUNDS = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625]
CLASSES = [
    "50 to 100 %",
    *(f"{100 * low:.3g} to {100 * high:.3g} %" for high, low in pairwise(_BOUNDS)),
    "less than 1.56 %",
    "none",
]
"""Shares by halves; what lies on a bound belongs to the larger share."""


def _class(kept: float) -> int:
    return len(CLASSES) - 1 if kept == 0 else sum(kept < bound for bound in _BOUNDS)


def _overall(levels: Sequence[int], overall: dict[int, float]) -> str:
    """A Vega expression: the label of a level is the density of its tickets."""
    return f"({json.dumps({level: f'{100 * overall[level]:.3g}' for level in levels})})[datum.value]"
