"""What the example's outputs do not come from: layers that only training runs, results nobody reads, unused tables.

None of it is offered as units. Where such a layer reads what can be cut, its inputs go along, so that the small
network's code still runs and trains.
"""

from __future__ import annotations

from torch.export import ExportedProgram
from torch.fx import Node

from scratchcard.networks.labelling import Labelling

REASON = "not used by the example: nothing that evaluation returns comes from it"


def without_idle(program: ExportedProgram) -> None:
    """Take out of a program what nobody reads and no weight takes part in, in place.

    Attention that is calculated to be looked at would else keep what it is calculated from. A layer whose result is not
    used stays: the code goes on calling it.
    """
    read, weights = read_nodes(program), set(program.graph_signature.inputs_to_parameters)
    needed: set[Node] = set()
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    for node in calls:
        before = node.all_input_nodes
        if node not in read and (_writes_into(node, read) or any(s.name in weights or s in needed for s in before)):
            needed.add(node)
    for node in reversed(calls):
        if node not in read | needed and any(user in needed for user in node.users):
            needed.add(node)
        elif node not in read | needed and not node.users:
            program.graph.erase_node(node)


def _writes_into(node: Node, read: set[Node]) -> bool:
    """Whether an operator changes a tensor in place that is read, itself or by a view of it."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return False
    written = node.args[0] if node.args else None
    while isinstance(written, Node) and written not in read:
        returns = getattr(getattr(written.target, "_schema", None), "returns", ())
        views = any(given.alias_info is not None for given in returns)
        written = written.args[0] if views and written.args else None
    return isinstance(written, Node)


def keep_unread(walk: Labelling, training: ExportedProgram | None) -> None:
    """Keep the labels of weights from which no output of the network comes, unless they are those of others.

    Args:
        walk: over the whole program.
        training: the network's program in training mode, where it has one; what it unites is united.
    """
    if training is not None:
        beside = Labelling(training, walk.model)
        beside.unions, beside.owned = walk.unions, walk.owned
        beside.run()
        walk.output_dims.update({name: dim for name, dim in beside.output_dims.items() if name in unread(walk)})
    spare = unread(walk)
    used = {
        root
        for name, dims in walk.owned.items()
        if name not in spare
        for labels in dims
        for root in walk.unions.roots(labels).tolist()
    }
    for name in spare:
        for labels in walk.owned.get(name, []):
            rest = [root not in used for root in walk.unions.roots(labels).tolist()]
            walk.unions.keep(labels[rest], REASON)


def unread(walk: Labelling) -> set[str]:
    """The parameters, by all their names, from which nothing comes that the network returns in evaluation."""
    read = read_nodes(walk.program)
    firsts = {walk.same.get(name, name) for node, name in walk.names.items() if node in read}
    learnt = {name for name, _ in walk.model.named_parameters(remove_duplicate=False)}
    return {name for name, first in walk.same.items() if name in learnt and first not in firsts}


def read_nodes(program: ExportedProgram) -> set[Node]:
    """The nodes that what the network returns comes from, also by being written into a tensor that it comes from."""
    waiting = [node for node in program.graph.nodes if node.op == "output"]
    writing = [node for node in program.graph.nodes if _writes(node)]
    read: set[Node] = set()
    while waiting:
        while waiting:
            node = waiting.pop()
            if node not in read:
                read.add(node)
                waiting += node.all_input_nodes
        waiting = [node for node in writing if node not in read and _written(node) in read]
    return read


def _writes(node: Node) -> bool:
    """Whether an operator changes its first argument."""
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and schema.is_mutable and bool(node.args)


def _written(node: Node) -> Node:
    """The tensor that an operator writes into, however many views of it lie between."""
    at = node.args[0]
    while isinstance(at, Node) and at.op == "call_function" and at.args:
        schema = getattr(at.target, "_schema", None)
        first = schema.arguments[0].alias_info if schema is not None and schema.arguments else None
        if first is None or not isinstance(at.args[0], Node):
            break
        at = at.args[0]
    return at if isinstance(at, Node) else node
