"""Recurrent layers of torch: a unit is one number of the hidden state, in all gates, all layers and both directions.

Units are added up where the state is multiplied by weights: at the next step, in the next layer and by whoever reads
the outputs. Layers and directions of one module share the number of their units, so the same ones go from each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.fx import Node

from scratchcard.networks.labels import Dims, Labels
from scratchcard.networks.walk import Rule, Walk, free

_READ = "read by a recurrent layer together with something that is kept"
_STATE = "the state of a recurrent layer, together with something that is kept"


def _layers(
    walk: Walk, node: Node, x: Dims, first: Any, weights: list[Dims], biased: bool, layers: int, *rest: Any
) -> list[Dims]:
    """LSTM, GRU and plain layers, several on top of each other, in one or both directions."""
    both = 2 if rest[2] else 1
    states = first if isinstance(first[0], list) else [first]
    each = len(weights) // (layers * both)
    if each != (4 if biased else 2):
        raise ValueError("with a projection of the state")
    hidden, read = weights[1][1], x[-1]
    walk.consumes(node, 0, len(x) - 1, read)
    for layer in range(layers):
        for direction in range(both):
            at = (layer * both + direction) * each
            into, again, *biases = weights[at : at + each]
            walk.unions.unite(read, into[1], _READ)
            walk.unions.unite(again[1], hidden, _STATE)
            if layer:
                walk.consumes(node, 1 + len(states) + at, 1, into[1])
            walk.consumes(node, 2 + len(states) + at, 1, again[1])
            _gates(walk, hidden, [into[0], again[0], *(bias[0] for bias in biases)])
        read = np.tile(hidden, both)
    _begun(walk, node, node.args[1], states, hidden)
    shape = node.meta["val"][1].shape
    return [[*x[:-1], read], *([*free(tuple(shape[:-1])), hidden] for _ in states)]


def _long_cell(walk: Walk, node: Node, x: Dims, state: list[Dims], *weights: Dims) -> list[Dims]:
    """One step of an LSTM."""
    hidden = _cell(walk, node, x, state, weights)
    return [[x[0], hidden], [x[0], hidden]]


def _plain_cell(walk: Walk, node: Node, x: Dims, state: Dims, *weights: Dims) -> Dims:
    """One step of a GRU or of a plain layer."""
    return [x[0], _cell(walk, node, x, [state], weights)]


def _cell(walk: Walk, node: Node, x: Dims, states: list[Dims], weights: tuple[Dims | None, ...]) -> Labels:
    into, again, *biases = (part for part in weights if part is not None)
    hidden = again[1]
    walk.unions.unite(x[-1], into[1], _READ)
    walk.consumes(node, 0, len(x) - 1, x[-1])
    walk.consumes(node, 1 + len(states), 1, into[1])
    walk.consumes(node, 2 + len(states), 1, hidden)
    _gates(walk, hidden, [into[0], again[0], *(bias[0] for bias in biases)])
    _begun(walk, node, node.args[1], states, hidden)
    return hidden


def _gates(walk: Walk, hidden: Labels, rows: list[Labels]) -> None:
    """Every gate has a row for every unit."""
    for labels in rows:
        for gate in np.split(labels, len(labels) // len(hidden)):
            walk.unions.unite(hidden, gate, _STATE)


def _begun(walk: Walk, node: Node, given: Any, states: list[Dims], hidden: Labels) -> None:
    """The state that a layer is given; one that it makes itself, of zeros, has as many as it has units."""
    nodes = given if isinstance(given, list | tuple) else [given]
    for source, dims in zip(nodes, states, strict=True):
        if not _own(source, node):
            walk.unions.unite(dims[-1], hidden, _STATE)


def _own(source: Any, node: Node) -> bool:
    """Whether a state is zeros that the module which runs the layer has made."""
    made = isinstance(source, Node) and not source.all_input_nodes and "zeros" in str(source.target)
    return made and _module(source) == _module(node)


def _module(node: Node) -> str:
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    return stack[-1] if stack else ""


RECURRENT: dict[str, Rule] = {
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _layers),
    "lstm_cell": _long_cell,
    **dict.fromkeys(("gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _plain_cell),
}
"""Operator -> rule."""
