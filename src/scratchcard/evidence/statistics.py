"""Paired tests: is one arm different from another, are the two equivalent, and how many seeds would tell.

Everything works on *differences*, one number per seed (last axis), so that thousands of simulated studies can
be tested at once. Every p-value here is built from one primitive, the one-sided t test of `p_above`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri, ndtr, stdtr, stdtrit

Floats = NDArray[np.float64]

MOST_SEEDS = 200
"""Beyond this many seeds a study is not said to be decidable."""


def mean_sd(differences: ArrayLike, grain: ArrayLike = 0.0) -> tuple[Any, Any]:
    """Mean and standard deviation over the last axis, the latter never below what the grain of the numbers hides.

    Args:
        differences: [..., seeds], 2 seeds or more.
        grain: the smallest step between two possible values of either side, e.g. 1 / 360 for an accuracy on 360
            examples; 0 for a continuous measure, where equal numbers have a spread of exactly 0. Two accuracies that
            agree may differ by less than the grain: a number rounded to it is uncertain by grain / sqrt(12), a
            difference of two by grain / sqrt(6) (Sheppard's correction).
    """
    values = np.asarray(differences, dtype=float)
    seen = np.where(np.ptp(values, -1) == 0, 0.0, values.std(-1, ddof=1))
    return values.mean(-1), np.maximum(seen, np.asarray(grain, dtype=float) / np.sqrt(6))


def p_above(differences: ArrayLike, bound: ArrayLike, grain: ArrayLike = 0.0) -> Any:
    """One-sided p-value of the claim that the true mean lies above a bound (Student's t).

    Args:
        differences: [..., seeds], in the metric's unit.
        bound: number(s) the mean is claimed to exceed, same unit.
        grain: see `mean_sd`.

    Returns:
        p in [0, 1]. With fewer than 2 seeds nothing can be claimed: 1. Without spread the mean is taken
        at its word: 0 when it is above the bound, else 1.
    """
    values = np.asarray(differences, dtype=float)
    n = values.shape[-1]
    if n < 2:
        return np.ones(np.broadcast_shapes(values.shape[:-1], np.shape(bound)))
    mean, sd = mean_sd(values, grain)
    standard_error = np.where(sd > 0, sd, 1.0) / np.sqrt(n)
    return np.where(sd > 0, stdtr(n - 1, (bound - mean) / standard_error), np.where(mean > bound, 0.0, 1.0))


def p_below(differences: ArrayLike, bound: ArrayLike, grain: ArrayLike = 0.0) -> Any:
    """One-sided p-value of the claim that the true mean lies below a bound; the mirror image of `p_above`."""
    return p_above(-np.asarray(differences, dtype=float), -np.asarray(bound, dtype=float), grain)


def t_interval(differences: ArrayLike, alpha: float = 0.05, grain: ArrayLike = 0.0) -> tuple[Any, Any]:
    """Two-sided (1 - alpha) t interval of the mean; each end alone is a one-sided bound at alpha / 2.

    Args:
        differences: [..., seeds].
        alpha: 0.05 gives a 95 % interval.
        grain: see `mean_sd`.

    Returns:
        (low, high), each [...]; nan with fewer than 2 seeds, both equal to the mean when there is no spread.
    """
    values = np.asarray(differences, dtype=float)
    n = values.shape[-1]
    if n < 2:
        nothing = np.full(values.shape[:-1], np.nan)
        return nothing, nothing
    mean, sd = mean_sd(values, grain)
    half = stdtrit(n - 1, 1 - alpha / 2) * sd / np.sqrt(n)
    return mean - half, mean + half


@dataclass(frozen=True)
class Paired:
    """What the differences of one comparison say before any correction; arrays when many were given."""

    n: int
    mean: Any
    sd: Any
    low: Any
    high: Any
    p_difference: Any
    """Two-sided, of "the mean is not 0"."""
    p_equivalence: Any
    """TOST (Schuirmann 1987), of "the mean is within the margin": the larger of two one-sided p-values."""


def paired(differences: ArrayLike, margin: ArrayLike, alpha: float = 0.05, grain: ArrayLike = 0.0) -> Paired:
    """Test differences for "not 0" and for "within the margin" at once.

    Args:
        differences: [..., seeds], positive = better.
        margin: half-width of the equivalence region, >= 0, in the unit of the differences.
        alpha: the interval covers 1 - alpha.
        grain: see `mean_sd`.

    Returns:
        `Paired`; with one seed interval and spread are nan and both p-values 1; with none, so is the mean.
    """
    values = np.asarray(differences, dtype=float)
    n = values.shape[-1]
    nothing = np.full(values.shape[:-1], np.nan)
    mean = values.mean(-1) if n else nothing
    low, high = t_interval(values, alpha, grain)
    return Paired(
        n=n,
        mean=mean,
        sd=mean_sd(values, grain)[1] if n > 1 else nothing,
        low=low,
        high=high,
        p_difference=np.minimum(1.0, 2 * np.minimum(p_above(values, 0.0, grain), p_below(values, 0.0, grain))),
        p_equivalence=np.maximum(
            p_above(values, -np.asarray(margin, dtype=float), grain), p_below(values, margin, grain)
        ),
    )


def holm(p_difference: ArrayLike, p_equivalence: ArrayLike) -> tuple[Floats, Floats]:
    """Adjust both p-values of every comparison so that a whole study makes a false claim at most alpha often.

    Holm's step-down with Shaffer's count of what can still be false. About one comparison with true
    difference d, the claims "better", "worse" and "equivalent", each tested at level a, are false with
    probability at most:

    - d = 0: a. "Better" and "worse" are false, a / 2 each; "equivalent" is true.
    - d inside the margin, not 0: a / 2. Only the wrong direction is false.
    - d outside the margin: a. "Equivalent" and the wrong direction are false, but both need an estimate too
      far in the same tail, and whenever the second has it, so has the first.

    So m comparisons with two p-values each are paid for m times, not 2 m times. The p-values are taken in
    ascending order; the factor falls by one half for every comparison that has made *both* claims, since only
    the direction (a / 2) can still be false there. One claim must not lower it, as plain Holm on
    min(p_difference, p_equivalence) would: what is rightly "better" can still wrongly be called "equivalent".
    Valid under any dependence between the comparisons (they share the ticket's runs).

    Args:
        p_difference: [..., m], two-sided.
        p_equivalence: [..., m], TOST.

    Returns:
        The adjusted p-values, [..., m] each, to be compared with alpha.

    Sources: Holm 1979, Scand. J. Statist. 6; Shaffer 1986, JASA 81, section 2 (logically related hypotheses).
    """
    p = np.concatenate([np.asarray(p_difference, dtype=float), np.asarray(p_equivalence, dtype=float)], axis=-1)
    m = p.shape[-1] // 2
    order = np.argsort(p, axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    settled_at = np.maximum(rank[..., :m], rank[..., m:])
    settled = (settled_at[..., None, :] < rank[..., :, None]).sum(-1)
    ascending = np.take_along_axis(p * (m - settled / 2), order, axis=-1)
    adjusted = np.take_along_axis(np.minimum(1.0, np.maximum.accumulate(ascending, axis=-1)), rank, axis=-1)
    return adjusted[..., :m], adjusted[..., m:]


def seeds_needed(mean: float, sd: float, margin: float, alpha: float, power: float = 0.8) -> int | None:
    """The smallest number of seeds at which one of the three claims would be made with the given power.

    Takes the observed mean and spread as the truth, so it is a plan and no promise.

    Args:
        mean: observed mean difference.
        sd: observed standard deviation between seeds, >= 0; nan when one seed was seen.
        margin: half-width of the equivalence region, same unit.
        alpha: level of one comparison (the study's alpha divided by the size of its family).
        power: probability with which "better", "worse" or "equivalent" is to be shown.

    Returns:
        Total seeds from 2 to 200; None when 200 are too few or the spread is unknown.
    """
    if not sd >= 0:
        return None
    if sd == 0:
        return 2
    # The power given the spread a study happens to see, averaged over 200 equally likely spreads.
    n = np.arange(2, MOST_SEEDS + 1)[:, None]
    error = sd / np.sqrt(n)
    seen = error * np.sqrt(chdtri(n - 1, (np.arange(200) + 0.5) / 200) / (n - 1))
    two_sided, one_sided = stdtrit(n - 1, 1 - alpha / 2) * seen, stdtrit(n - 1, 1 - alpha) * seen
    better, worse = ndtr((mean - two_sided) / error), ndtr((-mean - two_sided) / error)
    equivalent = ndtr((margin - one_sided - mean) / error) - ndtr((one_sided - margin - mean) / error)
    reached = [p.mean(-1) >= power for p in (better, worse, np.maximum(equivalent, 0))]
    enough = np.flatnonzero(np.any(reached, axis=0))
    return int(n[enough[0], 0]) if enough.size else None
