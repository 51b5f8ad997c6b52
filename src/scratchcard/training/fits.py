"""Whether network, loss, metric and data fit each other: what does not is said before anything is trained."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from scratchcard.networks.forward import call, read_state, state_digest
from scratchcard.networks.quantised import check_only_tensors
from scratchcard.training.accumulate import NotMeasured, examples_of
from scratchcard.training.data import sequential, spread_out
from scratchcard.training.evaluate import evaluate
from scratchcard.training.loop import as_precise, autocast, placed
from scratchcard.training.metrics import Metric
from scratchcard.training.probes import broadcasts, no_mean
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import seeded
from scratchcard.training.task import Task, one_line
from scratchcard.types import State

LOOKED_AT = 32
"""Validation examples by which loss and metric are tried."""


def check_fits(task: Task, recipe: Recipe) -> None:
    """Send a batch through model, loss and metric, and refuse what could not be trained or measured by them.

    Args:
        task: what is to be studied.
        recipe: gives device, precision and batches.

    Raises:
        ValueError: the model fails on a batch; the loss does not fit its outputs, pairs all of them with all targets,
            or teaches the weights nothing; the metric is to be averaged and is no mean over examples, or is declared a
            fraction and is none; either is not finite; all training targets are of one class; there is no such device;
            the network's state has more than tensors, or is changed by evaluation.
    """
    alone = task.one_class(task.data.train)
    if alone is not None:
        raise ValueError(
            f"all {len(task.data.train):,} training targets of task {task.name!r} are class {alone}, so that there is "
            "nothing to learn; check the targets, and shuffle the examples before they are split"
        )
    try:
        model, device = placed(task.at_start(0), recipe), torch.device(recipe.device)
    except (RuntimeError, AssertionError) as error:  # what torch raises about devices it does not have
        raise ValueError(f"the device {recipe.device!r} cannot be used here: {one_line(error)}") from error
    check_only_tensors(
        model,
        f"the network of task {task.name!r}",
        "a run keeps weights and buffers alone, so that it would be lost between runs; give a network whose state_dict "
        "has tensors only: not quantised yet, without get_extra_state",
    )
    batch = next(iter(sequential(task.data.train, min(recipe.batch_size, 8), device)))
    inputs, targets = (as_precise(part, recipe) for part in batch)
    _check_loss(task, recipe, model, inputs, targets)
    batch = spread_out(task.data.validation, LOOKED_AT, device)
    inputs, targets = (as_precise(part, recipe) for part in batch)
    before = read_state(model)
    with torch.inference_mode():
        outputs = _outputs(task, recipe, model.eval(), inputs)
    _check_unchanged(task, before, read_state(model))
    for what, of in (("loss", task.loss_of), (f"metric {task.measured_by.name!r}", _at_once(task.measured_by))):
        if broadcasts(of, outputs, targets):
            raise ValueError(
                f"the {what} of task {task.name!r} pairs every output with every target: outputs {_shapes(outputs)} "
                f"and targets {_shapes(targets)} are of different shapes, and broadcast; give both one shape, "
                "e.g. targets[:, None]"
            )
    _check_metric(task, recipe, model, outputs, targets)


def _check_unchanged(task: Task, before: State, after: State) -> None:
    """Refuse a network that evaluation would change, as observers of ranges are changed by whatever they see."""
    moved = [name for name, value in before.items() if state_digest({"": value}) != state_digest({"": after[name]})]
    if moved:
        raise ValueError(
            f"the network of task {task.name!r} changes its own state in evaluation mode ({', '.join(moved[:4])}"
            + (f" and {len(moved) - 4} more" if len(moved) > 4 else "")
            + "), so that measuring it would change what is trained; change it in training mode only (of a network "
            "prepared for quantisation: disable its observers)"
        )


def _check_loss(task: Task, recipe: Recipe, model: nn.Module, inputs: Any, targets: Any) -> None:
    """Refuse a loss of a training batch that is no number or that no weight has to do with."""
    loss = _loss(task, recipe, model, inputs, targets)
    if not (isinstance(loss, Tensor) and loss.dim() == 0 and loss.requires_grad):
        raise ValueError(
            f"the loss of task {task.name!r} must be a scalar tensor that depends on the weights, got "
            f"{_shapes(loss)}; return a mean over the examples of the batch"
        )
    _check_finite(task, "loss", float(loss.detach()))
    if _teaches(loss, model, task):
        return
    other = placed(task.fresh(1), recipe)  # weights that fit these examples perfectly may have no gradient either
    if not _teaches(_loss(task, recipe, other, inputs, targets), other, task):
        raise ValueError(
            f"the loss of task {task.name!r} does not depend on the weights: its gradient is 0 for every one of them, "
            "so that nothing would be learnt; calculate it from the outputs, without rounding or argmax"
        )


def _check_metric(task: Task, recipe: Recipe, model: nn.Module, outputs: Any, targets: Any) -> None:
    """Refuse a metric of validation examples that would not be measured right."""
    measured, n = task.measured_by, examples_of(targets)
    value = _of_batch(task, recipe, outputs, targets) if measured.over == "batch" else _of_split(task, recipe, model)
    found = no_mean(measured.of, outputs, targets) if measured.over == "batch" and callable(measured.of) else None
    if found is not None:
        whole, by_parts = found
        seen = f"by its parts {by_parts:.4g}" if by_parts is not None else "it cannot be calculated of a part of them"
        raise ValueError(
            f"the metric {measured.name!r} of task {task.name!r} is no mean over examples: on {n} of them it is "
            f"{whole:.4g}, and {seen}, so that it would depend on the size of evaluation batches; measure it on the "
            f'whole split: sc.Metric({measured.name!r}, ..., over="split")'
        )
    _check_finite(task, "metric", value)
    if measured.fraction and not -1e-6 <= value <= 1 + 1e-6:
        raise ValueError(
            f"the metric {measured.name!r} of task {task.name!r} is declared a fraction, and is {value:.4g} on "
            f"{n} validation examples; a fraction lies between 0 and 1: divide it, or leave out fraction=True"
        )


def _of_batch(task: Task, recipe: Recipe, outputs: Any, targets: Any) -> float:
    measured = task.measured_by
    assert callable(measured.of), "what only accumulates is measured over the split"
    try:
        with seeded(0), torch.inference_mode(), autocast(recipe):
            value = torch.as_tensor(measured.of(outputs, targets))
    except Exception as error:  # whatever the user's metric raises
        _refuse(task, "metric", outputs, targets, error)
    if value.dim() > 0:
        raise ValueError(
            f"the metric {measured.name!r} of task {task.name!r} must be one number, got {_shapes(value)}; "
            "return a mean over the examples of the batch"
        )
    return float(value)


def _of_split(task: Task, recipe: Recipe, model: nn.Module) -> float:
    """A metric over a split, of a few examples, or, since it may need more of them, of all there are."""
    looked_at, value = min(LOOKED_AT, len(task.data.validation)), math.nan
    if looked_at < len(task.data.validation):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e.g. that the few examples are all of one class
            _, value = evaluate(model, task, task.data.validation, recipe, limit=looked_at)
    if math.isfinite(value):
        return value
    try:
        return evaluate(model, task, task.data.validation, recipe)[1]
    except NotMeasured as error:
        raise ValueError(f"task {task.name!r}, validation split: {error}") from error


def _loss(task: Task, recipe: Recipe, model: nn.Module, inputs: Any, targets: Any) -> Any:
    """The loss of a batch, with its graph."""
    outputs = _outputs(task, recipe, model, inputs)
    try:
        with seeded(0), autocast(recipe):
            return task.loss_of(outputs, targets)
    except Exception as error:  # whatever the user's loss raises
        _refuse(task, "loss", outputs, targets, error)


def _outputs(task: Task, recipe: Recipe, model: nn.Module, inputs: Any) -> Any:
    try:
        with seeded(0), autocast(recipe):
            return call(model, inputs)
    except Exception as error:  # whatever the user's model raises
        raise ValueError(
            f"the model of task {task.name!r} fails on a batch {_shapes(inputs)}: {one_line(error)}"
        ) from error


def _teaches(loss: Any, model: nn.Module, task: Task) -> bool:
    """Whether a loss has a gradient that is not 0."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        found = torch.autograd.grad(loss, weights, allow_unused=True)
    except Exception as error:  # whatever the user's network or loss raises on the way back
        raise ValueError(f"the loss of task {task.name!r} has no gradient: {one_line(error)}") from error
    return any(bool((g.to_dense() if g.is_sparse else g).any()) for g in found if g is not None)


def _at_once(measured: Metric) -> Callable[[Any, Any], float]:
    """A metric of any kind as a function of one batch."""

    def of(outputs: Any, targets: Any) -> float:
        shown = measured.start(torch.device("cpu"))
        shown.update(outputs, targets)
        return shown.compute()

    return of


def _check_finite(task: Task, what: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(
            f"before any training, the {what} of task {task.name!r} on one batch is {value}; "
            "check the inputs, targets and initialisation"
        )


def _refuse(task: Task, what: str, outputs: Any, targets: Any, error: Exception) -> NoReturn:
    raise ValueError(
        f"the {what} of task {task.name!r} does not fit the model: outputs {_shapes(outputs)}, "
        f"targets {_shapes(targets)}: {one_line(error)}"
    ) from error


def _shapes(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shapes(part)}" for name, part in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(_shapes, value)) + ")"
    return type(value).__name__
