"""Sparsity patterns by stage: how much a mask keeps where feature maps have one size, to be used elsewhere.

Source: Liu et al. 2019, Rethinking the Value of Network Pruning, section 5 (guided and transferred pruning).
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.fx import Node

from scratchcard.networks.sites import Sites
from scratchcard.types import UnitMask, WeightMask

Pattern = tuple[tuple[float, ...], ...]
"""A stage after the other, largest feature maps first, what has none last: (share of units kept,), or the share of
weights kept at each position of a kernel, row by row."""


def stages(sites: Sites) -> dict[str, int]:
    """Weight -> its stage: layers whose outputs have one height and width; the largest feature maps are stage 0."""
    named = sites.program.graph_signature.inputs_to_parameters
    found: dict[str, tuple[int, ...]] = {}
    for node in sites.program.graph.nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, Tensor):
            continue
        for argument in node.args:
            name = named.get(argument.name) if isinstance(argument, Node) else None
            if name in sites.outputs and name not in found:
                area = tuple(value.shape[2:]) if "conv" in str(node.target) else ()
                found[name] = area
    order = sorted(set(found.values()), key=lambda area: (not area, -torch.Size(area).numel(), area))
    return {name: order.index(area) for name, area in found.items()}


def width_pattern(sites: Sites, mask: UnitMask) -> Pattern:
    """The mean share of units that a mask keeps, for each stage; 1 where no site is."""
    found: dict[int, list[float]] = {}
    for (_, kept), stage in zip(mask.items(), _stages_of(sites, mask), strict=True):
        found.setdefault(stage, []).append(float(kept.sum()) / len(kept))
    last = max(stages(sites).values(), default=0)
    return tuple((sum(found[at]) / len(found[at]) if at in found else 1.0,) for at in range(last + 1))


def guided_widths(sites: Sites, among: Collection[str], pattern: Pattern) -> UnitMask:
    """The mask that keeps the first units of each site, as many as its stage's share says and at least one.

    Args:
        sites: of the network.
        among: the sites to narrow.
        pattern: stages beyond its last take the last.
    """
    return {
        name: torch.arange(len(sites[name]))
        < max(1, round(len(sites[name]) * pattern[min(stage, len(pattern) - 1)][0]))
        for name, stage in zip(among, _stages_of(sites, among), strict=True)
    }


def position_pattern(sites: Sites, mask: WeightMask, among: Collection[str]) -> Pattern:
    """The share of weights that a mask keeps at each position of kernels, averaged over the layers of each stage.

    Layers of other kernel sizes than the most common one of their stage are left out of it.
    """
    where = stages(sites)
    last = max(where.values(), default=0)
    pattern = []
    for stage in range(last + 1):
        here = [mask[name].double() for name in among if where.get(name) == stage]
        areas = [kept.shape[2:].numel() for kept in here]
        usual = max(set(areas), key=lambda area: (areas.count(area), area), default=1)
        same = [kept.flatten(2) if kept.dim() > 2 else kept[..., None] for kept in here]
        same = [kept for kept, area in zip(same, areas, strict=True) if area == usual]
        pattern.append(tuple(torch.stack([k.mean((0, 1)) for k in same]).mean(0).tolist()) if same else (1.0,))
    return tuple(pattern)


def guided_positions(
    sites: Sites, mask: WeightMask, among: Collection[str], pattern: Pattern, generator: torch.Generator
) -> WeightMask:
    """A random mask that keeps at each position of kernels as many weights as its stage's shares say; exact counts.

    Layers whose kernels have another size than the pattern keep its mean share; every layer keeps one weight at least.

    Args:
        sites: of the network.
        mask: gives shapes, and the tensors outside `among` as they are.
        among: the weights to mask.
        pattern: stages beyond its last take the last.
        generator: the source of chance.
    """
    where, made = stages(sites), dict(mask)
    for name in among:
        shares = pattern[min(where.get(name, len(pattern) - 1), len(pattern) - 1)]
        shape = mask[name].shape
        flat = torch.zeros(shape[0], shape[1], max(1, shape[2:].numel()), dtype=torch.bool)
        if flat.shape[2] != len(shares):
            shares = (sum(shares) / len(shares),) * flat.shape[2]
        for at, share in enumerate(shares):
            entries = shape[0] * shape[1]
            chosen = torch.randperm(entries, generator=generator)[: round(share * entries)]
            flat[chosen // shape[1], chosen % shape[1], at] = True
        if not bool(flat.any()):
            flat[0, 0, 0] = True
        made[name] = flat.view(shape)
    return made


def _stages_of(sites: Sites, among: Collection[str]) -> list[int]:
    """The stage of each site: that of the first of its weights that has one."""
    where = stages(sites)
    found = []
    for name in among:
        made = [p for p, dims in sites[name].units[0].items() if p in where and sites.outputs[p] in dims]
        read = [p for p in sites[name].units[0] if p in where]
        found.append(where[(made or read)[0]] if made or read else max(where.values(), default=0))
    return found
