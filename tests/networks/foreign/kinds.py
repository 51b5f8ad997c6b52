"""How a hand-made kind is put into the zoo: the class, and what a batch of it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Batch = Callable[[int], Any]
"""Number of examples -> inputs."""


@dataclass(frozen=True)
class Kind:
    """A network that is built without arguments, and its inputs."""

    make: Callable[[], nn.Module]
    inputs: Batch


KINDS: dict[str, Kind] = {}
"""Name -> the kind, of all that have been imported."""


def kind(inputs: Batch, name: str = "") -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Put a class into the zoo under its own name, in small letters."""

    def known(made: type[nn.Module]) -> type[nn.Module]:
        KINDS[name or made.__name__.lower()] = Kind(made, inputs)
        return made

    return known


def drawn(*shape: int, seed: int = 3) -> Batch:
    """Normal numbers of a shape for every example."""
    return lambda batch: torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


def tokens(length: int = 10, words: int = 20) -> Batch:
    """Numbers of words."""
    return lambda batch: torch.randint(0, words, (batch, length), generator=torch.Generator().manual_seed(4))


def pair(one: Batch, other: Batch) -> Batch:
    """Two inputs by position."""
    return lambda batch: (one(batch), other(batch))


def named(**parts: Batch) -> Batch:
    """Inputs by keyword."""
    return lambda batch: {name: part(batch) for name, part in parts.items()}


def graph(nodes: int, features: int) -> Batch:
    """Nodes with features, and who is a neighbour of whom as a dense matrix."""

    def made(batch: int) -> tuple[Tensor, Tensor]:
        chance = torch.Generator().manual_seed(5)
        near = (torch.rand(batch, nodes, nodes, generator=chance) < 0.4).float() + torch.eye(nodes)
        return torch.randn(batch, nodes, features, generator=chance), near.clamp(max=1)

    return made
