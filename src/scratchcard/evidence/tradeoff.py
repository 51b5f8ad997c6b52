"""What a network's size buys: the metric of every arm at every level beside its parameters, operations and latency.

A network whose cut weights are masked is as large as before: its zeros are stored and multiplied with. So it has no
place among those that are physically small, but a size of its own, the weights that are not zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scratchcard.evidence.means import ArmMean, arm_means
from scratchcard.evidence.summary import Spread, finished, spread
from scratchcard.row import Row, Rows

SIZES: dict[str, Callable[[Row], float | None]] = {
    "parameters": lambda row: row.parameters,
    "multiply-accumulates": lambda row: row.macs,
    "latency, ms": lambda row: None if row.latency is None else 1000 * row.latency.median,
}
"""What a network is physically small in: its parameters, operations of one example, one forward pass."""
MASKED = "masked: weights that are not zero"
"""The size of networks whose cut weights are still there, as zeros."""


@dataclass(frozen=True)
class Place:
    """One arm of one method at one level: how good, and how large."""

    method: str
    """"dense" for the dense network."""
    arm: str
    level: int
    mean: ArmMean
    sizes: dict[str, Spread]
    """Name of SIZES, or MASKED -> mean over seeds and extremes; without those that no run has.

    Only the whole network has both: it is what either kind is compared with.
    """


def units_were_cut(rows: Rows, method: str | None = None) -> bool:
    """Whether some ticket, of one method or of any, has whole units cut, so that its network is physically smaller."""
    return any(row.widths and row.arm == "ticket" and method in (None, row.method) for row in rows)


def trade_off(rows: Rows) -> list[Place]:
    """Every point of the trade-off between the metric and size.

    Args:
        rows: The rows of one study; diverged and failed runs are left out.

    Returns:
        The dense network first, then by method in the order declared, by level, and by arm.
    """
    groups: dict[tuple[str, int, str], list[Row]] = {}
    for row in finished(rows):
        groups.setdefault(("dense", 0, "dense") if row.arm == "dense" else (row.method, row.level, row.arm), []).append(
            row
        )
    masked = {row.method for row in finished(rows) if _is_masked(row)}
    places: dict[tuple[str, int, str], Place] = {}
    for method in rows.study.methods:
        for level in sorted({level for name, level, _ in groups if name == method}):
            for mean in arm_means(rows, method, level):
                key = ("dense", 0, "dense") if mean.arm == "dense" else (method, level, mean.arm)
                physical = not any(_is_masked(row) for row in groups[key])
                whole = mean.arm == "dense" or (method in masked and all(_is_whole(row) for row in groups[key]))
                wanted = SIZES.items() if physical else []
                if masked and (whole or not physical):
                    wanted = [*wanted, (MASKED, _not_zero)]
                sizes = {
                    name: found
                    for name, size in wanted
                    if (found := spread((row.seed, n) for row in groups[key] if (n := size(row)) is not None))
                }
                places[key] = Place(key[0], mean.arm, key[1], mean, sizes)
    return sorted(places.values(), key=lambda place: place.arm != "dense")


def _is_masked(row: Row) -> bool:
    """Whether some of the weights are cut and still there."""
    return row.nonzero < row.parameters


def _is_whole(row: Row) -> bool:
    return row.density == 1 and not _is_masked(row)


def _not_zero(row: Row) -> float:
    return row.nonzero


def timing_conditions(rows: Rows) -> list[str]:
    """Under which conditions latencies were measured, in words; more than one where runs differ."""
    found = [row.latency for row in finished(rows) if row.latency is not None]
    return sorted(
        {
            f"batch {timing.batch}, {timing.threads} thread{'s' if timing.threads != 1 else ''}, {timing.device}"
            for timing in found
        }
    )
