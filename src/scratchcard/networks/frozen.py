"""Units that take entries from frozen weights: they stay unless somebody names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from scratchcard.networks.labelling import Places


def frozen_of(model: nn.Module, sites: Mapping[str, Iterable[Places]]) -> dict[str, tuple[str, ...]]:
    """Of every site that takes entries from frozen weights, which; normalisations and biases do not count.

    Args:
        model: its parameters say which are frozen (`requires_grad` is False).
        sites: name -> its units.
    """
    parameters = model.named_parameters(remove_duplicate=False)
    held = {name for name, own in parameters if own.dim() > 1 and not own.requires_grad}
    found = {name: dict.fromkeys(place for unit in units for place in unit) for name, units in sites.items()}
    taken = {name: tuple(place for place in places if place in held) for name, places in found.items()}
    return {name: weights for name, weights in taken.items() if weights}


def why_kept(weights: Iterable[str]) -> str:
    """Why a site of frozen weights is kept."""
    return f"frozen: it takes entries from {', '.join(weights)} (requires_grad is False), so only where it is named"
