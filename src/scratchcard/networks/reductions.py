"""Operators that make one of many: sums, means, extremes, norms, orders.

A sum of units is exact without those that are 0, so it is a place where a silenced unit must be 0; all else counts or
compares, and what is cut must not lie where it does.
"""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from scratchcard.networks.labels import Dims
from scratchcard.networks.walk import OF_WEIGHTS, Rule, Walk, free, together

AVERAGED = "averaged or compared with its neighbours"


def _over(x: Dims, dim: Any) -> list[int]:
    return [*range(len(x))] if dim in (None, []) else [d % len(x) for d in ([dim] if isinstance(dim, int) else dim)]


def _left(x: Dims, over: list[int], keepdim: bool) -> Dims:
    return [labels if at not in over else free((1,))[0] for at, labels in enumerate(x) if keepdim or at not in over]


def _averaged(walk: Walk, node: Node, x: Dims, dim: Any = None, *rest: Any, **named: Any) -> Dims:
    """A mean or maximum over dimensions: what is cut must not lie in them."""
    over = _over(x, named.get("dim", dim) if not isinstance(dim, bool) else None)  # std(True) is over everything
    for at in over:
        walk.unions.keep(x[at], AVERAGED)
    return _left(x, over, _keeps(walk, node, x, over))


def _averaged_twice(walk: Walk, node: Node, x: Dims, *rest: Any, **named: Any) -> list[Dims]:
    """A spread and a mean, a smallest and a largest, or an extreme and where it was."""
    result = _averaged(walk, node, x, *rest, **named)
    return [result, result]


def _extreme(walk: Walk, node: Node, x: Dims, dim: Any = None, *rest: Any, **named: Any) -> Dims | list[Dims]:
    """`max` and `min` are three operators: of two tensors, over a dimension with places, over everything."""
    if isinstance(dim, list):
        return together(walk, node, x, dim)
    told = named.get("dim", dim)
    return _averaged(walk, node, x) if told is None else _averaged_twice(walk, node, x, told)


def _added_up(walk: Walk, node: Node, x: Dims, dim: Any = None, *_: Any, **named: Any) -> Dims:
    """A sum over dimensions: exact without what is 0."""
    over = _over(x, named.get("dim", dim))
    for at in over:
        if node.args[0] in walk.weights:
            walk.unions.keep(x[at], OF_WEIGHTS)
        elif walk.unions.roots(x[at]).any():
            walk.consumes(node, 0, at, x[at])
    return _left(x, over, _keeps(walk, node, x, over))


def _norm(walk: Walk, node: Node, x: Dims, order: Any = 2, dim: Any = None, *_: Any, **named: Any) -> Dims:
    """A norm of positive order is a sum, or a maximum of absolute values: exact without what is 0."""
    order, dim = named.get("ord", named.get("p", order)), named.get("dim", dim)
    if isinstance(order, int | float) and order > 0:
        return _added_up(walk, node, x, dim)
    return _averaged(walk, node, x, dim)


def _keeps(walk: Walk, node: Node, x: Dims, over: list[int]) -> bool:
    """Whether dimensions that are gone are there still, of one entry."""
    return len(walk.shape(node)) == len(x) and bool(over)


def _compared(walk: Walk, node: Node, x: Dims, dim: Any = -1, *_: Any, **named: Any) -> Dims:
    walk.unions.keep(x[named.get("dim", dim)], "compared with its neighbours (softmax)")
    return x


def _in_order(walk: Walk, node: Node, x: Dims, dim: Any = 0, *_: Any, **named: Any) -> Dims:
    """Each entry of a dimension depends on those before it."""
    walk.unions.keep(x[named.get("dim", dim)], "added to or compared with those before it")
    return x


def _in_order_with_places(walk: Walk, node: Node, x: Dims, *rest: Any, **named: Any) -> list[Dims]:
    result = _in_order(walk, node, x, *rest, **named)
    return [result, result]


def _ranked(walk: Walk, node: Node, x: Dims, *rest: Any, **named: Any) -> list[Dims]:
    """The first few, or all, in another order along a dimension (the last one, if none is named), and their places."""
    given = dict(zip((argument.name for argument in node.target._schema.arguments[1:]), rest, strict=False)) | named  # pyright: ignore
    at = int(given.get("dim", -1)) % len(x)
    walk.unions.keep(x[at], f"put in order ({walk.name(node)})")
    result = [labels if i != at else free((walk.shape(node)[at],))[0] for i, labels in enumerate(x)]
    return [result, result]


def _likeness(walk: Walk, node: Node, a: Dims, b: Dims, dim: int = 1, *_: Any, **named: Any) -> Dims:
    """Cosine similarity: three sums of products."""
    joined = together(walk, node, a, b)
    rank, at = len(joined), named.get("dim", dim)
    for argument, part in enumerate((a, b)):
        behind = at % rank - rank
        if len(part) < -behind:
            continue
        if node.args[argument] in walk.weights:
            walk.unions.keep(part[behind], OF_WEIGHTS)
        elif walk.unions.roots(part[behind]).any():
            walk.consumes(node, argument, len(part) + behind, part[behind])
    return _left(joined, [at % rank], False)


REDUCTIONS: dict[str, Rule] = {
    **dict.fromkeys(("mean", "amax", "amin", "std", "var", "logsumexp", "prod", "nanmean"), _averaged),
    **dict.fromkeys(("std_mean", "var_mean"), _averaged_twice),
    **dict.fromkeys(("softmax", "log_softmax", "_softmax", "_log_softmax"), _compared),
    **dict.fromkeys(("linalg_vector_norm", "norm"), _norm),
    **dict.fromkeys(("cumsum", "cumprod", "logcumsumexp"), _in_order),
    "sum": _added_up,
    "cosine_similarity": _likeness,
}
"""Operator -> rule; what these give is no number where what they are given is none."""
RANKINGS: dict[str, Rule] = {
    **dict.fromkeys(("max", "min"), _extreme),
    **dict.fromkeys(("argmax", "argmin", "any", "all", "count_nonzero"), _averaged),
    **dict.fromkeys(("median", "nanmedian", "mode", "aminmax"), _averaged_twice),
    **dict.fromkeys(("sort", "topk", "kthvalue", "msort"), _ranked),
    **dict.fromkeys(("cummax", "cummin"), _in_order_with_places),
    "argsort": lambda walk, node, *rest, **named: _ranked(walk, node, *rest, **named)[0],
}
"""Operator -> rule; these may give a number though not all that they are given is one."""
