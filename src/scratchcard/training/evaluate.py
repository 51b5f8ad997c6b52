"""How well a network does on a split: mean loss and metric over all of its examples, in evaluation mode."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from scratchcard.networks.forward import call
from scratchcard.training.block_floating import quantised_activations
from scratchcard.training.data import InMemory, Streamed, sequential
from scratchcard.training.loop import as_precise, autocast
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive, seeded
from scratchcard.training.task import Task


def evaluate(
    model: nn.Module, task: Task, split: InMemory | Streamed, recipe: Recipe, limit: int | None = None
) -> tuple[float, float]:
    """Mean loss and mean metric over a split, each batch weighted by its examples.

    Args:
        model: on the recipe's device; left in evaluation mode.
        task: gives loss and metric.
        split: one of `task.data`'s.
        recipe: gives precision, device and `eval_batch_size`.
        limit: look at the first so many examples only (rounded up to whole batches).
    """
    loss_of, metric_of = task.loss_of, task.measured_by.of
    device = torch.device(recipe.device)
    model.eval()
    losses = metrics = torch.zeros((), device=device, dtype=torch.float64 if device.type != "mps" else torch.float32)
    examples = 0
    # seeded: a network that draws when it is evaluated is measured the same every time
    low = quantised_activations(model) if recipe.precision == "block8" else nullcontext()
    with seeded(derive("evaluate")), torch.inference_mode(), autocast(recipe), low:
        for inputs, targets in sequential(split, recipe.eval_batch_size, device):
            outputs, wanted = call(model, as_precise(inputs, recipe)), as_precise(targets, recipe)
            number = tree_leaves(targets)[0].shape[0]
            losses = losses + loss_of(outputs, wanted) * number
            metrics = metrics + torch.as_tensor(metric_of(outputs, wanted), device=device) * number
            examples += number
            if limit is not None and examples >= limit:
                break
    return float(losses) / examples, float(metrics) / examples
