"""Attention heads as units: where a view splits them off, and which numbers of a network's code count them.

A head is cut whole: all its rows of the query, key and value projections and its columns of the output projection
(Michel et al. 2019, section 2; Voita et al. 2019, section 3). Its size stays, and so does the scale of the scores. With
grouped queries the unit is one key and value head with all the query heads that read it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from scratchcard.networks.labels import KEPT, Labels, Unions

_PRODUCTS = ("matmul", "bmm", "baddbmm")


@dataclass(frozen=True)
class Heads:
    """What is known of the heads of one attention."""

    owner: str
    """Path of the module that owns the projections; empty for the network itself."""
    spans: dict[int, Labels]
    """Every size that counts heads, or the rows of all of them -> the labels of such a dimension."""


def operator(node: Node) -> str:
    """The name of a node's operator without its namespace and overload; empty where it calls none."""
    return str(node.target).removeprefix("aten.").partition(".")[0] if node.op == "call_function" else ""


def head_axis(node: Node, first: int, sizes: list[int]) -> int | None:
    """Which of the dimensions that a view splits off counts heads: the one that attention is repeated over.

    Args:
        node: the view.
        first: the first of the dimensions in its output.
        sizes: theirs.

    Returns:
        A position in `sizes`; None where no attention follows, or it cannot be told.
    """
    start: list[frozenset[int]] = [frozenset()] * len(_shape(node))
    for axis, size in enumerate(sizes):
        start[first + axis] = frozenset({axis}) if size > 1 else frozenset()
    found = _repeated_over(node, start)
    return next(iter(found)) if len(found) == 1 else None


def feeds_attention(node: Node, rank: int, dim: int) -> bool:
    """Whether heads of an attention come out of a dimension of a node, all of whose outputs have so many dimensions."""
    start: list[frozenset[int]] = [frozenset()] * rank
    start[dim] = frozenset({0})
    return bool(_repeated_over(node, start))


def _repeated_over(node: Node, start: list[frozenset[int]]) -> frozenset[int]:
    """What a node's dimensions are marked with, of the marks on the one that the next attention is repeated over."""
    waiting, seen = [(node, start)], set()
    while waiting:
        source, axes = waiting.pop(0)
        if source in seen:
            continue
        seen.add(source)
        for user in source.users:
            if _attends(user):
                if len(axes) > 2 and axes[-3]:
                    return axes[-3]
                continue
            after = _followed(user, source, axes)
            if after is not None and any(after):
                waiting.append((user, after))
    return frozenset()


def _attends(node: Node) -> bool:
    """Attention, or a product of two tensors of which each has one matrix per head."""
    name = operator(node)
    if name == "scaled_dot_product_attention":
        return len(_shape(node)) > 2
    factors = [part for part in node.args if isinstance(part, Node)][-2:]
    return name in _PRODUCTS and len(factors) == 2 and all(len(_shape(part)) > 2 for part in factors)


def _shape(node: Node) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _followed(node: Node, source: Node, axes: list[frozenset[int]]) -> list[frozenset[int]] | None:
    """Where dimensions are after one more operator; None where they are not followed."""
    name, rank = operator(node), len(axes)
    told: list[Any] = list(node.args)
    if getattr(node.target, "__name__", "") == "getitem":
        return axes
    if name in ("split", "chunk", "split_with_sizes", "unbind"):
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
    if name == "unsqueeze":
        at = told[1] % (rank + 1)
        return [*axes[:at], frozenset(), *axes[at:]]
    before, after = _shape(source), _shape(node)
    if name in ("view", "reshape", "flatten", "unflatten", "squeeze"):
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


def repeated_over(unions: Unions, flat: Labels, size: int) -> bool:
    """Whether labels are the same ones over and over, every so many: what repeats them can be split off."""
    rows = unions.roots(flat).reshape(-1, size)
    return bool((rows == rows[0]).all())


def split_off(unions: Unions, flat: Labels, sizes: list[int], axis: int) -> list[Labels]:
    """Labels of a dimension split over several: one per index of the axis that counts heads, nothing else is cut.

    Args:
        unions: all that one head consists of become one here.
        flat: the labels of the dimension, [n].
        sizes: of the dimensions it becomes; their product is n.
        axis: which of them counts heads.
    """
    per_head = np.moveaxis(flat.reshape(sizes), axis, 0).reshape(sizes[axis], -1)
    for labels in per_head:
        unions.unite(labels[1:], labels[:-1], "in a head with something that is kept")
    return [per_head[:, 0] if at == axis else np.zeros(size, dtype=np.int64) for at, size in enumerate(sizes)]


def head_roots(values: dict[Node, Any], unions: Unions) -> set[int]:
    """Labels of units that are heads: attention is repeated over them.

    Args:
        values: node of an exported program -> the labels of the dimensions of what it gives.
        unions: which of them have become one.
    """
    found: set[int] = set()
    for node in values:
        if _attends(node):
            for part in node.args:
                dims = values.get(part) if isinstance(part, Node) else None
                if dims is not None and len(dims) > 2:
                    found.update(unions.roots(dims[-3]).tolist())
    return found - {KEPT}


def owner(layers: Iterable[str]) -> str:
    """The path of the module that owns the projections of some heads: what the paths of all of them begin with."""
    paths = [layer.split(".")[:-1] for layer in layers]
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    return ".".join(parts[0] for parts in shared)


def site_name(path: str) -> str:
    """What the site of the heads of a module is called."""
    return f"{path}:heads" if path else "heads"


def spans(values: dict[Node, Any], unions: Unions, labels: Labels) -> dict[int, Labels]:
    """Every size of a dimension that consists of some units, with the labels of such a dimension."""
    found: dict[int, Labels] = {}
    wanted = set(labels.tolist())
    known: set[int] = set()
    for dims in values.values():
        for part in tree_leaves(dims):
            if not isinstance(part, np.ndarray) or id(part) in known or len(part) in found or not part.any():
                continue
            known.add(id(part))
            roots = unions.roots(part)
            if wanted.issuperset(roots.tolist()):
                found[len(part)] = roots
    return found
