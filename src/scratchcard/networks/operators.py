"""What each operator of an exported graph does to labels; one that is not here keeps all that it touches.

A rule gets the walk, the node and its arguments (tensors as the labels of their dimensions, everything else as it is)
and gives the labels of what comes out. Where units are added up - a convolution's or linear layer's inputs - it says so
by `walk.consumes`: that is where a silenced unit must be 0, and all that has to be for its removal to be exact.
Here are the layers; operators of other kinds have files of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.fx import Node

from scratchcard.networks.constants import CONSTANTS, EMPTY
from scratchcard.networks.labels import Dims
from scratchcard.networks.movement import MOVEMENT
from scratchcard.networks.pointwise import POINTWISE, POINTWISE_UNSEEN, entry_by_entry, is_pointwise
from scratchcard.networks.products import PRODUCTS
from scratchcard.networks.recurrent import RECURRENT
from scratchcard.networks.reductions import RANKINGS, REDUCTIONS
from scratchcard.networks.reparametrised import REPARAMETRISED
from scratchcard.networks.spellings import core_name, spelled
from scratchcard.networks.walk import Rule, Walk, as_one, free

SLID = "a place that a convolution or a pool slides over"


def rule_of(target: Any) -> Rule | None:
    """The rule of an operator by its own name, by what it is called elsewhere, or by its kind; None if it has none."""
    names = spelled(target), core_name(spelled(target))
    for table in (RULES, UNSEEN):
        for name in names:
            if name in table:
                return table[name]
    return entry_by_entry if is_pointwise(target) else None


def lets_through(target: Any) -> bool:
    """Whether an operator is known never to give a number where what it depends on is none (NaN)."""
    return spelled(target) in RULES or core_name(spelled(target)) in RULES


def _prelu(walk: Walk, node: Node, x: Dims, weight: Dims) -> Dims:
    """A slope for each channel, or one for all."""
    if len(weight[0]) > 1:
        walk.unions.unite(x[1], weight[0], "part of a PReLU of something that is kept")
    else:
        walk.unions.keep(weight[0], "the one slope of a PReLU")
    return x


def _conv(
    walk: Walk,
    node: Node,
    x: Dims,
    weight: Dims,
    bias: Dims | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Dims:
    """Convolution of 1, 2 or 3 dimensions; of several groups, whole groups go (depthwise: single channels)."""
    u, places = walk.unions, len(weight) - 2
    channels = len(x) - places - 1  # the batch may be missing
    into, out = x[channels], weight[0]
    if groups == 1:
        u.unite(into, weight[1], "convolved with something that is kept")
    else:
        blocks = np.split(out, groups)
        for block_in, block_out in zip(np.split(into, groups), blocks, strict=True):
            as_one(walk, np.concatenate([block_in, block_out]))
        u.keep(weight[1], "inside a group")
        walk.counts(node, groups, np.array([block[0] for block in blocks]), "groups")
    for labels in (*x[-places:], *weight[2:]):
        u.keep(labels, SLID)
    walk.consumes(node, 0, channels, into)
    walk.produces(node.args[1], 0)
    if bias is not None:
        u.unite(out, bias[0])
    return [*x[:channels], out, *free(walk.shape(node)[-places:])]


def _conv_transposed(
    walk: Walk,
    node: Node,
    x: Dims,
    weight: Dims,
    bias: Dims | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Dims:
    u, places = walk.unions, len(weight) - 2
    channels = len(x) - places - 1
    u.unite(x[channels], weight[0], "convolved with something that is kept")
    out = weight[1]
    if groups > 1:
        u.keep(np.concatenate([x[channels], out]), "a transposed convolution of several groups")
        out = np.zeros(walk.shape(node)[channels], dtype=np.int64)
    for labels in (*x[-places:], *weight[2:]):
        u.keep(labels, SLID)
    walk.consumes(node, 0, channels, x[channels])
    walk.produces(node.args[1], 1)
    if bias is not None:
        u.unite(out, bias[0], "a transposed convolution of several groups")
    return [*x[:channels], out, *free(walk.shape(node)[-places:])]


def _batch_norm(walk: Walk, node: Node, x: Dims, *parts: Any, **_: Any) -> Dims:
    for part in parts[:4]:
        if isinstance(part, list):
            walk.unions.unite(x[1], part[0], "normalised with something that is kept")
    if len(parts) > 4 and parts[4]:  # by the statistics of what it is given: of a batch, or of a weight
        for labels in (x[0], *x[2:]):
            walk.unions.keep(labels, "normalised together with its neighbours")
    walk.counts(node, len(x[1]), x[1], "num_features")
    return x


def _group_norm(
    walk: Walk, node: Node, x: Dims, groups: int, weight: Dims | None = None, bias: Dims | None = None, *_: Any
) -> Dims:
    """Each group is normalised by itself, so whole groups can go."""
    for part in (weight, bias):
        if part is not None:
            walk.unions.unite(x[1], part[0], "normalised with something that is kept")
    blocks = np.split(x[1], groups)
    for block in blocks:
        as_one(walk, block)
    walk.counts(node, groups, np.array([block[0] for block in blocks]), "num_groups")
    walk.counts(node, len(x[1]), x[1], "num_channels")
    return x


def _layer_norm(walk: Walk, node: Node, x: Dims, shape: Any, *parts: Any, **_: Any) -> Dims:
    for labels in x[len(x) - len(shape) :]:
        walk.unions.keep(labels, "normalised together with its neighbours (LayerNorm)")
    for part in parts[:2]:
        if isinstance(part, list):
            for labels in part:
                walk.unions.keep(labels, "part of a LayerNorm")
    return x


def _pooled(walk: Walk, node: Node, x: Dims, *_: Any, **__: Any) -> Dims:
    """Pooling and resizing work inside each channel."""
    places = int(next(letter for letter in walk.name(node) if letter.isdigit()))
    for labels in x[-places:]:
        walk.unions.keep(labels, SLID)
    return [*x[:-places], *free(walk.shape(node)[-places:])]


def _pooled_and_found(walk: Walk, node: Node, x: Dims, *_: Any, **__: Any) -> list[Dims]:
    """Largest values, and where they were."""
    result = _pooled(walk, node, x)
    return [result, result]


def _embedded(walk: Walk, node: Node, weight: Dims, index: Dims, *_: Any) -> Dims:
    walk.unions.keep(weight[0], "rows of an embedding, looked up by number")
    walk.produces(node.args[0], 1)
    return [*index, weight[1]]


_POOLS = (
    *(f"{kind}_pool{places}d" for kind in ("max", "avg", "adaptive_avg") for places in (1, 2, 3)),
    *(f"upsample_nearest{places}d" for places in (1, 2, 3)),
    *(f"_upsample_nearest_exact{places}d" for places in (1, 2, 3)),
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "upsample_trilinear3d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
)
_POOLS_WITH_PLACES = (
    *(f"adaptive_max_pool{places}d" for places in (1, 2, 3)),
    *(f"max_pool{places}d_with_indices" for places in (1, 2, 3)),
)

RULES: dict[str, Rule] = {
    **MOVEMENT,
    **POINTWISE,
    **REDUCTIONS,
    **PRODUCTS,
    **RECURRENT,
    **CONSTANTS,
    **REPARAMETRISED,
    **dict.fromkeys(_POOLS, _pooled),
    **dict.fromkeys(_POOLS_WITH_PLACES, _pooled_and_found),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _conv_transposed),
    **dict.fromkeys(("batch_norm", "instance_norm"), _batch_norm),
    **dict.fromkeys(("layer_norm", "rms_norm"), _layer_norm),
    "prelu": _prelu,
    "group_norm": _group_norm,
    "embedding": _embedded,
}
"""Operator -> rule; none of these makes a number of what is none."""
UNSEEN: dict[str, Rule] = {**POINTWISE_UNSEEN, **RANKINGS, **EMPTY}
"""Operator -> rule; from these a number may come though what they were given is none: nothing is known of it then."""
