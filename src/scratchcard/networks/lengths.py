"""Weights that are a length times a direction (weight_norm): g v / ||v||, g carrying what cutting takes from v.

Cutting entries of v makes its norm smaller and so what is left of the weight larger; multiplying g by the ratio of the
norms leaves it exactly as it was. A direction of zeros, which has none, becomes one of ones with the length 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.weight_norm import WeightNorm

from scratchcard.types import State

Lengths = dict[str, tuple[str, int]]
"""Length -> its direction, and the dimension along which there is one each; -1: one for all of it."""


def find_lengths(model: nn.Module) -> Lengths:
    """The lengths of a network that torch.nn.utils normalises weights by, in its older and its newer way."""
    found: Lengths = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        first = module[0] if isinstance(module, ParametrizationList) else None
        if isinstance(first, _WeightNorm):
            found[f"{prefix}original0"] = (f"{prefix}original1", vars(first)["dim"])
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                found[f"{prefix}{hook.name}_g"] = (f"{prefix}{hook.name}_v", hook.dim)
    return found


def fitted(
    lengths: Lengths,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    spec: Mapping[str, Mapping[int, Tensor]] | None = None,
) -> State:
    """The lengths, and directions that were left nothing, with which what is left of every weight is what it was.

    Args:
        lengths: of the network.
        before: its tensors.
        after: those that are left: of `before` some indices, or with some entries 0; its lengths do not count.
        spec: tensor -> dimension -> the indices of `before` that are left; what is not named is whole.

    Returns:
        Only what has to differ from `after`.
    """
    changed: State = {}
    for length, (direction, dim) in lengths.items():
        v, g = after.get(direction), before.get(length)
        if v is None or g is None or length not in after or torch.equal(v, before[direction]):
            continue
        old, new = (torch.norm_except_dim(one.detach().double(), 2, dim) for one in (before[direction], v))
        for at, kept in (spec or {}).get(length, {}).items():
            old, g = (one.index_select(at, kept.to(one.device)) for one in (old, g))
        nothing = (new == 0) & (old > 0)
        changed[length] = (g.detach().double() * (new / old)).to(g)
        if bool(nothing.any()):
            changed[direction] = torch.where(nothing, 1.0, v.detach().double()).to(v)
    return changed


def fit_lengths(large: nn.Module, small: nn.Module, spec: Mapping[str, Mapping[int, Tensor]]) -> None:
    """Make what is left of every such weight in a small network what it is in the large one, in place.

    Args:
        large: it is not touched.
        small: has the tensors of the large one, or what is left of them.
        spec: what is left: parameter -> dimension -> indices.
    """
    own = dict(small.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, value in _fitted_to(large, small, spec).items():
            own[name].copy_(value)


def badly_fitted(
    large: nn.Module, small: nn.Module, spec: Mapping[str, Mapping[int, Tensor]], digits: float
) -> list[str]:
    """The lengths of a small network that are not, but for the rounding of its own type, what `fit_lengths` makes them.

    Args:
        large: in enough digits to compare in.
        small: likewise, made from a network of fewer.
        spec: what is left: parameter -> dimension -> indices.
        digits: the rounding of the network that it was made from.
    """
    own = dict(small.named_parameters(remove_duplicate=False))
    found = _fitted_to(large, small, spec)
    return [name for name, value in found.items() if not torch.allclose(own[name], value, rtol=8 * digits, atol=0.0)]


def _fitted_to(large: nn.Module, small: nn.Module, spec: Mapping[str, Mapping[int, Tensor]]) -> State:
    before, own = (dict(net.named_parameters(remove_duplicate=False)) for net in (large, small))
    return fitted(find_lengths(large), before, own, spec)


def recalculate(module: nn.Module) -> None:
    """Calculate a weight that a hook does before every call, in place: its length or direction is another one now."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            setattr(module, hook.name, hook.compute_weight(module))


def with_directions(lengths: Lengths, state: State) -> State:
    """A state in which no direction is 0 everywhere, where it would have none: ones, should the length be 0 too."""
    changed: State = {}
    for length, (direction, dim) in lengths.items():
        v = state[direction]
        nothing = (torch.norm_except_dim(v.double(), 2, dim) == 0) & (state[length] == 0)
        if bool(nothing.any()):
            changed[direction] = torch.where(nothing, torch.ones_like(v), v)
    return {**state, **changed}
