"""Dimensions followed forward through a program: where one that a view splits off goes, and who takes it for channels.

Each dimension carries the set of what it was at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from torch.fx import Node

from scratchcard.networks.sizes import shape_of
from scratchcard.networks.spellings import core_name, spelled

PRODUCTS = ("linear", "matmul", "bmm", "mm", "addmm", "baddbmm")

Marks = list[frozenset[int]]
"""For every dimension, which of those at the start are in it."""


def operator(node: Node) -> str:
    """The name of a node's operator without its namespace and overload; empty where it calls none."""
    return spelled(node.target) if node.op == "call_function" else ""


def map_axis(node: Node, first: int, wanted: list[int], weights: Collection[Node]) -> int | None:
    """Which of the dimensions that a view splits off are channels: the one that the next layer takes for such.

    Where the next layer mixes several of them - a shuffle - it is the last: the same ones go from each group.

    Args:
        node: the view.
        first: the first of the dimensions in its output.
        wanted: their sizes.
        weights: nodes that are made of parameters alone.

    Returns:
        A position in `wanted`; None where no layer follows, or it reads none of them.
    """

    def told(user: Node, source: Node, axes: Marks) -> frozenset[int] | None:
        at = _channels(user, source, weights)
        return None if at is None else axes[at]

    return max(first_told(node, marked(node, first, wanted), told), default=None)


def first_told(node: Node, start: Marks, told: Callable[[Node, Node, Marks], frozenset[int] | None]) -> frozenset[int]:
    """The marks that the next operator which can say so has on a dimension of its own; empty where none can.

    Args:
        node: where to begin.
        start: what its dimensions are marked with.
        told: of a user, what it uses, and the marks on that: the marks in question; None to go on behind it.
    """
    waiting, seen = [(node, start)], set[Node]()
    while waiting:
        source, axes = waiting.pop(0)
        if source in seen:
            continue
        seen.add(source)
        for user in source.users:
            found = told(user, source, axes)
            if found:
                return found
            after = followed(user, source, axes) if found is None else None
            if after is not None and any(after):
                waiting.append((user, after))
    return frozenset()


def marked(node: Node, first: int, wanted: list[int]) -> Marks:
    """The dimensions of what a node gives, those that a view has split off marked, but for those of one entry."""
    start: Marks = [frozenset()] * len(shape_of(node))
    for axis, size in enumerate(wanted):
        start[first + axis] = frozenset({axis}) if size > 1 else frozenset()
    return start


def _channels(node: Node, source: Node, weights: Collection[Node]) -> int | None:
    """Which dimension of one of its arguments an operator takes for channels; None where it takes none."""
    name, rank = core_name(operator(node)), len(shape_of(source))
    if name.startswith(("conv", "max_pool", "avg_pool", "adaptive_", "upsample_")) and not name.startswith("conv_tbc"):
        places = next(int(letter) for letter in name if letter.isdigit())
        return rank - places - 1
    if name in ("batch_norm", "instance_norm", "group_norm", "prelu"):
        return 1
    product = name in PRODUCTS and any(part in weights for part in node.all_input_nodes)
    return rank - 1 if product and source not in weights else None


def followed(node: Node, source: Node, axes: Marks) -> Marks | None:
    """Where dimensions are after one more operator; None where they are not followed."""
    name, rank = core_name(operator(node)), len(axes)
    told: list[Any] = list(node.args)
    if getattr(node.target, "__name__", "") == "getitem":
        return axes
    if name in ("split", "chunk", "split_with_sizes", "unbind", "tensor_split"):
        rest = list(axes)
        if name == "unbind":
            del rest[_at(node, 1, "dim", 0) % rank]
        return rest
    if name == "select":
        return [axis for at, axis in enumerate(axes) if at != told[1] % rank]
    if name == "transpose":
        one, other = (at % rank for at in told[1:3])
        result = list(axes)
        result[one], result[other] = axes[other], axes[one]
        return result
    if name == "permute":
        return [axes[at] for at in told[1]]
    if name == "movedim":
        return [axes[at] for at in np.moveaxis(np.empty(tuple(range(rank))), told[1], told[2]).shape]
    if name in ("t", "numpy_T"):
        return axes[::-1]
    if name == "mT":
        return [*axes[:-2], axes[-1], axes[-2]]
    if name == "unsqueeze":
        at = told[1] % (rank + 1)
        return [*axes[:at], frozenset(), *axes[at:]]
    before, after = shape_of(source), shape_of(node)
    if name == "linear":
        if source is node.args[0]:
            return [*axes[:-1], frozenset()]
        return [*[frozenset[int]()] * (len(after) - 1), axes[0]]  # of its weight, or its bias
    if name.startswith("conv"):
        return None
    if name in ("view", "reshape", "flatten", "unflatten", "squeeze", "view_as", "reshape_as", "ravel"):
        result = []
        for old, new in blocks(before, after):
            inside = [axes[at] for at in old if before[at] > 1]
            wide = [at for at in new if after[at] > 1]
            joined = frozenset[int]().union(*inside)
            aligned = inside if len(inside) == len(wide) == 1 else [joined] * len(wide)
            where = dict(zip(wide, aligned, strict=True))
            result += [where.get(at, frozenset()) for at in new]
        return result
    if len(after) == len(before) and all(a == b or a == 1 or b == 1 for a, b in zip(before, after, strict=True)):
        return axes
    if name in ("expand", "repeat_interleave", "slice", "cat", "add", "mul") and len(after) >= rank:
        return [frozenset[int]()] * (len(after) - rank) + axes
    return None


def _at(node: Node, position: int, name: str, default: int) -> int:
    value = node.args[position] if len(node.args) > position else node.kwargs.get(name, default)
    return value if isinstance(value, int) else default


def blocks(before: Iterable[int], after: Iterable[int]) -> list[tuple[range, range]]:
    """The neighbouring dimensions of a view that become one another: positions before, positions after."""
    old, new = list(before), list(after)
    found = []
    i = j = 0
    while i < len(old) or j < len(new):
        first_i, first_j = i, j
        left = old[i] if i < len(old) else 1
        right = new[j] if j < len(new) else 1
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        found.append((range(first_i, i), range(first_j, j)))
    return found
