"""Scaling factors: one learnable number per unit, by which training can say what the unit is worth.

Where a unit is normalised by batch normalisation its factor is the normalisation's weight (Liu et al. 2017, network
slimming, sec. 3). Where it is not - MLPs, heads and feed-forward neurons of transformers - it gets a gate of its own, a
factor on the weights that read it, which is multiplied out when the search is over.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_leaves

from scratchcard.networks.compact import shrink_spec
from scratchcard.networks.copies import copied
from scratchcard.networks.forward import read_state
from scratchcard.networks.initialise import with_factors
from scratchcard.networks.sites import Sites
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits
from scratchcard.types import Scores, State, UnitMask, WeightMask


class Gate(nn.Module):
    """A parametrisation that multiplies the slices of a weight that read a unit by the unit's factor."""

    def __init__(self, factor: nn.Parameter, unit_of: Tensor, dim: int) -> None:
        super().__init__()
        self.factor = factor
        """[units]; one and the same for all weights that read the site."""
        self.register_buffer("unit_of", unit_of, persistent=False)
        self.dim = dim

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as the network uses it."""
        return weight * _along(self.factor, self.get_buffer("unit_of"), self.dim, weight.dim())


def scaling_factors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every scaling factor of a network as it is trained: weights of batch normalisation (1-, 2-, 3-D), and gates.

    Each once, by the first of its names: the gates of one site share theirs.
    """
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if (isinstance(module, _BatchNorm) and own == "weight") or isinstance(module, Gate):
                found.setdefault(id(parameter), (f"{name}.{own}" if name else own, parameter))
    return dict(found.values())


@dataclass(frozen=True, eq=False)
class Factors:
    """Where the factors of a network's sites are."""

    norms: dict[str, tuple[str, ...]]
    """Site -> the normalisation weights among whose entries its units' factors are."""
    gated: tuple[str, ...]
    """Sites that get a gate."""
    left: dict[str, str]
    """Site -> why it has no factor of its own."""
    sites: Sites = field(repr=False)

    def scores(self, raw: State) -> Scores:
        """|factor| of every unit, the mean where several normalisations share it; float64.

        Args:
            raw: state of a `Scaled` network as it is trained, in large shapes but for gates.
        """
        found = {}
        for name, weights in self.norms.items():
            per_unit = [
                torch.cat([raw[weight][unit[weight][0]] for weight in weights if weight in unit]).double().abs().mean()
                for unit in self.sites[name].units
            ]
            found[name] = torch.stack(per_unit)
        keys = {site: key for _, site, _, _, key in gates(self.sites, self.gated)}
        return found | {site: raw[keys[site]].double().abs() for site in self.gated}


def find_factors(model: nn.Module, sites: Sites, among: Collection[str]) -> Factors:
    """Which normalisation weights are the factors of which site, and which sites need a gate.

    Args:
        model: whose normalisations are looked for.
        sites: of it.
        among: the sites that may be cut.
    """
    weights = {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.affine
    }
    chosen = {f"{choice.norm}.weight" for choice in sites.choices.values()}
    tied = _tied(model)
    norms, gated, left = {}, [], {}
    for name in among:
        here = list(dict.fromkeys(weight for unit in sites[name].units for weight in unit if weight in weights))
        own = [weight for weight in here if (weight in chosen) == (name in sites.choices)]
        readers = {parameter for parameter, *_ in gates(sites, (name,))}
        if own and all(unit.keys() & set(own) for unit in sites[name].units):
            norms[name] = tuple(own)
        elif own:
            left[name] = "only some of its units are normalised"
        elif here:
            left[name] = "whoever reads it chooses its channels by normalisations of their own"
        elif name in sites.branches:
            left[name] = "a branch without normalisation has no factor, and nobody reads it alone"
        elif not readers or tied & readers or _read_without_weight(sites, name):
            left[name] = "its units are read by weights that cannot carry a gate"
        else:
            gated.append(name)
    return Factors(norms, tuple(gated), left, sites)


def gates(sites: Sites, gated: Collection[str]) -> list[tuple[str, str, int, Tensor, str]]:
    """The gates to add: (weight, site, dimension, unit at every index or -1, key of the factor in a raw state)."""
    found: dict[str, list[tuple[str, int, Tensor]]] = {}
    reading = {weight for _, weight in _readers(sites) if weight is not None}
    for site in gated:
        places: dict[tuple[str, int], Tensor] = {}
        for unit, where in enumerate(sites[site].units):
            for name, dims in where.items():
                for dim, indices in dims.items():
                    if name in reading and dim != sites.outputs[name]:
                        size = sites.shapes[name][dim]
                        places.setdefault((name, dim), torch.full((size,), -1))[indices] = unit
        for (name, dim), unit_of in places.items():
            found.setdefault(name, []).append((site, dim, unit_of))
    return [
        (name, site, dim, unit_of, _key(name, at))
        for name, several in found.items()
        for at, (site, dim, unit_of) in enumerate(several)
    ]


@dataclass(frozen=True, eq=False)
class Scaled:
    """A network whose units carry scaling factors: what a search trains. Viewed and shipped without its gates."""

    inner: MaskedWeights | SmallUnits
    factors: Factors
    initial: float | None = 0.5
    """What all factors are set to at the start (network slimming, sec. 4), so that they can be ranked together. None
    leaves those of batch normalisation, and gates start at the mean of their sizes, over the units that are there and
    may be cut; at 1 where there are none, or all are 0. A gate changes nothing: the weights that it multiplies are
    divided by it."""

    def __post_init__(self) -> None:
        """Refuse factors to start from that weights cannot be divided by.

        Raises:
            ValueError: as said.
        """
        if self.initial is not None and not 0 < self.initial < float("inf"):
            raise ValueError(f"scaling factors need a positive number to start from, or None, got {self.initial}")

    @property
    def mask(self) -> WeightMask | UnitMask:
        """Of the network inside."""
        return self.inner.mask

    def trainable(self, model: nn.Module) -> nn.Module:
        """A copy of the inner network with its factors set, and gates on the weights that read the gated sites."""
        net = self.inner.trainable(model)
        if self.initial is not None:
            net = with_factors(net, self.initial)
        made: dict[str, nn.Parameter] = {}
        start = self._start_of_gates(net)
        for name, site, dim, unit_of, _ in gates(self.factors.sites, self.factors.gated):
            path, _, own = name.rpartition(".")
            module = net.get_submodule(path)
            weight = getattr(module, own)
            factor = made.setdefault(
                site, nn.Parameter(weight.detach().new_full((len(self.factors.sites[site]),), start))
            )
            gate = Gate(factor, self._small(name, dim, unit_of), dim)
            parametrize.register_parametrization(module, own, gate)
            with torch.no_grad():
                original = module.get_parameter(f"parametrizations.{own}.original")
                original.div_(_along(factor, gate.get_buffer("unit_of"), dim, weight.dim()))
        return net

    def view(self, trained: nn.Module) -> State:
        """The weights the original architecture would run with."""
        return self.plain(read_state(trained))

    def ship(self, trained: nn.Module) -> nn.Module:
        """The inner network with its gates multiplied out."""
        net = copied(trained)
        for name in dict.fromkeys(name for name, *_ in gates(self.factors.sites, self.factors.gated)):
            path, _, own = name.rpartition(".")
            module = net.get_submodule(path)
            # torch takes the gate off the class, which a copy shares with what it was copied from
            own_class: Any = type(type(module).__name__, type(module).__bases__, dict(vars(type(module))))
            module.__class__ = own_class
            parametrize.remove_parametrizations(module, own, leave_parametrized=True)
        return self.inner.ship(net)

    def plain(self, raw: State) -> State:
        """A state as it is trained -> weights and buffers of the original architecture, gates multiplied out."""
        state = dict(raw)
        for name, _, dim, unit_of, key in gates(self.factors.sites, self.factors.gated):
            value = state[name] if name in state else state.pop(_original(name))
            state[name] = value * _along(state.pop(key), self._small(name, dim, unit_of), dim, value.dim())
        if isinstance(self.inner, SmallUnits):
            return self.inner.enlarged(state)
        cut = {name: ~kept for name, kept in self.inner.mask.items() if not bool(kept.all())}
        return state | {name: state[name].masked_fill(where, 0.0) for name, where in cut.items()}

    def scores(self, raw: State) -> Scores:
        """|factor| of every unit, from a state as it is trained; -1, below all, for units that are cut already."""
        if not isinstance(self.inner, SmallUnits):
            return self.factors.scores(raw)
        whole, cut = self.plain(raw), {name: ~kept for name, kept in self.inner.mask.items()}
        named = {weight: whole[weight] for weights in self.factors.norms.values() for weight in weights}
        return {
            site: score.masked_fill(cut[site], -1.0) if site in cut else score
            for site, score in self.factors.scores(raw | named).items()
        }

    def _start_of_gates(self, net: nn.Module) -> float:
        """What gates are set to: `initial`, or what the factors of normalised units are on average in this network."""
        if self.initial is not None:
            return self.initial
        sites = self.factors.sites
        read: dict[str, Tensor] = {}
        for site, weights in self.factors.norms.items():
            for weight in weights:
                here = read.setdefault(weight, torch.zeros(sites.shapes[weight], dtype=torch.bool))
                here[[at for unit in sites[site].units for at in unit.get(weight, {}).get(0, ())]] = True
        named = dict(net.named_parameters())
        sizes = [
            named[weight].detach().cpu().double().abs()[self._small(weight, 0, here)]
            for weight, here in read.items()
            if weight in named  # what belonged to a branch may be gone
        ]
        mean = float(torch.cat(sizes).mean()) if sizes else 0.0
        return mean if 0 < mean < float("inf") else 1.0

    def _small(self, name: str, dim: int, unit_of: Tensor) -> Tensor:
        """The unit at every index that the inner network still has."""
        if not isinstance(self.inner, SmallUnits):
            return unit_of
        kept = shrink_spec(self.inner.sites, self.inner.mask).get(name, {}).get(dim)
        return unit_of if kept is None else unit_of[kept]


def _along(factor: Tensor, unit_of: Tensor, dim: int, dims: int) -> Tensor:
    """The factor at every index of a dimension, 1 where no unit is, to be multiplied with a tensor of `dims`."""
    padded = torch.cat([factor, factor.new_ones(1)])  # index -1 is the last one
    return padded[unit_of].view([-1 if at == dim else 1 for at in range(dims)])


def _key(name: str, at: int) -> str:
    path, _, own = name.rpartition(".")
    return f"{path}.parametrizations.{own}.{at}.factor".removeprefix(".")


def _original(name: str) -> str:
    path, _, own = name.rpartition(".")
    return f"{path}.parametrizations.{own}.original".removeprefix(".")


def _readers(sites: Sites) -> list[tuple[str, str | None]]:
    """(node, the parameter that it weights its inputs with) of whoever adds up units; None for what is no parameter."""
    named = sites.program.graph_signature.inputs_to_parameters
    found = []
    for node in sites.program.graph.nodes:
        for part in sites.consumed.get(node.name, ())[:1]:
            parts = [None, *tree_leaves(node.args), None]
            beside = [parts[part.argument + 2], parts[part.argument]]  # right after what it weights, or before
            names = [named.get(weight.name) for weight in beside if isinstance(weight, Node)]
            found.append((node.name, next((name for name in names if len(sites.shapes.get(name or "", ())) > 1), None)))
    return found


def _read_without_weight(sites: Sites, name: str) -> bool:
    """Whether something adds up units of a site with weights that are no parameters, or are computed first."""
    own = sites.unions.roots(sites.labels[name])
    return any(
        np.isin(sites.unions.roots(part.labels), own).any()
        for node, weight in _readers(sites)
        if weight not in sites.outputs
        for part in sites.consumed[node]
    )


def _tied(model: nn.Module) -> set[str]:
    """Parameters that have several names: a gate would be on one of them only."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name for several in names.values() if len(several) > 1 for name in several}
