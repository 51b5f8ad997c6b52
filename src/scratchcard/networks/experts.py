"""Mixtures of experts in one tensor: rows are put in order by expert, and multiplied by the weights of theirs."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from scratchcard.networks.labels import Dims
from scratchcard.networks.walk import Rule, Walk


def _grouped_product(walk: Walk, node: Node, x: Dims, weight: Dims, *_: Any, **__: Any) -> Dims:
    """The inner units of all experts lie at the same places of one tensor, so the same ones go from each."""
    if len(x) != 2 or len(weight) != 3:
        raise ValueError("not of rows by experts")
    walk.unions.keep(weight[0], "an expert, chosen by number")
    walk.unions.unite(x[1], weight[1], "multiplied by something that is kept")
    walk.consumes(node, 0, 1, x[1])
    walk.produces(node.args[1], 2)
    return [x[0], weight[2]]


EXPERTS: dict[str, Rule] = dict.fromkeys(("transformers.grouped_mm_fallback", "_grouped_mm"), _grouped_product)
"""Operator -> rule."""
