"""How the gate runs networks and compares what they give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from scratchcard.networks.forward import call
from scratchcard.networks.silenced import leaves
from scratchcard.types import Tensors


def ran(run: Callable[[], Any], seed: int = 0) -> Any:
    """What a network gives, its random numbers always the same ones."""
    _seed(seed)
    with torch.no_grad():
        return run()


def _seed(seed: int) -> None:
    """As `torch.manual_seed`, which takes a millisecond to ask for devices that are not there."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def trained(net: nn.Module, batch: Tensors, seed: int = 0) -> list[Tensor]:
    """What a network gives in training mode, after the gradients of it have been calculated."""
    with torch.enable_grad():
        _seed(seed)
        outputs = leaves(call(net.train(), batch))
        losses = [leaf.square().mean() for leaf in outputs if leaf.requires_grad and leaf.numel()]
        if losses:
            torch.stack([loss.to(losses[0]) for loss in losses]).sum().backward()
    return [leaf.detach() for leaf in outputs]


def without_chance(net: nn.Module) -> nn.Module:
    """The network itself, its layers that leave out units by chance told to leave out none."""
    for module in net.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and "drop" in name:
                setattr(module, name, 0.0)
    return net


def shows(output: Tensor) -> bool:
    """Whether there is a number in it to compare, or nothing at all."""
    return bool(output.isfinite().any()) or not output.numel()


def varied(outputs: list[Tensor], limit: float) -> list[bool]:
    """Whether each output depends on the example, by more than this share of its largest number.

    It is taken to where that cannot be asked: of a single row, of no numbers, of nothing that is finite.
    """
    told = []
    for output in outputs:
        rows = output.nan_to_num(0.0, 0.0, 0.0) if output.is_floating_point() else output
        if output.dim() < 1 or len(output) < 2 or not output.numel() or output.is_complex():
            told.append(True)
            continue
        spread = (rows[1:].double() - rows[:1].double()).abs().max()
        told.append(bool(spread > 10 * limit * rows.double().abs().max()) or not shows(output))
    return told


def difference(wanted: list[Tensor], found: list[Tensor], noise: float) -> float:
    """The largest difference of an output, each relative to its own largest finite number; less than noise is none.

    Infinite where shapes differ, or anything that is not finite is not the same at the same place.
    """
    if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in found]:
        return float("inf")
    worst = 0.0
    for one, other in zip(wanted, found, strict=True):
        if not one.is_floating_point() and not one.is_complex():
            worst = max(worst, 0.0 if torch.equal(one, other) else float("inf"))
            continue
        finite = one.isfinite()
        if not torch.equal(finite, other.isfinite()):
            return float("inf")
        if not torch.equal(one[~finite].nan_to_num(0.5), other[~finite].to(one).nan_to_num(0.5)):
            return float("inf")
        here, there = one[finite], other[finite]
        gap = float((here - there).abs().max()) if here.numel() else 0.0
        worst = max(worst, gap / float(here.abs().max()) if gap > noise else 0.0)
    return worst


def in_short(error: Exception) -> str:
    """What was raised, as a part of a sentence."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
