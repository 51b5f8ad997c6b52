"""Initialisation of convolutions, linear layers and normalisation; draws come from torch's global generator."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scratchcard.words import unknown


def glorot_normal_(model: nn.Module) -> nn.Module:
    """Gaussian Glorot: weights ~ N(0, 2 / (fan_in + fan_out)), not truncated; biases 0. Returns the model.

    Touches every convolution and linear layer of `model`, nothing else.
    Source: Frankle & Carbin 2019, sec. 2 ("Gaussian Glorot"); Glorot & Bengio 2010, eq. 12 for the variance.
    """
    return _initialise(model, nn.init.xavier_normal_)


def kaiming_normal_(model: nn.Module) -> nn.Module:
    """Gaussian Kaiming for ReLU: weights ~ N(0, 2 / fan_in), not truncated; biases 0. Returns the model.

    Touches every convolution and linear layer of `model`, nothing else.
    Source: He et al. 2015, eq. 10.
    """
    return _initialise(model, lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"))


INITIALISATIONS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "glorot": glorot_normal_,
    "kaiming": kaiming_normal_,
}


def initialised(model: nn.Module, init: str) -> nn.Module:
    """The model, initialised in place by a name in `INITIALISATIONS`; ValueError for another name."""
    if init not in INITIALISATIONS:
        raise ValueError(unknown("initialisation", init, INITIALISATIONS))
    return INITIALISATIONS[init](model)


def _initialise(model: nn.Module, draw: Callable[[Tensor], Tensor]) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            draw(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def with_factors(model: nn.Module, initial: float) -> nn.Module:
    """The model itself, every weight of batch normalisation set to `initial`, as a search starts."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            nn.init.constant_(module.weight, initial)
    return model
