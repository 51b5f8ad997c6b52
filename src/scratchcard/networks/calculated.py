"""Weights that the network calculates from parameters before it uses them: normalised, standardised, of low rank.

Such a weight goes by the parameter that has its shape and its units; what else it is calculated from has no name as a
weight. What it is under a state the exported program says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils._pytree import tree_map

from scratchcard.networks.labelling import Labelling
from scratchcard.networks.labels import KEPT
from scratchcard.types import State


@dataclass(frozen=True)
class Calculated:
    """A weight that is calculated, named by the parameter that has its shape."""

    node: str
    """Node of the program that gives it."""
    parts: tuple[str, ...]
    """The other parameters that it is calculated from."""


def find_calculated(walk: Labelling) -> dict[str, Calculated]:
    """Parameter -> the weight that is calculated from it, for every weight by which units are read.

    Args:
        walk: over the whole program.
    """
    known = _made_of(walk)
    readers = [node for node in walk.program.graph.nodes if node.name in walk.consumed and node not in known]
    read = [(node, part) for node in readers for part in node.args if isinstance(part, Node)]
    plain = {walk.same[walk.names[part]] for _, part in read if part in walk.names}
    learnt = {walk.same[name] for name, _ in walk.model.named_parameters(remove_duplicate=False)}
    found: dict[str, Calculated] = {}
    for _, part in read:
        value, sources = part.meta.get("val"), known.get(part)
        if part.op != "call_function" or not sources or not isinstance(value, Tensor) or value.dim() < 2:
            continue
        own = [name for name in sources if name in learnt and name not in plain]
        main = next((name for name in own if _alike(walk, name, part)), None)
        if main is not None:
            found.setdefault(main, Calculated(part.name, tuple(name for name in own if name != main)))
    return found


def without_units(walk: Labelling, calculated: Mapping[str, Calculated]) -> set[str]:
    """The parts of calculated weights that have no units but those of the whole, such as lengths; a rank is one."""
    found = set()
    for main, known in calculated.items():
        whole = {root for labels in walk.owned[main] for root in walk.unions.roots(labels).tolist()} | {KEPT}
        for part in known.parts:
            dims = walk.owned[part]
            own = dims[walk.output_dims.get(part, 0)] if dims else np.zeros(0, dtype=np.int64)
            if whole.issuperset(walk.unions.roots(own).tolist()):
                found.add(part)
    return found


def effective(program: ExportedProgram, calculated: Mapping[str, Calculated], state: State) -> State:
    """The state with calculated weights in place of the parameters that they go by.

    Args:
        program: the network's.
        calculated: its weights that are.
        state: its parameters and buffers.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    made = {name: calculate(program, nodes[known.node], state) for name, known in calculated.items()}
    # where all it is calculated from is 0, as of units that are gone, it may be no number
    return {**state, **{name: value.nan_to_num(0.0) for name, value in made.items()}}


def calculate(program: ExportedProgram, node: Node, state: Mapping[str, Tensor]) -> Tensor:
    """What a node of a program gives that depends on parameters and buffers alone."""
    signature = program.graph_signature
    named = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    known: dict[Node, Any] = {}

    def value(of: Node) -> Any:
        if of not in known:
            if of.op == "placeholder":
                name = named[of.name]
                known[of] = state[name] if name in state else program.constants[name]
            else:
                args, kwargs = tree_map(
                    lambda part: value(part) if isinstance(part, Node) else part, (of.args, of.kwargs)
                )
                known[of] = of.target(*args, **kwargs)  # pyright: ignore[reportCallIssue]
        return known[of]

    with torch.no_grad():
        return value(node)


def _made_of(walk: Labelling) -> dict[Node, tuple[str, ...]]:
    """Node -> the parameters and buffers that it is calculated from, of nodes that no input of the network reaches."""
    constants = walk.program.graph_signature.inputs_to_lifted_tensor_constants
    found: dict[Node, tuple[str, ...]] = {}
    for node in walk.program.graph.nodes:
        if node in walk.names:
            found[node] = (walk.same[walk.names[node]],)
        elif node.op == "placeholder" and node.name in constants:
            found[node] = ()
        elif node.op == "call_function" and all(source in found for source in node.all_input_nodes):
            found[node] = tuple(dict.fromkeys(name for source in node.all_input_nodes for name in found[source]))
    return found


def _alike(walk: Labelling, name: str, node: Node) -> bool:
    """Whether a parameter has the shape and the units of what a node gives."""
    own, made = walk.owned.get(name, []), walk.values.get(node, [])
    if len(own) != len(made):
        return False
    roots = [(walk.unions.roots(a), walk.unions.roots(b)) for a, b in zip(own, made, strict=True)]
    return all(len(a) == len(b) and np.array_equal(a, b) for a, b in roots)
