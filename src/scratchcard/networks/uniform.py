"""Widths that were not found by anybody: every site narrower by one factor, to a wanted number of multiply-adds."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.cost import cost
from scratchcard.networks.sites import Sites
from scratchcard.types import Tensors, UnitMask

_HALVINGS = 16
"""Finer than one unit of any site; networks are only built for widths that were not tried."""


def uniform_widths(sites: Sites, among: Collection[str], share: float) -> UnitMask:
    """The mask that keeps the first units of each site, as nearly as possible that share of them and at least one.

    Args:
        sites: of the network.
        among: the sites to narrow.
        share: of units kept, in (0, 1].
    """
    return {
        name: torch.arange(len(sites[name])) < max(1, round(share * len(sites[name])))
        for name in sites.sites
        if name in among
    }


def share_of(sites: Sites, widths: Mapping[str, int]) -> float | None:
    """The share for which `uniform_widths` keeps so many units of each site; None where no share does.

    Args:
        sites: of the network.
        widths: units kept, of the sites that are narrowed.
    """
    sizes = {name: len(sites[name]) for name in widths}
    low = max(((kept - 0.5) / sizes[name] if kept > 1 else 0.0) for name, kept in widths.items())
    high = min((kept + 0.5) / sizes[name] for name, kept in widths.items())
    share = min(1.0, (low + high) / 2)
    made = uniform_widths(sites, tuple(widths), share)
    return share if {name: int(kept.sum()) for name, kept in made.items()} == dict(widths) else None


def uniform_at(
    model: nn.Module, sites: Sites, among: Collection[str], example_inputs: Tensors, macs: float
) -> UnitMask:
    """The uniform widths whose network has as nearly as possible so many multiply-accumulates per example.

    Args:
        model: the large network; it is not touched.
        sites: of it.
        among: the sites to narrow.
        example_inputs: one batch.
        macs: per example.
    """
    low, high = 0.0, 1.0
    tried: dict[float, UnitMask] = {}
    counted: dict[tuple[int, ...], float] = {}
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        mask = uniform_widths(sites, among, share)
        widths = tuple(int(kept.sum()) for kept in mask.values())
        if widths not in counted:
            counted[widths] = cost(compact(model, mask, example_inputs, sites, "weights").module, example_inputs).macs
            tried[counted[widths]] = mask
        low, high = (share, high) if counted[widths] < macs else (low, share)
    return tried[min(tried, key=lambda found: (abs(found - macs), found))]
