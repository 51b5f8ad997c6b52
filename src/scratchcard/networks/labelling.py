"""One pass over an exported program, labels in hand: which indices of which tensors are one unit."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.networks.labels import KEPT, Dims, Labels, Unions
from scratchcard.networks.lengths import Lengths, find_lengths
from scratchcard.networks.operators import RULES
from scratchcard.networks.reparametrised import coupled

Places = dict[str, dict[int, list[int]]]
"""Parameter or buffer -> dimension -> indices."""


@dataclass(frozen=True)
class Consumed:
    """An operator that adds up over a dimension of one of its arguments: a silenced unit must be 0 there."""

    argument: int
    dim: int
    labels: Labels


class Labelling:
    """What is known of the nodes of an exported program, and what the rules of `operators.py` may ask."""

    def __init__(self, program: ExportedProgram, model: nn.Module) -> None:
        self.program = program
        self.model = model
        self.same = _same_tensors(model)
        self.unions = Unions()
        self.consumed: dict[str, list[Consumed]] = defaultdict(list)
        self.owned: dict[str, Dims] = {}
        """Parameter or buffer -> its labels."""
        self.output_dims: dict[str, int] = {}
        """Parameter -> the dimension of its outputs, where it is not the first."""
        self.calculated_dims: dict[str, int] = {}
        """The same by the node that gives it, of a weight that is calculated."""
        self.lengths: Lengths = {}
        """Length -> direction, and the dimension of the lengths, of weights that are normalised."""
        self._lengths, self._coupled = find_lengths(model), coupled(model)
        self.values: dict[Node, Any] = {}
        signature = program.graph_signature
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.names: dict[Node, str] = {
            node: named[node.name]
            for node in program.graph.nodes
            if node.op == "placeholder" and node.name in named and isinstance(node.meta.get("val"), Tensor)
        }
        """Node -> the parameter or buffer that it stands for."""

    def consumes(self, node: Node, argument: int, dim: int, labels: Labels) -> None:
        """Note that an operator adds up over a dimension of one of its arguments."""
        self.consumed[node.name].append(Consumed(argument, dim, labels))

    def produces(self, node: Node, argument: int, dim: int) -> None:
        """Note which dimension of a weight is its outputs, where it is not the first."""
        source = node.args[argument]
        if isinstance(source, Node) and source in self.names:
            self.output_dims[self.names[source]] = dim
        elif isinstance(source, Node):
            self.calculated_dims[source.name] = dim

    def measures(self, node: Node, dim: int) -> bool:
        """Whether a node's first two arguments are a direction and a length, so that both can be cut; it is noted."""
        v, g = (self.names.get(part) if isinstance(part, Node) else None for part in node.args[:2])
        if v is None or g is None or self._lengths.get(g) != (v, dim):
            return False
        if any(user.target != node.target for user in node.args[1].users):  # pyright: ignore
            return False
        self.lengths[g] = (v, dim)
        return True

    def shape(self, node: Node) -> tuple[int, ...]:
        """The shape of what a node gives, of the first where it gives several."""
        value = node.meta["val"]
        return tuple((value if isinstance(value, Tensor) else value[0]).shape)

    def buffer(self, node: Any) -> tuple[str, Tensor] | None:
        """The name and the values of the buffer that a node stands for, if it does."""
        name = self.names.get(node) if isinstance(node, Node) else None
        found = dict(self.model.named_buffers(remove_duplicate=False)).get(name) if name else None
        return None if name is None or found is None else (name, found)

    def beside(self) -> Labelling:
        """The same program with nothing labelled yet; what becomes one is known to both."""
        other = copy.copy(self)
        other.consumed, other.owned, other.output_dims, other.values = defaultdict(list), {}, {}, {}
        return other

    def run(self) -> None:
        """Label everything, from the inputs to the outputs."""
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self.given(node)
            elif node.op == "call_function":
                self.values[node] = self.called(node)
            elif node.op == "output":
                self.keep(node, "an output of the network")

    def given(self, node: Node) -> Any:
        """Labels of an input: new ones for a parameter or buffer, none for what the network is called with."""
        value, name = node.meta.get("val"), self.names.get(node)
        if name is None or not isinstance(value, Tensor):
            return kept_whole(value)
        first = self.same.get(name, name)
        if first not in self.owned:  # a shared one has one set of labels, whatever its name
            self.owned[first] = [self.unions.new(size) for size in value.shape]
            for labels in self.owned[first] if name in self._coupled else ():
                self.unions.keep(labels, self._coupled[name])
        self.owned[name] = self.owned[first]
        return self.owned[name]

    def called(self, node: Node) -> Any:
        """Labels of what an operator gives, by its rule."""
        arguments = tree_map(lambda part: self._value(part) if isinstance(part, Node) else part, node.args)
        named = tree_map(lambda part: self._value(part) if isinstance(part, Node) else part, node.kwargs)
        if getattr(node.target, "__name__", "") == "getitem":
            return arguments[0][arguments[1]]
        name = str(node.target).removeprefix("aten.").partition(".")[0]
        outputs = node.meta.get("val")
        if outputs is None and not node.target._schema.is_mutable:  # pyright: ignore
            return None  # an assertion: it gives nothing and changes nothing
        rule = RULES.get(name)
        if rule is not None:
            try:
                dims = rule(self, node, *arguments, **named)
                if _fit(dims, outputs):
                    return dims
            except (TypeError, ValueError, IndexError, AttributeError) as error:  # arguments of a form it does not know
                return self._unknown(node, f"{name} with arguments that are not known ({error})")
            return self._unknown(node, f"{name} in a form that is not known")
        if not any(isinstance(part, Node) for part in tree_leaves((node.args, node.kwargs))):
            return kept_whole(outputs)
        return self._unknown(node, f"the operator {name} is not known")

    def keep(self, node: Node, reason: str) -> None:
        """Keep all labels of a node's arguments."""
        for part in tree_leaves((node.args, node.kwargs)):
            if isinstance(part, Node):
                self._keep(self._value(part), reason)

    def _value(self, node: Node) -> Any:
        """The labels of a node; a part of the program that was not looked at has none that could be cut."""
        if node not in self.values:
            self.values[node] = self.given(node) if node.op == "placeholder" else kept_whole(node.meta.get("val"))
        return self.values[node]

    def _unknown(self, node: Node, reason: str) -> Any:
        self.keep(node, reason)
        return kept_whole(node.meta.get("val"))

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


def places(walk: Labelling, names: dict[str, str]) -> dict[int, Places]:
    """For every label that can be cut all its places in parameters and buffers.

    Args:
        walk: where the labels are.
        names: of parameters and buffers -> their first name.
    """
    found: dict[int, Places] = defaultdict(dict)
    for name, first in names.items():
        for dim, labels in enumerate(walk.owned.get(first, [])):
            roots = walk.unions.roots(labels)
            order = np.argsort(roots, kind="stable")
            of_root, starts = np.unique(roots[order], return_index=True)
            for root, indices in zip(of_root.tolist(), np.split(order, starts[1:]), strict=True):
                if root != KEPT:
                    found[root].setdefault(name, {})[dim] = indices.tolist()
    return found


def kept_whole(value: Any) -> Any:
    """Labels of something of which nothing can be cut."""
    if isinstance(value, Tensor):
        return [np.zeros(size, dtype=np.int64) for size in value.shape]
    if isinstance(value, list | tuple):
        return [kept_whole(part) for part in value]
    return value
