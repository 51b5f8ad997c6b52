"""What became of the runs of an arm: finished, diverged or failed, seed by seed, and why, each cause said once."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from scratchcard.row import Row, Rows


@dataclass(frozen=True)
class Fate:
    """Of one arm at one level: seeds by what became of their runs."""

    finished: list[int]
    diverged: list[int]
    """Whose own training diverged."""
    not_found: list[int]
    """Of tickets: seeds in which a training that the search needed diverged, so that there was none."""
    failed: list[int]
    """Seeds with a crash, of the run itself or of what its search needed."""

    @property
    def lost(self) -> list[int]:
        """Seeds with a run that diverged or failed, or a ticket that was never there."""
        return sorted({*self.diverged, *self.not_found, *self.failed})

    @property
    def without(self) -> list[int]:
        """Seeds in which something diverged: an outcome, as a crash is not."""
        return sorted({*self.diverged, *self.not_found})


def fate_of(rows: Rows, method: str, level: int, arm: str) -> Fate:
    """What became of the runs of an arm at a level of a method; of the dense network whatever these say."""
    own = _runs(rows, method, level, arm)

    def seeds(status: str, found: bool | None = None) -> list[int]:
        return sorted({row.seed for row in own if row.status == status and found in (None, row.found)})

    return Fate(seeds("done"), seeds("diverged", True), seeds("diverged", False), seeds("failed"))


def told(rows: Rows, method: str, level: int, arms: list[str], status: str) -> list[str]:
    """A sentence for each cause for which runs of these arms diverged, or failed: which runs, and why.

    Causes that differ in numbers alone, such as a step, are one.
    """
    causes: dict[str, list[Row]] = defaultdict(list)
    for arm in arms:
        for row in _runs(rows, method, level, arm):
            if row.status == status:
                causes[re.sub(r"\d[\d.e+-]*", "#", row.message)].append(row)
    return [f"{status.capitalize()}: {_named(runs)}: {runs[0].message.rstrip('.')}." for runs in causes.values()]


def seeds_text(seeds: list[int]) -> str:
    """Seeds in words: "seed 3"; "seeds 0, 1, 4"."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _runs(rows: Rows, method: str, level: int, arm: str) -> list[Row]:
    return [row for row in rows if row.arm == arm and (arm == "dense" or (row.method, row.level) == (method, level))]


def _named(runs: list[Row]) -> str:
    """Which runs: arm by arm, with their seeds."""
    seeds: dict[str, list[int]] = defaultdict(list)
    for row in runs:
        name = row.arm if row.found else f"{row.arm} (never found for it)"
        if row.seed not in seeds[name]:
            seeds[name].append(row.seed)
    return "; ".join(f"{name}, {seeds_text(sorted(some))}" for name, some in seeds.items())
