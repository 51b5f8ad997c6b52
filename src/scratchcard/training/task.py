"""A task is the user's model, data, loss and metric - and, if there is one, the model they have already trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from scratchcard.networks.forward import as_fits, call, read_state, state_digest, with_state
from scratchcard.networks.sites import Sites, find_sites
from scratchcard.training.data import Data, sequential
from scratchcard.training.loop import as_precise, autocast, placed
from scratchcard.training.metrics import LOSSES, METRICS, Metric, PerBatch
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import seeded
from scratchcard.types import Snapshot
from scratchcard.words import unknown

TrainLoop = Callable[[nn.Module, Data, PerBatch, Recipe, int, list[int], int], Iterator[Snapshot]]


@dataclass(frozen=True)
class Task:
    """What is to be made smaller: `Task("mine", model=make_model, data=sc.load_data("digits"))`."""

    name: str
    model: Callable[[], nn.Module]
    """A factory: called under a seed, it returns a freshly initialised network."""
    data: Data
    loss: str | PerBatch = "cross_entropy"
    """A name in `LOSSES`, or (outputs, targets) -> scalar tensor, a mean over examples."""
    metric: str | Metric = "accuracy"
    """A name in `METRICS`, "loss" (the loss itself, lower is better), or a `Metric`."""
    start: Mapping[str, Tensor] | nn.Module | None = None
    """A trained dense model (or its state_dict): it is taken as it is, nothing dense is trained; tickets start from
    its weights, fresh initialisations come from the factory."""
    loop: TrainLoop | None = None
    """Your own training loop in place of scratchcard's: the same arguments and yields as `training.loop.train`.
    What a recipe asks for besides a plain step has to be applied (`training.besides.what_else`) and named in
    `Snapshot.besides`."""

    def __post_init__(self) -> None:
        """Refuse unknown names and wrong types.

        Raises:
            ValueError: an unknown loss or metric (with the nearest match), an empty name, a model that is no factory.
        """
        if not self.name:
            raise ValueError("a task needs a name; give Task(name=...) a short one")
        if isinstance(self.model, nn.Module) or not callable(self.model):
            raise ValueError(
                f"Task.model must be a factory that returns a fresh network (fresh initialisations are a control), got "
                f"{type(self.model).__name__}; give the class or a function, and a trained model as Task(start=...)"
            )
        if not isinstance(self.data, Data):
            raise ValueError(
                f"Task.data must be sc.Data, got {type(self.data).__name__}; see sc.load_data and sc.Data.from_tensors"
            )
        if isinstance(self.loss, str) and self.loss not in LOSSES:
            raise ValueError(unknown("loss", self.loss, LOSSES))
        if isinstance(self.metric, str) and self.metric not in (*METRICS, "loss"):
            raise ValueError(unknown("metric", self.metric, (*METRICS, "loss")))
        if self.start is not None:
            if not isinstance(self.start, nn.Module | Mapping):
                raise ValueError(
                    f"Task.start must be a trained model or its state_dict, got {type(self.start).__name__}; "
                    "load a checkpoint first"
                )
            state = self.start.state_dict() if isinstance(self.start, nn.Module) else self.start
            copies = {k: v.detach().to("cpu", copy=True) for k, v in state.items() if isinstance(v, Tensor)}
            object.__setattr__(self, "start", copies)

    @property
    def loss_of(self) -> PerBatch:
        """The loss as a callable."""
        return LOSSES[self.loss] if isinstance(self.loss, str) else self.loss

    @property
    def measured_by(self) -> Metric:
        """The metric, resolved from its name."""
        if isinstance(self.metric, Metric):
            return self.metric
        return Metric("loss", self.loss_of, higher_is_better=False) if self.metric == "loss" else METRICS[self.metric]

    @cached_property
    def sites(self) -> Sites:
        """The sites of its network: which units can be removed, found once.

        Raises:
            ValueError: the network cannot be read.
        """
        return find_sites(self.fresh(0), self.example_inputs())

    @cached_property
    def one_draw(self) -> bool:
        """Whether the factory gives the same weights under every seed, so that no initialisation is a fresh one."""
        first, second = (state_digest(read_state(self.fresh(seed))) for seed in (0, 1))
        return first == second

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be found again: the sites of a network do not travel between processes."""
        return {name: value for name, value in self.__dict__.items() if name != "sites"}

    def fresh(self, seed: int, width: float | None = None) -> nn.Module:
        """A freshly initialised network, a function of the seed.

        Args:
            seed: of the initialisation.
            width: handed to the factory where it is given; see `networks.narrow`.

        Raises:
            ValueError: the factory raises, or returns no module.
        """
        try:
            with seeded(seed):
                model = self.model() if width is None else self.model(width=width)  # pyright: ignore[reportCallIssue]
        except Exception as error:  # whatever the user's factory raises
            raise ValueError(f"the model factory of task {self.name!r} fails: {_one_line(error)}") from error
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"the model factory of task {self.name!r} must return a torch.nn.Module, not {type(model).__name__}"
            )
        return model

    def at_start(self, seed: int) -> nn.Module:
        """The dense network as a study starts from it: `start` where it is given, else a fresh one."""
        model = self.fresh(seed)
        return with_state(model, dict(self.start)) if isinstance(self.start, Mapping) else model

    def example_inputs(self, examples: int = 2) -> Any:
        """The first few validation inputs."""
        inputs, _ = next(iter(sequential(self.data.validation, examples, torch.device("cpu"))))
        return inputs

    def example_outputs(self) -> Any:
        """What the untrained network says to them; None where it fails on them."""
        model = self.fresh(0).eval()
        try:
            with seeded(0), torch.inference_mode():
                return call(model, as_fits(self.example_inputs(), model))
        except Exception:  # whatever the user's model raises; `check` says what
            return None

    def check(self, recipe: Recipe) -> None:
        """Send one batch through model, loss and metric, so that what does not fit is said before anything is trained.

        Raises:
            ValueError: the model fails on a batch, the loss does not fit its outputs, or either is not finite.
        """
        try:
            model = placed(self.at_start(0), recipe)
            device = torch.device(recipe.device)
        except (RuntimeError, AssertionError) as error:  # what torch raises about devices it does not have
            raise ValueError(f"the device {recipe.device!r} cannot be used here: {_one_line(error)}") from error
        batch = next(iter(sequential(self.data.train, min(recipe.batch_size, 8), device)))
        inputs, targets = (as_precise(part, recipe) for part in batch)
        with seeded(0), autocast(recipe):
            try:
                outputs = call(model, inputs)
            except Exception as error:  # whatever the user's model raises
                raise ValueError(
                    f"the model of task {self.name!r} fails on a batch {_shapes(inputs)}: {_one_line(error)}"
                ) from error
            try:
                loss = self.loss_of(outputs, targets)
                with torch.inference_mode():
                    metric = torch.as_tensor(self.measured_by.of(call(model, inputs), targets))
            except Exception as error:  # whatever the user's loss or metric raises
                raise ValueError(
                    f"the loss or metric of task {self.name!r} does not fit the model: outputs {_shapes(outputs)}, "
                    f"targets {_shapes(targets)}: {_one_line(error)}"
                ) from error
        if not (isinstance(loss, Tensor) and loss.dim() == 0 and loss.requires_grad):
            raise ValueError(
                f"the loss of task {self.name!r} must be a scalar tensor that depends on the weights, got "
                f"{_shapes(loss)}; return a mean over the examples of the batch"
            )
        if metric.dim() > 0:
            raise ValueError(
                f"the metric {self.measured_by.name!r} of task {self.name!r} must be one number, got "
                f"{_shapes(metric)}; return a mean over the examples of the batch"
            )
        for what, value in (("loss", float(loss.detach())), ("metric", float(metric))):
            if not math.isfinite(value):
                raise ValueError(
                    f"before any training, the {what} of task {self.name!r} on one batch is {value}; "
                    "check the inputs, targets and initialisation"
                )


def _shapes(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shapes(part)}" for name, part in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(_shapes, value)) + ")"
    return type(value).__name__


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
