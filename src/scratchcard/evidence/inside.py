"""What tickets look like inside: densities of layers, and the anatomies of single tickets added up over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import fmean

from scratchcard.evidence.summary import around, thinned
from scratchcard.row import Anatomy, Histogram, Row, Rows

LAYERS, LEVELS = 6, 4
"""At most so many layers and levels have their anatomy drawn."""


@dataclass(frozen=True)
class LayerDensity:
    """The share of one layer's weights that the tickets of one level keep, mean over seeds."""

    layer: str
    weights: int
    """All of the layer's, kept or not."""
    level: int
    kept: float


@dataclass(frozen=True)
class Counts:
    """How many weights or units of one layer fall into each bin, added up over the tickets of one level."""

    layer: str
    level: int
    density: float
    """Of the whole ticket."""
    what: str
    """Which of a layer's weights or connections: "initial", "kept", "cut", "incoming" or "outgoing"."""
    edges: list[float]
    """One more than there are bins; empty where bins are numbers of connections."""
    counts: list[int]

    @property
    def shares(self) -> list[float]:
        """Of all that was counted, in [0, 1]; zeros where nothing was."""
        total = sum(self.counts)
        return [count / total if total else 0.0 for count in self.counts]


@dataclass(frozen=True)
class Inside:
    """The anatomy of a method's tickets: a few layers at a few levels."""

    layers: list[str]
    """Those shown: the first, the last, and some evenly between."""
    left_out: int
    """Prunable layers that are not among them."""
    initial: list[Counts]
    movement: list[Counts]
    """At one level: the primary one where its tickets have it."""
    connections: list[Counts]


def layer_densities(rows: Rows, method: str) -> list[LayerDensity]:
    """The density of each layer in the tickets of a method.

    Args:
        rows: The rows of one study; a ticket whose training failed still has a mask, so it counts, one that was never
            found has none.
        method: Label of the method.

    Returns:
        By layer in the network's order, then by level.
    """
    shares: dict[tuple[str, int], list[float]] = defaultdict(list)
    weights: dict[str, int] = {}
    for row in _tickets(rows, method):
        for layer, (kept, every) in row.layers.items():
            weights.setdefault(layer, every)
            shares[layer, row.level].append(kept / every if every else 0.0)
    levels = sorted({level for _, level in shares})
    return [
        LayerDensity(layer, number, level, fmean(shares[layer, level]))
        for layer, number in weights.items()
        for level in levels
        if (layer, level) in shares
    ]


def inside(rows: Rows, method: str, primary: int) -> Inside | None:
    """What the tickets of a method look like inside.

    Args:
        rows: The rows of one study.
        method: Label of the method.
        primary: The level that is always among those shown, where it was found.

    Returns:
        None when no ticket has an anatomy.
    """
    tickets = [row for row in _tickets(rows, method) if row.anatomy]
    if not tickets:
        return None
    every = list(dict.fromkeys(layer for row in tickets for layer in row.anatomy))
    levels = sorted({row.level for row in tickets})
    shown = around(levels, LEVELS, primary)
    layers = thinned(every, LAYERS)

    def added(what: str, of: Callable[[Anatomy], Histogram | list[int] | None], at: Iterable[int]) -> list[Counts]:
        found = (_added(tickets, layer, level, what, of) for layer in layers for level in at)
        return [counts for counts in found if counts]

    moved = sorted({row.level for row in tickets if any(a.movement for a in row.anatomy.values())})
    moved = [primary] if primary in moved else moved[-1:]
    return Inside(
        layers=layers,
        left_out=len(every) - len(layers),
        initial=added("initial", lambda anatomy: anatomy.initial, shown),
        movement=[
            *added("kept", lambda anatomy: anatomy.movement and anatomy.movement.kept, moved),
            *added("cut", lambda anatomy: anatomy.movement and anatomy.movement.cut, moved),
        ],
        connections=[
            *added("incoming", lambda anatomy: anatomy.connections.incoming, shown),
            *added("outgoing", lambda anatomy: anatomy.connections.outgoing, shown),
        ],
    )


def _tickets(rows: Rows, method: str) -> list[Row]:
    return [row for row in rows if (row.method, row.arm) == (method, "ticket")]


def _added(
    tickets: Sequence[Row], layer: str, level: int, what: str, of: Callable[[Anatomy], Histogram | list[int] | None]
) -> Counts | None:
    at = [row for row in tickets if row.level == level]
    found = [part for row in at if layer in row.anatomy and (part := of(row.anatomy[layer]))]
    if not found:
        return None
    edges = [part.edges for part in found if isinstance(part, Histogram)]
    assert edges.count(edges[0]) == len(edges) if edges else True, f"histograms of {layer} have unequal edges"
    counts = [part.counts if isinstance(part, Histogram) else part for part in found]
    summed = [sum(numbers) for numbers in zip_longest(*counts, fillvalue=0)]
    return Counts(layer, level, fmean(row.density for row in at), what, edges[0] if edges else [], summed)
