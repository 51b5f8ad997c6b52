"""How any network is called with a batch, and how a module's weights travel: state in, state out."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _EXTRA_STATE_KEY_SUFFIX
from torch.utils._pytree import tree_map

from scratchcard.networks.copies import copied, without_masks
from scratchcard.types import State, Tensors


def call(model: nn.Module, inputs: Tensors) -> Any:
    """The model's outputs for one batch: a dict is passed by keyword, a tuple by position, a tensor as it is."""
    if isinstance(inputs, dict):
        return model(**inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(inputs)


def as_fits(inputs: Tensors, model: nn.Module) -> Tensors:
    """The inputs with floating-point tensors in the type of the model's weights."""
    wanted = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    return tree_map(
        lambda leaf: leaf.to(wanted) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, inputs
    )


def read_state(model: nn.Module) -> State:
    """Copies, on the CPU, of all parameters and buffers that `state_dict` has; weights masked by torch folded in."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in _plain(model).items()}


def with_state(model: nn.Module, state: State) -> nn.Module:
    """A deep copy of the model with these weights and buffers; the model given is not touched.

    Raises:
        ValueError: names or shapes differ from the model's.
    """
    own = _plain(model)
    missing, unknown, twin = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys()), copied(model)
    with contextlib.suppress(RuntimeError):  # another shape than a module's own: told below, all of them
        twin.load_state_dict(state, strict=False)  # not strict: names have been looked at
    found = _tensors(twin)  # a module may take another shape, as observers of ranges do
    reshaped = sorted(name for name in own.keys() & state.keys() if found[name].shape != state[name].shape)
    if missing or unknown or reshaped:
        raise ValueError(
            f"these weights are not of this {type(model).__name__}: missing {missing}, unknown {unknown}, other shape "
            + str([f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}" for name in reshaped])
        )
    return twin


def write_state(model: nn.Module, state: State) -> None:
    """Put these values into the model's own weights and buffers, in place; those that are not named stay.

    Raises:
        ValueError: a name that the model does not have, or another shape than it has there.
    """
    own = _tensors(model)
    strange = sorted(state.keys() - own.keys())
    if strange:
        raise ValueError(f"this {type(model).__name__} has no weights or buffers called {', '.join(strange)}")
    reshaped = [name for name, value in state.items() if value.shape != own[name].shape]
    if reshaped:
        raise ValueError(
            f"these values are not of the shapes of this {type(model).__name__}: "
            + ", ".join(f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}" for name in reshaped)
        )
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
    set_extra_states(model, state)


def set_extra_states(model: nn.Module, state: State) -> None:
    """Give modules the extra states that are tensors, in place: what `get_extra_state` gives may be made anew by it."""
    for path, module in model.named_modules():
        name = f"{path}.{_EXTRA_STATE_KEY_SUFFIX}" if path else _EXTRA_STATE_KEY_SUFFIX
        if name in state:
            module.set_extra_state(state[name].clone())


def state_digest(state: State) -> str:
    """SHA-256 over names, types, shapes and bits: equal only for bitwise equal states."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return sha.hexdigest()


def _plain(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the network that copies are: masks of torch.nn.utils.prune folded in."""
    return _tensors(without_masks(model))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
