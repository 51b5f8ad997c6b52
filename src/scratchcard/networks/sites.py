"""The sites of anyone's network: which units can be removed, what moves with each, and what is kept, and why.

The network is exported (`torch.export`), every index of every dimension of its weights gets a label, and the rules of
`operators.py` say which labels are one. Labels that reach an output, or an operator that is not known, are kept.
"""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.networks.forward import as_fits
from scratchcard.networks.heads import Heads, head_roots, owner, site_name, spans
from scratchcard.networks.labels import KEPT, Dims, Labels, Unions
from scratchcard.networks.operators import RULES
from scratchcard.types import Tensors, UnitMask

Places = dict[str, dict[int, list[int]]]
"""Parameter or buffer -> dimension -> indices."""


@dataclass(frozen=True)
class Site:
    """A place where units can be removed, named by the layer whose outputs they are."""

    name: str
    units: tuple[Places, ...]
    """For every unit, all the places that go with it."""
    layers: tuple[str, ...]
    """Every layer that has outputs among the units: the site's own, and those it is added to."""

    def __len__(self) -> int:
        return len(self.units)


@dataclass(frozen=True)
class Consumed:
    """An operator that adds up over a dimension of one of its arguments: a silenced unit must be 0 there."""

    argument: int
    dim: int
    labels: Labels


@dataclass(frozen=True)
class Sites:
    """All sites of a network, with what it takes to run it silenced."""

    sites: dict[str, Site]
    kept: dict[str, str]
    """Layer -> why none of its outputs, or not all of them, can be removed."""
    program: ExportedProgram
    consumed: dict[str, list[Consumed]]
    """Node of the program -> where it adds up."""
    labels: dict[str, Labels]
    """Site -> the label of each of its units."""
    outputs: dict[str, int]
    """Weight -> the dimension that its outputs are."""
    shapes: dict[str, tuple[int, ...]]
    """Of every parameter and buffer of the large network."""
    heads: dict[str, Heads]
    """Site -> what is known of its heads; only sites of whole attention heads."""
    unions: Unions = field(repr=False)

    def __getitem__(self, name: str) -> Site:
        return self.sites[name]

    def whole(self) -> UnitMask:
        """The mask that keeps every unit."""
        return {name: torch.ones(len(site), dtype=torch.bool) for name, site in self.sites.items()}


def find_sites(model: nn.Module, example_inputs: Tensors) -> Sites:
    """Find every site of a network.

    Args:
        model: any module that `torch.export` can capture; it is not touched.
        example_inputs: one batch, as the model is called with.

    Raises:
        ValueError: the network cannot be exported (control flow that depends on data); the source line is named.
    """
    program = _exported(model, example_inputs)
    walk = _Walk(program, _same_tensors(model))
    walk.run()
    return _collected(model, program, walk)


class _Walk:
    """One pass over the nodes of an exported program, labels in hand."""

    def __init__(self, program: ExportedProgram, same: dict[str, str]) -> None:
        self.program = program
        self.same = same
        self.unions = Unions()
        self.consumed: dict[str, list[Consumed]] = defaultdict(list)
        self.owned: dict[str, Dims] = {}
        """Parameter or buffer -> its labels."""
        self.output_dims: dict[str, int] = {}
        """Parameter -> the dimension of its outputs, where it is not the first."""
        self._parameters: dict[Node, str] = {}
        self.values: dict[Node, Any] = {}

    def consumes(self, node: Node, argument: int, dim: int, labels: Labels) -> None:
        self.consumed[node.name].append(Consumed(argument, dim, labels))

    def produces(self, node: Node, argument: int, dim: int) -> None:
        source = node.args[argument]
        if isinstance(source, Node) and source in self._parameters:
            self.output_dims[self._parameters[source]] = dim

    def shape(self, node: Node) -> tuple[int, ...]:
        value = node.meta["val"]
        return tuple((value if isinstance(value, Tensor) else value[0]).shape)

    def run(self) -> None:
        signature = self.program.graph_signature
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                value = node.meta.get("val")
                if node.name in named and isinstance(value, Tensor):
                    name = named[node.name]
                    first = self.same.get(name, name)
                    if first not in self.owned:  # a shared one has one set of labels, whatever its name
                        self.owned[first] = [self.unions.new(size) for size in value.shape]
                    self.values[node] = self.owned[name] = self.owned[first]
                    self._parameters[node] = name
                else:
                    self.values[node] = _kept_whole(value)
            elif node.op == "call_function":
                self.values[node] = self._called(node)
            elif node.op == "output":
                for value in self._arguments(node.args[0]):
                    self._keep(value, "an output of the network")

    def _called(self, node: Node) -> Any:
        arguments = tree_map(lambda part: self.values[part] if isinstance(part, Node) else part, node.args)
        named = tree_map(lambda part: self.values[part] if isinstance(part, Node) else part, node.kwargs)
        if getattr(node.target, "__name__", "") == "getitem":
            return arguments[0][arguments[1]]
        name = str(node.target).removeprefix("aten.").partition(".")[0]
        outputs = node.meta.get("val")
        rule = RULES.get(name)
        if rule is not None:
            try:
                dims = rule(self, node, *arguments, **named)
                if _fit(dims, outputs):
                    return dims
            except (TypeError, ValueError, IndexError, AttributeError) as error:  # arguments of a form it does not know
                return self._unknown(node, f"{name} with arguments that are not known ({error})")
            return self._unknown(node, f"{name} in a form that is not known")
        if not self._arguments((node.args, node.kwargs)):
            return _kept_whole(outputs)
        return self._unknown(node, f"the operator {name} is not known")

    def _unknown(self, node: Node, reason: str) -> Any:
        for value in self._arguments((node.args, node.kwargs)):
            self._keep(value, reason)
        return _kept_whole(node.meta.get("val"))

    def _arguments(self, parts: Any) -> list[Any]:
        return [self.values[part] for part in tree_leaves(parts) if isinstance(part, Node)]

    def _keep(self, value: Any, reason: str) -> None:
        for labels in value if isinstance(value, list | tuple) else ():
            if isinstance(labels, np.ndarray):
                self.unions.keep(labels, reason)
            else:
                self._keep(labels, reason)


def _fit(dims: Any, outputs: Any) -> bool:
    """Whether labels are of the sizes of what comes out, of one tensor or of several."""
    if isinstance(outputs, Tensor):
        return [len(labels) for labels in dims] == list(outputs.shape)
    return len(dims) == len(outputs) and all(map(_fit, dims, outputs))


def _same_tensors(model: nn.Module) -> dict[str, str]:
    """Every name of a parameter or buffer -> the first name of the same one (tied weights, shared modules)."""
    first: dict[int, str] = {}
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def _kept_whole(value: Any) -> Any:
    if isinstance(value, Tensor):
        return [np.zeros(size, dtype=np.int64) for size in value.shape]
    if isinstance(value, list | tuple):
        return [_kept_whole(part) for part in value]
    return value


def _exported(model: nn.Module, example_inputs: Tensors) -> ExportedProgram:
    inputs = as_fits(example_inputs, model)
    arguments: tuple[Any, ...] = () if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else (inputs,)
    named = inputs if isinstance(inputs, dict) else {}
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the capture's own (an LSTM's flat weights); the model is a copy
            program = torch.export.export(copy.deepcopy(model).eval(), arguments, dict(named))
            program.graph.eliminate_dead_code()  # what nobody reads, as attention weights, need not be kept
            return program
    except Exception as error:  # of many kinds: whatever the capture runs into
        told = " ".join(str(error).split())
        where = told[told.rfind('File "') :][:200] if 'File "' in told else ""
        raise ValueError(
            f"this {type(model).__name__} cannot be read by torch.export ({type(error).__name__}: {told[:300]})"
            + (f"; see {where}" if where and where[:60] not in told[:300] else "")
            + "; control flow that depends on data must go, or stay in a part that you leave out"
        ) from error


def _collected(model: nn.Module, program: ExportedProgram, walk: _Walk) -> Sites:
    """Units by the layer whose outputs they are."""
    places: dict[int, Places] = defaultdict(dict)
    owned = {name: walk.owned[first] for name, first in walk.same.items() if first in walk.owned}  # by all their names
    for name, dims in owned.items():
        for dim, labels in enumerate(dims):
            for index, root in enumerate(walk.unions.roots(labels).tolist()):
                if root != KEPT:
                    places[root].setdefault(name, {}).setdefault(dim, []).append(index)
    sites: dict[str, Site] = {}
    labels_of: dict[str, Labels] = {}
    kept: dict[str, str] = {}
    layers: dict[int, list[str]] = defaultdict(list)
    outputs = [(name, layer, owned[name][dim]) for name, layer, dim in _outputs(model, walk) if name in owned]
    for _, layer, labels in outputs:
        for root in dict.fromkeys(walk.unions.roots(labels).tolist()):
            layers[root].append(layer)
    taken: set[int] = set()
    repeated, heads = head_roots(walk.values, walk.unions), dict[str, Heads]()
    for _, layer, labels in outputs:
        roots = walk.unions.roots(labels)
        own = [root for root in dict.fromkeys(roots.tolist()) if root != KEPT and root not in taken]
        if own:
            taken.update(own)
            units = tuple(places[root] for root in own)
            everyone = tuple(dict.fromkeys(other for root in own for other in layers[root]))
            name = layer
            if repeated.issuperset(own):
                path = owner(everyone)
                name = site_name(path if site_name(path) not in sites else layer)
                heads[name] = Heads(path, spans(walk.values, walk.unions, np.array(own)))
            sites[name] = Site(name, units, everyone)
            labels_of[name] = np.array(own)
        for label, root in zip(labels.tolist(), roots.tolist(), strict=True):
            if root == KEPT:
                kept.setdefault(layer, walk.unions.reason(label))
    output_dims = {name: dim for name, _, dim in _outputs(model, walk)}
    shapes = {name: tuple(map(len, dims)) for name, dims in owned.items()}
    return Sites(sites, kept, program, dict(walk.consumed), labels_of, output_dims, shapes, heads, walk.unions)


def _outputs(model: nn.Module, walk: _Walk) -> list[tuple[str, str, int]]:
    """(parameter, layer, dimension of its outputs) of every weight that has outputs, in the order of the network."""
    found = []
    for layer, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if parameter.dim() < 2 or "bias" in own:
                continue
            name = f"{layer}.{own}" if layer else own
            found.append((name, layer if own == "weight" and layer else name, walk.output_dims.get(name, 0)))
    return found
