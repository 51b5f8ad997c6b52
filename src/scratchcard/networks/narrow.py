"""A narrower network of the same kind: every layer by one factor, so that it has a wanted number of weights."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable

import torch
from torch import nn

from scratchcard.networks.weights import everything

_HALVINGS = 40


def takes_width(factory: Callable[..., nn.Module]) -> bool:
    """Whether the model factory can build narrower networks: it has a parameter `width`, a factor on its units."""
    try:
        return "width" in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # a callable without a signature
        return False


def width_for(factory: Callable[..., nn.Module], weights: int) -> float:
    """The factor on the width with which the network has as nearly as possible so many weights (biases left out).

    Found by bisection on the meta device where the factory allows it; where two widths are as near, the narrower.
    Widths at which the factory fails, or makes a layer without units, are too narrow.

    Args:
        factory: takes `width`, and gives more weights for a larger one; a width that it has been given already
            (functools.partial) is what the factor multiplies.
        weights: how many the narrow network is to have.

    Raises:
        ValueError: the factory has no parameter `width`.
    """
    if not takes_width(factory):
        raise ValueError(
            "a narrower network was asked for, but the model factory takes no `width`; give it a parameter width=1.0, "
            "a factor on the number of units of every layer"
        )
    given = inspect.signature(factory).parameters["width"].default
    base = float(given) if isinstance(given, int | float) else 1.0
    low, high = 0.0, 1.0
    tried: dict[float, int] = {base: _count(factory, base)}
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = _count_if_any(factory, base * middle)
        if found:
            tried[base * middle] = found
        if found == weights:
            break
        low, high = (middle, high) if found < weights else (low, middle)
    return min(tried, key=lambda width: (abs(tried[width] - weights), tried[width], -width))


def _count_if_any(factory: Callable[..., nn.Module], width: float) -> int:
    """How many weights; 0 where the network is too narrow to be one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # seen by nobody who did not ask for it
        try:
            return _count(factory, width)
        except Exception:  # whatever the user's factory raises; at its own width it has not
            return 0


def _count(factory: Callable[..., nn.Module], width: float) -> int:
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                mask = everything(factory(width=width))
        except (RuntimeError, NotImplementedError, TypeError):  # a factory that computes with its weights
            mask = everything(factory(width=width))
    sizes = [kept.numel() for kept in mask.values()]
    return sum(sizes) if all(sizes) else 0
