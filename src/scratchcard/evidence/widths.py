"""Which layers became narrow: the share of its units that each site keeps, beside a uniformly narrower network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from scratchcard.evidence.summary import Spread, spread
from scratchcard.row import Row, Rows


@dataclass(frozen=True)
class SiteWidth:
    """The share of one site's units that the tickets of a method keep."""

    site: str
    units: int
    """All of the site's, kept or not."""
    kept: Spread
    seeds: int


@dataclass(frozen=True)
class Widths:
    """The widths of one method's tickets at its primary level."""

    method: str
    level: int
    sites: list[SiteWidth]
    """In the network's order."""
    uniform: float
    """The share that a network of the same size keeps in every layer."""
    measured: bool
    """Whether `uniform` was read from runs of the arm uniform-width; else it is the share of all units together."""


def widths(rows: Rows, method: str, level: int) -> Widths | None:
    """The widths of a method's tickets.

    Args:
        rows: The rows of one study; a ticket whose training failed still has its widths, so it counts.
        method: Label of the method.
        level: Pruning round.

    Returns:
        None when no ticket of that level has units cut.
    """
    own = [row for row in rows if (row.method, row.level) == (method, level) and row.widths]
    tickets = [row for row in own if row.arm == "ticket"]
    if not tickets:
        return None
    shares: dict[str, list[tuple[int, float]]] = defaultdict(list)
    units: dict[str, int] = {}
    for row in tickets:
        for site, (kept, every) in row.widths.items():
            units.setdefault(site, every)
            shares[site].append((row.seed, kept / every if every else 0.0))
    uniform = [row for row in own if row.arm == "uniform-width"]
    sites = [
        SiteWidth(site, number, found, len({seed for seed, _ in shares[site]}))
        for site, number in units.items()
        if (found := spread(shares[site]))
    ]
    return Widths(method, level, sites, _overall(uniform or tickets), bool(uniform))


def _overall(rows: Sequence[Row]) -> float:
    """Share of all units that are kept, mean over rows."""
    sums = [[sum(numbers) for numbers in zip(*row.widths.values(), strict=True)] for row in rows]
    return fmean(kept / every for kept, every in sums)
