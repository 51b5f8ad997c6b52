"""What a recipe adds to a plain step of training: a penalty on scaling factors, low precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import nn

from scratchcard.networks.scaling import scaling_factors
from scratchcard.training.block_floating import BlockFloating
from scratchcard.training.recipe import Recipe
from scratchcard.types import Snapshot


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


def asked(recipe: Recipe) -> frozenset[str]:
    """The fields of a recipe that ask for something besides the loss's gradient and the optimizer's step."""
    asks = {"scale_l1": recipe.scale_l1 > 0, "precision": recipe.precision == "block8"}
    return frozenset(name for name, does in asks.items() if does)


def what_else(model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, seed: int) -> dict[str, Besides]:
    """What this recipe does besides the loss's gradient and the optimizer's step, by the field that asks for it."""
    found: dict[str, Besides] = {}
    wanted = asked(recipe)
    if "scale_l1" in wanted:
        found["scale_l1"] = ScaleL1(model, recipe.scale_l1)
    if "precision" in wanted:
        found["precision"] = BlockFloating(model, optimizer, seed=seed)
    return found


def check_heard(snapshot: Snapshot, recipe: Recipe, start: int, task: str) -> None:
    """Refuse a training by a loop of the user's own that left out what its recipe asks for besides a plain step.

    Args:
        snapshot: what the loop yielded; nothing has been applied at the start.
        recipe: that the loop was given.
        start: the step at which the training began.
        task: its name, for the sentence.

    Raises:
        ValueError: naming what was left out, and what a loop has to do.
    """
    missing = sorted(asked(recipe) - snapshot.besides) if snapshot.step > start else []
    if missing:
        fields = ", ".join(f"{name}={getattr(recipe, name)}" for name in missing)
        raise ValueError(
            f"the loop of task {task!r} does not say that it applies {fields}: yield from "
            "scratchcard.training.loop.train, or call training.besides.what_else in yours and give "
            "Snapshot(besides=frozenset(...)) the names that it returns"
        )
