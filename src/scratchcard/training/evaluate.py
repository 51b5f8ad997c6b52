"""How well a network does on a split: mean loss and metric over all of its examples, in evaluation mode."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import nn

from scratchcard.networks.forward import call
from scratchcard.training.accumulate import MeanOverExamples, NotMeasured
from scratchcard.training.block_floating import quantised_activations
from scratchcard.training.data import InMemory, Streamed, sequential
from scratchcard.training.loop import as_precise, autocast
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive, seeded
from scratchcard.training.task import Task


def evaluate(
    model: nn.Module, task: Task, split: InMemory | Streamed, recipe: Recipe, limit: int | None = None
) -> tuple[float, float]:
    """Mean loss and metric over a split; neither depends on how it is cut into batches.

    Args:
        model: on the recipe's device; left in evaluation mode.
        task: gives loss and metric.
        split: one of `task.data`'s.
        recipe: gives precision, device and `eval_batch_size`.
        limit: look at the first so many examples only.

    Returns:
        Both; the metric is not a number where one over a split cannot be calculated of outputs whose loss is none, or
        of the first examples alone.

    Raises:
        NotMeasured: a metric over a split cannot be calculated of a whole split.
    """
    device = torch.device(recipe.device)
    losses, measured = MeanOverExamples(task.loss_of, device), task.measured_by.start(device)
    model.eval()
    # seeded: a network that draws when it is evaluated is measured the same every time
    low = quantised_activations(model) if recipe.precision == "block8" else nullcontext()
    with seeded(derive("evaluate")), torch.inference_mode():
        with autocast(recipe), low:
            for inputs, targets in sequential(split, recipe.eval_batch_size, device, limit):
                outputs, wanted = call(model, as_precise(inputs, recipe)), as_precise(targets, recipe)
                losses.update(outputs, wanted)
                measured.update(outputs, wanted)
        loss = losses.compute()
        try:
            return loss, measured.compute()
        except NotMeasured:
            # e.g. of examples that are all of one class, or of outputs of a network that has diverged
            if math.isfinite(loss) and (limit is None or limit >= len(split)):
                raise
            return loss, math.nan
