"""A network made physically small: cut units are gone, and it is shown to compute what the masked network did.

Silenced means: the unit's value is 0 where it is added up by whoever reads it. The small network is compared with the
large one so silenced, on random and on given batches, before anybody gets it; where they differ nothing is returned.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.networks.branches import Branch, Gone, gone_of, remove
from scratchcard.networks.choices import Selections, select, selected, selections
from scratchcard.networks.forward import as_fits, call, read_state
from scratchcard.networks.head_counts import AttributeEdits, settled
from scratchcard.networks.labels import Labels
from scratchcard.networks.sites import Sites, find_sites
from scratchcard.types import State, Tensors, UnitMask
from scratchcard.words import unknown

TOLERANCE = 1e-12
"""Largest difference to the silenced network, relative to its largest output, in float64."""
TOLERANCE_SINGLE = 1e-5
"""The same for networks that only run in float32."""


@dataclass(frozen=True)
class Compacted:
    """A small network, and how it came from the large one."""

    module: nn.Module
    """A deep copy of the network without the units that were cut; it can be trained on."""
    shrink_spec: dict[str, dict[int, Tensor]]
    """Parameter or buffer -> dimension -> indices that are kept, int64; what is not named is whole."""
    edits: AttributeEdits
    """Module -> attribute -> new value: the numbers of heads that the code has written down."""
    kept_whole: dict[str, str]
    """Layer -> why none of its outputs, or not all of them, could have been removed."""
    error: float
    """Difference to the silenced network, relative to its largest output."""
    selected: Selections = field(default_factory=dict)
    """BatchNorm -> positions of the channels that it reads of a stream from which others read more."""
    branches: dict[str, Gone] = field(default_factory=dict)
    """Branch that is gone -> what was replaced; such modules give zeros."""


def compact(model: nn.Module, unit_mask: UnitMask, example_inputs: Tensors, sites: Sites | None = None) -> Compacted:
    """Remove the units that a mask cuts: the result has smaller tensors and computes what the masked network does.

    Args:
        model: any module that `torch.export` can capture; it is not touched.
        unit_mask: site -> boolean tensor [units], True = kept; sites that are not named are kept whole.
        example_inputs: one batch, to read the network by and to compare on.
        sites: those of this network where they have been found already; else they are found.

    Returns:
        The small network, what was kept of each tensor, and what could not be cut, with reasons.

    Raises:
        ValueError: the network cannot be read; a site that is not there or a mask of another length (all of them are
            named); a mask that leaves a site, or together with others a tensor, nothing; the small network cannot run,
            or computes something else.
    """
    sites = sites or find_sites(model, example_inputs)
    check_unit_mask(sites, unit_mask)
    spec, cut = shrink_spec(sites, unit_mask), cut_branches(sites, unit_mask)
    lost = {name for branch in cut for name in branch.unit}
    if empty := [name for name, dims in spec.items() if name not in lost and not all(map(len, dims.values()))]:
        raise ValueError(
            "this unit mask cannot be applied: what its sites cut together leaves nothing of "
            + ", ".join(empty)
            + "; keep at least one channel that is kept both in the stream and by those who choose from it"
        )
    with torch.random.fork_rng(devices=[]):
        gone = gone_of(copy.deepcopy(model), cut, as_fits(example_inputs, model)) if cut else {}
    small = shrunk(model, spec, gone)
    chosen = selections(sites.choices, sites.unions, _cut_labels(sites, unit_mask), spec)
    known = {choice.norm for choice in sites.choices.values()}
    chosen |= {norm: positions for norm, positions in selected(small).items() if norm not in known}
    chosen = {norm: positions for norm, positions in chosen.items() if positions}  # none where its branch is gone
    select(small, chosen)
    fewer = {
        site: sites.labels[site][kept.cpu().numpy()]
        for site, kept in unit_mask.items()
        if site in sites.heads and not bool(kept.all()) and not _with_whom(sites, site, cut)
    }
    try:
        edits, error = settled(
            small, sites.heads, fewer, lambda net: _compared(model, net, sites, unit_mask, example_inputs)
        )
    except ValueError as refused:
        if not cut:
            raise
        names = ", ".join(branch.name for branch in cut)
        raise ValueError(
            f"{refused}. Among what was cut are the branches {names}: one whose code reshapes what its parts give, or "
            "adds to it in place, can go only where it is a module of its own"
        ) from refused
    return Compacted(small, spec, edits, sites.kept, error, chosen, gone)


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
        elif not bool(kept.any()) and name not in sites.branches and not _with_whom(sites, name, cut):
            around = [branch.name for branch in _with_whom(sites, name, sites.branches.values())]
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


def _with_whom(sites: Sites, site: str, branches: Iterable[Branch]) -> list[Branch]:
    """Those of some branches that all units of a site go with."""
    return [branch for branch in branches if all(unit.keys() <= branch.unit.keys() for unit in sites[site].units)]


def shrink_spec(sites: Sites, unit_mask: UnitMask) -> dict[str, dict[int, Tensor]]:
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


def _cut_labels(sites: Sites, unit_mask: UnitMask) -> Labels:
    """The labels of all units that a mask cuts."""
    cut = [sites.labels[site][~kept.cpu().numpy()] for site, kept in unit_mask.items()]
    return np.concatenate(cut) if cut else np.zeros(0, dtype=np.int64)


def shrunk(model: nn.Module, spec: dict[str, dict[int, Tensor]], gone: Mapping[str, Gone]) -> nn.Module:
    """A deep copy of the network whose tensors keep the indices of a shrink spec, layers told their new sizes.

    Args:
        model: it is not touched.
        spec: parameter or buffer -> dimension -> indices.
        gone: the branches that are taken out.
    """
    small = copy.deepcopy(model)
    seen: dict[int, nn.Parameter] = {}
    for module_name, module in small.named_modules():
        prefix = f"{module_name}." if module_name else ""
        for own, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in seen:  # a shared parameter stays one
                seen[id(parameter)] = _cut(parameter, spec.get(_first_name(small, prefix + own, parameter), {}))
            setattr(module, own, seen[id(parameter)])
        for own, buffer in list(module.named_buffers(recurse=False)):
            if prefix + own in spec:
                setattr(module, own, _selected(buffer, spec[prefix + own]))
        _retell(module, {**spec.get(f"{prefix}running_mean", {}), **spec.get(f"{prefix}weight", {})})
    remove(small, gone)
    return small


def _first_name(model: nn.Module, name: str, parameter: nn.Parameter) -> str:
    """The first of a shared parameter's names, by which the spec knows it."""
    return next((other for other, own in model.named_parameters() if own is parameter), name)


def _cut(parameter: nn.Parameter, kept: dict[int, Tensor]) -> nn.Parameter:
    if not kept:
        return parameter
    return nn.Parameter(_selected(parameter.detach(), kept), requires_grad=parameter.requires_grad)


def _selected(tensor: Tensor, kept: dict[int, Tensor]) -> Tensor:
    for dim, indices in kept.items():
        tensor = tensor.index_select(dim, indices.to(tensor.device))
    return tensor.clone()


def _retell(module: nn.Module, kept: dict[int, Tensor]) -> None:
    """Tell a layer the sizes that its tensors have now."""
    if not kept:
        return
    weight = getattr(module, "weight", None)
    if weight is None:  # a normalisation without scale and shift
        weight = getattr(module, "running_mean", None)
    if not isinstance(weight, Tensor):
        return
    if isinstance(module, _ConvNd):
        if module.groups > 1:
            per_group = module.out_channels // module.groups
            module.groups = weight.shape[0] // per_group
            module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
        elif isinstance(module, _ConvTransposeNd):
            module.in_channels, module.out_channels = weight.shape[:2]
        else:
            module.out_channels, module.in_channels = weight.shape[:2]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, _NormBase):
        module.num_features = weight.shape[0]
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = module.num_groups * weight.shape[0] // module.num_channels
        module.num_channels = weight.shape[0]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = weight.shape[0]
    elif {"nf", "nx"} & vars(module).keys() and weight.dim() == 2:  # transformers' Conv1D: [in, out]
        for attribute, size in (("nx", weight.shape[0]), ("nf", weight.shape[1])):
            if isinstance(getattr(module, attribute, None), int):
                setattr(module, attribute, size)
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = weight.shape[1]


def _compared(model: nn.Module, small: nn.Module, sites: Sites, unit_mask: UnitMask, example_inputs: Tensors) -> float:
    """The largest relative difference of the small network to the silenced large one, in evaluation mode.

    Raises:
        ValueError: the small network cannot run, or they differ.
    """
    worst = 0.0
    for precise in (True, False):
        limit = TOLERANCE if precise else TOLERANCE_SINGLE
        large, little = (_prepared(net, precise) for net in (model, small))
        batches = [as_fits(example_inputs, large), _drawn(as_fits(example_inputs, large))]
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            try:
                wanted = [Silenced(sites, unit_mask, read_state(large)).outputs(batch) for batch in batches]
            except RuntimeError:
                if precise:  # a network with types written into it
                    continue
                raise
            try:
                found = [call(little, batch) for batch in batches]
            except Exception as error:  # of many kinds: a literal size in the user's code that no longer fits
                raise ValueError(
                    f"the small network cannot run ({type(error).__name__}: {' '.join(str(error).split())[:300]}); a "
                    "size that is written into its code may no longer fit: take it from the tensor, or keep that part"
                ) from error
        worst = max(_difference(a, b) for a, b in zip(wanted, found, strict=True))
        if not worst <= limit:
            raise ValueError(
                f"the small network computes something else than the silenced one: they differ by {worst:.2g} of the "
                f"largest output, allowed is {limit:g}; nothing was made. A size or position written into the code is "
                "the usual cause: take it from the tensor, or keep that part whole"
            )
        return worst
    return worst


class Silenced:
    """The large network as its exported program, every cut unit set to 0 wherever it is added up."""

    def __init__(self, sites: Sites, unit_mask: UnitMask, state: State) -> None:
        self._sites, self._state = sites, state
        self._cut = _cut_labels(sites, unit_mask)
        self._gone = {branch.addition: [branch.argument] for branch in cut_branches(sites, unit_mask)}

    def outputs(self, inputs: Tensors) -> Any:
        """What the silenced network gives for a batch."""
        program, cut, gone, sites = self._sites.program, self._cut, self._gone, self._sites
        signature = program.graph_signature
        named = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        given = iter(tree_leaves(inputs))
        floating = next((t.dtype for t in self._state.values() if t.is_floating_point()), torch.float32)

        def argument(node: Node) -> Any:
            if node.name not in named:
                return next(given)
            value = self._state.get(named[node.name], program.constants.get(named[node.name]))
            assert isinstance(value, Tensor), f"{named[node.name]} of the exported program is not in the state"
            return value.to(floating) if value.is_floating_point() else value

        class Run(Interpreter):
            def run_node(self, n: Node) -> Any:
                held: dict[Node, Any] = {}
                for consumed in sites.consumed.get(n.name, []):
                    source = n.args[consumed.argument]
                    assert isinstance(source, Node), "what is added up is a tensor of the graph"
                    value = self.env[source]
                    alive = ~np.isin(sites.unions.roots(consumed.labels), cut)
                    if not alive.all():
                        shape = [-1 if dim == consumed.dim else 1 for dim in range(value.dim())]
                        shield = torch.from_numpy(alive).to(value.device).view(shape)
                        held.setdefault(source, value)
                        self.env[source] = value.masked_fill(~shield, 0.0)
                for argument in gone.get(n.name, ()):
                    source = n.args[argument]
                    assert isinstance(source, Node), "what is added is a tensor of the graph"
                    held.setdefault(source, self.env[source])
                    self.env[source] = torch.zeros_like(self.env[source])
                try:
                    return super().run_node(n)
                finally:
                    self.env.update(held)

        placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
        outputs = Run(program.graph_module, garbage_collect_values=False).run(*map(argument, placeholders))
        mutated = len(signature.output_specs) - len(signature.user_outputs)
        return list(tree_leaves(outputs))[mutated:]


def _prepared(net: nn.Module, precise: bool) -> nn.Module:
    copied = copy.deepcopy(net).eval()
    return copied.double() if precise else copied


def _drawn(inputs: Tensors) -> Tensors:
    """Another batch of the same shapes: normal numbers where there are numbers to calculate with."""
    chance = torch.Generator().manual_seed(0)
    return tree_map(
        lambda leaf: (
            torch.randn(leaf.shape, generator=chance, dtype=torch.float64).to(leaf)
            if isinstance(leaf, Tensor) and leaf.is_floating_point()
            else leaf
        ),
        inputs,
    )


def _difference(wanted: Any, found: Any) -> float:
    one = [leaf for leaf in tree_leaves(wanted) if isinstance(leaf, Tensor)]
    other = [
        leaf for leaf in tree_leaves(dict(found) if isinstance(found, dict) else found) if isinstance(leaf, Tensor)
    ]
    if [leaf.shape for leaf in one] != [leaf.shape for leaf in other]:
        return float("inf")
    scale = max((float(leaf.abs().max()) for leaf in one if leaf.numel()), default=1.0) or 1.0
    gaps = [float((a.double() - b.double()).abs().max()) for a, b in zip(one, other, strict=True) if a.numel()]
    return max(gaps, default=0.0) / scale
