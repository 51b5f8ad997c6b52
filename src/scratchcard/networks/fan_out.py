"""Initialisation by a layer's outputs: He et al.'s second rule, for ResNets, and slimming's, which halves the scales.

`initialised_as` knows these two and those of `initialise.py`. Draws come from torch's global generator.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from scratchcard.networks.initialise import INITIALISATIONS
from scratchcard.words import unknown


def fan_out_normal_(model: nn.Module) -> nn.Module:
    """Gaussian Kaiming by outputs: convolutions ~ N(0, 2 / fan_out), linear layers ~ N(0, 0.01^2), biases 0.

    fan_out is kernel area x output channels. Touches every convolution and linear layer, nothing else; returns the
    model. Source: He et al. 2015, eq. 14; the linear layers' as Liu et al. 2019 initialise theirs.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return model


def slimming_(model: nn.Module) -> nn.Module:
    """As `fan_out_normal_`, and the scale of every batch normalisation is 0.5. Returns the model.

    Source: Liu et al. 2017 (network slimming), sec. 4, where dense networks that start at 0.5 end more accurate.
    """
    for module in fan_out_normal_(model).modules():
        if isinstance(module, _BatchNorm) and module.affine:
            nn.init.constant_(module.weight, 0.5)
    return model


ALL_INITIALISATIONS: dict[str, Callable[[nn.Module], nn.Module]] = INITIALISATIONS | {
    "fan_out": fan_out_normal_,
    "slimming": slimming_,
}


def initialised_as(model: nn.Module, init: str) -> nn.Module:
    """The model, initialised in place: "glorot", "kaiming", "fan_out" or "slimming"; ValueError for another name."""
    if init not in ALL_INITIALISATIONS:
        raise ValueError(unknown("initialisation", init, ALL_INITIALISATIONS))
    return ALL_INITIALISATIONS[init](model)
