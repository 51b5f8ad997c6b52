"""Operators that work entry by entry: what goes in at an index comes out there, so labels stay.

torch says of itself which operators are of this kind (`torch.Tag.pointwise`); listed here are those it does not tag,
and those of which `blind` has to know that nothing of a NaN passes for a number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from scratchcard.networks.labels import Dims
from scratchcard.networks.spellings import core_name, spelled
from scratchcard.networks.walk import Rule, Walk, together


def entry_by_entry(walk: Walk, node: Node, *parts: Any, **named: Any) -> Dims:
    """Every tensor among the arguments takes part: the exponent of a power, the mask of a filling, both bounds."""
    return together(walk, node, *parts, *named.values())


def same(walk: Walk, node: Node, x: Dims, *_: Any, **__: Any) -> Dims:
    """Only the first tensor's entries come out, or only its size."""
    return x


def _dropped(walk: Walk, node: Node, x: Dims, *_: Any, **__: Any) -> list[Dims]:
    """What is left, and where."""
    return [x, x]


def is_pointwise(target: Any) -> bool:
    """Whether an operator works entry by entry, in place or not, by what torch says of its forms."""
    packet = getattr(torch.ops.aten, core_name(spelled(target)), None)
    return packet is not None and any(
        torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
    )


_SAME = """
    alias alpha_dropout clone contiguous detach dropout feature_alpha_dropout feature_dropout full_like lift_fresh
    lift_fresh_copy log_sigmoid ones_like to to_dtype _to_copy type_as zero zeros_like
"""
_ENTRIES = """
    abs add addcdiv addcmul atan celu clamp clamp_max clamp_min copy cos div elu erf exp exp2 expm1 float gelu
    hardsigmoid hardswish hardtanh leaky_relu lerp log log1p masked_fill maximum minimum mish mul neg pow reciprocal
    relu relu6 rsqrt rsub selu sigmoid silu sin softplus sqrt square sub tanh threshold where
"""
_UNSEEN = "bernoulli empty_like exponential fill log_normal normal rand_like randint_like randn_like rrelu uniform"

POINTWISE: dict[str, Rule] = {
    **dict.fromkeys(_SAME.split(), same),
    **dict.fromkeys(_ENTRIES.split(), entry_by_entry),
}
"""Operator -> rule; what these give is no number where what they are given is none."""
POINTWISE_UNSEEN: dict[str, Rule] = {
    **dict.fromkeys(_UNSEEN.split(), same),
    "native_dropout": _dropped,
}
"""Operator -> rule; these may give numbers for what is none, or others each time."""
