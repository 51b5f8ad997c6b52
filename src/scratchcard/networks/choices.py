"""A choice of channels for one reader: a normalisation leaves channels out of a stream that others read whole.

In a pre-activation network or a DenseNet the scales of a BatchNorm stand between a stream and one layer. What they
switch off is cut there alone: from the normalisation, and from the inputs of the layers that read it. The small network
takes the channels that are left from the stream by position (Liu et al. 2017, section 3: channel selection).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from scratchcard.networks.apart import SELECTED
from scratchcard.networks.followed import operator
from scratchcard.networks.labelling import Consumed, Labelling, Places, kept_whole, places
from scratchcard.networks.labels import KEPT, Labels, Unions

Selections = dict[str, list[int]]
"""BatchNorm -> the channels of its input that it reads, by position, rising; one that is not named reads all."""


@dataclass(frozen=True)
class Choice:
    """The channels of a BatchNorm that its readers could do without while the stream before it stays."""

    norm: str
    readers: tuple[str, ...]
    """The layers that lose inputs."""
    units: tuple[Places, ...]
    labels: Labels
    """One per unit; other ones than those of the stream."""
    consumed: dict[str, list[Consumed]]
    """Node of the program -> where a cut channel must be 0."""
    arrives: tuple[Labels, ...]
    """Labels of the channels of the stream: one is there while none of its labels is cut."""
    selected: tuple[int, ...]
    """The channels of the stream that the normalisation reads as it is."""

    @property
    def name(self) -> str:
        """What the site is called."""
        return f"{self.norm}->{self.readers[0]}"


def find_choices(walk: Labelling) -> dict[str, Choice]:
    """Every choice of a network, by name.

    A BatchNorm is one where others read its input too, or read a part of what that is the sum or concatenation of.

    Args:
        walk: over the whole program. A stream of which a BatchNorm selects channels already is kept there if the
            selection cannot be changed.
    """
    order = {node: at for at, node in enumerate(walk.program.graph.nodes)}
    cones: list[tuple[Labelling, Labels, list[str], str, Node, tuple[int, ...]]] = []
    for node in order:
        norm = _module(walk, node)
        if norm is None:
            continue
        stream, selected = _stream(walk, node)
        cone = _followed(walk, node, order) if _is_shared(walk, node) else None
        if cone is not None:
            cones.append((*cone, norm, stream, selected))
        elif stream is not node.args[0]:
            walk.unions.keep(walk.values[stream][1], "taken apart by a selection that cannot be changed")
    found = {}
    for cone, labels, readers, norm, stream, selected in cones:
        units = places(cone, cone.same)
        roots = [root for root in dict.fromkeys(cone.unions.roots(labels).tolist()) if root != KEPT]
        consumed = {
            name: [part for part in parts if np.isin(cone.unions.roots(part.labels), roots).any()]
            for name, parts in cone.consumed.items()
        }
        labelled = [walk, *(other for other, *_ in cones if other is not cone and stream in other.values)]
        choice = Choice(
            norm,
            tuple(readers),
            tuple(units[root] for root in roots),
            np.array(roots),
            consumed,
            tuple(part.values[stream][1] for part in labelled),
            selected,
        )
        found[choice.name] = choice
    return found


def selections(
    choices: Mapping[str, Choice], unions: Unions, cut: Labels, spec: Mapping[str, Mapping[int, Tensor]]
) -> Selections:
    """Which channels of its input each BatchNorm reads in the small network, where that is not all of them.

    Args:
        choices: of the large network.
        unions: of its labels.
        cut: the labels of all units that are cut.
        spec: what is kept of each tensor of the large network.
    """
    found = {}
    for choice in choices.values():
        own = {**spec.get(f"{choice.norm}.weight", {}), **spec.get(f"{choice.norm}.running_mean", {})}
        there = ~np.logical_or.reduce([np.isin(unions.roots(labels), cut) for labels in choice.arrives])
        read = np.array(choice.selected)[own[0].cpu().numpy() if 0 in own else slice(None)]
        assert there[read].all(), f"{choice.norm} reads a channel that is cut from the stream before it"
        if len(read) != there.sum():
            found[choice.norm] = (np.cumsum(there) - 1)[read].tolist()
    return found


class Select:
    """A forward pre-hook: what comes in is reduced to the channels that the module's buffer names."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Input [B, C, ...] to the same with fewer channels."""
        return (args[0].index_select(1, module.get_buffer(SELECTED)), *args[1:])


def selected(model: nn.Module) -> Selections:
    """Which channels of their input the BatchNorms of a network read, where they select any."""
    return {
        path: module.get_buffer(SELECTED).tolist()
        for path, module in model.named_modules()
        if SELECTED in module._buffers
    }


def select(model: nn.Module, wanted: Selections) -> None:
    """Make BatchNorms read the channels at these positions only; the modules are changed in place.

    One that selects already and is not named reads all channels again.

    Raises:
        ValueError: a module that is not there or no BatchNorm; positions that do not rise, or are not as many as the
            BatchNorm has channels.
    """
    for path, module in model.named_modules():
        if path not in wanted and SELECTED in module._buffers:
            del module._buffers[SELECTED]
            module._non_persistent_buffers_set.discard(SELECTED)
            for handle in [key for key, hook in module._forward_pre_hooks.items() if isinstance(hook, Select)]:
                del module._forward_pre_hooks[handle]
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, positions in wanted.items():
        norm = modules.get(path)
        if not isinstance(norm, _BatchNorm):
            raise ValueError(
                f"{path} should be a BatchNorm that reads {len(positions)} channels, but "
                + ("is not in the network" if norm is None else f"is a {type(norm).__name__}")
                + "; give the network that was compacted, as it was before"
            )
        rising = all(a < b for a, b in zip([-1, *positions], positions, strict=False))
        if not rising or len(positions) != norm.num_features:
            raise ValueError(
                f"{path} has {norm.num_features} channels and must read as many, at rising positions, got {positions}; "
                "give the network that was compacted, as it was before"
            )
        on = next((tensor.device for tensor in (*norm.parameters(), *norm.buffers())), None)
        there = SELECTED in norm._buffers
        norm.register_buffer(SELECTED, torch.tensor(positions, device=on), persistent=False)
        if not there:
            norm.register_forward_pre_hook(Select())


def _module(walk: Labelling, node: Node) -> str | None:
    """The path of the BatchNorm module that a node is the only call of."""
    if operator(node) != "batch_norm":
        return None
    own = [part for part in node.args[1:5] if isinstance(part, Node)]
    names = [walk.names[part] for part in own if part in walk.names]
    paths = {name.rpartition(".")[0] for name in names}
    alone = all(list(part.users) == [node] for part in own)
    called = [name for name, first in walk.same.items() if first in names]
    if len(paths) != 1 or len(names) != len(own) or not alone or sorted(called) != sorted(names):
        return None
    (path,) = paths
    return path if isinstance(walk.model.get_submodule(path), _BatchNorm) else None


def _stream(walk: Labelling, node: Node) -> tuple[Node, tuple[int, ...]]:
    """What a BatchNorm reads, before a selection, and the channels that it reads of it."""
    source = node.args[0]
    assert isinstance(source, Node), "a BatchNorm is called on a tensor"
    known = walk.buffer(source.args[2]) if operator(source) == "index_select" else None
    if known is not None and known[0].rpartition(".")[2] == SELECTED:
        stream = source.args[0]
        assert isinstance(stream, Node), "channels are selected from a tensor"
        return stream, tuple(known[1].tolist())
    return source, tuple(range(walk.shape(source)[1]))


def _is_shared(walk: Labelling, node: Node) -> bool:
    """Whether others read what a BatchNorm reads, or one of the parts that it is made of without any weights."""
    region, waiting = {node}, [node.args[0]]
    while waiting:
        source = waiting.pop()
        if not isinstance(source, Node) or source in region or source in walk.names:
            continue
        region.add(source)
        if source.name not in walk.consumed and not walk.names.keys() & set(source.all_input_nodes):
            waiting += source.all_input_nodes
        elif operator(source) == "index_select":  # an earlier selection
            waiting.append(source.args[0])
    return any(user not in region for source in region - {node} for user in source.users)


def _followed(walk: Labelling, norm: Node, order: dict[Node, int]) -> tuple[Labelling, Labels, list[str]] | None:
    """New labels for the channels of a BatchNorm, followed to whoever adds them up.

    Returns:
        The labels of all that was met, those of the channels, and the layers that read them; None where no channel can
        be cut.
    """
    cone = walk.beside()
    stream = norm.args[0]
    assert isinstance(stream, Node), "a BatchNorm is called on a tensor"
    dims = kept_whole(stream.meta["val"])
    labels = dims[1] = cone.unions.new(len(dims[1]))
    cone.values[stream] = dims
    cone.values[norm] = cone.called(norm)
    del cone.values[stream]
    met, waiting = {norm}, [(order[user], user) for user in norm.users]
    heapq.heapify(waiting)
    while waiting:
        _, node = heapq.heappop(waiting)
        if node in met:
            continue
        met.add(node)
        if node.op == "output":
            cone.keep(node, "an output of the network")
            continue
        value = cone.called(node)
        mine = set(cone.unions.roots(labels).tolist()) - {KEPT}
        if any(mine & set(cone.unions.roots(part).tolist()) for part in tree_leaves(value) if _are_labels(part)):
            cone.values[node] = value
            for user in node.users:
                heapq.heappush(waiting, (order[user], user))
    for node, name in walk.names.items():
        first = cone.same.get(name, name)
        if first in cone.owned and not met.issuperset(node.users):
            for part in cone.owned[first]:
                cone.unions.keep(part, "read elsewhere too")
    mine = set(cone.unions.roots(labels).tolist()) - {KEPT}
    nodes = {node.name: node for node in met}
    readers = [
        cone.names[source].removesuffix(".weight")
        for name, parts in cone.consumed.items()
        if any(mine & set(cone.unions.roots(part.labels).tolist()) for part in parts)
        for source in nodes[name].all_input_nodes
        if source in cone.names and len(walk.shape(source)) > 1
    ]
    return (cone, labels, readers) if mine and readers else None


def _are_labels(part: Any) -> bool:
    return isinstance(part, np.ndarray)
