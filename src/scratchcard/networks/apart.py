"""Operators that take a tensor apart: slices, splits, positions.

Equal parts of a dimension stay equal where the same units go from each. Whether the code finds them again - by the size
of the tensor, by a number that can be changed, or not at all - the gate sees. Single positions are literal numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.fx import Node

from scratchcard.networks.heads import feeds_attention
from scratchcard.networks.labels import Dims
from scratchcard.networks.walk import Rule, Walk, are_dims, as_chunks, free, with_labels

POSITION = "taken apart by position"
SELECTED = "selected_channels"
"""The buffer of a module that holds the positions of the channels it reads."""


def _sliced(walk: Walk, node: Node, x: Dims, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1) -> Dims:
    """A part of a dimension; where all that is taken of it are equal parts, the same units go from each."""
    at, size = dim % len(x), walk.shape(node)[dim]
    if size == len(x[at]):  # all of it
        return x
    if step not in (None, 1) and _turns(node, at, len(x[at]), step) and walk.unions.roots(x[at]).any():
        as_chunks(walk, x[at].reshape(-1, step).T.flatten(), size)
        return with_labels(x, at, x[at][slice(start, end, step)])
    parts = _parts(node, at, len(x[at]))
    if parts and walk.unions.roots(x[at]).any():
        first = range(len(x[at]))[slice(start, end)].start
        as_chunks(walk, x[at], size)
        walk.counts(node, size, x[at][first : first + size])
        return with_labels(x, at, x[at][first : first + size])
    walk.unions.keep(x[at], POSITION)
    return with_labels(x, at, free((size,))[0])


def _parts(node: Node, dim: int, size: int) -> bool:
    """Whether everything that slices take of a dimension of a tensor are equal parts, which together are all of it."""
    source = node.args[0]
    assert isinstance(source, Node), "a slice is one of a tensor"
    found = set()
    for user in source.users:
        told = [*user.args[1:], *(None,) * 4]
        if _is_slice(user) and (told[0] or 0) in (dim, dim - len(source.meta["val"].shape)):
            if told[3] not in (None, 1) or not all(isinstance(number, int | None) for number in told[1:3]):
                return False
            taken = range(size)[slice(told[1], told[2])]
            if len(taken) < size:
                found.add((taken.start, taken.stop))
    ordered = sorted(found)
    ends = [0, *(stop for _, stop in ordered)]
    return (
        [start for start, _ in ordered] == ends[:-1]
        and ends[-1] == size
        and len({stop - start for start, stop in ordered}) == 1
    )


def _turns(node: Node, dim: int, size: int, step: int) -> bool:
    """Whether slices take every second entry (third, ...) of a dimension of a tensor, and together all of them."""
    source, starts = node.args[0], list[int]()
    assert isinstance(source, Node), "a slice is one of a tensor"
    for user in source.users:
        told = [*user.args[1:], *(None,) * 4]
        if _is_slice(user) and (told[0] or 0) in (dim, dim - len(source.meta["val"].shape)):
            taken = range(size)[slice(*told[1:4])]
            if len(taken) == size:
                continue
            if taken.step != step or len(taken) * step != size:
                return False
            starts.append(taken.start)
    return sorted(starts) == list(range(step))


def _is_slice(node: Node) -> bool:
    return node.op == "call_function" and str(node.target) == "aten.slice.Tensor"


def _narrowed(walk: Walk, node: Node, x: Dims, dim: int = 0, *_: Any) -> Dims:
    """One entry of a dimension, or some: of a labelled one its units are named by literal numbers, so it is kept."""
    at, shape = dim % len(x), walk.shape(node)
    if len(shape) == len(x) and shape[at] == len(x[at]):  # all of it
        return x
    walk.unions.keep(x[at], POSITION)
    return [*x[:at], *x[at + 1 :]] if len(shape) < len(x) else with_labels(x, at, free((shape[at],))[0])


def _indexed(walk: Walk, node: Node, x: Dims, indices: Any) -> Dims:
    """Entries by tensors of positions or of truth; the dimensions that they stand for are kept."""
    told = node.args[1]
    assert isinstance(told, list | tuple), "a tensor is indexed by several"
    taken: list[int] = []
    whole: list[int] = []
    at = 0
    for index in told:
        covers = 1
        if isinstance(index, Node) and not index.meta["val"].dtype.is_floating_point:
            covers = index.meta["val"].dim() if str(index.meta["val"].dtype) in ("torch.bool", "torch.uint8") else 1
        (taken if index is not None else whole).extend(range(at, at + covers))
        at += covers
    whole += range(at, len(x))
    for dim in taken:
        walk.unions.keep(x[dim], POSITION)
    for index in indices:
        for labels in index or ():
            walk.unions.keep(labels, "positions of others")
    if not taken or taken != list(range(taken[0], taken[-1] + 1)):
        raise ValueError("dimensions that are not neighbours")
    new = walk.shape(node)
    before = [x[dim] for dim in whole if dim < taken[0]]
    behind = [x[dim] for dim in whole if dim > taken[0]]
    return [*before, *free(new[len(before) : len(new) - len(behind)]), *behind]


def _gathered(walk: Walk, node: Node, x: Dims, dim: int, index: Dims, *_: Any, **__: Any) -> Dims:
    """Entries of a dimension by positions that are told for each place in the others."""
    walk.unions.keep(x[dim], POSITION)
    at = dim % len(x)
    for labels in index:
        walk.unions.keep(labels, "positions of others")
    result = []
    for i, (labels, places) in enumerate(zip(x, index, strict=True)):
        if i != at:
            walk.unions.keep(labels, POSITION)
        result.append(places)
    return result


def _written(walk: Walk, node: Node, x: Dims, dim: int, index: Dims, source: Any, *_: Any, **__: Any) -> Dims:
    """Some places of a dimension are written anew, or added to."""
    reason = f"written to by position ({walk.name(node)})"
    walk.unions.keep(x[dim], reason)
    for labels in index:
        walk.unions.keep(labels, "positions of others")
    for i, labels in enumerate(source if are_dims(source) else ()):
        if i == dim % len(x) or len(labels) != len(x[i]):
            walk.unions.keep(labels, reason)
        else:
            walk.unions.unite(labels, x[i], reason)
    return x


def _selected(walk: Walk, node: Node, x: Dims, dim: int, index: Dims, *_: Any) -> Dims:
    """Units by the positions that compaction itself has written down, and writes anew; any others are kept."""
    known = walk.buffer(node.args[2])
    if known is not None and known[0].rpartition(".")[2] == SELECTED:
        return with_labels(x, dim, x[dim][known[1].cpu().numpy()])
    for labels in (x[dim], *index):
        walk.unions.keep(labels, POSITION)
    return with_labels(x, dim, free((walk.shape(node)[dim],))[0])


def _parted(walk: Walk, x: Dims, dim: int, parts: list[int], reason: str) -> list[Dims]:
    """Equal parts stay equal where the same units go from each; parts that are not equal are kept."""
    if len(set(parts)) == 1:
        as_chunks(walk, x[dim], parts[0])
        return [with_labels(x, dim, labels) for labels in np.split(x[dim], len(parts))]
    walk.unions.keep(x[dim], reason)
    return [with_labels(x, dim, free((size,))[0]) for size in parts]


def _chunked(walk: Walk, node: Node, x: Dims, chunks: Any, dim: int = 0) -> list[Dims]:
    """Into a number of parts, each as large as fits."""
    parts = [part.shape[dim] for part in node.meta["val"]]
    return _parted(walk, x, dim, parts, "taken apart in unequal chunks")


def _chunked_along(dim: int) -> Rule:
    """Into parts along a dimension that the operator's name says."""

    def rule(walk: Walk, node: Node, x: Dims, parts: Any) -> list[Dims]:
        return _chunked(walk, node, x, parts, min(dim, len(x) - 1))

    return rule


def _split(walk: Walk, node: Node, x: Dims, told: Any, dim: int = 0) -> list[Dims]:
    """Into parts of sizes that are written down, or come from the tensor; equal ones stay equal."""
    parts = [part.shape[dim] for part in node.meta["val"]]
    if feeds_attention(node, len(x), dim, walk.weights):  # such sizes can be changed together with the number of heads
        return [with_labels(x, dim, labels) for labels in np.split(x[dim], np.cumsum(parts)[:-1])]
    found = _parted(walk, x, dim, parts, "taken apart by sizes that are written into the code")
    if len(set(parts)) == 1 and len(parts) > 1:
        walk.counts(node, parts[0], x[dim][: parts[0]])
    return found


def _unbound(walk: Walk, node: Node, x: Dims, dim: int = 0) -> list[Dims]:
    walk.unions.keep(x[dim], POSITION)
    at = dim % len(x)
    return [[*x[:at], *x[at + 1 :]] for _ in range(len(x[dim]))]


def _gated(walk: Walk, node: Node, x: Dims, dim: int = -1) -> Dims:
    """One half is multiplied by a sigmoid of the other (GLU): the same units go from both."""
    half = len(x[dim]) // 2
    walk.unions.unite(x[dim][:half], x[dim][half:], "gated by something that is kept")
    return with_labels(x, dim, x[dim][:half])


APART: dict[str, Rule] = {
    **dict.fromkeys(("select", "narrow"), _narrowed),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    **dict.fromkeys(("chunk", "tensor_split"), _chunked),
    **dict.fromkeys(("index_copy", "index_add", "scatter", "scatter_add"), _written),
    **{name: _chunked_along(dim) for dim, name in enumerate(("vsplit", "hsplit", "dsplit"))},
    "slice": _sliced,
    "index": _indexed,
    "index_select": _selected,
    "gather": _gathered,
    "unbind": _unbound,
    "glu": _gated,
}
"""Operator -> rule."""
