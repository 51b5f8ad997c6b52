"""Dead units of a weight mask: units that nobody reads any more can go without anything being changed."""

from __future__ import annotations

import torch

from scratchcard.networks.sites import Sites
from scratchcard.types import State, UnitMask


def unread_units(sites: Sites, state: State) -> UnitMask:
    """The mask that keeps every unit which somebody still reads, and at least one unit of each site.

    A unit is read where a weight that multiplies it is not zero. Removing one that is not read is exact whatever its
    own value is. (A unit into which nothing leads any more may still have a constant value, and stays.)

    Args:
        sites: of the network.
        state: its weights, zero where a weight mask cuts.

    Returns:
        Site -> boolean tensor [units]; sites that lose nothing are left out.
    """
    mask = {}
    for name, site in sites.sites.items():
        read = torch.tensor([_is_read(unit, sites, state) for unit in site.units])
        if not bool(read.any()):
            read[0] = True
        if not bool(read.all()):
            mask[name] = read
    return mask


def _is_read(unit: dict[str, dict[int, list[int]]], sites: Sites, state: State) -> bool:
    """Whether any weight that multiplies the unit is not zero; a unit that is read in another way counts as read."""
    readers = [
        (name, dim, indices)
        for name, dims in unit.items()
        for dim, indices in dims.items()
        if name in sites.outputs and dim != sites.outputs[name]
    ]
    return not readers or any(bool(state[n].index_select(d, torch.tensor(i)).any()) for n, d, i in readers)
