"""What each operator of an exported graph does to labels; one that is not here keeps all that it touches.

A rule gets the walk, the node and its arguments (tensors as the labels of their dimensions, everything else as it is)
and gives the labels of what comes out. Where units are added up - a convolution's or linear layer's inputs - it says so
by `walk.consumes`: that is where a silenced unit must be 0, and all that has to be for its removal to be exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.fx import Node

from scratchcard.networks.labels import Dims
from scratchcard.networks.movement import MOVEMENT
from scratchcard.networks.reparametrised import REPARAMETRISED
from scratchcard.networks.walk import Rule, Walk, as_one, free, together


def _same(walk: Walk, node: Node, x: Dims, *_: Any, **__: Any) -> Dims:
    return x


def _linear(walk: Walk, node: Node, x: Dims, weight: Dims, bias: Dims | None = None) -> Dims:
    walk.unions.unite(x[-1], weight[1], "multiplied by something that is kept")
    walk.consumes(node, 0, len(x) - 1, x[-1])
    if bias is not None:
        walk.unions.unite(weight[0], bias[0])
    return [*x[:-1], weight[0]]


def _added_product(walk: Walk, node: Node, bias: Dims, x: Dims, weight: Dims, **_: Any) -> Dims:
    """A linear layer whose weight lies the other way, as GPT-2's do."""
    walk.unions.unite(x[1], weight[0], "multiplied by something that is kept")
    walk.consumes(node, 1, 1, x[1])
    walk.produces(node, 2, 1)
    return together(walk, node, [x[0], weight[1]], bias)


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
    u = walk.unions
    into, out = x[1], weight[0]
    if groups == 1:
        u.unite(into, weight[1], "convolved with something that is kept")
    else:
        for block_in, block_out in zip(np.split(into, groups), np.split(out, groups), strict=True):
            as_one(walk, np.concatenate([block_in, block_out]))
        u.keep(weight[1], "inside a group")
    walk.consumes(node, 0, 1, into)
    if bias is not None:
        u.unite(out, bias[0])
    return [x[0], out, *free(walk.shape(node)[2:])]


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
    u = walk.unions
    u.unite(x[1], weight[0], "convolved with something that is kept")
    out = weight[1]
    if groups > 1:
        u.keep(np.concatenate([x[1], out]), "a transposed convolution of several groups")
        out = np.zeros(walk.shape(node)[1], dtype=np.int64)
    walk.consumes(node, 0, 1, x[1])
    walk.produces(node, 1, 1)
    if bias is not None:
        u.unite(out, bias[0], "a transposed convolution of several groups")
    return [x[0], out, *free(walk.shape(node)[2:])]


def _batch_norm(walk: Walk, node: Node, x: Dims, *parts: Any, **_: Any) -> Dims:
    for part in parts[:4]:
        if isinstance(part, list):
            walk.unions.unite(x[1], part[0], "normalised with something that is kept")
    if len(parts) > 4 and parts[4]:  # by the statistics of what it is given: of a batch, or of a weight
        for labels in (x[0], *x[2:]):
            walk.unions.keep(labels, "normalised together with its neighbours")
    return x


def _group_norm(
    walk: Walk, node: Node, x: Dims, groups: int, weight: Dims | None = None, bias: Dims | None = None, *_: Any
) -> Dims:
    """Each group is normalised by itself, so whole groups can go."""
    for part in (weight, bias):
        if part is not None:
            walk.unions.unite(x[1], part[0])
    for block in np.split(x[1], groups):
        as_one(walk, block)
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
    shape = walk.shape(node)
    lead = len(x) - (len(shape) - 2) if len(shape) > 2 else 2
    return [*x[:lead], *free(shape[lead:])]


def _pooled_and_found(walk: Walk, node: Node, x: Dims, *_: Any, **__: Any) -> list[Dims]:
    """Largest values, and where they were."""
    result = _pooled(walk, node, x)
    return [result, result]


def _reduced(walk: Walk, node: Node, x: Dims, dim: Any = None, keepdim: bool = False, **_: Any) -> Dims:
    """A mean or maximum over dimensions: what is cut must not lie in them."""
    over = range(len(x)) if dim in (None, []) else [d % len(x) for d in ([dim] if isinstance(dim, int) else dim)]
    for at in over:
        walk.unions.keep(x[at], "averaged or compared with its neighbours")
    return [labels if at not in over else free((1,))[0] for at, labels in enumerate(x) if keepdim or at not in over]


def _softmax(walk: Walk, node: Node, x: Dims, dim: int, *_: Any) -> Dims:
    walk.unions.keep(x[dim], "compared with its neighbours (softmax)")
    return x


def _embedded(walk: Walk, node: Node, weight: Dims, index: Dims, *_: Any) -> Dims:
    walk.unions.keep(weight[0], "rows of an embedding, looked up by number")
    walk.produces(node, 0, 1)
    return [*index, weight[1]]


def _multiplied(walk: Walk, node: Node, a: Dims, b: Dims) -> Dims:
    """A matrix product of two tensors; over what both are added up, it is kept."""
    walk.unions.keep(a[-1], "added up in a product of two tensors")
    walk.unions.keep(b[-2] if len(b) > 1 else b[-1], "added up in a product of two tensors")
    if len(a) == 1 or len(b) == 1:
        for labels in (*a, *b):
            walk.unions.keep(labels, "in a product with a vector")
        return free(walk.shape(node))
    lead = together(walk, node, a[:-2], b[:-2]) if len(a) > 2 or len(b) > 2 else []
    return [*lead, a[-2], b[-1]]


def _attention(walk: Walk, node: Node, q: Dims, k: Dims, v: Dims, *rest: Any, **named: Any) -> Dims:
    """Scores are compared over keys and added up over a head's features; heads are what it is repeated over."""
    reason = "inside an attention head"
    for labels in (q[-1], q[-2], k[-1], k[-2], v[-2]):
        walk.unions.keep(labels, reason)
    if len(q) > 2 and len(q[-3]) > len(k[-3]) > 1:  # grouped queries: neighbours read the same keys and values
        k, v = ([*part[:-3], np.repeat(part[-3], len(q[-3]) // len(part[-3])), *part[-2:]] for part in (k, v))
    masks = [part for part in (*rest, *named.values()) if isinstance(part, list)]
    for mask in masks:
        for labels in mask[-2:]:
            walk.unions.keep(labels, reason)
    lead = together(walk, node, *(part[:-2] for part in (q, k, v, *masks))) if len(q) > 2 else []
    return [*lead, q[-2], v[-1]]


_UNARY = (
    "relu",
    "relu_",
    "gelu",
    "silu",
    "silu_",
    "sigmoid",
    "tanh",
    "elu",
    "leaky_relu",
    "leaky_relu_",
    "hardtanh",
    "hardtanh_",
    "hardswish",
    "hardswish_",
    "hardsigmoid",
    "relu6",
    "relu6_",
    "mish",
    "softplus",
    "selu",
    "celu",
    "threshold",
    "dropout",
    "dropout_",
    "feature_dropout",
    "alpha_dropout",
    "clone",
    "contiguous",
    "detach",
    "alias",
    "to",
    "_to_copy",
    "type_as",
    "float",
    "neg",
    "abs",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "square",
    "pow",
    "reciprocal",
    "clamp",
    "clamp_min",
    "clamp_max",
    "erf",
    "sin",
    "cos",
    "log1p",
    "expm1",
    "masked_fill",
    "lift_fresh_copy",
    "zeros_like",
)
_BINARY = (
    "add",
    "add_",
    "sub",
    "sub_",
    "mul",
    "mul_",
    "div",
    "div_",
    "maximum",
    "minimum",
    "rsub",
    "where",
    "addcmul",
    "lerp",
)
_POOLS = (
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "upsample_trilinear3d",
    "upsample_linear1d",
)

_POOLS_WITH_PLACES = ("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "max_pool2d_with_indices")

RULES: dict[str, Rule] = {
    **MOVEMENT,
    **REPARAMETRISED,
    **dict.fromkeys(_UNARY, _same),
    **dict.fromkeys(_BINARY, together),
    **dict.fromkeys(_POOLS, _pooled),
    **dict.fromkeys(_POOLS_WITH_PLACES, _pooled_and_found),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _conv_transposed),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), _reduced),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("matmul", "bmm", "mm"), _multiplied),
    **dict.fromkeys(("batch_norm", "instance_norm"), _batch_norm),
    **dict.fromkeys(("layer_norm", "rms_norm"), _layer_norm),
    "linear": _linear,
    "addmm": _added_product,
    "prelu": _prelu,
    "group_norm": _group_norm,
    "embedding": _embedded,
    "scaled_dot_product_attention": _attention,
}
"""Operator -> rule."""
