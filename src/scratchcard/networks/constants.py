"""Tensors of one number - zeros to begin with, masks, states - or of none yet, that are as large as the code says.

Which of their dimensions count units is told by what they meet. The number is written into the code or is an attribute
that can be changed; the gate sees whether it was.
"""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from scratchcard.networks.labels import Dims
from scratchcard.networks.walk import Rule, Walk, free


def _of_one_number(walk: Walk, node: Node, *_: Any, **__: Any) -> Dims:
    """Every entry is the same, so that any of them can go along with what it meets."""
    dims = [walk.unions.spare(size) if size > 1 else free((1,))[0] for size in walk.shape(node)]
    for labels in dims:
        if len(labels) > 1:
            walk.counts(node, len(labels), labels)
    return dims


CONSTANTS: dict[str, Rule] = dict.fromkeys(
    ("zeros", "ones", "full", "new_zeros", "new_ones", "new_full"), _of_one_number
)
"""Operator -> rule."""
EMPTY: dict[str, Rule] = dict.fromkeys(("empty", "new_empty"), _of_one_number)
"""The same of operators that give no numbers yet, or by chance."""
