"""Fresh weights for a network that has become smaller: each layer's spread as if it had been built at its new size.

An initialisation depends on the shapes of layers, so that fresh weights of a large network, cut to the small one, are
drawn too small (or too large). What the factory's rule is shows in the fresh weights themselves: the fan whose product
with the variance is the same number in all layers of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, prod, sqrt
from typing import Literal, get_args

import torch
from torch import Tensor

from scratchcard.types import State

Rule = Literal["fan_in", "fan_out", "fan_avg", "fixed"]
"""What the variance of a layer's fresh weights is inversely proportional to; "fixed": to nothing."""
_CONSTANTS = (1 / 3, 1.0, 2.0)
"""Variance x fan under torch's own uniform initialisation, LeCun's, and He's."""
_ALIKE = 0.05
"""Standard deviations of logarithms of variance x fan that chance makes in layers of one rule."""


@dataclass(frozen=True)
class Layer:
    """A weight as it was drawn, and the sizes of what is left of it."""

    weight: Tensor
    left: tuple[int, ...]
    """Its shape in the small network."""
    out: int
    """The dimension that its outputs are."""
    density: float = 1.0
    """Share of its entries that a weight mask keeps: a sparse layer's fans are so much smaller."""

    def fan(self, rule: Rule, shape: tuple[int, ...]) -> float:
        """The number that the variance of entries is divided by, for a shape of this weight."""
        outputs, inputs = shape[self.out], shape[1 - self.out]
        area = prod(shape[2:])
        return {
            "fan_in": float(inputs * area),
            "fan_out": float(outputs * area),
            "fan_avg": (inputs + outputs) * area / 2,
            "fixed": 1.0,
        }[rule]

    def variance(self) -> float:
        """About zero, where initialisations centre."""
        return float(self.weight.double().square().mean())


def scratch_factors(layers: Mapping[str, Layer]) -> dict[str, float]:
    """Factor for every layer's fresh weights with which they have the spread that its new size asks for.

    Args:
        layers: name of the weight -> the layer. Convolutions and linear layers are judged apart.
    """
    rules = {kind: rule_of([one for one in layers.values() if _kind(one) == kind]) for kind in ("conv", "linear")}
    found = {}
    for name, layer in layers.items():
        rule = rules[_kind(layer)]
        before, after = layer.fan(rule, tuple(layer.weight.shape)), layer.fan(rule, layer.left)
        found[name] = 1.0 if rule == "fixed" else sqrt(before / (after * layer.density))
    return found


def rule_of(layers: list[Layer]) -> Rule:
    """The rule by which layers of one kind were drawn, read from their weights.

    Where several rules fit as well (a single layer, or layers of one shape) it is the one whose product of variance and
    fan is a usual number, and "fixed" where none is.
    """
    drawn = [layer for layer in layers if layer.variance() > 0]
    if not drawn:
        return "fixed"
    sizes = torch.tensor([float(layer.weight.numel()) for layer in drawn], dtype=torch.float64)
    share = sizes / sizes.sum()

    def products(rule: Rule) -> Tensor:
        return torch.tensor(
            [log(layer.variance() * layer.fan(rule, tuple(layer.weight.shape))) for layer in drawn], dtype=torch.float64
        )

    spread = {}
    for rule in get_args(Rule):
        logs = products(rule)
        spread[rule] = float((share * (logs - (share * logs).sum()).square()).sum().sqrt())
    fitting = [rule for rule in get_args(Rule) if spread[rule] <= min(spread.values()) + _ALIKE]
    if len(fitting) == 1:
        return fitting[0]

    def strangeness(rule: Rule) -> float:
        mean = float((share * products(rule)).sum())
        return min(abs(mean - log(constant)) for constant in _CONSTANTS)

    usual = [rule for rule in fitting if rule != "fixed" and strangeness(rule) < 2 * _ALIKE]
    return min(usual, key=strangeness) if usual else "fixed" if "fixed" in fitting else fitting[0]


def rescaled(fresh: State, layers: Mapping[str, Layer]) -> State:
    """A fresh state whose weights - and biases that are drawn by their layer's inputs - have their new spread.

    Args:
        fresh: of the large network.
        layers: as for `scratch_factors`.
    """
    state = dict(fresh)
    for name, factor in scratch_factors(layers).items():
        state[name] = fresh[name] * factor
    for name, layer in layers.items():
        bias = name.removesuffix("weight") + "bias"
        if not name.endswith("weight") or bias not in fresh:
            continue
        drawn = float(fresh[bias].double().square().mean()) * layer.fan("fan_in", tuple(layer.weight.shape))
        if 1 / 6 < drawn < 2 / 3:  # torch's own: uniform within 1 / sqrt(fan_in), whatever the weight's rule
            before, after = layer.fan("fan_in", tuple(layer.weight.shape)), layer.fan("fan_in", layer.left)
            state[bias] = fresh[bias] * sqrt(before / (after * layer.density))
    return state


def _kind(layer: Layer) -> str:
    return "conv" if layer.weight.dim() > 2 else "linear"
