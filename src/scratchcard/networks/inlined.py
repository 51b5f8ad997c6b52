"""Parts of a program that are run without gradients, or with autocast off, put in line with the rest of it.

`torch.export` makes a program of its own of what stands under `torch.no_grad()`; what is calculated is the same.
"""

from __future__ import annotations

import operator
from typing import Any

from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node


def put_in_line(program: ExportedProgram) -> None:
    """Replace every such part by what is in it, in place, also those inside of others."""
    graph, found = program.graph, True
    while found:
        found = False
        for node in list(graph.nodes):
            part = _part(program.graph_module, node)
            if part is not None:
                _inline(graph, node, *part)
                found = True


def _part(whole: GraphModule, node: Node) -> tuple[GraphModule, list[Any]] | None:
    """The program that a node runs, and what it is given; None of other nodes."""
    name = str(node.target)
    if node.op != "call_function" or name not in ("wrap_with_set_grad_enabled", "wrap_with_autocast"):
        return None
    before = 1 if name == "wrap_with_set_grad_enabled" else 4
    if before == 4 and node.args[2] is not False:
        return None  # it changes types
    inner = node.args[before]
    assert isinstance(inner, Node), "what is wrapped is a program"
    part = whole.get_submodule(str(inner.target))
    assert isinstance(part, GraphModule), "what is wrapped is a program"
    return part, list(node.args[before + 1 :])


def _inline(graph: Graph, node: Node, part: GraphModule, given: list[Any]) -> None:
    known: dict[Node, Any] = {}
    outputs: Any = ()
    waiting = iter(given)
    with graph.inserting_before(node):
        for inner in part.graph.nodes:
            if inner.op == "placeholder":
                known[inner] = next(waiting)
            elif inner.op == "output":
                outputs = inner.args[0]
            else:
                known[inner] = graph.node_copy(inner, lambda source: known[source])
    for user in list(node.users):
        if user.target is operator.getitem:
            user.replace_all_uses_with(known[outputs[user.args[1]]])
            graph.erase_node(user)
    graph.erase_node(node)
