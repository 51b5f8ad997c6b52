"""What a recipe adds to a plain step of training: a penalty on scaling factors, low precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import nn

from scratchcard.networks.scaling import scaling_factors
from scratchcard.training.block_floating import BlockFloating
from scratchcard.training.recipe import Recipe


class Besides(Protocol):
    """What is called at its three places of every step; outside of them the model is as any other."""

    def forward(self, step: int) -> AbstractContextManager[object]:
        """The context in which outputs and loss are computed."""
        ...

    def after_backward(self, step: int) -> None:
        """Change gradients."""
        ...

    def after_step(self, step: int) -> None:
        """Change weights or the optimizer's state."""
        ...


class ScaleL1:
    """The subgradient of an L1 penalty on scaling factors: strength x sign, with sign(0) = 0.

    No proximal step, so that factors rarely become exactly 0; weight decay applies to them as to all else.
    Source: Liu et al. 2017 (network slimming), eq. 1.
    """

    def __init__(self, model: nn.Module, strength: float) -> None:
        self._factors = [factor for factor in scaling_factors(model).values() if factor.requires_grad]
        self._strength = strength

    def forward(self, step: int) -> AbstractContextManager[object]:
        """Nothing."""
        return nullcontext()

    def after_backward(self, step: int) -> None:
        """Add strength x sign(factor) to every factor's gradient."""
        for factor in self._factors:
            if factor.grad is not None:
                factor.grad.add_(factor.detach().sign(), alpha=self._strength)

    def after_step(self, step: int) -> None:
        """Nothing."""


def what_else(model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, seed: int) -> list[Besides]:
    """What this recipe does besides the loss's gradient and the optimizer's step."""
    found: list[Besides] = []
    if recipe.scale_l1:
        found.append(ScaleL1(model, recipe.scale_l1))
    if recipe.precision == "block8":
        found.append(BlockFloating(model, optimizer, seed=seed))
    return found
