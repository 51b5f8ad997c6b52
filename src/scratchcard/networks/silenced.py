"""The large network with the cut units silenced, in several ways: what a small network has to equal.

Silenced means: the unit's value is 0 where it is added up by whoever reads it. No way is right for every network - a
graph has types written into it, a network may read units by weights that it calculates - so the gate asks each whether
it is the network itself while nothing is silenced, before it believes what it says of the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Interpreter, Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scratchcard.networks.branches import Gone, remove
from scratchcard.networks.calculated import Calculated
from scratchcard.networks.copies import copied
from scratchcard.networks.cuts import ShrinkSpec, cut_branches, cut_labels
from scratchcard.networks.forward import call, read_state
from scratchcard.networks.labelling import Consumed
from scratchcard.networks.labels import among
from scratchcard.networks.sites import Sites, capture
from scratchcard.networks.unread import read_nodes
from scratchcard.networks.zeros import set_zeros, zeros_for_now, zeros_of_parts
from scratchcard.types import State, Tensors, UnitMask


class Reference(Protocol):
    """A way to run a network with its cut units silenced."""

    narrow: bool
    """Whether it calculated in fewer digits than its weights have: a type is written into the network."""

    @property
    def code(self) -> ByWeights | None:
        """Itself where it runs the model's own code, so that there is no doubt what it gives with nothing silenced."""
        ...

    def of_length(self, model: nn.Module, inputs: Tensors) -> Reference:
        """One for a batch of another number of examples.

        Raises:
            ValueError: there is none.
        """
        ...

    def outputs(self, model: nn.Module, inputs: Tensors, silent: bool = True) -> list[Tensor]:
        """What the network gives with these weights, its cut units silenced, or as it is."""
        ...


class Graph:
    """As the program that the sites were read from, or another one with nodes of the same names."""

    code = None

    def __init__(self, sites: Sites, unit_mask: UnitMask, program: ExportedProgram | None = None) -> None:
        self._sites, self._mask, self._program = sites, unit_mask, program
        self.narrow = False

    @classmethod
    def again(cls, model: nn.Module, sites: Sites, unit_mask: UnitMask, inputs: Tensors) -> Graph:
        """The network exported anew, as its types or its inputs are now.

        Raises:
            ValueError: it cannot be exported so, or its program is another one.
        """
        program = capture(model, inputs)
        nodes = {node.name: node for node in program.graph.nodes}
        known = {node.name: node for node in sites.program.graph.nodes}
        for name, node in _silenced(sites, unit_mask, known):
            other = nodes.get(name)
            if other is None or other.target != node.target:
                raise ValueError(f"the program of this network is another one now: {name} is not where it was")
        return cls(sites, unit_mask, program)

    def of_length(self, model: nn.Module, inputs: Tensors) -> Graph:
        """The network exported anew: numbers of examples are written into a program."""
        return self.again(model, self._sites, self._mask, inputs)

    def outputs(self, model: nn.Module, inputs: Tensors, silent: bool = True) -> list[Tensor]:
        """What the program gives with the model's weights."""
        ran = Silenced(self._sites, self._mask if silent else {}, read_state(model), self._program)
        found = ran.outputs(inputs)
        self.narrow |= ran.narrow
        return found


class ByWeights:
    """As the model's own code, the weights that read a cut unit 0: in any mode, for any batch."""

    def __init__(self, sites: Sites, unit_mask: UnitMask, spec: ShrinkSpec, gone: Mapping[str, Gone]) -> None:
        """Make it ready.

        Raises:
            ValueError: a cut unit is read by something else than a weight that has a name, or that is calculated from
                such so that no zeros of theirs silence it and nothing else.
        """
        parameters = sites.program.graph_signature.inputs_to_parameters
        known = {node.name: node for node in sites.program.graph.nodes}
        readers: set[str] = set()
        calculated: dict[str, Calculated] = {}
        for name, node in _silenced(sites, unit_mask, known):
            given = [part for part in tree_leaves(node.args) if isinstance(part, Node)]
            own = {parameters[part.name] for part in given if part.name in parameters}
            own = {weight for weight in own if len(sites.shapes.get(weight, ())) > 1}
            names = {part.name for part in given}
            made = {main: made for main, made in sites.calculated.items() if made.node in names}
            calculated |= made
            own |= made.keys()
            if not own and name in sites.consumed:
                raise ValueError(f"what {name} adds up is not multiplied by a weight that has a name")
            readers |= own
        read = {parameters.get(node.name) for node in read_nodes(sites.program)}
        readers |= spec.keys() - read  # those that training alone runs
        self._zero = {
            (name, dim): kept
            for name, dims in spec.items()
            if name in readers and name in sites.outputs
            for dim, kept in dims.items()
            if dim != sites.outputs.get(name)
        }
        self._zero |= zeros_of_parts(sites.program, calculated, sites.lengths, spec, self._zero)
        self._lengths, self._gone = sites.lengths, gone
        self.narrow = self._types_known = False

    @property
    def code(self) -> ByWeights:
        """Itself."""
        return self

    def of_length(self, model: nn.Module, inputs: Tensors) -> ByWeights:
        """Itself: the model's code takes what it takes."""
        return self

    def silenced(self, model: nn.Module) -> nn.Module:
        """A deep copy whose cut units nobody reads."""
        twin = copied(model)
        set_zeros(dict(twin.named_parameters(remove_duplicate=False)), self._zero, self._lengths)
        remove(twin, self._gone)
        return twin

    def outputs(self, model: nn.Module, inputs: Tensors, silent: bool = True) -> list[Tensor]:
        """What the model itself gives; it is as it was afterwards."""
        with self._silent(model) if silent else contextlib.nullcontext(model) as net:
            if self._types_known:
                return leaves(call(net, inputs))
            with _Types(_type_of(model.state_dict())) as types:
                found = leaves(call(net, inputs))
        self.narrow, self._types_known = types.narrowed, True
        return found

    @contextlib.contextmanager
    def _silent(self, model: nn.Module) -> Iterator[nn.Module]:
        """The model itself, its cut units read by nobody for the time being: copies of large networks take long."""
        if self._gone:
            yield self.silenced(model)
            return
        with zeros_for_now(dict(model.named_parameters(remove_duplicate=False)), self._zero, self._lengths):
            yield model


class _Types(TorchDispatchMode):
    """Notes whether anything is calculated in another type than the weights have."""

    def __init__(self, floating: torch.dtype) -> None:
        super().__init__()
        self.narrowed = False
        self._floating = floating

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dtype != self._floating:
                self.narrowed = True
        return result


class Silenced:
    """An exported program, every cut unit set to 0 wherever it is added up."""

    def __init__(self, sites: Sites, unit_mask: UnitMask, state: State, program: ExportedProgram | None = None) -> None:
        self._sites, self._state, self._program = sites, state, program or sites.program
        self._cut = among(cut_labels(sites, unit_mask))
        self._gone = {branch.addition: [branch.argument] for branch in cut_branches(sites, unit_mask)}
        self.narrow = False
        """Whether it has calculated in fewer digits than the state has."""

    def outputs(self, inputs: Tensors) -> list[Tensor]:
        """What the silenced network gives for a batch."""
        program, cut, gone, sites = self._program, self._cut, self._gone, self._sites
        signature = program.graph_signature
        named = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        given = iter(tree_leaves(inputs))
        floating = _type_of(self._state)
        narrowed: list[Node] = []

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
                    source = consumed.source(n)
                    value = self.env[source]
                    alive = ~cut(sites.unions.roots(consumed.labels))
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
                    result = super().run_node(n)
                finally:
                    self.env.update(held)
                if isinstance(result, Tensor) and result.is_floating_point() and result.dtype != floating:
                    narrowed.append(n)
                return result

        placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
        outputs = Run(program.graph_module, garbage_collect_values=False).run(*map(argument, placeholders))
        self.narrow |= bool(narrowed)
        mutated = len(signature.output_specs) - len(signature.user_outputs)
        return leaves(list(tree_leaves(outputs))[mutated:])


def _type_of(state: Mapping[str, Any]) -> torch.dtype:
    """Of the first weights with a fraction."""
    tensors = (value for value in state.values() if isinstance(value, Tensor))
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)


def leaves(outputs: Any) -> list[Tensor]:
    """The tensors of what a network gives, whatever they are packed in."""
    packed = dict(outputs) if isinstance(outputs, dict) else outputs
    return [leaf for leaf in tree_leaves(packed) if isinstance(leaf, Tensor)]


def _silenced(sites: Sites, unit_mask: UnitMask, nodes: Mapping[str, Node]) -> list[tuple[str, Node]]:
    """The nodes at which something is set to 0: those that add up cut units, and the ends of cut branches."""
    cut = among(cut_labels(sites, unit_mask))

    def reads(part: Consumed) -> bool:
        return bool(cut(sites.unions.roots(part.labels)).any())

    names = [name for name, parts in sites.consumed.items() if any(map(reads, parts))]
    names += [branch.addition for branch in cut_branches(sites, unit_mask)]
    return [(name, nodes[name]) for name in dict.fromkeys(names) if name in nodes]
