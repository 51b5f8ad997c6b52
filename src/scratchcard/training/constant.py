"""What the best constant outputs reach: a network that is no better has learnt nothing that its inputs tell."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from scratchcard.training.data import InMemory
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task


def constant_metric(task: Task, split: InMemory, recipe: Recipe) -> float | None:
    """The task's metric on a split of the best constant outputs that the training targets give.

    Classes (integer targets) are predicted by their frequencies in the training data, as logits, so that the most
    frequent one has the largest; numbers by their mean or their median, shares by the logit of their mean too,
    whichever is best on the training targets. Nothing is chosen by the split.

    Args:
        task: whose data are in memory; its outputs and targets are single tensors.
        split: that the metric is measured on, one of the task's.
        recipe: gives the size of the batches.

    Returns:
        None where outputs or targets are of another kind, or where the metric cannot be calculated of them.
    """
    train = task.data.train
    outputs = task.example_outputs()
    if not isinstance(train, InMemory) or not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        return None
    if not isinstance(train.targets, Tensor) or not isinstance(split.targets, Tensor):
        return None
    measured = task.measured_by
    sign = 1 if measured.higher_is_better else -1
    seen, told = train.targets[:_LOOKED_AT].cpu(), []
    for constant in _constants(train.targets.cpu(), outputs):
        values = [_measured(task, constant.to(outputs.dtype), some, recipe) for some in (seen, split.targets.cpu())]
        if None not in values:
            told.append(values)
    # which one is best, the training targets say
    return max(told, key=lambda values: sign * values[0])[1] if told else None


def distance_to_right(task: Task, split: InMemory, recipe: Recipe) -> float | None:
    """How far the metric of the best constant outputs is from that of right ones: what there is to be learnt.

    Right ones have a metric of 0 where lower is better, or where it cannot be calculated of the targets themselves.

    Args:
        task: as of `constant_metric`.
        split: that both are measured on.
        recipe: gives the size of the batches.

    Returns:
        A positive number; None where `constant_metric` knows none, or where there is no distance.
    """
    constant, right = constant_metric(task, split, recipe), 0.0
    if constant is None or not isinstance(split.targets, Tensor):
        return None
    if task.measured_by.higher_is_better and split.targets.is_floating_point():
        right = _of(task, lambda some: some.clone(), split.targets.cpu(), recipe) or 0.0
    return abs(right - constant) or None


_LOOKED_AT = 10_000
"""Training targets by which the best constant is chosen."""


def _measured(task: Task, constant: Tensor, targets: Tensor, recipe: Recipe) -> float | None:
    """The metric of constant outputs; None where it cannot be calculated."""
    return _of(task, lambda some: constant.expand(len(some), *constant.shape[1:]).contiguous(), targets, recipe)


def _of(task: Task, outputs: Callable[[Tensor], Tensor], targets: Tensor, recipe: Recipe) -> float | None:
    """The metric of what is said to targets; None where it cannot be calculated."""
    shown = task.measured_by.start(torch.device("cpu"))
    try:
        with torch.inference_mode():
            for some in targets.split(recipe.eval_batch_size):
                shown.update(outputs(some), some)
            value = shown.compute()
    except Exception:  # whatever the user's metric raises on outputs that no network gave
        return None
    return value if math.isfinite(value) else None


def _constants(targets: Tensor, outputs: Tensor) -> list[Tensor]:
    """Constant outputs of one example [1, ...] that could be best, in the shape of the network's."""
    if targets.is_floating_point():
        if targets.shape[1:] != outputs.shape[1:]:
            return []
        mean = targets.double().mean(0, keepdim=True)
        shares = [torch.logit(mean, eps=1e-6)] if bool(((targets >= 0) & (targets <= 1)).all()) else []
        return [mean, targets.double().median(0, keepdim=True).values, *shares]
    if targets.dtype == torch.bool or not bool((targets >= 0).all()) or outputs.dim() != targets.dim() + 1:
        return []
    # classes are along the first dimension of outputs after the batch, or the last where every position has a target
    along = 1 if outputs.shape[2:] == targets.shape[1:] else outputs.dim() - 1
    classes = outputs.shape[along]
    if int(targets.max()) >= classes:
        return []
    # never seen in training: as if half an example had been
    logits = torch.bincount(targets.flatten(), minlength=classes).double().clamp_min(0.5).log()
    shape = [classes if at == along else 1 for at in range(outputs.dim())]
    return [logits.view(shape).expand(1, *outputs.shape[1:])]
