"""Attention heads as units: where a view splits them off, and which numbers of a network's code count them.

A head is cut whole: all its rows of the query, key and value projections and its columns of the output projection
(Michel et al. 2019, section 2; Voita et al. 2019, section 3). Its size stays, and so does the scale of the scores. With
grouped queries the unit is one key and value head with all the query heads that read it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from scratchcard.networks.einsum import einsum_letters
from scratchcard.networks.followed import Marks, first_told, marked, operator
from scratchcard.networks.labels import KEPT, Labels, Unions
from scratchcard.networks.sizes import shape_of
from scratchcard.networks.spellings import core_name

_PRODUCTS = ("matmul", "bmm", "baddbmm")


@dataclass(frozen=True)
class Heads:
    """What is known of the heads of one attention."""

    owner: str
    """Path of the module that owns the projections; empty for the network itself."""
    spans: dict[int, Labels]
    """Every size that counts heads, or the rows of all of them -> the labels of such a dimension."""


def head_axis(node: Node, first: int, wanted: list[int], weights: Collection[Node] = ()) -> int | None:
    """Which of the dimensions that a view splits off counts heads: the one that attention is repeated over.

    Args:
        node: the view.
        first: the first of the dimensions in its output.
        wanted: their sizes.
        weights: nodes that are made of parameters alone.

    Returns:
        A position in `wanted`; None where no attention follows, or it cannot be told.
    """
    found = _repeated_over(node, marked(node, first, wanted), weights)
    return next(iter(found)) if len(found) == 1 else None


def feeds_attention(node: Node, rank: int, dim: int, weights: Collection[Node] = ()) -> bool:
    """Whether heads of an attention come out of a dimension of a node, all of whose outputs have so many dimensions."""
    start: Marks = [frozenset()] * rank
    start[dim] = frozenset({0})
    return bool(_repeated_over(node, start, weights))


def _repeated_over(node: Node, start: Marks, weights: Collection[Node]) -> frozenset[int]:
    """What a node's dimensions are marked with, of the marks on the one that the next attention is repeated over."""

    def told(user: Node, source: Node, axes: Marks) -> frozenset[int] | None:
        repeats = attention_over(user, weights).get(source)
        return None if repeats is None else frozenset[int]().union(*(axes[at] for at in repeats))

    return first_told(node, start, told)


def attention_over(node: Node, weights: Collection[Node] = ()) -> dict[Node, list[int]]:
    """The factors of an attention, or of a product of two activations, and the dimensions that it is repeated over.

    Empty for any other node.
    """
    name = core_name(operator(node))
    told = node.args[1] if name == "einsum" and len(node.args) > 1 else node.args
    given = list(told) if isinstance(told, list | tuple) else []
    factors = [part for part in given if isinstance(part, Node)]
    if name == "scaled_dot_product_attention":
        return (
            {part: [len(shape_of(part)) - 3] for part in factors if len(shape_of(part)) > 2}
            if len(shape_of(node)) > 2
            else {}
        )
    factors = factors[-2:]
    if len(factors) < 2 or any(part in weights for part in factors):
        return {}
    if name == "einsum":
        equation = next(iter(node.args), None)
        if len(factors) != len(given) or not isinstance(equation, str):
            return {}
        *letters, result = einsum_letters(equation, [len(shape_of(part)) for part in factors])
        shared = set(result).intersection(*letters)
        places = [[at for at, letter in enumerate(own) if letter in shared] for own in letters]
        return dict(zip(factors, places, strict=True))
    if name in _PRODUCTS and all(len(shape_of(part)) > 2 for part in factors):
        return {part: [len(shape_of(part)) - 3] for part in factors}
    return {}


def repeated_over(unions: Unions, flat: Labels, size: int) -> bool:
    """Whether labels are the same ones over and over, every so many: what repeats them can be split off."""
    rows = unions.roots(flat).reshape(-1, size)
    return bool((rows == rows[0]).all())


def split_off(unions: Unions, flat: Labels, wanted: list[int], axis: int) -> list[Labels]:
    """Labels of a dimension split over several: one per index of the axis that counts heads, nothing else is cut.

    Args:
        unions: all that one head consists of become one here.
        flat: the labels of the dimension, [n].
        wanted: the sizes of the dimensions it becomes; their product is n.
        axis: which of them counts heads.
    """
    per_head = np.moveaxis(flat.reshape(wanted), axis, 0).reshape(wanted[axis], -1)
    for labels in per_head:
        unions.unite(labels[1:], labels[:-1], "in a head with something that is kept")
    return [per_head[:, 0] if at == axis else np.zeros(size, dtype=np.int64) for at, size in enumerate(wanted)]


def head_roots(values: dict[Node, Any], unions: Unions, weights: Collection[Node] = ()) -> set[int]:
    """Labels of units that are heads: attention is repeated over them.

    Args:
        values: node of an exported program -> the labels of the dimensions of what it gives.
        unions: which of them have become one.
        weights: nodes that are made of parameters alone.
    """
    found: set[int] = set()
    for node in values:
        for part, repeats in attention_over(node, weights).items():
            for at in repeats if part in values else ():
                found.update(unions.roots(values[part][at]).tolist())
    return found - {KEPT}


def owner(layers: Iterable[str]) -> str:
    """The path of the module that owns the projections of some heads: what the paths of all of them begin with."""
    paths = [layer.split(".")[:-1] for layer in layers]
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    return ".".join(parts[0] for parts in shared)


def site_name(path: str) -> str:
    """What the site of the heads of a module is called."""
    return f"{path}:heads" if path else "heads"


class Spans:
    """Which dimensions of a network consist of which units, by one look at all of them."""

    def __init__(self, values: dict[Node, Any], unions: Unions) -> None:
        self._dims: list[Labels] = []
        """The labels of every dimension that has any, each by the one that stands for it now."""
        self._of: dict[int, list[int]] = defaultdict(list)
        """Label -> which dimensions have it."""
        known: set[int] = set()
        for dims in values.values():
            for part in tree_leaves(dims):
                if isinstance(part, np.ndarray) and id(part) not in known and part.any():
                    known.add(id(part))
                    roots = unions.roots(part)
                    for root in set(roots.tolist()) - {KEPT}:
                        self._of[root].append(len(self._dims))
                    self._dims.append(roots)

    def of(self, labels: Labels) -> dict[int, Labels]:
        """Every size of a dimension that consists of some units, with the labels of such a dimension."""
        found: dict[int, Labels] = {}
        wanted = set(labels.tolist())
        for at in sorted({at for label in wanted for at in self._of.get(label, ())}):
            roots = self._dims[at]
            if len(roots) not in found and wanted.issuperset(roots.tolist()):
                found[len(roots)] = roots
        return found
