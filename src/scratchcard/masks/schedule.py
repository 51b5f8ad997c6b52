"""How many weights each pruning round leaves: exact arithmetic, known before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Literal, get_args

import torch

from scratchcard.masks.allocate import allocate
from scratchcard.words import unknown

Share = Literal["layer", "global", "uniform", "erk"]
"""How a round's loss is shared among layers: each its own fraction; by the scores of all together; or at densities set
beforehand."""
SHARES: tuple[Share, ...] = get_args(Share)


def survivors(size: int, rate: float, rounds: int = 1) -> int:
    """How many of `size` entries are left after rounds that each remove the fraction `rate` of what is left.

    The nearest whole number to size x (1 - rate)^rounds, and at least one: rounding errors do not add up over the
    rounds. The rate is taken as the decimal number that was written (0.2 is one fifth, not a binary fraction).
    """
    return max(round(size * (1 - Fraction(str(rate))) ** rounds), min(size, 1))


def rounds(
    shapes: Mapping[str, tuple[int, ...]], rates: Mapping[str, float], share: Share, number: int
) -> Iterator[dict[str, int] | int]:
    """Yield, for round 1, 2, ... `number`, what `select` is to keep (per tensor, or over all of them when global).

    Args:
        shapes: of every prunable tensor.
        rates: fraction of the *surviving* entries that a round removes, per tensor, each in (0, 1).
        share: "layer": every tensor loses its own fraction. With "global", "uniform" and "erk" the rates give the total
            alone; who loses is decided by the scores of all tensors together, or by `allocate`.
        number: how many rounds.

    Raises:
        ValueError: a rate outside (0, 1), or an unknown way to share.
    """
    wrong = {name: rate for name, rate in rates.items() if not 0 < rate < 1}
    if wrong:
        raise ValueError(f"a pruning rate is the fraction of survivors removed per round, between 0 and 1; got {wrong}")
    if share not in SHARES:
        raise ValueError(unknown("scope", share, SHARES))
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    for done in range(1, number + 1):
        if share == "layer":
            yield {name: survivors(size, rates[name], done) for name, size in sizes.items()}
            continue
        # with one rate the total is rounded once; with several it is what scope "layer" would leave
        total = (
            survivors(sum(sizes.values()), next(iter(rates.values())), done)
            if len(set(rates.values())) == 1
            else sum(survivors(size, rates[name], done) for name, size in sizes.items())
        )
        total = max(total, len(sizes))
        yield total if share == "global" else allocate(shapes, total, share)
