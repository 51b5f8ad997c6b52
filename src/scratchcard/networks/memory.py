"""How much memory a forward pass needs at its peak: bytes of activations alive at once - counted, not measured."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.networks.copies import copied
from scratchcard.networks.forward import as_fits, call
from scratchcard.types import Tensors


def peak_activation_bytes(model: nn.Module, example_inputs: Tensors) -> int:
    """The largest number of bytes of activations alive at once in one forward pass, in evaluation mode, no gradients.

    Every operator's results count from when they are made until nobody holds them; views and in-place results are what
    they are part of. The inputs count all along, parameters and buffers do not, nor does what a kernel needs inside.
    Attention counts with its scores, as it is written; fused kernels that never hold them need less.

    Args:
        model: any module; it is not touched. It is run on the meta device, where nothing is computed; one that cannot
            run there is run on the CPU instead.
        example_inputs: one batch; the result is for a batch of this size.
    """
    try:
        return _peak(model, example_inputs, "meta")
    except (RuntimeError, NotImplementedError):  # data-dependent shapes, .item(), operators without a meta kernel
        return _peak(model, example_inputs, "cpu")


def _peak(model: nn.Module, inputs: Tensors, device: str) -> int:
    probe = copied(model).to(device).eval()
    placed = tree_map(
        # a copy, since an input may be a view of something larger
        lambda leaf: leaf.to(device, copy=True) if isinstance(leaf, Tensor) else leaf,
        as_fits(inputs, model),
    )
    alive = _Alive([*probe.parameters(), *probe.buffers()])
    alive.meet(placed)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), alive:
        call(probe, placed)
    return alive.peak


class _Alive(TorchDispatchMode):
    """Follows storages, each from the operator that makes it to its end."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self._weights = {weight.untyped_storage()._cdata for weight in weights}
        self._bytes: dict[int, int] = {}
        self._now = 0
        self.peak = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        # the batch's own statistics are empty in evaluation mode, except on the meta device
        own = func is torch.ops.aten.native_batch_norm.default and not args[5]
        self.meet(made[0] if own else made)
        return made

    def meet(self, tensors: Any) -> None:
        """Count the storages that were not there before."""
        for leaf in tree_leaves(tensors):
            if not isinstance(leaf, Tensor) or leaf.layout != torch.strided:
                continue
            storage = leaf.untyped_storage()
            key = storage._cdata
            if key in self._weights or key in self._bytes:
                continue
            self._bytes[key] = storage.nbytes()
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            # the object that stands for a storage in Python ends with the storage itself
            weakref.finalize(storage, self._gone, key).atexit = False

    def _gone(self, key: int) -> None:
        self._now -= self._bytes.pop(key)
