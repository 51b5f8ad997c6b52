"""How many times fewer operations a ticket's network needs than the dense one: what budgets of training go by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from scratchcard.networks.copies import copied, without_masks
from scratchcard.networks.forward import as_fits, call
from scratchcard.types import Tensors, WeightMask


def sparse_speedup(model: nn.Module, mask: WeightMask, example_inputs: Tensors) -> float:
    """Operations of the dense forward pass / operations with weights that are kept, product by product.

    In theory: dense kernels do not skip zeros. What a weight is multiplied in counts by the share of it that is kept,
    products of activations alone (attention scores) count in full.

    Args:
        model: the dense network; it is not touched.
        mask: its weight mask.
        example_inputs: one batch.

    Raises:
        ValueError: the mask keeps nothing of all that the network multiplies with.
    """
    try:
        counted = _counted(model, mask, example_inputs, "meta")
    except (RuntimeError, NotImplementedError):  # what cannot run where nothing is computed, as in `cost`
        counted = _counted(model, mask, example_inputs, "cpu")
    if counted.total and not counted.kept:
        raise ValueError("this mask keeps no weight that the network multiplies with: there is nothing left to run")
    return counted.total / counted.kept if counted.total else 1.0


def _counted(model: nn.Module, mask: WeightMask, inputs: Tensors, device: str) -> _Counted:
    model = without_masks(model)
    probe = copied(model).to(device).train()  # fused evaluation kernels are not counted
    placed = tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, as_fits(inputs, model))
    own, moved = (dict(net.named_parameters(remove_duplicate=False)) for net in (model, probe))
    share_of = {id(own[name]): float(kept.double().mean()) for name, kept in mask.items()}
    # by all its names: a weight that several layers share is moved to the meta device once for each
    shares = {_storage(moved[name]): share_of[id(weight)] for name, weight in own.items() if id(weight) in share_of}
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _Counted(shares) as counted:
        call(probe, placed)
    return counted


class _Counted(TorchDispatchMode):
    """Counts floating-point operations, all of them and those with weights that are kept."""

    def __init__(self, shares: dict[int, float]) -> None:
        super().__init__()
        self.total = self.kept = 0.0
        self._shares = shares

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operator; views of a weight (its transpose, one head's rows) are known by the memory they share."""
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            flops = float(count(*args, **(kwargs or {}), out_val=out))
            memory = [_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.total += flops
            self.kept += flops * min((self._shares[one] for one in memory if one in self._shares), default=1.0)
        return out


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
