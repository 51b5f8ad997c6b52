"""What became of the runs of an arm: finished, diverged or failed, seed by seed, and why, each cause said once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from scratchcard.row import Row, Rows


@dataclass(frozen=True)
class Fate:
    """Of one arm at one level: seeds by what became of their runs. A seed is lost where any of its draws was."""

    finished: list[int]
    diverged: list[int]
    failed: list[int]

    @property
    def lost(self) -> list[int]:
        """Seeds with a run that diverged or failed."""
        return sorted({*self.diverged, *self.failed})


def fate_of(rows: Rows, method: str, level: int, arm: str) -> Fate:
    """What became of the runs of an arm at a level of a method; of the dense network whatever these say."""
    own = _runs(rows, method, level, arm)
    seeds = {status: sorted({row.seed for row in own if row.status == status}) for status in _STATUSES}
    return Fate(seeds["done"], seeds["diverged"], seeds["failed"])


def told(rows: Rows, method: str, level: int, arms: list[str]) -> list[str]:
    """A sentence for each cause for which runs of these arms were lost, diverged ones first: which runs, and why."""
    causes: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for status in _STATUSES[1:]:
        for arm in arms:
            for row in _runs(rows, method, level, arm):
                if row.status == status:
                    causes[status, row.message].append(row)
    return [f"{status.capitalize()}: {_named(runs)}: {message}" for (status, message), runs in causes.items()]


def seeds_text(seeds: list[int]) -> str:
    """Seeds in words: "seed 3"; "seeds 0, 1, 4"."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


_STATUSES = ("done", "diverged", "failed")


def _runs(rows: Rows, method: str, level: int, arm: str) -> list[Row]:
    return [row for row in rows if row.arm == arm and (arm == "dense" or (row.method, row.level) == (method, level))]


def _named(runs: list[Row]) -> str:
    """Which runs: arm by arm, with their seeds."""
    seeds: dict[str, list[int]] = defaultdict(list)
    for row in runs:
        if row.seed not in seeds[row.arm]:
            seeds[row.arm].append(row.seed)
    return "; ".join(f"{arm}, {seeds_text(sorted(some))}" for arm, some in seeds.items())
