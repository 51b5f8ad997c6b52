"""What is measured over the batches of a split: a mean over its examples, or one number of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

PerBatch = Callable[[Any, Any], Tensor]


@runtime_checkable
class Accumulates(Protocol):
    """A metric that is shown batches and asked once, as those of torchmetrics are."""

    def update(self, outputs: Any, targets: Any) -> object:
        """Take in one batch."""
        ...

    def compute(self) -> Any:
        """One number of all batches since the start."""
        ...

    def reset(self) -> object:
        """Forget all batches."""
        ...


class NotMeasured(ValueError):
    """A metric over a split that cannot be calculated of what it was shown."""


class Shown(Protocol):
    """What an evaluation shows its batches to, and then asks for the number."""

    def update(self, outputs: Any, targets: Any) -> None:
        """Take in one batch."""
        ...

    def compute(self) -> float:
        """The number; NotMeasured where there is none."""
        ...


class MeanOverExamples:
    """The mean of a function that is a mean over the examples of each batch."""

    def __init__(self, of: PerBatch, device: torch.device) -> None:
        self._of, self._examples, self._device = of, 0, device
        # kept on the device, so that nothing waits for it between batches
        wide = torch.float64 if device.type != "mps" else torch.float32
        self._total = torch.zeros((), device=device, dtype=wide)

    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch, by its number of examples."""
        number = examples_of(targets)
        self._total = self._total + torch.as_tensor(self._of(outputs, targets), device=self._device) * number
        self._examples += number

    def compute(self) -> float:
        """The mean over all examples so far."""
        return float(self._total) / self._examples


class OverSplit:
    """One number of all batches, which are handed over on the CPU; what it raises is kept until it is asked.

    Args:
        name: of the metric, for the sentence.
        shown: that nobody else uses.
    """

    def __init__(self, name: str, shown: Accumulates) -> None:
        self._name, self._shown = name, shown
        self._lost: Exception | None = None

    def update(self, outputs: Any, targets: Any) -> None:
        """Show it one batch."""
        if self._lost is None:
            try:
                self._shown.update(_on_cpu(outputs), _on_cpu(targets))
            except Exception as error:  # whatever the user's metric raises
                self._lost = error

    def compute(self) -> float:
        """The number.

        Raises:
            NotMeasured: it raised, or gives something else than one number.
        """
        try:
            if self._lost is not None:
                raise self._lost
            return one_number(self._shown.compute())
        except Exception as error:  # whatever the user's metric raises
            told = " ".join(str(error).split())[:300]
            raise NotMeasured(
                f"the metric {self._name!r} cannot be calculated over a split: {type(error).__name__}: {told}"
            ) from error


class AllAtOnce:
    """A function of all outputs and all targets, as something that accumulates."""

    def __init__(self, of: PerBatch) -> None:
        self._of = of
        self.reset()

    def update(self, outputs: Any, targets: Any) -> None:
        """Keep a batch."""
        self._outputs.append(outputs)
        self._targets.append(targets)

    def compute(self) -> Any:
        """What the function says to all of them, in order."""
        return self._of(_joined(self._outputs), _joined(self._targets))

    def reset(self) -> None:
        """Forget all batches."""
        self._outputs: list[Any] = []
        self._targets: list[Any] = []


def one_number(value: Any) -> float:
    """A tensor without dimensions, or a number, as a float.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, Tensor | int | float) or hasattr(value, "__float__"):
        seen = torch.as_tensor(value)
        if seen.dim() == 0:
            return float(seen)
        raise ValueError(f"it must give one number, got shape {list(seen.shape)}")
    raise ValueError(f"it must give one number, got a {type(value).__name__}")


def examples_of(targets: Any) -> int:
    """How many examples a batch has."""
    return tree_leaves(targets)[0].shape[0]


def _on_cpu(batch: Any) -> Any:
    return tree_map(lambda part: part.detach().cpu() if isinstance(part, Tensor) else part, batch)


def _joined(batches: list[Any]) -> Any:
    """Batches one after the other, in whatever structure they come; what is no tensor is the first one's."""
    leaves = [tree_flatten(batch)[0] for batch in batches]
    _, structure = tree_flatten(batches[0])
    joined = [torch.cat(column) if isinstance(column[0], Tensor) else column[0] for column in zip(*leaves, strict=True)]
    return tree_unflatten(joined, structure)
