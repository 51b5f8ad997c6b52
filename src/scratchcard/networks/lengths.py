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

Spec = Mapping[str, Mapping[int, Tensor]]
"""Parameter -> dimension -> indices that are left; what is not named is whole."""
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


def fitted(lengths: Lengths, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> State:
    """The lengths, and directions that were left nothing, with which what is left of every weight is what it was.

    Args:
        lengths: of the network.
        before: its tensors.
        after: the same, some entries of directions being 0 now; what it says of lengths does not count.

    Returns:
        Only what has to differ from `after`.
    """
    changed: State = {}
    for length, (direction, dim) in lengths.items():
        if length in before and not torch.equal(before[direction], after[direction]):
            norm, left = _norm(before[direction], dim), after[direction]
            changed |= _fitted(length, direction, before[length], left, norm, _norm(left, dim))
    return changed


def fit_lengths(large: nn.Module, small: nn.Module, spec: Spec) -> None:
    """Make what is left of every such weight in a small network what it is in the large one, in place.

    Args:
        large: it is not touched.
        small: has what is left of its tensors.
        spec: parameter -> dimension -> the indices that are left; what is not named is whole.
    """
    own = dict(small.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, value in _fitted_to(large, own, spec).items():
            own[name].copy_(value)


def badly_fitted(large: nn.Module, small: nn.Module, spec: Spec, rounding: float) -> list[str]:
    """The lengths of a small network that `fit_lengths` would change, by more than the rounding of its own type.

    Args:
        large: in enough digits to compare in.
        small: likewise, made from a network of fewer.
        spec: as for `fit_lengths`.
        rounding: of the type of the network that it was made from.
    """
    own = dict(small.named_parameters(remove_duplicate=False))
    found = _fitted_to(large, own, spec)
    return [name for name, value in found.items() if not torch.allclose(own[name], value, rtol=8 * rounding, atol=0.0)]


def _fitted_to(large: nn.Module, own: Mapping[str, Tensor], spec: Spec) -> State:
    before, changed = dict(large.named_parameters(remove_duplicate=False)), State()
    for length, (direction, dim) in find_lengths(large).items():
        if direction in spec and length in own and direction in own:
            left, kept = _left(before[direction], spec[direction]), spec.get(length, {})
            norm = _left(_norm(before[direction], dim), kept)
            changed |= _fitted(length, direction, _left(before[length], kept), left, norm, _norm(left, dim))
    return changed


def _fitted(length: str, direction: str, g: Tensor, left: Tensor, norm: Tensor, new: Tensor) -> State:
    """A length times the ratio of two norms, and its direction where that has none any more."""
    nothing = (new == 0) & (norm > 0)
    found: State = {length: (g.detach().cpu().double() * (new / norm)).to(g)}
    if bool(nothing.any()):
        found[direction] = torch.where(nothing.to(left.device), torch.ones_like(left), left)
    return found


def _norm(direction: Tensor, dim: int) -> Tensor:
    return torch.norm_except_dim(direction.detach().cpu().double(), 2, dim)  # not every device has as many digits


def _left(tensor: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    for dim, indices in kept.items():
        tensor = tensor.detach().index_select(dim, indices.to(tensor.device))
    return tensor


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
        nothing = (_norm(v, dim).to(v.device) == 0) & (state[length] == 0)
        if bool(nothing.any()):
            changed[direction] = torch.where(nothing, torch.ones_like(v), v)
    return {**state, **changed}
