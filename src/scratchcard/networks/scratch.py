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

from scratchcard.networks.lengths import Lengths, fitted
from scratchcard.types import State

Rule = Literal["fan_in", "fan_out", "fan_avg", "fixed"]
"""What the variance of a layer's fresh weights is inversely proportional to; "fixed": to nothing."""
_RULES: tuple[Rule, ...] = get_args(Rule)
_USUAL: tuple[tuple[Rule, float], ...] = (
    ("fan_in", 1 / 3),
    ("fan_in", 2.0),
    ("fan_avg", 1.0),
    ("fan_out", 2.0),
    ("fan_in", 1.0),
    ("fan_avg", 2.0),
)
"""Variance x fan under torch's own uniform initialisation, He's, Glorot's, He's backwards, LeCun's, and Glorot's with
the gain of a ReLU. The first of those that cannot be told apart counts."""
_ALIKE = 0.05
"""How far logarithms of variance x fan of layers of one rule may spread, besides by chance."""
_SIGMAS = 3.0
"""How much chance is allowed for."""


@dataclass(frozen=True, eq=False)  # each is itself: tensors have no truth value to compare by
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
        """The number that the variance of entries is divided by, for a shape of this weight, as torch counts it.

        That is with the first dimension as outputs for all convolutions, transposed ones included.
        """
        out = self.out if len(shape) == 2 else 0
        outputs, inputs, area = shape[out], shape[1 - out], prod(shape[2:])
        fans: dict[str, float] = {
            "fan_in": float(inputs * area),
            "fan_out": float(outputs * area),
            "fan_avg": (inputs + outputs) * area / 2,
            "fixed": 1.0,
        }
        return fans[rule]

    def product(self, rule: Rule) -> float:
        """Variance of the entries, about zero, where initialisations centre, x the fan."""
        return float(self.weight.double().square().mean()) * self.fan(rule, tuple(self.weight.shape))

    def shrinkage(self, rule: Rule) -> float:
        """Factor for the entries' standard deviation that the new size asks for; 1 where nothing of it is left."""
        after = self.fan(rule, self.left) * self.density
        if rule == "fixed" or not after:
            return 1.0
        return sqrt(self.fan(rule, tuple(self.weight.shape)) / after)


def scratch_factors(layers: Mapping[str, Layer]) -> dict[str, float]:
    """Factor for every layer's fresh weights with which they have the spread that its new size asks for.

    Args:
        layers: name of the weight -> the layer. Convolutions and linear layers are judged apart.
    """
    found = {}
    for convolutions in (True, False):
        kind = {name: layer for name, layer in layers.items() if (layer.weight.dim() > 2) == convolutions}
        for name, rule in zip(kind, rules_of(list(kind.values())), strict=True):
            found[name] = kind[name].shrinkage(rule)
    return found


def rules_of(layers: list[Layer]) -> list[Rule]:
    """The rule by which each of several layers of one kind was drawn, read from their weights.

    It is one for all of them if one fits; else each is judged by itself.
    """
    drawn = [layer for layer in layers if layer.product("fixed") > 0]
    rule = _common(drawn)
    if rule is not None:
        return [rule] * len(layers)
    return [_common([layer]) or "fixed" if layer in drawn else "fixed" for layer in layers]


def rescaled(fresh: State, layers: Mapping[str, Layer], lengths: Lengths | None = None) -> State:
    """A fresh state whose weights - and biases that are drawn by their layer's inputs - have their new spread.

    Args:
        fresh: of the large network.
        layers: as for `scratch_factors`.
        lengths: of normalised weights: each follows its direction, and is no weight with a spread of its own.
    """
    layers = {name: layer for name, layer in layers.items() if name not in (lengths or {})}
    state = dict(fresh)
    for name, factor in scratch_factors(layers).items():
        state[name] = fresh[name] * factor
    state |= fitted(lengths or {}, fresh, state)
    biases = _drawn_by_inputs(fresh, layers)
    return state | {bias: fresh[bias] * layer.shrinkage("fan_in") for bias, layer in biases.items()}


def _common(layers: list[Layer]) -> Rule | None:
    """The rule that fits all layers; None where none does.

    Where several rules fit as well (a single layer, or layers of one shape) it is the one whose product of variance and
    fan is a usual number, and "fixed" where none is.
    """
    if not layers:
        return "fixed"
    free = len(layers) - 1
    chance = _chance(layers) * sqrt(free + _SIGMAS * sqrt(2 * free))
    spreads = {rule: _weighted(layers, rule)[1] for rule in _RULES}
    within = min(_ALIKE, min(spreads.values()) + _ALIKE / 10) + chance
    fitting: list[Rule] = [rule for rule in _RULES if spreads[rule] <= within]
    if len(fitting) < 2:
        return fitting[0] if fitting else None

    def strangeness(pair: tuple[Rule, float]) -> float:
        return abs(_weighted(layers, pair[0])[0] - log(pair[1]))

    near = _ALIKE / 2 + _SIGMAS * _chance(layers)
    usual: list[tuple[Rule, float]] = [pair for pair in _USUAL if pair[0] in fitting and strangeness(pair) <= near]
    if usual:
        return min(usual, key=strangeness)[0]
    return "fixed" if "fixed" in fitting else fitting[0]


def _weighted(layers: list[Layer], rule: Rule) -> tuple[float, float]:
    """Mean and standard deviation of log(variance x fan), every layer weighted by its entries."""
    sizes = torch.tensor([float(layer.weight.numel()) for layer in layers], dtype=torch.float64)
    logs = torch.tensor([log(layer.product(rule)) for layer in layers], dtype=torch.float64)
    mean = (sizes * logs).sum() / sizes.sum()
    return float(mean), float(((sizes * (logs - mean).square()).sum() / sizes.sum()).sqrt())


def _chance(layers: list[Layer]) -> float:
    """Standard deviation of the logarithm of the variance of so many normal entries; uniform ones spread less."""
    return sqrt(2 / sum(layer.weight.numel() for layer in layers))


def _drawn_by_inputs(fresh: State, layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """The biases that are torch's own: uniform within 1 / sqrt(fan_in), whatever the weight's rule."""
    found = {}
    for name, layer in layers.items():
        bias = name.removesuffix("weight") + "bias"
        if not name.endswith("weight") or bias not in fresh:
            continue
        scaled = fresh[bias].double() * sqrt(layer.fan("fan_in", tuple(layer.weight.shape)))
        constant = len(scaled) > 1 and bool((scaled == scaled[0]).all())
        if not constant and 0 < float(scaled.abs().max()) < 1 + 1e-3:
            found[bias] = (layer, scaled)
    # all together, since a layer of few units says little about the variance, which is 1 / 3
    together = torch.cat([scaled for _, scaled in found.values()]) if found else torch.zeros(1)
    return (
        {bias: layer for bias, (layer, _) in found.items()} if 1 / 6 < float(together.square().mean()) < 2 / 3 else {}
    )
