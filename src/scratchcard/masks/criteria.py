"""Criteria by which trained weights are ranked: what a weight was at the start and at the end says what it is worth.

Source: Zhou et al. 2019, Deconstructing Lottery Tickets, section 3 and Fig. 2. The two joint criteria follow the
authors' published program, which puts one percentile threshold on both magnitudes: the same order as the smaller of two
percentile ranks, so that no scale alpha between them has to be chosen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(initial weights, final weights, within: bool, which of them are ranked) -> scores, all of one shape; what `within`
has cut may get any finite score."""


def _same_sign(initial: Tensor, final: Tensor) -> Tensor:
    return initial.sign() == final.sign()


def _increase(initial: Tensor, final: Tensor) -> Tensor:
    return final.abs() - initial.abs()


def _rank(values: Tensor, within: Tensor) -> Tensor:
    """Percentile ranks in (0, 1] among the values within; equal values share the highest of their ranks.

    What is not a number has no rank, so that `select` refuses it.
    """
    pool = values[within].sort().values
    ranks = torch.searchsorted(pool, values.flatten().contiguous(), right=True).view(values.shape)
    return (ranks.double() / max(len(pool), 1)).masked_fill(values.isnan(), float("nan"))


def _both(initial: Tensor, final: Tensor, within: Tensor) -> Tensor:
    return torch.minimum(_rank(initial, within), _rank(final, within))


CRITERIA: dict[str, Criterion] = {
    "large_final": lambda initial, final, within: final.abs(),
    "small_final": lambda initial, final, within: -final.abs(),
    "large_init": lambda initial, final, within: initial.abs(),
    "small_init": lambda initial, final, within: -initial.abs(),
    "large_init_large_final": lambda initial, final, within: _both(initial.abs(), final.abs(), within),
    "small_init_small_final": lambda initial, final, within: _both(-initial.abs(), -final.abs(), within),
    "magnitude_increase": lambda initial, final, within: _increase(initial, final),
    "movement": lambda initial, final, within: (final - initial).abs(),
    "large_final_same_sign": lambda initial, final, within: final.abs() * _same_sign(initial, final),
    "large_final_diff_sign": lambda initial, final, within: final.abs() * ~_same_sign(initial, final),
    "magnitude_increase_same_sign": lambda initial, final, within: (
        _increase(initial, final) * _same_sign(initial, final)
    ),
    "magnitude_increase_diff_sign": lambda initial, final, within: (
        _increase(initial, final) * ~_same_sign(initial, final)
    ),
}
"""Every criterion by the paper's name; the higher the score, the more worth keeping. "random" needs chance besides:
`random_scores`."""


def random_scores(within: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Scores by chance alone, a function of the seed: the criterion that every other one has to beat."""
    chance = torch.Generator().manual_seed(seed)
    return {name: torch.rand(kept.shape, generator=chance, dtype=torch.float64) for name, kept in within.items()}
