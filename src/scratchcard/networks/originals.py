"""What the gate compares with: copies of the large network with its own weights or others, and other batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.networks.copies import copied
from scratchcard.networks.redrawn import redraw
from scratchcard.types import Tensors

LARGEST_DOUBLE = 500_000_000
"""Networks of more parameters are compared in their own types: several copies in float64 would fill the memory."""
REDRAWS = 8
"""So often weights are drawn anew, as long as the silenced network gives the same for any input with those drawn
before: by chance it does so once in many thousand times, and always where all that depends on the input is cut."""


class Originals:
    """Copies of a large network in evaluation mode, made once for any number of gates."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._made: dict[tuple[bool, int | None], nn.Module] = {}

    @property
    def digits(self) -> tuple[bool, ...]:
        """Whether to compare in float64, or in the types that the network has: what to try, in order."""
        return (True, False) if self._numbers <= LARGEST_DOUBLE else (False,)

    @property
    def redraws(self) -> int:
        """How often other weights may be drawn: each time is a copy more."""
        return REDRAWS if self._numbers <= LARGEST_DOUBLE // 20 else 2

    @property
    def _numbers(self) -> int:
        return sum(parameter.numel() for parameter in self._model.parameters())

    def copy(self, precise: bool, seed: int | None = None) -> nn.Module:
        """One in float64 or in its own types, with its own weights or with those that a seed draws."""
        if (precise, seed) not in self._made:
            made = prepared(self._model if seed is None else self.copy(precise), precise)
            if seed is not None:
                redraw(made, seed)
            self._made[precise, seed] = made
        return self._made[precise, seed]


def prepared(net: nn.Module, precise: bool) -> nn.Module:
    """A copy in evaluation mode, in float64 or as it is."""
    twin = copied(net).eval()
    return twin.double() if precise else twin


def drawn_batch(inputs: Tensors) -> Tensors:
    """Another batch of the same shapes: normal numbers where there are numbers to calculate with."""
    chance = torch.Generator().manual_seed(0)
    return tree_map(
        lambda leaf: (
            torch.randn(leaf.shape, generator=chance, dtype=torch.float64).to(leaf)
            if isinstance(leaf, Tensor) and leaf.is_floating_point()
            else leaf
        ),
        inputs,
    )


def longer_batch(inputs: Tensors) -> Tensors:
    """The batch and its first example once more, in every tensor that has as many rows as most."""
    tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.dim()]
    examples = len(tensors[0]) if tensors else 0
    return tree_map(
        lambda leaf: (
            torch.cat([leaf, leaf[:1]])
            if isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == examples and examples
            else leaf
        ),
        inputs,
    )
