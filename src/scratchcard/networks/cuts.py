"""What a unit mask cuts: which indices of which tensors, which labels, which whole branches - or why it cannot."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from scratchcard.networks.branches import Branch
from scratchcard.networks.labels import Labels
from scratchcard.networks.sites import Sites
from scratchcard.types import UnitMask
from scratchcard.words import unknown

ShrinkSpec = dict[str, dict[int, Tensor]]
"""Parameter or buffer -> dimension -> indices that are kept, int64; what is not named is whole."""


def check_unit_mask(sites: Sites, unit_mask: UnitMask) -> None:
    """Refuse a mask that does not fit, naming everything that is wrong with it.

    Raises:
        ValueError: as said.
    """
    wrong, cut = [], cut_branches(sites, unit_mask)
    for name, kept in unit_mask.items():
        if name not in sites.sites:
            why = f"; it is kept whole: {sites.kept[name]}" if name in sites.kept else ""
            wrong.append(unknown("site", name, sites.sites) + why)
        elif kept.dtype != torch.bool or tuple(kept.shape) != (len(sites[name]),):
            wrong.append(
                f"the mask of {name} must be boolean of length {len(sites[name])}, got {kept.dtype} {tuple(kept.shape)}"
            )
        elif not bool(kept.any()) and name not in sites.branches and not with_whom(sites, name, cut):
            around = [branch.name for branch in with_whom(sites, name, sites.branches.values())]
            wrong.append(
                f"the mask of {name} keeps none of its {len(sites[name])} units, which cuts the network in two"
                + (f", unless its whole branch is cut too ({' or '.join(around)})" if around else "")
            )
    for one, other in itertools.combinations(cut, 2):
        if one.addition == other.addition:
            wrong.append(f"{one.name} and {other.name} are all that is added there, one of them must be kept")
    if wrong:
        raise ValueError("this unit mask cannot be applied: " + "; ".join(wrong))


def cut_branches(sites: Sites, unit_mask: UnitMask) -> list[Branch]:
    """The branches that a mask cuts."""
    return [branch for name, branch in sites.branches.items() if name in unit_mask and not bool(unit_mask[name].any())]


def with_whom(sites: Sites, site: str, branches: Iterable[Branch]) -> list[Branch]:
    """Those of some branches that all units of a site go with."""
    return [branch for branch in branches if all(unit.keys() <= branch.unit.keys() for unit in sites[site].units)]


def shrink_spec(sites: Sites, unit_mask: UnitMask) -> ShrinkSpec:
    """Which indices of each tensor are kept: parameter or buffer -> dimension -> indices, rising; none of a branch."""
    gone: dict[str, dict[int, set[int]]] = {}
    for site, kept in unit_mask.items():
        for unit in (~kept).nonzero().flatten().tolist():
            for name, dims in sites[site].units[unit].items():
                for dim, indices in dims.items():
                    gone.setdefault(name, {}).setdefault(dim, set()).update(indices)
    return {
        name: {
            dim: torch.tensor([at for at in range(sites.shapes[name][dim]) if at not in indices], dtype=torch.int64)
            for dim, indices in sorted(dims.items())
        }
        for name, dims in gone.items()
    }


def cut_labels(sites: Sites, unit_mask: UnitMask) -> Labels:
    """The labels of all units that a mask cuts."""
    cut = [sites.labels[site][~kept.cpu().numpy()] for site, kept in unit_mask.items()]
    return np.concatenate(cut) if cut else np.zeros(0, dtype=np.int64)


def selected_of(tensor: Tensor, kept: dict[int, Tensor]) -> Tensor:
    """A copy of a tensor with the indices that are kept of some dimensions."""
    for dim, indices in kept.items():
        tensor = tensor.index_select(dim, indices.to(tensor.device))
    return tensor.clone()
