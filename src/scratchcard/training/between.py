"""The straight line between two trained networks: what its networks lose and score on a split.

Source: Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis, section 2.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from scratchcard.networks.forward import call, with_state
from scratchcard.training.data import InMemory, Streamed, batches
from scratchcard.training.evaluate import evaluate
from scratchcard.training.loop import as_precise, placed
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import State

RE_ESTIMATED_FROM = 50
"""Training batches that normalisation statistics are estimated from anew."""


def interpolated(a: State, b: State, share: float) -> State:
    """(1 - share) x a + share x b, weights and buffers alike; what is no floating-point number is a's."""
    return {
        name: torch.lerp(value, b[name], share) if value.is_floating_point() else value for name, value in a.items()
    }


def along(
    a: State, b: State, task: Task, recipe: Recipe, split: InMemory | Streamed, points: int, re_estimate: bool = False
) -> tuple[list[float], list[float]]:
    """Mean loss and metric of networks evenly spaced from a to b, both included.

    Args:
        a: weights and buffers of one trained network of the task.
        b: of another.
        task: gives network, loss and metric.
        recipe: gives device, precision and batches.
        split: what they are evaluated on; one of `task.data`'s.
        points: how many, at least 2.
        re_estimate: estimate the statistics of batch normalisation anew at every point, from training batches, instead
            of interpolating them.

    Returns:
        Losses [points], metrics [points].
    """
    assert points >= 2, "a line has two ends"
    losses, metrics = [], []
    for at in range(points):
        model = placed(with_state(task.fresh(0), interpolated(a, b, at / (points - 1))), recipe)
        if re_estimate and has_statistics(model):
            feed = islice(batches(task.data.train, recipe.batch_size, 0, 0, recipe.device), RE_ESTIMATED_FROM)
            update_bn((as_precise(inputs, recipe) for inputs, _ in feed), _Called(model))
        loss, metric = evaluate(model, task, split, recipe)
        losses.append(loss)
        metrics.append(metric)
    return losses, metrics


def has_statistics(model: nn.Module) -> bool:
    """Whether a network has batch normalisation that remembers statistics."""
    return any(isinstance(module, _BatchNorm) and module.track_running_stats for module in model.modules())


class _Called(nn.Module):
    """A network that takes whole batches of inputs, whatever their form, as `update_bn` gives them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Any) -> Any:
        """Whatever the network gives for the batch."""
        return call(self.inner, inputs)
