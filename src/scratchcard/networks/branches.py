"""Whole branches as units: what stands between a stream and the addition by which it returns to it.

A branch that is cut adds 0 (Veit et al. 2016, section 4: residual networks run without single blocks). Its modules are
replaced by ones that give a zero, which is added to everything; its weights and operations are gone.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from scratchcard.networks.followed import operator
from scratchcard.networks.forward import call
from scratchcard.networks.labelling import Labelling, Places
from scratchcard.types import Tensors

Form = int | None | list[int | None]
"""What a module gives: a tensor of so many dimensions (-1: shaped like its input), None, or several of these."""


@dataclass(frozen=True)
class Gone:
    """What of a network is replaced where a branch is cut; plain, so that a manifest can carry it."""

    modules: dict[str, Form]
    """Module -> what it gives."""
    bare: list[str]
    """Parameters of modules that stay."""


@dataclass(frozen=True)
class Branch:
    """One side of an addition that reads the other side's stream and has weights of its own."""

    name: str
    addition: str
    """Node of the program."""
    argument: int
    """Which of the added ones it is."""
    modules: tuple[str, ...]
    """The largest modules that lie in it whole, in the order of their calls."""
    bare: tuple[str, ...]
    """Its parameters that belong to other modules."""
    unit: Places
    """All its parameters and buffers, under all their names."""
    label: int
    written: bool
    """Whether the sum is written into what it gives, which must then have the size of the sum."""


def find_branches(walk: Labelling, taken: Collection[str]) -> dict[str, Branch]:
    """Every branch of a network, by name: the path that all its layers share, or that of its heaviest module.

    Args:
        walk: over the whole program.
        taken: names of other sites.
    """
    order = {node: at for at, node in enumerate(walk.program.graph.nodes)}
    whole = _Whole(walk)
    modules = whole.modules
    found: list[tuple[Node, int, tuple[str, ...], tuple[str, ...], set[str]]] = []
    for node in order:
        if operator(node) not in ("add", "add_"):
            continue
        for argument, end in enumerate(node.args[:2]):
            other = node.args[1 - argument]
            if isinstance(end, Node) and isinstance(other, Node) and list(end.users) == [node]:
                own = _exclusive(end, order)
                if _returns(walk, own, end, other, order) and (parts := whole.parts(own)) is not None:
                    found.append((node, argument, *parts))
    shared = Counter(_shared_path(tensors) for *_, tensors in found)
    branches: dict[str, Branch] = {}
    for node, argument, parts, bare, tensors in found:
        name = _shared_path(tensors)
        if not name or shared[name] > 1:
            name = max(parts, key=lambda path: sum(p.numel() for p in modules[path].parameters()))
        while name in taken or name in branches:
            name = f"{name}:branch"
        unit: Places = {}
        for tensor in sorted(tensors, key=whole.place.__getitem__):
            shape = _shape(walk, tensor)
            unit[tensor] = {0: list(range(shape[0]))} if shape else {}
        (label,) = walk.unions.new(1).tolist()
        written = argument == 0 and operator(node) == "add_"
        branches[name] = Branch(name, node.name, argument, parts, bare, unit, label, written)
    return branches


def gone_of(model: nn.Module, branches: Iterable[Branch], inputs: Tensors) -> dict[str, Gone]:
    """What has to be replaced for some branches to go, by branch.

    Args:
        model: the large network; it is run, so give a copy.
        branches: those that are cut.
        inputs: one batch.

    Raises:
        ValueError: a module of a branch gives something else than tensors, or not always the same.
    """
    told: dict[str, list[Any]] = defaultdict(list)
    paths = {path: branch for branch in branches for path in branch.modules}
    handles = []
    for path in paths:

        def note(_: nn.Module, __: Any, result: Any, path: str = path) -> None:
            told[path].append(result)

        handles.append(model.get_submodule(path).register_forward_hook(note))
    with torch.enable_grad():  # else TransformerEncoderLayer does not call its parts
        call(model.eval(), inputs)
    for handle in handles:
        handle.remove()
    found = {branch.name: Gone({}, list(branch.bare)) for branch in paths.values()}
    for path, branch in paths.items():
        forms = [_form(result, branch) for result in told[path]]
        if any(form != forms[0] for form in forms) or not forms:
            raise ValueError(
                f"the branch {branch.name} cannot be removed: its part {path} gives "
                f"{'tensors of different dimensions' if forms else 'nothing'} when it is called; keep it"
            )
        found[branch.name].modules[path] = forms[0]
    return found


def remove(model: nn.Module, gone: Mapping[str, Gone]) -> None:
    """Take branches out of a network, in place: their modules give zeros from now on.

    Raises:
        ValueError: a module or parameter that is not there.
    """
    outer = {path for branch in gone.values() for path in branch.modules}
    done: set[str] = set()
    for name, branch in gone.items():
        for path, form in branch.modules.items():
            if path in done or any(path.startswith(f"{other}.") for other in outer):  # gone with another branch
                continue
            done.add(path)
            above, _, own = path.rpartition(".")
            try:
                parent, module = model.get_submodule(above), model.get_submodule(path)
            except AttributeError:
                raise ValueError(
                    f"the network has no module {path}, which was in the branch {name}; give the network that was "
                    "compacted, as it was before"
                ) from None
            parent.add_module(own, Nothing(form, module))
            if isinstance(parent, nn.TransformerEncoderLayer):
                parent.activation_relu_or_gelu = 0  # keeps torch from passing the parts by
        for path in branch.bare:
            if path in done or any(path.startswith(f"{other}.") for other in outer):
                continue
            done.add(path)
            above, _, own = path.rpartition(".")
            try:
                parent, parameter = model.get_submodule(above), model.get_parameter(path)
            except AttributeError:
                raise ValueError(
                    f"the network has no parameter {path}, which was in the branch {name}; give the network that was "
                    "compacted, as it was before"
                ) from None
            delattr(parent, own)
            parent.register_buffer(own, parameter.new_zeros((1,) * parameter.dim()), persistent=False)
    for module in model.modules() if gone else ():
        if isinstance(module, nn.TransformerEncoder):  # its shortcut through nested tensors looks at the parts
            module.use_nested_tensor = False


class Nothing(nn.Module):
    """Stands where a module of a removed branch was: gives a zero of one entry, which is added to everything."""

    def __init__(self, form: Form, instead_of: nn.Module) -> None:
        super().__init__()
        self.form = form
        for name, value in vars(instead_of).items():  # what other modules' code may look at
            if isinstance(value, int | float | str) and not name.startswith("_") and name != "training":
                setattr(self, name, value)
        for name in instead_of._parameters:
            setattr(self, name, None)
        self.train(instead_of.training)

    def forward(self, *args: Any, **named: Any) -> Any:
        """A zero for each tensor that was given here, of the type of the first input."""
        first = next((leaf for leaf in tree_leaves((args, named)) if isinstance(leaf, Tensor)), None)

        def zero(form: int | None) -> Tensor | None:
            if form is None:
                return None
            if form < 0 and first is not None:
                return torch.zeros_like(first)
            on = None if first is None else first.device
            return torch.zeros((1,) * max(form, 0), dtype=None if first is None else first.dtype, device=on)

        return tuple(map(zero, self.form)) if isinstance(self.form, list) else zero(self.form)

    def extra_repr(self) -> str:
        """What it gives."""
        return f"form={self.form}"


def _exclusive(end: Node, order: dict[Node, int]) -> set[Node]:
    """A node and all before it that lead nowhere else."""
    own: set[Node] = set()
    waiting = [(-order[end], end)]
    while waiting:
        _, node = heapq.heappop(waiting)
        if node is end or (node not in own and own.issuperset(node.users)):
            own.add(node)
            for source in node.all_input_nodes:
                heapq.heappush(waiting, (-order[source], source))
    return own


def _returns(walk: Labelling, own: set[Node], end: Node, other: Node, order: dict[Node, int]) -> bool:
    """Whether a side of an addition comes from the other's stream, and through weights only."""
    before = {source for node in own for source in node.all_input_nodes if source not in own}
    streams = {node for node in before if node not in walk.names and _is_activation(node)}
    if not streams:
        return False
    waiting, seen = [end], set()
    while waiting:  # a way without weights would be the stream itself
        node = waiting.pop()
        if node in streams:
            return False
        if node not in seen and node.op == "call_function" and not walk.names.keys() & set(node.all_input_nodes):
            waiting += node.all_input_nodes
        seen.add(node)
    first, waiting, seen = min(order[node] for node in streams), [other], set()
    while waiting:
        node = waiting.pop()
        if node in streams:
            return True
        if node not in seen and order[node] > first:
            waiting += node.all_input_nodes
        seen.add(node)
    return False


def _is_activation(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


class _Whole:
    """What lies where in a network, gathered once for all its branches."""

    def __init__(self, walk: Labelling) -> None:
        self._walk = walk
        self.modules = dict(walk.model.named_modules(remove_duplicate=False))
        self.place = {name: at for at, name in enumerate(walk.same)}
        """Parameter or buffer -> its place among all."""
        self._inside: dict[str, set[Node]] = defaultdict(set)
        """Module -> the nodes that run in it."""
        for node in walk.program.graph.nodes:
            for path in _running(node):
                if path in self.modules:
                    self._inside[path].add(node)
        self._first = {path: at for at, path in enumerate(self._inside)}
        self._held: dict[str, list[str]] = defaultdict(list)
        """Module -> the parameters and buffers in it."""
        self._names: dict[str, list[str]] = defaultdict(list)
        """First name of a tensor -> all its names."""
        for name, first in walk.same.items():
            self._names[first].append(name)
            path = name.rpartition(".")[0]
            while path:
                self._held[path].append(name)
                path = path.rpartition(".")[0]
        self._nodes: dict[str, list[Node]] = defaultdict(list)
        """Parameter or buffer -> the nodes that stand for it."""
        for node, name in walk.names.items():
            self._nodes[name].append(node)
        self._learnt = dict(walk.model.named_parameters(remove_duplicate=False))

    def parts(self, own: set[Node]) -> tuple[tuple[str, ...], tuple[str, ...], set[str]] | None:
        """The modules that lie in a branch whole, its other parameters, and all tensors; None if it has no weights."""
        near = {path for node in own for path in _running(node) if path in self._inside}
        whole = sorted((path for path in near if self._inside[path] <= own), key=self._first.__getitem__)
        there = set(whole)
        modules = [path for path in whole if not any(above in there for above in _above(path))]
        held = {name for path in modules for name in self._held[path]}
        walk, learnt = self._walk, self._learnt
        names = {walk.names[node] for node in own if node in walk.names}
        bare = sorted(name for name in names - held if name in learnt)
        tensors = held | set(bare)
        elsewhere = any(other not in tensors for name in tensors for other in self._names[walk.same[name]])
        used = any(not own.issuperset(node.users) for name in tensors for node in self._nodes[name])
        weights = any(name in learnt and learnt[name].dim() > 1 for name in held)
        return None if elsewhere or used or not weights else (tuple(modules), tuple(bare), tensors)


def _running(node: Node) -> list[str]:
    """The paths of the modules in whose code a node runs, the outermost first."""
    stack = (node.meta.get("nn_module_stack") or {}).values() if node.op == "call_function" else ()
    paths = [path.partition("@")[0] for path, _ in stack]  # the second call of a module is told as name@1
    return [path for path in paths if path]


def _above(path: str) -> list[str]:
    """The paths of the modules that a module is in."""
    parts = path.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _shared_path(tensors: Iterable[str]) -> str:
    """The path that all modules begin with which own some parameters."""
    paths = [name.split(".")[:-1] for name in tensors]
    depth = 0
    while all(len(path) > depth and path[depth] == paths[0][depth] for path in paths):
        depth += 1
    return ".".join(paths[0][:depth])


def _shape(walk: Labelling, tensor: str) -> tuple[int, ...]:
    return tuple(len(labels) for labels in walk.owned[walk.same[tensor]]) if walk.same[tensor] in walk.owned else ()


def _form(result: Any, branch: Branch) -> Form:
    if isinstance(result, Tensor):
        return -1 if branch.written else result.dim()
    if result is None:
        return None
    if isinstance(result, tuple | list) and all(part is None or isinstance(part, Tensor) for part in result):
        return [None if part is None else -1 if branch.written else part.dim() for part in result]
    raise ValueError(
        f"the branch {branch.name} cannot be removed: one of its parts gives a {type(result).__name__}, not tensors; "
        "keep it"
    )
