"""What a loss or metric says to one batch cut or reshaped otherwise: whether it broadcasts, or is no mean."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.training.accumulate import examples_of, one_number
from scratchcard.training.seeds import seeded

Of = Callable[[Any, Any], Any]


def broadcasts(of: Of, outputs: Any, targets: Any) -> bool:
    """Whether a loss or metric pairs every output with every target, because their shapes differ.

    Certain, not likely: in the shape of either the number is the same, and as they are it is another one. A function
    that brings them into one shape itself, and one that means to pair them, pass.

    Args:
        of: (outputs, targets) -> a number.
        outputs: of a batch of two examples or more.
        targets: of the same batch.
    """
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        return False
    if outputs.shape == targets.shape or outputs.numel() != targets.numel():
        return False
    try:
        size = torch.broadcast_shapes(outputs.shape, targets.shape).numel()
    except RuntimeError:
        return False
    if size == outputs.numel():
        return False
    as_given = _value(of, outputs, targets)
    like_outputs = _value(of, outputs, targets.reshape(outputs.shape))
    like_targets = _value(of, outputs.reshape(targets.shape), targets)
    if as_given is None or like_outputs is None or like_targets is None:
        return False
    return _same(like_outputs, like_targets) and not _same(as_given, like_outputs)


def no_mean(of: Of, outputs: Any, targets: Any) -> tuple[float, float | None] | None:
    """What a function says to a batch, and the mean of what it says to two parts of it, where these differ.

    It is asked about the outputs as they are, and about outputs with noise, since those of an untrained network may all
    be alike. None where both agree, and where the batch cannot be cut.

    Args:
        of: (outputs, targets) -> a number.
        outputs: any structure of tensors with the examples along the first dimension.
        targets: of the same examples.
    """
    n = examples_of(targets)
    leaves = [leaf for leaf in tree_leaves((outputs, targets)) if isinstance(leaf, Tensor)]
    if n < 2 or any(leaf.dim() == 0 or len(leaf) != n for leaf in leaves):
        return None
    small, large = (_with_noise(outputs, *sizes) for sizes in ((2.0, 0.0), (10.0, 10.0)))
    for given, real in ((outputs, True), (small, False), (large, False)):
        whole = _value(of, given, targets)
        for cut in sorted({n // 2, max(1, n // 4)}):
            first, second = (_value(of, _rows(given, *part), _rows(targets, *part)) for part in ((0, cut), (cut, n)))
            if whole is None or first is None or second is None:
                if real and whole is not None:  # a mean over examples is there for any of them
                    return whole, None
                continue
            mean = (first * cut + second * (n - cut)) / n
            if not _same(whole, mean, first, second):
                return whole, mean
    return None


def _value(of: Of, outputs: Any, targets: Any) -> float | None:
    """The number of a batch that the function may change in place; None where there is none."""
    outputs, targets = (tree_map(_copy, part) for part in (outputs, targets))
    try:
        with warnings.catch_warnings(), seeded(0), torch.inference_mode():
            warnings.simplefilter("ignore")
            value = one_number(of(outputs, targets))
    except Exception:  # whatever the user's loss or metric raises
        return None
    return value if math.isfinite(value) else None


def _copy(part: Any) -> Any:
    """A tensor of its own; in float32 at least, as sums of lower precision differ by how they are made."""
    if not isinstance(part, Tensor):
        return part
    short = part.is_floating_point() and part.element_size() < 4
    return part.detach().clone().float() if short else part.detach().clone()


def _with_noise(outputs: Any, relative: float, least: float) -> Any:
    """Outputs with noise of so many times their mean size, and of at least some size."""
    chance = torch.Generator().manual_seed(0)

    def noisy(part: Any) -> Any:
        if not isinstance(part, Tensor) or not part.is_floating_point():
            return part
        noise = torch.randn(part.shape, generator=chance).to(part.device, part.dtype)
        size = (relative * part.detach().float().abs().mean()).clamp_min(least)
        return part + size.to(part.dtype) * noise

    return tree_map(noisy, outputs)


def _rows(batch: Any, start: int, stop: int) -> Any:
    return tree_map(lambda part: part[start:stop] if isinstance(part, Tensor) else part, batch)


def _same(one: float, other: float, *beside: float) -> bool:
    """Whether two numbers agree up to what float32 makes of sums, beside others of their size."""
    return abs(one - other) <= 1e-6 + 1e-4 * max(map(abs, (one, other, *beside)))
