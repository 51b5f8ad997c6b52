"""What a network costs: learnable numbers, multiply-accumulates, training FLOPs, memory - counted, not estimated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

from scratchcard.networks.copies import copied
from scratchcard.networks.forward import as_fits, call
from scratchcard.networks.memory import peak_activation_bytes
from scratchcard.types import Tensors


@dataclass(frozen=True)
class Cost:
    """Per example. One multiply-accumulate (MAC) is two FLOPs; matrix products, convolutions and attention count."""

    parameters: int
    """Every parameter, biases and normalisation included; a shared one once."""
    forward_flops: float
    training_flops: float
    """Forward and backward of one example. A masked network is counted as the dense one: its kernels are dense."""
    uncounted: tuple[str, ...]
    """Modules with weights in which nothing was counted (e.g. a fused LSTM, an embedding)."""
    activation_bytes: float
    """Of activations alive at once, at the peak of a forward pass in evaluation mode (`peak_activation_bytes`)."""

    @property
    def macs(self) -> float:
        """Multiply-accumulates of one forward pass of one example."""
        return self.forward_flops / 2


def cost(model: nn.Module, example_inputs: Tensors) -> Cost:
    """Count a network's parameters and floating-point operations per example, on the meta device (nothing is computed).

    Args:
        model: any module; it is not touched. One that cannot run on the meta device is run on the CPU instead.
        example_inputs: one batch; the first dimension is divided out.
    """
    examples = tree_leaves(example_inputs)[0].shape[0]
    try:
        forward, training, by_module = _count(model, example_inputs, "meta")
    except (RuntimeError, NotImplementedError):  # data-dependent shapes, .item(), operators without a meta kernel
        forward, training, by_module = _count(model, example_inputs, "cpu")
    idle = [
        name
        for name, module in model.named_modules()
        # a part whose parent reads its weights directly (nn.MultiheadAttention's out_proj) counts with the parent
        if any(p.dim() > 1 for p in module.parameters(recurse=False))
        and not by_module.get(name, by_module.get(name.rpartition(".")[0]))
    ]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    peak = peak_activation_bytes(model, example_inputs)
    return Cost(parameters, forward / examples, training / examples, tuple(idle), peak / examples)


def _count(model: nn.Module, inputs: Tensors, device: str) -> tuple[int, int, dict[str, int]]:
    probe = copied(model).to(device).train()
    placed = tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, as_fits(inputs, model))
    by_module: dict[str, int] = {}
    with (
        torch.random.fork_rng(devices=[]),
        FlopCounterMode(display=False) as forward,
        _attributed(probe, forward, by_module),
    ):
        outputs = call(probe, placed)
    flops = forward.get_total_flops()
    with FlopCounterMode(display=False) as backward:
        differentiable = [leaf for leaf in _tensors(outputs) if leaf.requires_grad]
        if differentiable:
            torch.autograd.backward(differentiable, [torch.ones_like(leaf) for leaf in differentiable])
    return flops, flops + backward.get_total_flops(), by_module


@contextmanager
def _attributed(model: nn.Module, counter: FlopCounterMode, by_module: dict[str, int]) -> Iterator[None]:
    """Note how much was counted inside each module's own forward."""
    handles = []
    started: dict[str, list[int]] = {}
    for name, module in model.named_modules():
        handles.append(
            module.register_forward_pre_hook(
                lambda *_, name=name: started.setdefault(name, []).append(counter.get_total_flops())
            )
        )

        def finished(*_: Any, name: str = name) -> None:
            by_module[name] = by_module.get(name, 0) + counter.get_total_flops() - started[name].pop()

        handles.append(module.register_forward_hook(finished))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(outputs: Any) -> list[Tensor]:
    leaves = tree_leaves(dict(outputs) if isinstance(outputs, dict) else outputs)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]
