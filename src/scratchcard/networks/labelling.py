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
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.networks.counts import SURE, Count, as_one_count, numbers_of
from scratchcard.networks.labels import KEPT, Dims, Labels, Unions
from scratchcard.networks.lengths import Lengths, find_lengths
from scratchcard.networks.operators import rule_of
from scratchcard.networks.reparametrised import coupled
from scratchcard.networks.sizes import sizes
from scratchcard.networks.spellings import core_name, spelled
from scratchcard.networks.walk import are_dims

Places = dict[str, dict[int, list[int]]]
"""Parameter or buffer -> dimension -> indices."""


_LAYERS = ("linear", "addmm", "embedding", "layer_norm", "rms_norm", "conv1d", "conv2d", "conv3d", "softmax")
"""What makes an activation even of parameters alone: learnt queries are no weights any more."""


@dataclass(frozen=True)
class Consumed:
    """An operator that adds up over a dimension of one of its arguments: a silenced unit must be 0 there."""

    argument: int
    """Counted with all that is in lists: the tensors of `einsum` are arguments 1, 2, ..."""
    dim: int
    labels: Labels

    def source(self, node: Node) -> Node:
        """What is added up."""
        found = tree_leaves(node.args)[self.argument]
        assert isinstance(found, Node), "what is added up is a tensor of the graph"
        return found


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
        self.weights: set[Node] = set(self.names)
        for node in program.graph.nodes:
            made = node.op == "call_function" and core_name(spelled(node.target)) not in _LAYERS
            if made and node.all_input_nodes and self.weights.issuperset(node.all_input_nodes):
                self.weights.add(node)
        self.counted: list[Count] = []
        """The numbers in its code, or told to its modules, that count units."""
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._buffers = dict(model.named_buffers(remove_duplicate=False))

    def name(self, node: Node) -> str:
        """The operator's name, one for all its spellings."""
        return core_name(spelled(node.target))

    def consumes(self, node: Node, argument: int, dim: int, labels: Labels) -> None:
        """Note that an operator adds up over a dimension of one of its arguments."""
        self.consumed[node.name].append(Consumed(argument, dim, labels))

    def produces(self, source: Any, dim: int) -> None:
        """Note which dimension of what a weight was made into is its outputs, where it is not the first."""
        if source in self.names:
            if dim:
                self.output_dims[self.names[source]] = dim
        elif source in self.weights:  # turned, scaled, added to or multiplied with others: known by its labels
            roots = self.unions.roots(self._value(source)[dim])
            for node in self._made_of(source) if roots.any() else ():
                dims = self._value(node)
                if not are_dims(dims):
                    continue  # several tensors: each of them is a node of its own
                same = [at for at, labels in enumerate(dims) if np.array_equal(self.unions.roots(labels), roots)]
                if node in self.names and len(dims) > 1:
                    for at in same:
                        self.output_dims[self.names[node]] = at
                elif core_name(spelled(node.target)) in ("matmul", "mm") and len(dims) == 2:
                    for at in same[:1]:  # the other factor gives what is added up between them
                        self.produces(node.args[1 - at], 1 if at else 0)

    def measures(self, node: Node, dim: int) -> bool:
        """Whether a node's first two arguments are a direction and a length, so that both can be cut; it is noted."""
        v, g = (self.names.get(part) if isinstance(part, Node) else None for part in node.args[:2])
        if v is None or g is None or self._lengths.get(g) != (v, dim):
            return False
        if any(user.target != node.target for user in node.args[1].users):  # pyright: ignore
            return False
        self.lengths[g] = (v, dim)
        return True

    def _made_of(self, source: Node) -> list[Node]:
        """All tensors that something is made of."""
        found: dict[Node, None] = {}
        waiting = [source]
        while waiting:
            node = waiting.pop()
            if node not in found:
                found[node] = None
                waiting += node.all_input_nodes
        return [node for node in found if isinstance(node.meta.get("val"), Tensor)]

    def counts(self, node: Node, number: int, labels: Labels, attribute: str = "") -> None:
        """Note that a number which is written into the code, or told to a module, counts these units."""
        path, module = self._runs_in(node)
        if module is None or not self.unions.roots(labels).any() or _told_by_weights(module):
            return
        sure, numbers = attribute in SURE, numbers_of(module)
        if attribute and numbers.get(attribute) != number:
            if not sure:
                return  # no layer of torch
            attribute = ""
        if sure and number not in numbers.values():
            self.unions.keep(labels, "the number of groups is written into the code: let it be an attribute")
        else:
            self.counted.append(Count(path, attribute, number, labels, sure))

    def _runs_in(self, node: Node) -> tuple[str, nn.Module | None]:
        """The innermost module in whose code an operator runs, and its path."""
        stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        path = stack[-1].partition("@")[0] if stack else ""  # the second call of a module is told as name@1
        return path, self._modules.get(path)

    def shape(self, node: Node) -> tuple[int, ...]:
        """The shape of what a node gives, of the first where it gives several."""
        value = node.meta["val"]
        return sizes(value if isinstance(value, Tensor) else value[0])

    def buffer(self, node: Any) -> tuple[str, Tensor] | None:
        """The name and the values of the buffer that a node stands for, if it does."""
        name = self.names.get(node) if isinstance(node, Node) else None
        found = self._buffers.get(name) if name else None
        return None if name is None or found is None else (name, found)

    def beside(self) -> Labelling:
        """The same program with nothing labelled yet; what becomes one is known to both."""
        other = copy.copy(self)
        other.consumed, other.owned, other.output_dims, other.values = defaultdict(list), {}, {}, {}
        other.counted = []
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
        as_one_count(self.counted, self.unions, self._modules)

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
        name, outputs = spelled(node.target), node.meta.get("val")
        if outputs is None and not node.target._schema.is_mutable:  # pyright: ignore
            return None  # an assertion: it gives nothing and changes nothing
        rule = rule_of(node.target)
        if rule is not None:
            try:
                dims = rule(self, node, *arguments, **named)
                if _fit(dims, outputs):
                    return dims
            except (TypeError, ValueError, IndexError, AttributeError, KeyError, RuntimeError) as error:
                # arguments of a form that the rule does not know; RuntimeError: sizes that depend on data
                said = " ".join(str(error).split())[:120]
                return self._unknown(node, f"{name} with arguments that are not known ({said})")
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


def _told_by_weights(module: nn.Module) -> bool:
    """Whether a module is a layer of torch whose numbers are told by the sizes of its tensors."""
    layer = isinstance(module, _ConvNd | _NormBase | nn.GroupNorm | nn.Linear)
    return layer and any(isinstance(getattr(module, own, None), Tensor) for own in ("weight", "running_mean"))


def _fit(dims: Any, outputs: Any) -> bool:
    """Whether labels are of the sizes of what comes out, of one tensor or of several."""
    if isinstance(outputs, Tensor):
        return [len(labels) for labels in dims] == list(sizes(outputs))
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
            indices, ends = order.tolist(), [*starts.tolist(), len(order)][1:]  # of nothing there is no end
            for root, start, end in zip(of_root.tolist(), starts.tolist(), ends, strict=True):
                if root != KEPT:
                    found[root].setdefault(name, {})[dim] = indices[start:end]
    return found


def kept_whole(value: Any) -> Any:
    """Labels of something of which nothing can be cut."""
    if isinstance(value, Tensor):
        return [np.zeros(size, dtype=np.int64) for size in sizes(value)]
    if isinstance(value, list | tuple):
        return [kept_whole(part) for part in value]
    return value
