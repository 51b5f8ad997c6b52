"""A subnetwork is a structure, given as three functions that must agree: what is trained, viewed and shipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from scratchcard.networks.copies import copied
from scratchcard.networks.forward import read_state
from scratchcard.types import State, WeightMask


class Subnetwork(Protocol):
    """The contract: `trainable`, `view` and `ship` compute the same function (float64, relative 1e-12)."""

    def trainable(self, model: nn.Module) -> nn.Module:
        """What the loop trains, made from a model that has the starting weights; the model is not touched."""
        ...

    def view(self, trained: nn.Module) -> State | None:
        """The weights the original architecture would run with; None where there is no original."""
        ...

    def ship(self, trained: nn.Module) -> nn.Module:
        """The plain module that is handed to the user."""
        ...


@dataclass(frozen=True, eq=False)  # tensors have no truth value to compare by
class MaskedWeights:
    """The subnetwork of a weight mask: cut weights are exactly zero and stay so under any optimizer of the recipe."""

    mask: WeightMask

    def trainable(self, model: nn.Module) -> nn.Module:
        """A deep copy whose cut weights are zero and receive zero gradients.

        Zero gradients are enough: with a fresh optimizer, SGD (momentum, Nesterov), Adam and AdamW leave a zero weight
        that never had a gradient at exactly zero, weight decay included.

        Raises:
            ValueError: the mask names a parameter the model does not have, or in another shape.
        """
        masked = copied(model)
        _cut(masked, self.mask)
        return masked

    def view(self, trained: nn.Module) -> State:
        """The weights and buffers, cut weights zero."""
        return read_state(self.ship(trained))

    def ship(self, trained: nn.Module) -> nn.Module:
        """A deep copy without any trace of the training: no hooks, cut weights zero."""
        plain = copied(trained)  # a deep copy of a parameter leaves its hooks behind
        for name, parameter in _parameters(plain, self.mask).items():
            with torch.no_grad():
                parameter.masked_fill_(~self.mask[name].to(parameter.device), 0.0)
            parameter.grad = None
        return plain


@dataclass(frozen=True)
class Hold:
    """A mask held on someone's own model; `remove()` lets go of it."""

    handles: list[Any]

    def remove(self) -> None:
        """Stop holding: the zeros may grow again."""
        for handle in self.handles:
            handle.remove()


def hold(model: nn.Module, weight_mask: WeightMask, optimizer: torch.optim.Optimizer) -> Hold:
    """Keep zeros zero in anyone's own training loop: `sc.hold(model, mask, optimizer)` once, then train as ever.

    Works on the model in place (it is your loop). Gradients of cut weights are zeroed as they arrive, and the weights
    again after each step, since an optimizer that has already run may carry momentum for them.

    Args:
        model: the model being trained.
        weight_mask: parameter name -> boolean tensor of its shape, True = kept; parameters not named are left alone.
        optimizer: the optimizer that steps this model.

    Raises:
        ValueError: the mask names a parameter the model does not have, or in another shape.
    """
    held = _cut(model, weight_mask)

    def zero_again(*_: Any) -> None:
        with torch.no_grad():
            for parameter, cut, _ in held:
                parameter.masked_fill_(cut.to(parameter.device), 0.0)

    return Hold([*(handle for _, _, handle in held), optimizer.register_step_post_hook(zero_again)])


def _cut(model: nn.Module, mask: WeightMask) -> list[tuple[nn.Parameter, Tensor, Any]]:
    """Zero the cut weights in place and mask their gradients as they arrive."""
    held = []
    for name, parameter in _parameters(model, mask).items():
        if bool(mask[name].all()):
            continue
        cut = ~mask[name].to(parameter.device)
        with torch.no_grad():
            # masked_fill, not a product: -w x 0 is -0.0, which is not bitwise zero, and inf x 0 is not a number
            parameter.masked_fill_(cut, 0.0)
        # of gradients a product will do, and with floats it is cheaper: a zero weight minus -0.0 is still 0.0
        multiplier = mask[name].to(device=parameter.device, dtype=parameter.dtype)
        handle = parameter.register_post_accumulate_grad_hook(_gradient_masked_by(multiplier))
        held.append((parameter, cut, handle))
    return held


def _gradient_masked_by(multiplier: Tensor) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        nonlocal multiplier
        if parameter.grad is not None:
            if multiplier.device != parameter.grad.device:  # the network was moved since it was masked
                multiplier = multiplier.to(parameter.grad.device)
            parameter.grad.mul_(multiplier)

    return hook


def _parameters(model: nn.Module, mask: WeightMask) -> dict[str, nn.Parameter]:
    own = dict(model.named_parameters())
    wrong = [
        f"{name} {tuple(kept.shape)}"
        + (f" (the model's is {tuple(own[name].shape)})" if name in own else " (no such parameter)")
        for name, kept in mask.items()
        if name not in own or own[name].shape != kept.shape
    ]
    if wrong:
        raise ValueError(f"the mask does not fit this {type(model).__name__}: {', '.join(wrong)}")
    return {name: own[name] for name in mask}
