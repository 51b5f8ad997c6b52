"""The subnetwork of a unit mask: what is trained is the physically small network, not a masked large one."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from scratchcard.networks.calculated import effective
from scratchcard.networks.compact import compact, cut_branches, shrink_spec
from scratchcard.networks.copies import copied
from scratchcard.networks.forward import read_state
from scratchcard.networks.lengths import with_directions
from scratchcard.networks.sites import Sites
from scratchcard.types import Scores, State, Tensors, UnitMask, WeightMask


@dataclass(frozen=True, eq=False)  # tensors have no truth value to compare by
class SmallUnits:
    """The network without the units that a mask cuts."""

    mask: UnitMask
    sites: Sites = field(repr=False)
    """Of the large network."""
    example_inputs: Tensors = field(repr=False)
    """One batch, to compare the small network with the large one on."""

    def trainable(self, model: nn.Module) -> nn.Module:
        """The small network with the model's weights, proved to compute what the masked one does; the model stays.

        Raises:
            ValueError: as `compact`.
        """
        return compact(model, self.mask, self.example_inputs, self.sites, proof="weights").module

    def view(self, trained: nn.Module) -> State:
        """The weights the original architecture would run with, in its shapes, zero where units were cut."""
        return self.enlarged(read_state(trained))

    def ship(self, trained: nn.Module) -> nn.Module:
        """The small network itself, a deep copy."""
        return copied(trained)

    def enlarged(self, small: State) -> State:
        """Weights and buffers of the small network in the shapes of the large one, zero where units were cut."""
        spec, state = shrink_spec(self.sites, self.mask), dict(small)
        for name in (name for branch in cut_branches(self.sites, self.mask) for name in branch.unit):
            known = self.sites.program.state_dict.get(name)  # None: a buffer that is not persistent
            if known is not None:
                state[name] = torch.zeros(self.sites.shapes[name], dtype=known.dtype)
        for name, kept in spec.items():
            if name not in small:  # of a branch that is gone
                continue
            full = torch.zeros(self.sites.shapes[name], dtype=small[name].dtype)
            places = [kept.get(dim, torch.arange(size)) for dim, size in enumerate(full.shape)]
            full[torch.meshgrid(*places, indexing="ij")] = small[name]
            state[name] = full
        return with_directions(self.sites.lengths, state)

    def layers(self, weights: WeightMask) -> dict[str, tuple[int, int]]:
        """Weight name -> (entries left, all), for the weights that a mask of the large network names."""
        spec = shrink_spec(self.sites, self.mask)
        counts = {}
        for name, entries in weights.items():
            kept = spec.get(name, {})
            left = [len(kept[dim]) if dim in kept else size for dim, size in enumerate(entries.shape)]
            counts[name] = (torch.Size(left).numel(), entries.numel())
        return counts


def unit_magnitudes(sites: Sites, state: State, power: int = 1) -> Scores:
    """Mean |w|^power of the weights that make each unit: the filters of its site's layers (Li et al. 2017, section 3).

    Of a choice of channels for one reader it is the weights that multiply them there, of a branch all of its weights.
    Weights that the network calculates (weight_norm, LoRA) count as what they are, not as what they are made from.

    Args:
        sites: of the network.
        state: its weights and buffers.
        power: 1 for absolute values, 2 for squares.

    Returns:
        Site -> a score per unit, float64.
    """
    scores, state = {}, effective(sites.program, sites.calculated, state)
    for name, site in sites.sites.items():
        per_unit = []
        for unit in site.units:
            total, entries = 0.0, 0
            for parameter, dims in unit.items():
                if parameter not in sites.outputs:
                    continue
                made = sites.outputs[parameter]
                along = dims if name in sites.branches else {made} & dims.keys()
                for dim in dims.keys() - {made} if name in sites.choices else along:
                    slices = state[parameter].index_select(dim, torch.tensor(dims[dim])).double().abs() ** power
                    total, entries = total + float(slices.sum()), entries + slices.numel()
            per_unit.append(total / entries)
        scores[name] = torch.tensor(per_unit, dtype=torch.float64)
    return scores
