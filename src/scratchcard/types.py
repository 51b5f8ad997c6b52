"""The words every room shares: what a batch, a state, a mask and a snapshot are.

Shape letters used in names and docstrings: B batch, N examples, C channels or classes, H W height and width,
T positions in a sequence, U units of a site.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Tensors = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""What a model is called with: one tensor, positional tensors, or keyword tensors; first dimension = examples."""

State = dict[str, Tensor]
"""Name -> tensor: the parameters and buffers of a module, as `Module.state_dict()` has them."""

WeightMask = dict[str, Tensor]
"""Weight name -> boolean tensor of the weight's shape, True = kept. Has *every* weight, prunable or not, so that
its density is the paper's; biases and normalisation are left out."""

UnitMask = dict[str, Tensor]
"""Site -> boolean tensor [U], True = kept."""

Scores = dict[str, Tensor]
"""Name -> a number per weight or unit; the higher, the more worth keeping."""


@dataclass(frozen=True)
class Snapshot:
    """A training as it stands after `step` optimizer steps."""

    step: int
    train_loss: float | None
    """Mean training loss over the steps since the previous snapshot; None where the training started."""
    state: Callable[[], State]
    """Reads the weights and buffers, as copies on the CPU. Call it before asking for the next snapshot."""
    write: Callable[[State], None] | None = None
    """Puts other values into weights and buffers, by name, from where the training goes on; None where it is over."""
    besides: frozenset[str] = frozenset()
    """The fields of the recipe that ask for more than a plain step and were heard: `frozenset(what_else(...))`."""
