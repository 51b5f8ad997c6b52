"""A network made physically small: cut units are gone, and it is shown to compute what the masked network did.

Silenced means: the unit's value is 0 where it is added up by whoever reads it. The small network is compared with the
large one so silenced before anybody gets it (`gate`); where they differ nothing is returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from scratchcard.networks.branches import Gone, gone_of, remove
from scratchcard.networks.choices import Selections, select, selected, selections
from scratchcard.networks.copies import copied, without_masks
from scratchcard.networks.counts import Count
from scratchcard.networks.cuts import (
    ShrinkSpec,
    check_unit_mask,
    cut_branches,
    cut_labels,
    selected_of,
    shrink_spec,
    with_whom,
)
from scratchcard.networks.forward import as_fits
from scratchcard.networks.gate import Cut, Gate, Originals
from scratchcard.networks.head_counts import AttributeEdits, FewerHeads, free_of_width, settled
from scratchcard.networks.labels import among
from scratchcard.networks.lengths import fit_lengths, recalculate
from scratchcard.networks.retold import retell, retell_attention
from scratchcard.networks.sites import Sites, read_sites
from scratchcard.types import Tensors, UnitMask

Proof = Literal["full", "weights"]
"""How much is shown of a small network: all that the gate can, or that it is right with the weights it has."""


@dataclass(frozen=True)
class Compacted:
    """A small network, and how it came from the large one."""

    module: nn.Module
    """A deep copy of the network without the units that were cut; it can be trained on."""
    shrink_spec: ShrinkSpec
    """Parameter or buffer -> dimension -> indices that are kept, int64; what is not named is whole."""
    edits: AttributeEdits
    """Module -> attribute -> new value: the numbers of heads that the code has written down."""
    kept_whole: dict[str, str]
    """Layer -> why none of its outputs, or not all of them, could have been removed."""
    error: float
    """Difference to the silenced network, relative to the largest finite number of an output."""
    selected: Selections = field(default_factory=dict)
    """BatchNorm -> positions of the channels that it reads of a stream from which others read more."""
    branches: dict[str, Gone] = field(default_factory=dict)
    """Branch that is gone -> what was replaced; such modules give zeros."""


def compact(
    model: nn.Module,
    unit_mask: UnitMask,
    example_inputs: Tensors,
    sites: Sites | None = None,
    proof: Proof = "full",
) -> Compacted:
    """Remove the units that a mask cuts: the result has smaller tensors and computes what the masked network does.

    Args:
        model: any module that `torch.export` can capture; it is not touched, and masks of torch.nn.utils.prune are
            folded into the weights of the small network.
        unit_mask: site -> boolean tensor [units], True = kept; sites that are not named are kept whole.
        example_inputs: one batch, to read the network by and to compare on.
        sites: those of this network where they have been found already; else they are found.
        proof: "full" compares with redrawn weights, on another number of examples and in training mode too, and names
            the sites that are to blame for a refusal; "weights" is faster, for a network whose like has been proved.

    Returns:
        The small network, what was kept of each tensor, and what could not be cut, with reasons.

    Raises:
        ValueError: the network cannot be read; a site that is not there or a mask of another length (all of them are
            named); a mask that leaves a site, or together with others a tensor, nothing; the small network cannot run
            or be trained, or computes something else; or nothing can be shown of it.
    """
    model = without_masks(model)
    sites = sites or read_sites(model, example_inputs)
    check_unit_mask(sites, unit_mask)
    try:
        return compacted(model, unit_mask, example_inputs, sites, proof)
    except ValueError as refused:
        names = _to_blame(model, unit_mask, example_inputs, sites) if proof == "full" else []
        if not names:
            raise
        raise ValueError(
            f"{refused}. To blame: {', '.join(names)}; the other sites of this mask can be cut"
        ) from refused


def _to_blame(model: nn.Module, unit_mask: UnitMask, example_inputs: Tensors, sites: Sites) -> list[str]:
    """The sites that cannot be cut even alone; empty where it is none of them, or none but them."""

    def works(names: list[str]) -> bool:
        try:
            compacted(model, {name: unit_mask[name] for name in names}, example_inputs, sites, "full")
        except ValueError:
            return False
        return True

    def failing(names: list[str]) -> list[str]:
        if works(names):
            return []
        half = len(names) // 2
        return names if len(names) == 1 else failing(names[:half]) + failing(names[half:])

    cut = [name for name, kept in unit_mask.items() if not bool(kept.all())]
    if len(cut) < 2 or cut_branches(sites, unit_mask):  # what is emptied with a branch cannot be tried alone
        return []
    names = failing(cut[: len(cut) // 2]) + failing(cut[len(cut) // 2 :])
    rest = [name for name in cut if name not in names]
    return names if names and (not rest or works(rest)) else []


def compacted(
    model: nn.Module,
    unit_mask: UnitMask,
    example_inputs: Tensors,
    sites: Sites,
    proof: Proof,
    originals: Originals | None = None,
) -> Compacted:
    """As `compact`, of a mask that fits the sites; a refusal does not say which of them is to blame."""
    spec, cut = shrink_spec(sites, unit_mask), cut_branches(sites, unit_mask)
    lost = {name for branch in cut for name in branch.unit}
    if empty := [name for name, dims in spec.items() if name not in lost and not all(map(len, dims.values()))]:
        raise ValueError(
            "this unit mask cannot be applied: what its sites cut together leaves nothing of "
            + ", ".join(empty)
            + "; keep at least one channel that is kept both in the stream and by those who choose from it"
        )
    with torch.random.fork_rng(devices=[]):
        gone = gone_of(copied(model), cut, as_fits(example_inputs, model)) if cut else {}
    small = shrunk(model, spec, gone)
    chosen = selections(sites.choices, sites.unions, cut_labels(sites, unit_mask), spec)
    known = {choice.norm for choice in sites.choices.values()}
    chosen |= {norm: positions for norm, positions in selected(small).items() if norm not in known}
    chosen = {norm: positions for norm, positions in chosen.items() if positions}  # none where its branch is gone
    select(small, chosen)
    fewer = {
        site: sites.labels[site][kept.cpu().numpy()]
        for site, kept in unit_mask.items()
        if site in sites.heads and not bool(kept.all()) and not with_whom(sites, site, cut)
    }
    how = Cut(sites, unit_mask, spec, gone)
    gate = Gate(originals or Originals(model), how, example_inputs, redrawn=bool(fewer), full=proof == "full")
    try:
        edits, error = settled(small, sites.heads, fewer, gate, _counts(sites, unit_mask, gone), fewest=proof == "full")
    except ValueError as refused:
        if not cut:
            raise
        names = ", ".join(branch.name for branch in cut)
        raise ValueError(
            f"{refused}. Among what was cut are the branches {names}: one whose code reshapes what its parts give, or "
            "adds to it in place, can go only where it is a module of its own"
        ) from refused
    return Compacted(small, spec, edits, sites.kept, error, chosen, gone)


def _counts(sites: Sites, unit_mask: UnitMask, gone: Mapping[str, Gone]) -> list[tuple[Count, int]]:
    """The numbers that count units which are cut, other than heads, and what they are now; none of what is gone."""
    lost = tuple(f"{path}." for branch in gone.values() for path in branch.modules)
    cut = among(cut_labels(sites, {name: kept for name, kept in unit_mask.items() if name not in sites.heads}))
    left = [(count, count.left(sites.unions, cut)) for count in sites.counts]
    return [(count, now) for count, now in left if 0 < now < count.number and not f"{count.module}.".startswith(lost)]


def shrunk(model: nn.Module, spec: dict[str, dict[int, Tensor]], gone: Mapping[str, Gone]) -> nn.Module:
    """A deep copy of the network whose tensors keep the indices of a shrink spec, layers told their new sizes.

    Args:
        model: it is not touched.
        spec: parameter or buffer -> dimension -> indices.
        gone: the branches that are taken out.
    """
    small = copied(model)
    whole = list(small.named_parameters())  # held, so that no other tensor gets the id of one
    first = {id(parameter): name for name, parameter in whole}
    """A shared parameter -> the first of its names, by which the spec knows it."""
    seen: dict[int, nn.Parameter] = {}
    for module_name, module in small.named_modules():
        prefix = f"{module_name}." if module_name else ""
        for own, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in seen:  # a shared parameter stays one
                seen[id(parameter)] = _cut(parameter, spec.get(first[id(parameter)], {}))
            setattr(module, own, seen[id(parameter)])
        for own, buffer in list(module.named_buffers(recurse=False)):
            if prefix + own in spec:
                setattr(module, own, selected_of(buffer, spec[prefix + own]))
    fit_lengths(model, small, spec)
    for path in {_owner(name) for name in spec}:
        module = small.get_submodule(path)
        if all(tensor.numel() for tensor in module.parameters()):  # else it goes with its whole branch, and a weight
            recalculate(module)  # that is calculated from nothing ends the process
            retell(module)
    for module_name, module in small.named_modules():
        if not isinstance(module, nn.MultiheadAttention) or isinstance(module, FewerHeads):
            continue
        prefix = f"{module_name}." if module_name else ""
        if any(1 in spec.get(f"{prefix}{own}", {}) for own in ("in_proj_weight", "q_proj_weight")):
            free_of_width(small, module)
            retell_attention(module)
    remove(small, gone)
    return small


def _cut(parameter: nn.Parameter, kept: dict[int, Tensor]) -> nn.Parameter:
    if not kept:
        return parameter
    return nn.Parameter(selected_of(parameter.detach(), kept), requires_grad=parameter.requires_grad)


def _owner(name: str) -> str:
    """The path of the module that has a tensor as its own, or calculates its own from it."""
    path, parametrised, _ = f".{name}".partition(".parametrizations.")
    return (path if parametrised else path.rpartition(".")[0]).removeprefix(".")
