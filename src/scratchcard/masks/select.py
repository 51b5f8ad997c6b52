"""Scores in, a mask with exactly the asked number of entries out; and the shuffles that are its controls."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import torch
from torch import Tensor

from scratchcard.types import Scores, WeightMask

Scope = Literal["layer", "global"]


def select(scores: Scores, keep: Mapping[str, int] | int, within: WeightMask) -> WeightMask:
    """Keep exactly the asked number of highest scores, never reviving what `within` has cut.

    Ties are broken by position: the earlier entry (in the order of `within`, then row-major) is kept.

    Args:
        scores: one per entry of each tensor to choose in; tensors of `within` without scores stay as they are.
        keep: per tensor (layer-wise), {name: how many}; or one number for all scored tensors together (global).
            A global choice leaves at least one entry in every scored tensor that had one (its highest score):
            an emptied layer cuts the network in two.
        within: the mask so far.

    Returns:
        A mask with the names and shapes of `within`.

    Raises:
        ValueError: a count is below one per tensor or above what is left, shapes differ, or a score is not a number.
    """
    pool = [name for name in within if name in scores]
    _check(scores, keep, within, pool)
    if isinstance(keep, int):
        kept = _highest_together({name: scores[name] for name in pool}, within, keep)
    else:
        kept = {name: _highest(scores[name], within[name], keep.get(name, int(within[name].sum()))) for name in pool}
    return {name: kept[name] if name in kept else mask.clone() for name, mask in within.items()}


def shuffle(mask: WeightMask, among: Collection[str], scope: Scope, generator: torch.Generator) -> WeightMask:
    """The same number of kept entries at random places: the random-mask control (Frankle & Carbin 2019, App. E).

    Args:
        mask: the mask to shuffle.
        among: the prunable tensors; the others stay as they are.
        scope: "layer" keeps every tensor's own count; "global" only the total over `among`
            (with at least one entry left in every tensor).
        generator: the source of chance.
    """
    random = {
        name: torch.rand(mask[name].shape, generator=generator, dtype=torch.float64) for name in mask if name in among
    }
    whole = {name: torch.ones_like(kept) if name in random else kept for name, kept in mask.items()}
    per_tensor = {name: int(mask[name].sum()) for name in random}
    return select(random, per_tensor if scope == "layer" else sum(per_tensor.values()), within=whole)


def inverted(scores: Scores, mask: WeightMask, within: WeightMask) -> WeightMask:
    """As many kept entries per tensor as `mask` has, but the lowest scores among `within`: the score's own control.

    A score that knows something must do worse when it is turned upside down (Frankle et al. 2021, Pruning Neural
    Networks at Initialization: Why Are We Missing the Mark?, section 5).
    """
    lowest = {name: -score for name, score in scores.items()}
    return select(lowest, {name: int(mask[name].sum()) for name in scores}, within)


def _highest(score: Tensor, within: Tensor, count: int) -> Tensor:
    """Exactly `count` True where the score is highest among the True of `within`; ties by position."""
    places = within.flatten().nonzero().squeeze(1)
    order = torch.sort(score.flatten()[places], descending=True, stable=True).indices
    kept = torch.zeros(within.numel(), dtype=torch.bool)
    kept[places[order[:count]]] = True
    return kept.view(within.shape)


def _highest_together(scores: Scores, within: WeightMask, count: int) -> WeightMask:
    best = {name: _highest(score, within[name], min(1, int(within[name].sum()))) for name, score in scores.items()}
    protected = torch.cat([best[name].flatten() for name in scores])
    flat = torch.cat([score.flatten() for score in scores.values()])
    open_places = torch.cat([within[name].flatten() for name in scores]) & ~protected
    kept = protected | _highest(flat, open_places, count - int(protected.sum()))
    parts = kept.split([score.numel() for score in scores.values()])
    return {name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


def _check(scores: Scores, keep: Mapping[str, int] | int, within: WeightMask, pool: list[str]) -> None:
    strangers = sorted(set(scores) - set(within))
    if strangers:
        raise ValueError(
            f"scores were given for {', '.join(strangers)}, not in the mask; its names are: {', '.join(within)}"
        )
    for name in pool:
        if scores[name].shape != within[name].shape:
            raise ValueError(
                f"the score of {name} has shape {tuple(scores[name].shape)}, its mask {tuple(within[name].shape)}; "
                "they must be equal"
            )
        if bool(torch.isnan(scores[name][within[name]]).any()):
            raise ValueError(f"a score of {name} is not a number, so it cannot be ranked; did the training diverge?")
    left = {name: int(within[name].sum()) for name in pool}
    if isinstance(keep, int):
        fewest = sum(1 for count in left.values() if count)
        if not fewest <= keep <= sum(left.values()):
            raise ValueError(
                f"asked to keep {keep} of the {sum(left.values())} entries left in {len(pool)} tensors; "
                f"choose a number from {fewest} (one per tensor, so that no layer is emptied) to {sum(left.values())}"
            )
        return
    wrong = {
        name: count for name, count in keep.items() if name not in left or not min(1, left[name]) <= count <= left[name]
    }
    if wrong:
        raise ValueError(
            "asked to keep "
            + ", ".join(f"{count} of the {left.get(name, 0)} entries left in {name}" for name, count in wrong.items())
            + "; at least 1 and at most all that are left can be kept, in tensors that have scores"
        )
