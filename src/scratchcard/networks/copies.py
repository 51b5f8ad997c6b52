"""Copies of anyone's network that stand alone, and weights that torch.nn.utils.prune has masked made plain in them.

A weight that a hook calculates before every call (masks, weight_norm and spectral_norm of older networks) is no leaf,
which `copy.deepcopy` refuses. A mask is folded in: what is worked on has an ordinary weight, its masked entries 0.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from scratchcard.types import State

_ORIGINAL, _MASK = "_orig", "_mask"
"""What torch.nn.utils.prune appends to the name of a weight."""


def copied(model: nn.Module) -> nn.Module:
    """A deep copy in which no weight is masked by torch.nn.utils.prune any more; the model is not touched."""
    held = (value for module in model.modules() for value in vars(module).values())
    calculated = (
        leaf
        for value in held
        for leaf in (value if isinstance(value, list) else (value,))  # recurrent layers hold theirs in a list too
        if isinstance(leaf, Tensor) and leaf.grad_fn is not None
    )
    # by their ids, as deepcopy looks for what it has copied already; a hook calculates them again at the next call
    twin = copy.deepcopy(model, {id(value): value.detach().clone() for value in calculated})
    _fold(twin)
    return twin


def without_masks(model: nn.Module) -> nn.Module:
    """The model itself, or, where torch.nn.utils.prune has masked some of its weights, a copy with these folded in."""
    return copied(model) if masked_by_torch(model) else model


def masked_by_torch(model: nn.Module) -> list[str]:
    """The weights that torch.nn.utils.prune has masked, by the names that they have without."""
    return [f"{path}.{own}" if path else own for path, _, own, _ in _masked(model)]


def folded(state: Mapping[str, Tensor], model: nn.Module) -> State:
    """A state with masks of torch.nn.utils.prune as the state of a network that has the plain weights."""
    own, plain = model.state_dict().keys(), dict(state)
    for name in state:
        original, mask = f"{name.removesuffix(_MASK)}{_ORIGINAL}", name
        weight = name.removesuffix(_MASK)
        if name.endswith(_MASK) and original in state and weight in own and not {original, mask} & own:
            plain[weight] = plain.pop(original) * plain.pop(mask) + 0.0
    return plain


def _masked(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, int]]:
    """(path, module, name of the weight, key of the hook) of everything that is masked."""
    for path, module in model.named_modules():
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, prune.BasePruningMethod) and f"{hook._tensor_name}{_ORIGINAL}" in module._parameters:
                yield path, module, hook._tensor_name, key


def _fold(model: nn.Module) -> None:
    """Make every masked weight a plain parameter, in place; shared ones with equal masks stay one."""
    made: dict[int, list[tuple[Tensor, nn.Parameter]]] = {}
    for _, module, own, key in _masked(model):
        original, mask = module._parameters[f"{own}{_ORIGINAL}"], module._buffers[f"{own}{_MASK}"]
        assert original is not None, "a masked weight has what it was"
        assert mask is not None, "a masked weight has its mask"
        known = made.setdefault(id(original), [])
        weight = next((weight for other, weight in known if torch.equal(other, mask)), None)
        if weight is None:
            value = original.detach() * mask.to(original.dtype) + 0.0  # + 0: no zero is a negative one
            weight = nn.Parameter(value, requires_grad=original.requires_grad)
            known.append((mask, weight))
        del module._forward_pre_hooks[key]
        module._forward_pre_hooks_with_kwargs.pop(key, None)
        delattr(module, f"{own}{_ORIGINAL}")
        delattr(module, f"{own}{_MASK}")
        vars(module).pop(own, None)
        setattr(module, own, weight)  # not into _parameters: recurrent layers keep a list of theirs besides
