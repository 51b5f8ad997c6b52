"""What a rule about an operator may use of the walk over the graph."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from torch.fx import Node

from scratchcard.networks.labels import Dims, Labels, Unions


class Walk(Protocol):
    """What a rule may use of the walk over the graph."""

    unions: Unions
    weights: Collection[Node]
    """Nodes that are made of parameters and buffers alone: the same for every input."""

    def name(self, node: Node) -> str:
        """The operator's name."""
        ...

    def consumes(self, node: Node, argument: int, dim: int, labels: Labels) -> None:
        """Note that an operator adds up over a dimension of one of its arguments, counted with all that is in lists."""
        ...

    def produces(self, source: Any, dim: int) -> None:
        """Note which dimension of what a weight was made into is its outputs, where it is not the first."""
        ...

    def counts(self, node: Node, number: int, labels: Labels, attribute: str = "") -> None:
        """Note that a number which is written into the code, or told to a module, counts these units.

        Args:
            node: the operator that is called with it.
            number: what is written; as many as there are labels.
            labels: one of each unit.
            attribute: of a module of torch that runs it: where it is told; empty where that is to be found.
        """
        ...

    def measures(self, node: Node, dim: int) -> bool:
        """Whether a node's first two arguments are a direction and a length, so that both can be cut; it is noted."""
        ...

    def shape(self, node: Node) -> tuple[int, ...]:
        """The shape of what a node gives, of the first where it gives several."""
        ...

    def buffer(self, node: Any) -> tuple[str, Tensor] | None:
        """The name and the values of the buffer that a node stands for, if it does."""
        ...


Rule = Callable[..., Dims | list[Dims]]
OF_WEIGHTS = "part of what the weights that read it are divided by or made of"
"""Why nothing is cut over which weights alone are added up: with fewer of them the others would become other ones."""


def free(sizes: tuple[int, ...]) -> Dims:
    """Dimensions of which nothing can be cut: images, positions, batches."""
    return [np.zeros(size, dtype=np.int64) for size in sizes]


def as_one(walk: Walk, labels: Labels) -> None:
    """Make all of some labels one: they can only go together."""
    walk.unions.unite(labels[1:], labels[:-1], "in one group with something that is kept")


def as_chunks(walk: Walk, labels: Labels, size: int) -> None:
    """Make equal parts of some labels one, part by part: the same ones go from each."""
    for start in range(size, len(labels), size):
        walk.unions.unite(labels[:size], labels[start : start + size], "chunked with something that is kept")


def with_labels(x: Dims, dim: int, labels: Labels) -> Dims:
    """Dimensions of which one has other labels."""
    result = list(x)
    result[dim] = labels
    return result


def are_dims(part: Any) -> bool:
    """Whether an argument of a rule is a tensor, told as the labels of its dimensions."""
    return isinstance(part, list) and all(isinstance(labels, np.ndarray) for labels in part)


def together(walk: Walk, node: Node, *tensors: Any, **_: Any) -> Dims:
    """Entry by entry, with broadcasting: labels of dimensions that meet become one."""
    dims = [tensor for tensor in tensors if are_dims(tensor)]
    rank = max(map(len, dims))
    result: Dims = []
    for at in range(-rank, 0):
        here = [d[at] for d in dims if len(d) >= -at]
        wide = [labels for labels in here if len(labels) > 1] or here
        for labels in wide[1:]:
            walk.unions.unite(wide[0], labels, "added to or multiplied by something that is kept")
        if len(wide[0]) > 1:  # one unit spread over many is read by all of them
            for labels in here:
                if len(labels) == 1:
                    walk.unions.keep(labels, "spread over other units by broadcasting")
        result.append(wide[0])
    return result
