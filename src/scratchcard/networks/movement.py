"""Operators that move entries about and calculate nothing: views, permutations, slices, concatenations."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.fx import Node

from scratchcard.networks.heads import blocks, feeds_attention, head_axis, repeated_over, split_off
from scratchcard.networks.labels import KEPT, Dims, Labels
from scratchcard.networks.walk import Rule, Walk, free, together

SELECTED = "selected_channels"
"""The buffer of a module that holds the positions of the channels it reads."""


def _permuted(walk: Walk, node: Node, x: Dims, order: Any) -> Dims:
    return [x[at] for at in order]


def _transposed(walk: Walk, node: Node, x: Dims, one: int, other: int) -> Dims:
    result = list(x)
    result[one], result[other] = result[other], result[one]
    return result


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


def _reshaped(walk: Walk, node: Node, x: Dims, *_: Any, **__: Any) -> Dims:
    """A view: dimensions that stay keep their labels; of several that are merged the first stays labelled."""
    after = walk.shape(node)
    result: Dims = []
    for old, new in blocks([len(labels) for labels in x], after):
        sizes = [after[at] for at in new]
        axis = head_axis(node, new.start, sizes) if sum(size > 1 for size in sizes) > 1 else None
        result += _block(walk, [x[at] for at in old], sizes, axis)
    return result


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


def _expanded(walk: Walk, node: Node, x: Dims, *_: Any, **__: Any) -> Dims:
    shape = walk.shape(node)
    padded = [*free((1,) * (len(shape) - len(x))), *x]
    for labels, size in zip(padded, shape, strict=True):
        if len(labels) != size:
            walk.unions.keep(labels, "spread over other units by broadcasting")
    return [labels if len(labels) == size else free((size,))[0] for labels, size in zip(padded, shape, strict=True)]


def _sliced(walk: Walk, node: Node, x: Dims, dim: int = 0, *_: Any) -> Dims:
    """A part of a dimension: of a labelled one its units are named by literal numbers, so it is kept."""
    shape = walk.shape(node)
    if len(shape) == len(x) and shape[dim] == len(x[dim]):  # all of it
        return x
    walk.unions.keep(x[dim], "taken apart by position")
    result = list(x)
    if len(shape) < len(x):
        del result[dim]
    else:
        result[dim] = free((shape[dim % len(x)],))[0]
    return result


def _selected(walk: Walk, node: Node, x: Dims, dim: int, *_: Any) -> Dims:
    """Units by the positions that compaction itself has written down, and writes anew; any others are kept."""
    known = walk.buffer(node.args[2])
    if known is not None and known[0].rpartition(".")[2] == SELECTED:
        return _with(x, dim, x[dim][known[1].cpu().numpy()])
    walk.unions.keep(x[dim], "taken apart by position")
    return _with(x, dim, free((walk.shape(node)[dim],))[0])


def _chunked(walk: Walk, node: Node, x: Dims, chunks: int, dim: int = 0) -> list[Dims]:
    """Equal parts stay equal where the same units go from each; parts that are not equal are kept."""
    labels, parts = x[dim], len(node.meta["val"])
    size = -(-len(labels) // parts)
    if len(labels) % parts:
        walk.unions.keep(labels, "taken apart in unequal chunks")
    else:
        for start in range(size, len(labels), size):
            walk.unions.unite(labels[:size], labels[start : start + size], "chunked with something that is kept")
    return [_with(x, dim, labels[start : start + size]) for start in range(0, len(labels), size)]


def _split(walk: Walk, node: Node, x: Dims, sizes: Any, dim: int = 0) -> list[Dims]:
    if feeds_attention(node, len(x), dim):  # such sizes can be changed together with the number of heads
        starts = np.cumsum([part.shape[dim] for part in node.meta["val"]])[:-1]
        return [_with(x, dim, labels) for labels in np.split(x[dim], starts)]
    walk.unions.keep(x[dim], "taken apart by sizes that are written into the code")
    return [_with(x, dim, free((part.shape[dim],))[0]) for part in node.meta["val"]]


def _unbound(walk: Walk, node: Node, x: Dims, dim: int = 0) -> list[Dims]:
    walk.unions.keep(x[dim], "taken apart by position")
    at = dim % len(x)
    return [[*x[:at], *x[at + 1 :]] for _ in range(len(x[dim]))]


def _stacked(walk: Walk, node: Node, tensors: list[Dims], dim: int = 0) -> Dims:
    joined = together(walk, node, *tensors)
    at = dim % (len(joined) + 1)
    return [*joined[:at], *free((len(tensors),)), *joined[at:]]


def _gated(walk: Walk, node: Node, x: Dims, dim: int = -1) -> Dims:
    """One half is multiplied by a sigmoid of the other (GLU): the same units go from both."""
    half = len(x[dim]) // 2
    walk.unions.unite(x[dim][:half], x[dim][half:], "gated by something that is kept")
    return _with(x, dim, x[dim][:half])


def _rolled(walk: Walk, node: Node, x: Dims, shifts: Any, dims: Any = ()) -> Dims:
    """What is cut must not lie in the dimensions that are rolled."""
    return _flipped(walk, node, x, dims or range(len(x)))


def _flipped(walk: Walk, node: Node, x: Dims, dims: Any) -> Dims:
    for at in dims:
        walk.unions.keep(x[at], "put in another order")
    return x


def _with(x: Dims, dim: int, labels: Labels) -> Dims:
    result = list(x)
    result[dim] = labels
    return result


def _padded(walk: Walk, node: Node, x: Dims, amounts: Any, mode: Any = "constant", *_: Any, **__: Any) -> Dims:
    """Zeros, or anything, around: on a labelled dimension what is added is kept."""
    result = list(x)
    for at, (low, high) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        dim = len(x) - 1 - at
        if low < 0 or high < 0 or (mode in ("reflect", "replicate", "circular") and (low or high)):
            walk.unions.keep(x[dim], "taken apart by position")
            result[dim] = free((walk.shape(node)[dim],))[0]
            continue
        result[dim] = np.concatenate([np.full(low, KEPT), x[dim], np.full(high, KEPT)])
    return result


def _repeated_each(walk: Walk, node: Node, x: Dims, times: int, dim: int, *_: Any, **__: Any) -> Dims:
    """Every entry of a dimension several times over."""
    return [np.repeat(labels, times) if at == dim % len(x) else labels for at, labels in enumerate(x)]


MOVEMENT: dict[str, Rule] = {
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "squeeze"), _reshaped),
    **dict.fromkeys(("expand", "expand_as"), _expanded),
    **dict.fromkeys(("slice", "select", "narrow"), _sliced),
    **dict.fromkeys(("pad", "constant_pad_nd"), _padded),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    "index_select": _selected,
    "chunk": _chunked,
    "unbind": _unbound,
    "stack": _stacked,
    "glu": _gated,
    "roll": _rolled,
    "flip": _flipped,
    "permute": _permuted,
    "transpose": _transposed,
    "cat": _concatenated,
    "unsqueeze": _unsqueezed,
    "repeat_interleave": _repeated_each,
}
"""Operator -> rule."""
