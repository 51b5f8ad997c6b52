"""A network made physically small: cut units are gone, and it is shown to compute what the masked network did.

Silenced means: the unit's value is 0 where it is added up by whoever reads it. The small network is compared with the
large one so silenced, on random and on given batches, before anybody gets it; where they differ nothing is returned.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.networks.forward import as_fits, call, read_state
from scratchcard.networks.head_counts import AttributeEdits, settled
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
            named); a mask that leaves a site no unit; the small network cannot run, or computes something else.
    """
    sites = sites or find_sites(model, example_inputs)
    check_unit_mask(sites, unit_mask)
    spec = shrink_spec(sites, unit_mask)
    small = shrunk(model, spec)
    fewer = {
        site: sites.labels[site][kept.cpu().numpy()]
        for site, kept in unit_mask.items()
        if site in sites.heads and not bool(kept.all())
    }
    edits, error = settled(
        small, sites.heads, fewer, lambda net: _compared(model, net, sites, unit_mask, example_inputs)
    )
    return Compacted(small, spec, edits, sites.kept, error)


def check_unit_mask(sites: Sites, unit_mask: UnitMask) -> None:
    """Refuse a mask that does not fit, naming everything that is wrong with it.

    Raises:
        ValueError: as said.
    """
    wrong = []
    for name, kept in unit_mask.items():
        if name not in sites.sites:
            why = f"; it is kept whole: {sites.kept[name]}" if name in sites.kept else ""
            wrong.append(unknown("site", name, sites.sites) + why)
        elif kept.dtype != torch.bool or tuple(kept.shape) != (len(sites[name]),):
            wrong.append(
                f"the mask of {name} must be boolean of length {len(sites[name])}, got {kept.dtype} {tuple(kept.shape)}"
            )
        elif not bool(kept.any()):
            wrong.append(
                f"the mask of {name} keeps none of its {len(sites[name])} units, which cuts the network in two"
            )
    if wrong:
        raise ValueError("this unit mask cannot be applied: " + "; ".join(wrong))


def shrink_spec(sites: Sites, unit_mask: UnitMask) -> dict[str, dict[int, Tensor]]:
    """Which indices of each tensor are kept: parameter or buffer -> dimension -> indices, rising."""
    gone: dict[str, dict[int, set[int]]] = {}
    for site, kept in unit_mask.items():
        for unit in (~kept).nonzero().flatten().tolist():
            for name, dims in sites[site].units[unit].items():
                for dim, indices in dims.items():
                    gone.setdefault(name, {}).setdefault(dim, set()).update(indices)
    return {
        name: {
            dim: torch.tensor([at for at in range(sites.shapes[name][dim]) if at not in indices])
            for dim, indices in sorted(dims.items())
        }
        for name, dims in gone.items()
    }


def shrunk(model: nn.Module, spec: dict[str, dict[int, Tensor]]) -> nn.Module:
    """A deep copy of the network whose tensors keep the indices of a shrink spec, layers told their new sizes."""
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
        _retell(module, spec.get(f"{prefix}weight", {}), module_name)
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


def _retell(module: nn.Module, kept: dict[int, Tensor], name: str) -> None:
    """Tell a layer the sizes that its tensors have now."""
    if not kept:
        return
    weight = getattr(module, "weight", None)
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
        cut = [sites.labels[site][~kept.cpu().numpy()] for site, kept in unit_mask.items()]
        self._cut = np.concatenate(cut) if cut else np.zeros(0, dtype=np.int64)

    def outputs(self, inputs: Tensors) -> Any:
        """What the silenced network gives for a batch."""
        program, cut, sites = self._sites.program, self._cut, self._sites
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
                for consumed in sites.consumed.get(n.name, []):
                    source = n.args[consumed.argument]
                    assert isinstance(source, Node), "what is added up is a tensor of the graph"
                    value = self.env[source]
                    alive = ~np.isin(sites.unions.roots(consumed.labels), cut)
                    if not alive.all():
                        shape = [-1 if dim == consumed.dim else 1 for dim in range(value.dim())]
                        shield = torch.from_numpy(alive).to(value.device).view(shape)
                        self.env[source], held = value.masked_fill(~shield, 0.0), value
                        try:
                            return super().run_node(n)
                        finally:
                            self.env[source] = held
                return super().run_node(n)

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
