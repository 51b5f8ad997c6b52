"""Training in block floating point, emulated: the numbers are those of low precision, the arithmetic is not.

A block of values shares one power of two and each has a small signed integer of its own. Weights, gradients, momentum,
activations and errors are rounded to such values at random, up or down so that the mean is kept, as in Yang et al.
2019 (SWALP) and in the low-precision search for early-bird tickets (You et al. 2020, section 4). All tensors stay in
floating point, so nothing becomes faster or smaller, and sums inside a layer are as precise as ever: this tells what
low precision does to a training, not what it saves. Ours: the exponent is the smallest at which the largest value
still fits, so that nothing is clipped and rounding is unbiased for every value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from scratchcard.training.seeds import derive

SECOND_MOMENTS = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")
"""What Adam, RMSprop and Adagrad divide by the root of."""


def quantised(tensor: Tensor, bits: int = 8, dim: int | None = 0, generator: torch.Generator | None = None) -> Tensor:
    """The tensor with every value rounded to integer x 2^e, with one e for each block; type and shape stay.

    The integer is at most 2^(bits - 1) - 1 in size. Zeros and values that are of this form already stay as they are. A
    block with a value that is not finite becomes not-a-number as a whole, so that a diverged training shows.

    Args:
        tensor: floating point, any shape.
        bits: of the integer with its sign, 2 to 16.
        dim: 0 for a block for each slice along the first dimension, None for one block; tensors of fewer than two
            dimensions (biases) are one block.
        generator: of the rounding up or down, on the tensor's device; the probability of up is the distance from
            below, so the mean is the value itself. None rounds to the nearest, ties to even.

    Raises:
        ValueError: another number of bits or another dim; a tensor that is not floating point.
    """
    _check(bits)
    if dim not in (0, None) or not tensor.is_floating_point():
        raise ValueError(f"blocks of floating-point values along dim 0 or None were needed, got {tensor.dtype}, {dim=}")
    if not tensor.numel():
        return tensor.clone()
    step = _step(tensor, bits, dim)
    exact = tensor / step
    if generator is None:
        return exact.round_().mul_(step)
    below = exact.floor()
    # not floor(exact + chance): that sum is rounded itself, and would move values that need no rounding
    return below.add_(_uniform(tensor, generator).lt_(exact.sub_(below))).mul_(step)


class BlockFloating:
    """Makes a training loop round everything it keeps: `BlockFloating(model, optimizer)` once, three calls per step.

        low = BlockFloating(model, optimizer, bits=8, seed=seed)
        for step in range(steps):
            optimizer.zero_grad()
            with low.forward(step):
                value = loss(model(inputs), targets)
            value.backward()
            low.after_backward(step)
            optimizer.step()
            low.after_step(step)

    Rounded are: activations and, on the way back, errors (`quantised_activations`); the gradients of the optimizer's
    parameters; those parameters; and whatever the optimizer keeps in their shape (momentum, Adam's moments). Not
    rounded are batch-normalisation statistics and the weights a training starts from: they are of low precision after
    the first step. Blocks: an output unit of a weight, an example of a batch, a whole bias.

    All rounding at step s is a function of (seed, s): a training resumed at s sees what an uninterrupted one would.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, bits: int = 8, seed: int = 0) -> None:
        """Changes nothing yet.

        Args:
            model: the model being trained, on its device.
            optimizer: the optimizer that steps this model.
            bits: of every value, with its sign, 2 to 16.
            seed: of all rounding.

        Raises:
            ValueError: another number of bits.
        """
        _check(bits)
        self._model, self._optimizer, self._bits, self._seed = model, optimizer, bits, seed
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self._forth, self._back = torch.Generator(device), torch.Generator(device)

    @contextmanager
    def forward(self, step: int) -> Iterator[None]:
        """While outputs and loss are computed: activations are rounded, and errors when `backward` comes to them."""
        self._seeded(self._back, "errors", step)
        with quantised_activations(self._model, self._bits, self._seeded(self._forth, "activations", step), self._back):
            yield

    @torch.no_grad()
    def after_backward(self, step: int) -> None:
        """Round the gradients, in place."""
        chance = self._seeded(self._forth, "gradients", step)
        for parameter in self._trained():
            if parameter.grad is not None:
                parameter.grad.copy_(quantised(parameter.grad, self._bits, generator=chance))

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Round the weights and what the optimizer keeps of them, in place."""
        chance = self._seeded(self._forth, "weights", step)
        for parameter in self._trained():
            parameter.copy_(quantised(parameter, self._bits, generator=chance))
            for name, kept in self._optimizer.state.get(parameter, {}).items():
                if name == "step" or not isinstance(kept, Tensor) or kept.shape != parameter.shape:
                    continue
                rounded = quantised(kept, self._bits, generator=chance)
                if name in SECOND_MOMENTS:
                    # rounded down to zero it would be divided by, and the weight would leap
                    rounded = torch.where(kept > 0, torch.maximum(rounded, _step(kept, self._bits, 0)), rounded)
                kept.copy_(rounded)

    def _trained(self) -> Iterator[nn.Parameter]:
        for group in self._optimizer.param_groups:
            yield from group["params"]

    def _seeded(self, generator: torch.Generator, what: str, step: int) -> torch.Generator:
        return generator.manual_seed(derive(self._seed, "block-floating", what, step))


@contextmanager
def quantised_activations(
    model: nn.Module, bits: int = 8, generator: torch.Generator | None = None, back: torch.Generator | None = None
) -> Iterator[None]:
    """While it lasts, what every layer of the model gives out is rounded, and every error that comes back to one.

    A layer is a module without children or with parameters of its own; each example of a batch is a block. What the
    model computes between its layers (the sum at a shortcut) is rounded at the next layer's output.

    Without generators values are rounded to the nearest: the way to evaluate. It is the network of low precision that
    is judged, but chance would make its loss depend on the batches before, and there is no sum of many small updates
    that rounding would have to leave unbiased. What is measured for an example is then the same in any batch.

    The model carries hooks only inside the `with`, so that copies, files and exports made of it outside are plain.

    Args:
        model: in training or evaluation mode.
        bits: of every value, with its sign, 2 to 16.
        generator: of the activations' rounding, on the model's device; None rounds to the nearest.
        back: of the errors' rounding; used when `backward` runs, which may be after the `with`.

    Raises:
        ValueError: another number of bits.
    """
    _check(bits)

    def rounded(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        if leaf.requires_grad and torch.is_grad_enabled():
            return _Rounded.apply(leaf, bits, generator, back)
        return quantised(leaf, bits, generator=generator)

    def hook(module: nn.Module, inputs: Any, outputs: Any) -> Any:
        return tree_map(rounded, outputs)

    # torch's fused transformer layers, used for evaluation only, never call the layers inside
    fused = torch.backends.mha.get_fastpath_enabled()
    handles = [module.register_forward_hook(hook) for module in model.modules() if _is_layer(module)]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for handle in handles:
            handle.remove()


class _Rounded(torch.autograd.Function):
    """Rounds values forward and their errors backward."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, bits: int, forth: torch.Generator | None, back: torch.Generator | None
    ) -> Any:
        ctx.bits, ctx.chance = bits, back
        return quantised(values, bits, generator=forth)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> Any:
        return quantised(errors[0], ctx.bits, generator=ctx.chance), None, None, None


def _is_layer(module: nn.Module) -> bool:
    return not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False))


def _step(tensor: Tensor, bits: int, dim: int | None) -> Tensor:
    """2^e for each block, shaped to divide the tensor by: the smallest power of two with which its largest value fits.

    Never below the smallest normal number of the type (float32: 2^-126), so that zeros have a step too.
    """
    along = tuple(range(1, tensor.ndim)) if dim == 0 and tensor.ndim > 1 else tuple(range(tensor.ndim))
    least = torch.finfo(tensor.dtype).tiny
    largest = tensor.abs().amax(along, keepdim=True).clamp_(min=least)  # twenty times faster than a norm
    power = largest / (2 * torch.frexp(largest).mantissa)  # exact: the largest is in [power, 2 x power)
    step = (power * 2.0 ** (2 - bits)).clamp_(min=least)
    return torch.where(largest > (2 ** (bits - 1) - 1) * step, 2 * step, step)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers in (0, 1) in the shape of a tensor: odd multiples of 2^-17.

    Drawn four at a time, which on a CPU takes a third of the time of `torch.rand`, the most expensive part of rounding.
    Sixteen bits leave the mean of what is rounded by them off by at most 2^-17 of a step.
    """
    drawn = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    drawn.random_(-(2**63), None, generator=generator)
    return drawn.view(torch.int16)[: like.numel()].view(like.shape).float().add_(2**15 + 0.5).mul_(2.0**-16)


def _check(bits: int) -> None:
    if not 2 <= bits <= 16:
        raise ValueError(f"block floating point of 2 to 16 bits was needed, got {bits} bits; 8 are usual")
