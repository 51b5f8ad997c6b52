"""How many weights each pruning round leaves: exact arithmetic, known before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from scratchcard.masks.select import Scope


def survivors(size: int, rate: float, rounds: int = 1) -> int:
    """How many of `size` entries are left after rounds that each remove the fraction `rate` of what is left.

    The nearest whole number to size x (1 - rate)^rounds, and at least one: rounding errors do not add up over the
    rounds. The rate is taken as the decimal number that was written (0.2 is one fifth, not a binary fraction).
    """
    return max(round(size * (1 - Fraction(str(rate))) ** rounds), min(size, 1))


def rounds(
    sizes: Mapping[str, int], rates: Mapping[str, float], scope: Scope, number: int
) -> Iterator[dict[str, int] | int]:
    """Yield, for round 1, 2, ... `number`, what `select` is to keep (per tensor, or over all of them when global).

    Args:
        sizes: entries of every prunable tensor.
        rates: fraction of the *surviving* entries that a round removes, per tensor, each in (0, 1);
            with scope "global" all must be equal.
        scope: "layer" or "global".
        number: how many rounds.

    Raises:
        ValueError: a rate outside (0, 1), or unequal rates under global scope.
    """
    wrong = {name: rate for name, rate in rates.items() if not 0 < rate < 1}
    if wrong:
        raise ValueError(f"a pruning rate is the fraction of survivors removed per round, between 0 and 1; got {wrong}")
    if scope == "global":
        if len(set(rates.values())) > 1:
            raise ValueError(
                f"a global ranking has one rate for all layers, got {dict(rates)}; use scope='layer' for several"
            )
        rate = next(iter(rates.values()))
        for done in range(1, number + 1):
            yield max(survivors(sum(sizes.values()), rate, done), len(sizes))
        return
    for done in range(1, number + 1):
        yield {name: survivors(size, rates[name], done) for name, size in sizes.items()}
