"""When early-bird tickets were drawn: the distances between the masks of each seed's search, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from scratchcard.row import Emergence, Rows


@dataclass(frozen=True)
class Emerged:
    """The searches of one method at one level, one per seed."""

    method: str
    level: int
    seeds: dict[int, Emergence]
    """Seed -> how its ticket was drawn, rising."""


def emerged(rows: Rows, method: str, primary: int) -> Emerged | None:
    """How a method's tickets were drawn, at its primary level or, where none is there, at its deepest.

    Args:
        rows: The rows of one study; a ticket whose training failed was still drawn, so it counts.
        method: Label of the method.
        primary: The level that the verdict is about.

    Returns:
        None when no ticket says how it was drawn.
    """
    found = [row for row in rows if (row.method, row.arm) == (method, "ticket") and row.search.emergence is not None]
    if not found:
        return None
    levels = {row.level for row in found}
    level = primary if primary in levels else max(levels)
    at = sorted((row for row in found if row.level == level), key=lambda row: row.seed)
    return Emerged(method, level, {row.seed: row.search.emergence for row in at if row.search.emergence is not None})


def consecutive(found: Emergence) -> list[float]:
    """Distance of each mask to the one drawn before it; one fewer than there are steps."""
    return [found.distances[at][at - 1] for at in range(1, len(found.steps))]


def drops_within(found: Emergence) -> list[int]:
    """The drops of the learning rate between the first and the last mask."""
    return [step for step in found.drops if found.steps and found.steps[0] <= step <= found.steps[-1]]
