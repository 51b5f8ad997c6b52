"""Operators that move entries about and calculate nothing: views, permutations, concatenations."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.fx import Node

from scratchcard.networks.apart import APART, POSITION
from scratchcard.networks.folds import FOLDS
from scratchcard.networks.followed import blocks, map_axis
from scratchcard.networks.heads import head_axis, repeated_over, split_off
from scratchcard.networks.labels import KEPT, Dims
from scratchcard.networks.walk import Rule, Walk, are_dims, free, together


def _permuted(walk: Walk, node: Node, x: Dims, order: Any) -> Dims:
    return [x[at] for at in order]


def _transposed(walk: Walk, node: Node, x: Dims, one: int, other: int) -> Dims:
    result = list(x)
    result[one], result[other] = result[other], result[one]
    return result


def _turned(walk: Walk, node: Node, x: Dims) -> Dims:
    """All dimensions in the opposite order."""
    return x[::-1]


def _matrix_turned(walk: Walk, node: Node, x: Dims) -> Dims:
    return _transposed(walk, node, x, -2, -1)


def _moved(walk: Walk, node: Node, x: Dims, source: Any, destination: Any) -> Dims:
    numbered = np.empty(tuple(range(len(x))))  # its sizes say where each dimension goes
    return [x[at] for at in np.moveaxis(numbered, source, destination).shape]


def _concatenated(walk: Walk, node: Node, tensors: list[Dims], dim: int = 0) -> Dims:
    rank = len(tensors[0])
    along = dim % rank
    joined = []
    for at in range(rank):
        here = [tensor[at] for tensor in tensors]
        if at == along:
            joined.append(np.concatenate(here))
            continue
        for labels in here[1:]:
            walk.unions.unite(here[0], labels)
        joined.append(here[0])
    return joined


def _joined_by_rows(dim: int) -> Rule:
    """Concatenation along a dimension that the operator's name says."""

    def rule(walk: Walk, node: Node, tensors: list[Dims]) -> Dims:
        rank = len(tensors[0])
        if rank <= dim and (dim, rank) != (1, 1):
            raise ValueError(f"tensors of {rank} dimensions, to which more are added")
        return _concatenated(walk, node, tensors, min(dim, rank - 1))

    return rule


def _reshaped(walk: Walk, node: Node, x: Dims, *told: Any, **_: Any) -> Dims:
    """A view: dimensions that stay keep their labels; of several that are merged the first stays labelled."""
    after = walk.shape(node)
    result: Dims = []
    for old, new in blocks([len(labels) for labels in x], after):
        sizes = [after[at] for at in new]
        axis = None
        if sum(size > 1 for size in sizes) > 1 and any(walk.unions.roots(x[at]).any() for at in old):
            axis = head_axis(node, new.start, sizes, walk.weights)
            axis = map_axis(node, new.start, sizes, walk.weights) if axis is None and len(old) == 1 else axis
        result += _block(walk, [x[at] for at in old], sizes, axis)
    like = told[0] if told and are_dims(told[0]) and walk.name(node) in ("view_as", "reshape_as") else []
    for labels, other in zip(result, like, strict=False):
        if len(labels) == len(other) > 1:  # its size is that of the other tensor
            walk.unions.unite(labels, other, "shaped like something that is kept")
    _count(walk, node, result, told[-1] if told else ())
    return result


def _count(walk: Walk, node: Node, dims: Dims, written: Any) -> None:
    """Sizes that may be written into the code, of the last dimensions."""
    numbers = written if isinstance(written, list | tuple) else ()
    for labels, number in zip(reversed(dims), reversed(numbers), strict=False):
        if isinstance(number, int) and number == len(labels) > 1 and labels.any():
            walk.counts(node, number, labels)


def _block(walk: Walk, merged: Dims, sizes: list[int], axis: int | None) -> Dims:
    """Neighbouring dimensions of one tensor that become other ones of the same number of entries."""
    wide = [labels for labels in merged if len(labels) > 1]
    if len(wide) == 1 and [size for size in sizes if size > 1] == [len(wide[0])]:
        return [wide[0] if size > 1 else free((1,))[0] for size in sizes]  # dimensions of one entry come and go
    labelled = [at for at, labels in enumerate(merged) if walk.unions.roots(labels).any()]
    if len(labelled) > 1:
        for other in labelled[1:]:  # heads come before what is inside them
            walk.unions.keep(merged[other], "merged with other labelled dimensions by a view")
    total = int(np.prod([len(labels) for labels in merged]))
    if not labelled:
        return [np.zeros(size, dtype=np.int64) for size in sizes]
    at = labelled[0]
    after = int(np.prod([len(labels) for labels in merged[at + 1 :]]))
    flat = np.resize(np.repeat(merged[at], after), total)  # repeated whole for every index of the dimensions before
    wide = [position for position, size in enumerate(sizes) if size > 1]
    if len(wide) > 1:
        if axis is None and repeated_over(walk.unions, flat, sizes[wide[-1]]):
            axis = wide[-1]
        if axis is None:
            walk.unions.keep(flat, "split over several dimensions by a view")
            return free(tuple(sizes))
        return split_off(walk.unions, flat, sizes, axis)
    return [flat if size > 1 else free((1,))[0] for size in sizes]


def _unsqueezed(walk: Walk, node: Node, x: Dims, dim: int) -> Dims:
    at = dim % (len(x) + 1)
    return [*x[:at], *free((1,)), *x[at:]]


def _expanded(walk: Walk, node: Node, x: Dims, told: Any = (), *_: Any, **__: Any) -> Dims:
    """One entry becomes many: as many as another tensor has, whose labels they get, or as many as are written.

    What is written may be a number that the module knows: then they are units of whatever they meet.
    """
    shape = walk.shape(node)
    padded = [*free((1,) * (len(shape) - len(x))), *x]
    by_tensor = are_dims(told) and walk.name(node) == "expand_as"
    like = told if by_tensor else free(shape)
    bare = not by_tensor and not any(
        walk.unions.roots(labels).any() for labels in x
    )  # a mask, most of all: one for every head
    result = []
    for labels, other, size in zip(padded, like, shape, strict=True):
        if len(labels) != size:
            walk.unions.keep(labels, "spread over other units by broadcasting")
            labels = walk.unions.new(size) if bare and walk.has_number(node, size) else other
        elif other.any():
            walk.unions.unite(labels, other, "shaped like something that is kept")
        result.append(labels)
    _count(walk, node, result, told)
    return result


def _broadcast(walk: Walk, node: Node, tensors: list[Dims]) -> list[Dims]:
    return [together(walk, node, *tensors) for _ in tensors]


def _repeated(walk: Walk, node: Node, x: Dims, times: Any) -> Dims:
    """All of a dimension several times over; of dimensions that are added in front, none is a unit."""
    padded = [*free((1,) * (len(times) - len(x))), *x]
    padded_times = [*(1,) * (len(x) - len(times)), *times]
    for labels, often in zip(padded, padded_times, strict=True):
        if often > 1 and len(labels) == 1:
            walk.unions.keep(labels, "spread over other units by broadcasting")
    return [np.tile(labels, often) for labels, often in zip(padded, padded_times, strict=True)]


def _stacked(walk: Walk, node: Node, tensors: list[Dims], dim: int = 0) -> Dims:
    joined = together(walk, node, *tensors)
    at = dim % (len(joined) + 1)
    return [*joined[:at], *free((len(tensors),)), *joined[at:]]


def _rolled(walk: Walk, node: Node, x: Dims, shifts: Any, dims: Any = ()) -> Dims:
    """What is cut must not lie in the dimensions that are rolled."""
    return _flipped(walk, node, x, dims or range(len(x)))


def _flipped(walk: Walk, node: Node, x: Dims, dims: Any) -> Dims:
    for at in dims:
        walk.unions.keep(x[at], "put in another order")
    return x


def _padded(walk: Walk, node: Node, x: Dims, amounts: Any, mode: Any = "constant", *_: Any, **__: Any) -> Dims:
    """Zeros, or anything, around: on a labelled dimension what is added is kept."""
    result = list(x)
    for at, (low, high) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        dim = len(x) - 1 - at
        if low < 0 or high < 0 or (mode in ("reflect", "replicate", "circular") and (low or high)):
            walk.unions.keep(x[dim], POSITION)
            result[dim] = free((walk.shape(node)[dim],))[0]
            continue
        result[dim] = np.concatenate([np.full(low, KEPT), x[dim], np.full(high, KEPT)])
    return result


def _repeated_each(walk: Walk, node: Node, x: Dims, times: int, dim: int, *_: Any, **__: Any) -> Dims:
    """Every entry of a dimension several times over."""
    return [np.repeat(labels, times) if at == dim % len(x) else labels for at, labels in enumerate(x)]


def _of_two(walk: Walk, node: Node, x: Dims, *_: Any) -> Dims:
    """A triangle of the last two dimensions, whose entries are told by their places."""
    for labels in x[-2:]:
        walk.unions.keep(labels, POSITION)
    return x


MOVEMENT: dict[str, Rule] = {
    **APART,
    **FOLDS,
    **dict.fromkeys(
        ("view", "reshape", "flatten", "unflatten", "squeeze", "ravel", "view_as", "reshape_as"), _reshaped
    ),
    **dict.fromkeys(("expand", "expand_as"), _expanded),
    **dict.fromkeys(("repeat", "tile"), _repeated),
    **dict.fromkeys(("pad", "constant_pad_nd"), _padded),
    **dict.fromkeys(("t", "numpy_T"), _turned),
    **dict.fromkeys(("tril", "triu"), _of_two),
    **{name: _joined_by_rows(dim) for dim, name in enumerate(("vstack", "hstack", "dstack"))},
    "stack": _stacked,
    "roll": _rolled,
    "flip": _flipped,
    "permute": _permuted,
    "transpose": _transposed,
    "mT": _matrix_turned,
    "movedim": _moved,
    "cat": _concatenated,
    "unsqueeze": _unsqueezed,
    "broadcast_tensors": _broadcast,
    "repeat_interleave": _repeated_each,
}
"""Operator -> rule."""
