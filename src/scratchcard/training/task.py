"""A task is the user's model, data, loss and metric - and, if there is one, the model they have already trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from scratchcard.networks.copies import folded, masked_by_torch, without_masks
from scratchcard.networks.forward import as_fits, call, read_state, state_digest, with_state
from scratchcard.networks.proved import Proofs, find_sites
from scratchcard.networks.sites import Sites
from scratchcard.training.accumulate import Accumulates, PerBatch
from scratchcard.training.data import Data, InMemory, Split, sequential
from scratchcard.training.metrics import LOSSES, METRICS, OF_CLASSES, Metric, as_metric
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
    metric: str | Metric | PerBatch | Accumulates = "accuracy"
    """A name in `METRICS`, "loss" (the loss itself, lower is better), or a `Metric`. A bare function that is a mean
    over examples, or an object that accumulates as those of torchmetrics do, is taken under its own name and printed as
    a number; higher is better unless its attribute `higher_is_better` says otherwise."""
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
        if not isinstance(self.loss, str) and not callable(self.loss):
            raise ValueError(
                f"Task.loss must be a name in {', '.join(LOSSES)} or a function of (outputs, targets), got a "
                f"{type(self.loss).__name__}"
            )
        if not isinstance(self.metric, str | Metric):
            object.__setattr__(self, "metric", as_metric(self.metric).of)
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
        if not isinstance(self.metric, str):
            return as_metric(self.metric)
        return Metric("loss", self.loss_of, higher_is_better=False) if self.metric == "loss" else METRICS[self.metric]

    @cached_property
    def sites(self) -> Sites:
        """The sites of its network: which units can be removed, found and proved once.

        Raises:
            ValueError: the network cannot be read.
        """
        return find_sites(self.fresh(0), self.example_inputs(), vars(self).get("_proofs"))

    def proved_in(self, proofs: Proofs) -> None:
        """Take the proofs of its sites from there, and keep new ones there."""
        object.__setattr__(self, "_proofs", proofs)

    @cached_property
    def one_draw(self) -> bool:
        """Whether the factory gives the same weights under every seed, so that no initialisation is a fresh one."""
        first, second = (state_digest(read_state(self.fresh(seed))) for seed in (0, 1))
        return first == second

    @property
    def masked(self) -> list[str]:
        """The weights that torch.nn.utils.prune has masked in what the factory gives."""
        return masked_by_torch(self._made(0))

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be found again: the sites of a network do not travel between processes."""
        return {name: value for name, value in self.__dict__.items() if name != "sites"}

    def fresh(self, seed: int, width: float | None = None) -> nn.Module:
        """A freshly initialised network, a function of the seed, masks of torch.nn.utils.prune folded into its weights.

        Args:
            seed: of the initialisation.
            width: handed to the factory where it is given; see `networks.narrow`.

        Raises:
            ValueError: the factory raises, or returns no module.
        """
        return without_masks(self._made(seed, width))

    def _made(self, seed: int, width: float | None = None) -> nn.Module:
        """What the factory gives."""
        try:
            with seeded(seed):
                model = self.model() if width is None else self.model(width=width)  # pyright: ignore[reportCallIssue]
        except Exception as error:  # whatever the user's factory raises
            raise ValueError(f"the model factory of task {self.name!r} fails: {one_line(error)}") from error
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"the model factory of task {self.name!r} must return a torch.nn.Module, not {type(model).__name__}"
            )
        return model

    def at_start(self, seed: int) -> nn.Module:
        """The dense network as a study starts from it: `start` where it is given, else a fresh one."""
        model = self.fresh(seed)
        return with_state(model, folded(self.start, model)) if isinstance(self.start, Mapping) else model

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
        except Exception:  # whatever the user's model raises; `fits` says what
            return None

    def one_class(self, split: Split) -> int | None:
        """The class that all targets of a split are, where they are classes and held in memory; else None."""
        targets = split.targets if isinstance(split, InMemory) else None
        if self.loss_of not in OF_CLASSES or not isinstance(targets, Tensor) or targets.is_floating_point():
            return None
        first = targets.flatten()[0]
        return int(first) if bool((targets == first).all()) else None


def one_line(error: Exception) -> str:
    """What was raised, as the end of a sentence."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
