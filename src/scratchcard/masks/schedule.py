"""How many weights each pruning round leaves: exact arithmetic, known before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from scratchcard.masks.select import Scope


def survivors(left: int, rate: float) -> int:
    """How many of `left` entries survive a round that removes the fraction `rate`: left - floor(left x rate).

    The rate is taken as the decimal number it is written as (0.2 is one fifth, not the nearest binary fraction).
    """
    return left - (left * Fraction(str(rate))).__floor__()


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
        left = sum(sizes.values())
        for _ in range(number):
            left = max(survivors(left, next(iter(rates.values()))), len(sizes))
            yield left
        return
    per_tensor = dict(sizes)
    for _ in range(number):
        per_tensor = {name: max(survivors(count, rates[name]), 1) for name, count in per_tensor.items()}
        yield dict(per_tensor)
