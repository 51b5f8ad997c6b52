"""Other weights for a whole network, so that nothing in it is a constant by chance: what a proof should not rest on.

A projection that starts at zero, a gate that is closed, a normalisation that has seen no data: where these stand, a
wrong small network gives what the right one does. Positions, masks and other buffers stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scratchcard.networks.cuts import ShrinkSpec, selected_of
from scratchcard.networks.lengths import fit_lengths

_MEANS, _VARIANCES = "running_mean", "running_var"
"""How the statistics of normalisations are called, in torch and where its names are followed."""


def redraw(model: nn.Module, seed: int = 0) -> None:
    """Draw every parameter and every statistic of a normalisation anew, in place.

    About as large as they are, and at least large enough to matter; what has one sign everywhere keeps it, as it may
    stand under a root.
    """
    chance = torch.Generator().manual_seed(seed)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=chance, dtype=torch.float64).to(like)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.numel():
                parameter.copy_(_drawn(parameter, normal(parameter)))
        buffers = dict(model.named_buffers())
        for name, mean in buffers.items():
            variance = buffers.get(f"{name.removesuffix(_MEANS)}{_VARIANCES}")
            if name.rpartition(".")[2] == _MEANS and variance is not None and mean.is_floating_point():
                mean.add_(0.3 * variance.abs().sqrt() * normal(mean))
                variance.mul_((0.5 * normal(variance)).exp())


def _drawn(own: Tensor, noise: Tensor) -> Tensor:
    into = own.numel() // len(own) if own.dim() > 1 else 25
    mean, spread = own.mean(), own.std(correction=0)
    drawn = mean + torch.maximum(spread, 0.1 * mean.abs()).clamp_min(into**-0.5) * noise
    if bool((own >= 0).all()) and bool((own > 0).any()):
        return drawn.abs()
    return -drawn.abs() if bool((own <= 0).all()) and bool((own < 0).any()) else drawn


def hand_over(large: nn.Module, small: nn.Module, spec: ShrinkSpec, gone: set[str]) -> None:
    """Give a small network the weights and statistics that the large one has now, in place.

    Args:
        large: it is not touched.
        small: made from it.
        spec: what is kept of its tensors.
        gone: parameters of the large network that the small one has no more.
    """
    whole: dict[str, Tensor] = dict(large.named_parameters(remove_duplicate=False))
    buffers = dict(large.named_buffers(remove_duplicate=False))
    whole |= {name: own for name, own in buffers.items() if name.endswith((_MEANS, _VARIANCES))}
    with torch.no_grad():
        for name, own in [*small.named_parameters(), *small.named_buffers()]:
            if name in whole and name not in gone:
                own.copy_(selected_of(whole[name], spec.get(name, {})))
    fit_lengths(large, small, spec)
