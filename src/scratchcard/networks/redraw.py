"""Other weights for a ticket's mask, made from its own: resampled, permuted, noisy, or with nothing left but the signs.

All of them change one tensor at a time, only where the mask keeps, and draw from a generator that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from scratchcard.types import State, WeightMask


@dataclass(frozen=True)
class Layer:
    """What a redraw may look at: one weight tensor of a ticket, all of one shape."""

    start: Tensor
    """The values the ticket starts from."""
    kept: Tensor
    """Boolean, True = kept."""
    sigma: float
    """Standard deviation of the layer's initial values, all of them."""
    fresh: Tensor
    """Newly drawn initial values."""


def _resampled(layer: Layer, scale: float, chance: torch.Generator) -> Tensor:
    own = layer.start[layer.kept]
    return _placed(layer, own[torch.randint(len(own), (len(own),), generator=chance)] if len(own) else own)


def _permuted(layer: Layer, scale: float, chance: torch.Generator) -> Tensor:
    own = layer.start[layer.kept]
    return _placed(layer, own[torch.randperm(len(own), generator=chance)])


def _noisy(layer: Layer, scale: float, chance: torch.Generator) -> Tensor:
    noise = torch.randn(layer.start.shape, generator=chance, dtype=torch.float64)
    return layer.start + (scale * layer.sigma * noise).to(layer.start.dtype)


def _signs_with_new_magnitudes(layer: Layer, scale: float, chance: torch.Generator) -> Tensor:
    return torch.where(layer.start < 0, -layer.fresh.abs(), layer.fresh.abs())


def _signs_alone(layer: Layer, scale: float, chance: torch.Generator) -> Tensor:
    return torch.where(layer.start < 0, -1.0, 1.0).to(layer.start.dtype) * layer.sigma


def _random_signs(layer: Layer, scale: float, chance: torch.Generator) -> Tensor:
    heads = torch.rand(layer.start.shape, generator=chance) < 0.5
    return torch.where(heads, -1.0, 1.0).to(layer.start.dtype) * layer.sigma


def _placed(layer: Layer, values: Tensor) -> Tensor:
    filled = layer.start.clone()
    filled[layer.kept] = values
    return filled


REDRAWS: dict[str, Callable[[Layer, float, torch.Generator], Tensor]] = {
    "resample": _resampled,
    "permute": _permuted,
    "noise": _noisy,
    "sign-redrawn": _signs_with_new_magnitudes,
    "sign-constant": _signs_alone,
    "random-sign-constant": _random_signs,
}
"""Name -> (layer, scale, chance) -> the layer's new starting values.

resample: drawn with replacement from the layer's surviving values (Frankle & Carbin 2019, App. F.3). permute: the same
values in another order (Zhou et al. 2019, "reshuffle"). noise: N(0, (scale x sigma)^2) added (F.7). sign-redrawn and
sign-constant: the signs stay; magnitudes are newly drawn, or sigma everywhere (Zhou et al., section 4).
random-sign-constant: sigma everywhere with random signs, so that against sign-constant only the signs differ.
"""


def redrawn(
    start: State, mask: WeightMask, initial: State, fresh: Mapping[str, Tensor], how: str, scale: float, seed: int
) -> State:
    """The state with every masked weight redrawn where it is kept; all else (biases, normalisation) as it was.

    Args:
        start: weights and buffers that the ticket starts from.
        mask: the ticket's; what it does not name is left alone.
        initial: the dense network's initial weights, for sigma.
        fresh: a newly drawn network's, for magnitudes.
        how: a key of `REDRAWS`.
        scale: of the noise, in sigmas; the others ignore it.
        seed: of all draws.
    """
    chance = torch.Generator().manual_seed(seed)
    state = dict(start)
    for name, kept in mask.items():
        layer = Layer(start[name], kept, float(initial[name].double().std(correction=0)), fresh[name].to(start[name]))
        state[name] = torch.where(kept, REDRAWS[how](layer, scale, chance), start[name])
    return state
