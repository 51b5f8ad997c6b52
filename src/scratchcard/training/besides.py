"""What a recipe adds to a plain step of training: a penalty on scaling factors, low precision."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from scratchcard.networks.scaling import scaling_factors
from scratchcard.training.block_floating import BlockFloating
from scratchcard.training.recipe import Recipe


class Besides(Protocol):
    """Called at its two places of every step, and once when the training ends or is left."""

    def after_backward(self, step: int) -> None:
        """Change gradients."""
        ...

    def after_step(self, step: int) -> None:
        """Change weights or the optimizer's state."""
        ...

    def remove(self) -> None:
        """Leave the model as any other."""
        ...


class ScaleL1:
    """The subgradient of an L1 penalty on scaling factors: strength x sign, with sign(0) = 0.

    No proximal step, so that factors rarely become exactly 0; weight decay applies to them as to all else.
    Source: Liu et al. 2017 (network slimming), eq. 1.
    """

    def __init__(self, model: nn.Module, strength: float) -> None:
        self._factors = [factor for factor in scaling_factors(model).values() if factor.requires_grad]
        self._strength = strength

    def after_backward(self, step: int) -> None:
        """Add strength x sign(factor) to every factor's gradient, in one pass over all of them."""
        held = [factor for factor in self._factors if factor.grad is not None]
        if held:
            gradients = [factor.grad for factor in held]
            signs = torch._foreach_sign([factor.detach() for factor in held])
            torch._foreach_add_(gradients, signs, alpha=self._strength)

    def after_step(self, step: int) -> None:
        """Nothing."""

    def remove(self) -> None:
        """Nothing was left behind."""


def what_else(model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, seed: int) -> list[Besides]:
    """What this recipe does besides the loss's gradient and the optimizer's step."""
    found: list[Besides] = []
    if recipe.scale_l1:
        found.append(ScaleL1(model, recipe.scale_l1))
    if recipe.precision == "block8":
        found.append(BlockFloating(model, optimizer, seed=seed))
    return found
