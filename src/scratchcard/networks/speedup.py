"""How many times fewer operations a ticket's network needs than the dense one: what budgets of training go by."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scratchcard.networks.forward import call
from scratchcard.types import Tensors, WeightMask


def sparse_speedup(model: nn.Module, mask: WeightMask, example_inputs: Tensors) -> float:
    """Operations of the dense forward pass / operations with weights that are kept, layer by layer.

    In theory: dense kernels do not skip zeros. A layer's operations count by the share of its weights that is kept.

    Args:
        model: the dense network; it is not touched.
        mask: its weight mask.
        example_inputs: one batch.
    """
    probe = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(probe, example_inputs)
    counted = counter.get_flop_counts()
    root = type(probe).__name__
    total = kept = 0.0
    for path, module in probe.named_modules():
        if any(True for _ in module.children()):
            continue
        flops = float(sum(counted.get(f"{root}.{path}" if path else root, {}).values()))
        own = [
            mask[name]
            for one, _ in module.named_parameters(recurse=False)
            if (name := f"{path}.{one}".lstrip(".")) in mask
        ]
        share = sum(int(m.sum()) for m in own) / sum(m.numel() for m in own) if own else 1.0
        total, kept = total + flops, kept + share * flops
    return total / kept if kept else 1.0
