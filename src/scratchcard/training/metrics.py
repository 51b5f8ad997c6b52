"""Losses and metrics by name; any function of (outputs, targets), or object that accumulates them, serves as well."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from scratchcard.training.accumulate import Accumulates, AllAtOnce, MeanOverExamples, OverSplit, PerBatch, Shown
from scratchcard.words import unknown


@dataclass(frozen=True)
class Metric:
    """How good outputs are: a mean over examples, or with over="split" one number of all outputs of a split.

    Raises ValueError for something that is neither a function nor has update, compute and reset.
    """

    name: str
    of: PerBatch | Accumulates
    """(outputs, targets) -> scalar tensor; or an object with update(outputs, targets), compute() and reset(), as
    torchmetrics has them: it is copied and reset here, and every evaluation uses a copy of its own."""
    higher_is_better: bool = True
    fraction: bool = False
    """True for shares in [0, 1], which are printed in per cent and percentage points."""
    over: Literal["batch", "split"] = "batch"
    """"batch": a mean over examples, so that batches can be averaged by their sizes; "split": a function of all outputs
    and targets of a split, on the CPU (R2, F1, AUC). An object that accumulates is always over the split."""

    def __post_init__(self) -> None:
        """Take a copy of an object that accumulates, so that what it is shown elsewhere is no part of it."""
        if self.over not in ("batch", "split"):
            raise ValueError(unknown("over", self.over, ("batch", "split")))
        if isinstance(self.of, type) or not (callable(self.of) or isinstance(self.of, Accumulates)):
            seen = f"the class {self.of.__name__}" if isinstance(self.of, type) else f"a {type(self.of).__name__}"
            raise ValueError(
                f"the metric {self.name!r} must be a function of (outputs, targets), or an object with update, compute "
                f"and reset, got {seen}" + ("; give an object of it" if isinstance(self.of, type) else "")
            )
        if isinstance(self.of, Accumulates):
            own = copy.deepcopy(self.of)
            own.reset()
            object.__setattr__(self, "of", own)
            object.__setattr__(self, "over", "split")

    def __getstate__(self) -> dict[str, Any]:
        """Without `over` at its default: the identity of metrics from before there was a choice is what it was."""
        return {name: value for name, value in self.__dict__.items() if (name, value) != ("over", "batch")}

    def start(self, device: torch.device) -> Shown:
        """What the batches of one evaluation on this device are shown to; nothing is shared with another."""
        if isinstance(self.of, Accumulates):
            return OverSplit(self.name, copy.deepcopy(self.of))
        return OverSplit(self.name, AllAtOnce(self.of)) if self.over == "split" else MeanOverExamples(self.of, device)


def as_metric(given: Any) -> Metric:
    """A bare function or object as a metric: under its own name, printed as a number.

    Higher is better, unless an attribute `higher_is_better` of it says otherwise (see `says_which_is_better`).

    Raises:
        ValueError: as `Metric`.
    """
    name = getattr(getattr(given, "func", given), "__name__", type(given).__name__)
    higher = given.higher_is_better if says_which_is_better(given) else True
    return Metric("own metric" if name == "<lambda>" else name, given, higher_is_better=higher)


def says_which_is_better(given: Any) -> bool:
    """Whether a bare function or object says itself if higher is better, as those of torchmetrics do."""
    return isinstance(getattr(given, "higher_is_better", None), bool)


def _mse(outputs: Tensor, targets: Tensor) -> Tensor:
    _same_shape("mse", outputs, targets)
    return F.mse_loss(outputs, targets)


def _mae(outputs: Tensor, targets: Tensor) -> Tensor:
    _same_shape("mae", outputs, targets)
    return F.l1_loss(outputs, targets)


def _same_shape(name: str, outputs: Tensor, targets: Tensor) -> None:
    # torch would pair every output with every target, and the mean of that is learnt by a constant
    if outputs.shape != targets.shape:
        raise ValueError(
            f"{name} needs outputs and targets of one shape, got {list(outputs.shape)} and {list(targets.shape)}; "
            "reshape the targets of the data, e.g. targets[:, None], or the network's outputs"
        )


def _next_token(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def _accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float().mean()


def _next_token_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(-1) == targets).float().mean()


LOSSES: dict[str, PerBatch] = {"cross_entropy": F.cross_entropy, "mse": _mse, "next_token": _next_token}
"""cross_entropy: logits [B, C, ...] against classes [B, ...]; mse: equal shapes; next_token: logits [B, T, C]
against tokens [B, T], in nats per token."""

OF_CLASSES = (LOSSES["cross_entropy"], LOSSES["next_token"])
"""Losses whose integer targets are classes."""

METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", _accuracy, fraction=True),
    "next_token_accuracy": Metric("next-token accuracy", _next_token_accuracy, fraction=True),
    "mse": Metric("mean squared error", _mse, higher_is_better=False),
    "mae": Metric("mean absolute error", _mae, higher_is_better=False),
}
