"""Sizes as numbers, also those that depend on data."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import Node

UNKNOWN = 1
"""What stands for a size that is not known before the data are: nothing that could be cut lies along it."""


def sizes(value: Any) -> tuple[int, ...]:
    """The shape of a tensor of an exported program; of anything else no sizes."""
    if not isinstance(value, Tensor):
        return ()
    return tuple(size if isinstance(size, int) else UNKNOWN for size in value.shape)


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of what a node of an exported program gives; none where that is no tensor."""
    return sizes(node.meta.get("val"))
