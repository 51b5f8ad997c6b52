"""What a rule about an operator may use of the walk over the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from torch.fx import Node

from scratchcard.networks.labels import Dims, Labels, Unions


class Walk(Protocol):
    """What a rule may use of the walk over the graph."""

    unions: Unions

    def consumes(self, node: Node, argument: int, dim: int, labels: Labels) -> None:
        """Note that an operator adds up over a dimension of one of its arguments."""
        ...

    def produces(self, node: Node, argument: int, dim: int) -> None:
        """Note which dimension of a weight is its outputs, where it is not the first."""
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


def free(sizes: tuple[int, ...]) -> Dims:
    """Dimensions of which nothing can be cut: images, positions, batches."""
    return [np.zeros(size, dtype=np.int64) for size in sizes]


def as_one(walk: Walk, labels: Labels) -> None:
    """Make all of some labels one: they can only go together."""
    walk.unions.unite(labels[1:], labels[:-1], "in one group with something that is kept")


def together(walk: Walk, node: Node, *tensors: Any, **_: Any) -> Dims:
    """Entry by entry, with broadcasting: labels of dimensions that meet become one."""
    dims = [tensor for tensor in tensors if isinstance(tensor, list)]
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
