"""Products of matrices: layers, whatever they are spelled as, and what attention multiplies.

Where one factor is made of parameters alone the product is a layer: units of the other factor are added up, and a
silenced one must be 0 there. Where both depend on the input they are compared with each other, and what is added up is
kept.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from torch.fx import Node

from scratchcard.networks.einsum import einsum_letters
from scratchcard.networks.labels import Dims, Labels
from scratchcard.networks.walk import OF_WEIGHTS, Rule, Walk, together

BY_KEPT = "multiplied by something that is kept"
_OF_TWO = "added up in a product of two activations"


def _linear(walk: Walk, node: Node, x: Dims, weight: Dims, bias: Dims | None = None) -> Dims:
    walk.unions.unite(x[-1], weight[-1], BY_KEPT)
    walk.consumes(node, 0, len(x) - 1, x[-1])
    if len(weight) == 1:
        return x[:-1]
    walk.produces(node.args[1], 0)
    if bias is not None:
        walk.unions.unite(weight[0], bias[0], "the bias of something that is kept")
    return [*x[:-1], weight[0]]


def _bilinear(walk: Walk, node: Node, one: Dims, other: Dims, weight: Dims, bias: Dims | None = None) -> Dims:
    """Linear in each of two inputs: both are added up."""
    for at, x in enumerate((one, other)):
        walk.unions.unite(x[-1], weight[at + 1], BY_KEPT)
        walk.consumes(node, at, len(x) - 1, x[-1])
    if bias is not None:
        walk.unions.unite(weight[0], bias[0])
    return [*together(walk, node, one[:-1], other[:-1]), weight[0]]


def _added_product(walk: Walk, node: Node, bias: Dims, x: Dims, weight: Dims, **_: Any) -> Dims:
    """A product and something added to it; as a linear layer its weight lies the other way, as GPT-2's do."""
    return together(walk, node, _product(walk, node, x, weight, 1), bias)


def _multiplied(walk: Walk, node: Node, a: Dims, b: Dims, *_: Any, **__: Any) -> Dims:
    return _product(walk, node, a, b, 0)


def _product(walk: Walk, node: Node, a: Dims, b: Dims, first: int) -> Dims:
    """A matrix product of two arguments that follow each other, with all that it is repeated over."""
    factors = node.args[first : first + 2]
    rows, columns = a[-1], b[-2] if len(b) > 1 else b[-1]
    fixed = [part in walk.weights for part in factors]
    if any(fixed):
        walk.unions.unite(rows, columns, BY_KEPT)
        if fixed[0] and not fixed[1]:
            walk.consumes(node, first + 1, max(len(b) - 2, 0), columns)
        else:
            walk.consumes(node, first, len(a) - 1, rows)
        if fixed[1] and not fixed[0] and len(b) > 1:
            walk.produces(factors[1], len(b) - 1)
        elif fixed[0] and not fixed[1] and len(a) > 1:
            walk.produces(factors[0], len(a) - 2)
    else:
        walk.unions.keep(rows, _OF_TWO)
        walk.unions.keep(columns, _OF_TWO)
        if len(a) == 1 or len(b) == 1:
            for labels in (*a, *b):
                walk.unions.keep(labels, "in a product with a vector")
    lead = together(walk, node, a[:-2], b[:-2]) if len(a) > 2 or len(b) > 2 else []
    return [*lead, *a[-2:-1], *(b[-1:] if len(b) > 1 else [])]


def _routed(walk: Walk, node: Node, x: Dims, weight: Dims, *_: Any, **__: Any) -> Dims:
    """Each row is multiplied by the matrix of its expert: [rows, in] and [experts, in, out]."""
    if len(x) != 2 or len(weight) != 3:
        raise ValueError("a product of groups in another form than rows by matrices")
    walk.unions.unite(x[1], weight[1], BY_KEPT)
    walk.unions.keep(weight[0], "experts, chosen by number")
    walk.consumes(node, 0, 1, x[1])
    walk.produces(node.args[1], 2)
    return [x[0], weight[2]]


def _inner(walk: Walk, node: Node, a: Dims, b: Dims) -> Dims:
    return _contracted(walk, node, [a, b], _letters(a, b, [-1], [-1]), 0)


def _tensordot(walk: Walk, node: Node, a: Dims, b: Dims, of_a: Any, of_b: Any) -> Dims:
    return _contracted(walk, node, [a, b], _letters(a, b, of_a, of_b), 0)


def _outer(walk: Walk, node: Node, a: Dims, b: Dims) -> Dims:
    return [a[0], b[0]]


def _letters(a: Dims, b: Dims, of_a: Any, of_b: Any) -> list[list[int]]:
    """Dimensions of two factors and of their product, numbered: the same number is added up, as in `einsum`."""
    one, other = list(range(len(a))), list(range(len(a), len(a) + len(b)))
    for here, there in zip(of_a, of_b, strict=True):
        other[there] = one[here]
    return [one, other, [at for at in (*one, *other) if (at in one) != (at in other)]]


def _einsum(walk: Walk, node: Node, equation: str, tensors: list[Dims], **_: Any) -> Dims:
    """Letters name the dimensions; those that the result lacks are added up."""
    return _contracted(walk, node, tensors, einsum_letters(equation, [len(dims) for dims in tensors]), 1)


def _contracted(walk: Walk, node: Node, tensors: list[Dims], letters: list[list[int]], first: int) -> Dims:
    """Dimensions of one letter meet; those that the result lacks are added up, which is exact without what is 0."""
    *factors, wanted = letters
    given = node.args[1] if first else node.args[:2]
    assert isinstance(given, list | tuple), "einsum is called with a list of tensors"
    fixed = [part in walk.weights for part in given]
    here: dict[int, list[tuple[int, int, Labels]]] = defaultdict(list)
    for at, (dims, factor) in enumerate(zip(tensors, factors, strict=True)):
        for dim, (labels, letter) in enumerate(zip(dims, factor, strict=True)):
            here[letter].append((at, dim, labels))
    joined: dict[int, Labels] = {}
    for letter, met in here.items():
        wide = [part for part in met if len(part[2]) > 1] or met
        joined[letter] = wide[0][2]
        for _, _, labels in wide[1:]:
            walk.unions.unite(joined[letter], labels, BY_KEPT)
        for _, _, labels in met if len(joined[letter]) > 1 else ():
            if len(labels) == 1:
                walk.unions.keep(labels, "spread over other units by broadcasting")
        if letter in wanted:
            continue
        moving = [part for part in wide if not fixed[part[0]]]
        if len({at for at, _, _ in moving}) > 1 or len(wide) != len({at for at, _, _ in wide}):
            walk.unions.keep(joined[letter], _OF_TWO)
        elif not moving and len(wide) == 1:
            walk.unions.keep(joined[letter], OF_WEIGHTS)
        elif walk.unions.roots(joined[letter]).any():
            at, dim, labels = (moving or wide)[0]
            walk.consumes(node, first + at, dim, labels)
    for at, factor in enumerate(factors):
        out = [dim for dim, letter in enumerate(factor) if letter in wanted and len(here[letter]) == 1]
        if fixed[at] and out and not all(fixed):
            walk.produces(given[at], out[-1])
    return [joined[letter] for letter in wanted]


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


PRODUCTS: dict[str, Rule] = {
    **dict.fromkeys(("matmul", "bmm", "mm", "mv", "dot"), _multiplied),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _added_product),
    **dict.fromkeys(("_grouped_mm", "transformers::grouped_mm_fallback"), _routed),
    "linear": _linear,
    "bilinear": _bilinear,
    "inner": _inner,
    "tensordot": _tensordot,
    "outer": _outer,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
}
"""Operator -> rule."""
