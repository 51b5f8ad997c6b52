"""Dead units of a weight mask: those that nobody reads, or that are the same for every input, go without any change.

A unit is the same for every input where the network, run blind, knows its value. A constant that is not 0 is added to a
bias of whoever reads it, where that is exact; else the unit stays.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.utils._pytree import tree_map

from scratchcard.networks.blind import Reading, Run, along, floating
from scratchcard.networks.calculated import effective
from scratchcard.networks.copies import without_masks
from scratchcard.networks.followed import operator
from scratchcard.networks.forward import as_fits, read_state
from scratchcard.networks.lengths import fitted
from scratchcard.networks.sites import Sites
from scratchcard.types import State, Tensors, UnitMask

TOLERANCE = 1e-12
"""Largest difference to the network with its dead units, relative to its largest output, in float64."""
EQUAL = 1e-13
"""Largest relative difference of two float64 numbers that are one, but for the order in which they were added up."""


@dataclass(frozen=True)
class Dead:
    """Which units can go, and what must be changed elsewhere for that to change nothing."""

    mask: UnitMask
    """Site -> boolean tensor [units], True = kept, never none; sites that lose nothing are left out."""
    folded: State
    """Bias or running mean -> its new value, with the constants of the units that go; exact in evaluation mode."""
    kept: dict[str, str]
    """Site -> why some units stay that are the same for every input."""
    error: float
    """Difference that it makes, relative to the network's largest output, in float64."""


def dead_units(model: nn.Module, sites: Sites, example_inputs: Tensors) -> Dead:
    """Find the units without a path in or out: the network with `folded` and without them computes what it did.

    In evaluation mode, that is. It has been tried on two batches when it is returned; where it cannot be tried, or is
    not so, only units that nobody reads go.

    Args:
        model: the network, its weights zero where a weight mask cuts; it is not touched.
        sites: of the network.
        example_inputs: one batch, as the sites were found with.
    """
    model = without_masks(model)
    state = read_state(model)
    exact = {name: value.double() if value.is_floating_point() else value for name, value in state.items()}
    inputs = tree_map(lambda leaf: leaf.cpu().double() if floating(leaf) else leaf, as_fits(example_inputs, model))
    batches = [inputs, _drawn(inputs)]
    try:
        with torch.no_grad():
            blind = Run(sites, exact, blind=True)
            blind.outputs(inputs)
            seen = [Run(sites, exact) for _ in batches]
            wanted = [run.outputs(batch) for run, batch in zip(seen, batches, strict=True)]
            constants = _Constants(model, sites, blind, seen)
            able, reasons = constants.able()
            mask, held, rest = _with_unread(sites, exact, able)
            gone = {name: [unit for unit in units if unit not in held[name]] for name, units in able.items()}
            folded = {name: exact[name] + share for name, share in constants.folded(gone).items()}
            found = [Run(sites, {**rest, **folded}).outputs(batch) for batch in batches]
    except (RuntimeError, IndexError) as error:  # types that are written into it; checks of values inside it
        told = f"constants are not known, since it cannot be run on unknown inputs in float64 ({_short(error)})"
        return Dead(_with_unread(sites, state, {})[0], {}, {"the whole network": told}, 0.0)
    worst = max(_difference(a, b) for a, b in zip(wanted, found, strict=True))
    if not worst <= TOLERANCE:
        told = f"without its constant units it differs by {worst:.2g} of the largest output, allowed is {TOLERANCE:g}"
        return Dead(_with_unread(sites, state, {})[0], {}, {"the whole network": told}, 0.0)
    for name, units in held.items():
        reasons[name].update(["one at least is left of every site and tensor"] * len(units))
    kept = {
        name: "; ".join(f"{number} dead unit(s) stay: {why}" for why, number in own.items())
        for name, own in reasons.items()
        if own
    }
    return Dead(mask, {name: value.to(state[name].dtype) for name, value in folded.items()}, kept, worst)


def unread_units(sites: Sites, state: State) -> UnitMask:
    """The mask that keeps every unit which somebody still reads, and at least one unit of each site.

    A unit is read where a weight that multiplies it is not zero. Removing one that is not read is exact whatever its
    own value is. (A unit into which nothing leads any more may still have a constant value: see `dead_units`.)

    Args:
        sites: of the network.
        state: its weights, zero where a weight mask cuts.

    Returns:
        Site -> boolean tensor [units]; sites that lose nothing are left out.
    """
    mask, state = {}, effective(sites.program, sites.calculated, state)
    for name, site in sites.sites.items():
        read = torch.tensor([_is_read(unit, sites, state) for unit in site.units])
        if not bool(read.any()):
            read[0] = True
        if not bool(read.all()):
            mask[name] = read
    return mask


def _is_read(unit: dict[str, dict[int, list[int]]], sites: Sites, state: State) -> bool:
    """Whether any weight that multiplies the unit is not zero; a unit that is read in another way counts as read."""
    readers = [
        (name, dim, indices)
        for name, dims in unit.items()
        for dim, indices in dims.items()
        if name in sites.outputs and dim != sites.outputs[name]
    ]
    return not readers or any(bool(state[n].index_select(d, torch.tensor(i)).any()) for n, d, i in readers)


def _with_unread(sites: Sites, state: State, gone: dict[str, list[int]]) -> tuple[UnitMask, dict[str, set[int]], State]:
    """The mask without these units and without all that nobody reads then; no site and no tensor is emptied.

    Returns:
        The mask; site -> units that stay for this last reason; the state with 0 in every weight that is cut.
    """
    held: dict[str, set[int]] = defaultdict(set)
    parts = {part for known in sites.calculated.values() for part in known.parts}
    while True:
        mask, rest = sites.whole(), state
        for name, units in gone.items():
            mask[name][[unit for unit in units if unit not in held[name]]] = False
        while True:
            rest = {name: value.clone() for name, value in rest.items()}
            cut = _cut_places(sites, mask)
            for (weight, dim), indices in cut.items():
                if weight in sites.outputs or weight in parts:
                    rest[weight].index_fill_(dim, torch.tensor(sorted(indices)), 0.0)
            rest |= fitted(sites.lengths, state, rest)
            settled = True
            for name, read in unread_units(sites, rest).items():
                read[list(held[name])] = True
                settled &= bool((read | ~mask[name]).all())
                mask[name] &= read
            if settled:
                break
        more = _emptied(sites, mask, cut)
        if not more:
            return {name: kept for name, kept in mask.items() if not bool(kept.all())}, held, rest
        for name, unit in more:
            held[name].add(unit)


def _cut_places(sites: Sites, mask: UnitMask) -> dict[tuple[str, int], set[int]]:
    """(parameter or buffer, dimension) -> the indices that go."""
    cut: dict[tuple[str, int], set[int]] = defaultdict(set)
    for name, kept in mask.items():
        for unit in (~kept).nonzero().flatten().tolist():
            for tensor, dims in sites[name].units[unit].items():
                for dim, indices in dims.items():
                    cut[tensor, dim].update(indices)
    return cut


def _emptied(sites: Sites, mask: UnitMask, cut: dict[tuple[str, int], set[int]]) -> list[tuple[str, int]]:
    """(site, unit) of the units that have to stay so that something is left of a site or a tensor; none if it is."""
    empty = [(name, 0) for name, kept in mask.items() if not bool(kept.any())]
    whole = next((place for place, indices in cut.items() if len(indices) == sites.shapes[place[0]][place[1]]), None)
    if empty or whole is None:
        return empty
    tensor, dim = whole  # cut by several sites, of which none is empty: a stream, and a choice of its channels
    return [
        (name, unit)
        for name, kept in mask.items()
        for unit in (~kept).nonzero().flatten().tolist()
        if 0 in sites[name].units[unit].get(tensor, {}).get(dim, [])
    ]


class _Constants:
    """The units that are the same for every input, and what would have to take their place."""

    def __init__(self, model: nn.Module, sites: Sites, blind: Run, seen: list[Run]) -> None:
        self._sites, self._names = sites, blind.names
        tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        times = Counter(id(tensor) for _, tensor in tensors)
        self._single = {name for name, tensor in tensors if times[id(tensor)] == 1}
        """Parameters and buffers that have one name only."""
        self._readers: dict[int, list[tuple[Reading, set[int]]]] = defaultdict(list)
        """Root of a unit -> who reads it, and at which indices."""
        self._variable: set[int] = set()
        """Roots of units that are not the same for every input where somebody reads them."""
        for at, reading in enumerate(blind.readings):
            if reading.grouped:
                continue
            known = ~reading.value.isnan()
            for run in seen:  # a second opinion, from inputs that are known
                known &= (run.readings[at].value - reading.value).abs() <= EQUAL * (1 + reading.value.abs())
            constant = (along(known, reading.dim).all(1) | ~reading.read()).tolist()
            indices: dict[int, set[int]] = defaultdict(set)
            for index, root in enumerate(reading.roots):
                indices[root].add(index)
                if not constant[index]:
                    self._variable.add(root)
            for root, own in indices.items():
                self._readers[root].append((reading, own))

    def able(self) -> tuple[dict[str, list[int]], dict[str, Counter[str]]]:
        """Site -> the units that could go; site -> why so many others, constant as well, could not."""
        able: dict[str, list[int]] = {}
        reasons: dict[str, Counter[str]] = {}
        for name, labels in self._sites.labels.items():
            able[name], reasons[name] = [], Counter()
            if name in self._sites.branches:  # of one unit, which stays
                continue
            for unit, root in enumerate(labels.tolist()):
                if root in self._readers and root not in self._variable:
                    reason = next(filter(None, (self._refusal(*reader) for reader in self._readers[root])), "")
                    if reason:
                        reasons[name][reason] += 1
                    else:
                        able[name].append(unit)
        return able, reasons

    def folded(self, gone: dict[str, list[int]]) -> State:
        """Bias or running mean -> what is added to it when these units go."""
        cut: dict[tuple[Node, int], tuple[Reading, set[int]]] = {}
        for name, units in gone.items():
            for unit in units:
                for reading, indices in self._readers[int(self._sites.labels[name][unit])]:
                    # a channel that goes from a stream, and from a choice of its channels as well, was read once
                    cut.setdefault((reading.node, reading.at), (reading, set()))[1].update(indices)
        sums: State = {}
        for reading, indices in cut.values():
            share = _share(reading, indices)
            if bool(share.any()):
                taker, sign = self._taker(reading)
                sums[taker] = sums.get(taker, torch.zeros(())) + sign * share[:, 0]
        return sums

    def _refusal(self, reading: Reading, indices: set[int]) -> str:
        """Why a constant cannot be left out here; empty if it can."""
        share = _share(reading, indices)
        if not bool(share.any()):
            return ""
        if reading.padded:
            return f"their value is not 0, and at its borders {self._layer(reading)} reads zeros in its place"
        if float((share - share[:, :1]).abs().max()) > EQUAL * float(share.abs().max()):
            return f"their value is not the same wherever {self._layer(reading)} reads it"
        if not self._taker(reading)[0]:
            return f"their value is not 0, and {self._layer(reading)} has no bias of its own that could take it"
        return ""

    def _layer(self, reading: Reading) -> str:
        weight = None if reading.weight is None else reading.node.args[reading.weight]
        named = self._names.get(weight.name, "") if isinstance(weight, Node) else ""
        return named.removesuffix(".weight") or reading.node.name

    def _taker(self, reading: Reading) -> tuple[str, int]:
        """The bias that takes what is no longer added up, or the running mean that follows; and with which sign."""
        node = reading.node
        if node.kwargs:  # the bias may be scaled
            return "", 0
        if reading.bias is not None and (name := self._own(node.args[reading.bias], reading)):
            return name, 1
        user = next(iter(node.users), None)
        if user is not None and len(node.users) == 1 and operator(user) == "batch_norm" and not user.kwargs:
            x, _, _, mean, _, training = user.args[:6]
            if x is node and not training and (name := self._own(mean, reading)):
                return name, -1
        return "", 0

    def _own(self, part: Any, reading: Reading) -> str:
        """The name of a vector that nothing else in the network uses; empty if it is not one."""
        if not isinstance(part, Node) or len(part.users) != 1:
            return ""
        name, outputs = self._names.get(part.name, ""), reading.node.meta["val"].shape[reading.dim]
        return name if name in self._single and tuple(part.meta["val"].shape) == (outputs,) else ""


def _share(reading: Reading, indices: set[int]) -> Tensor:
    """What these indices alone contribute to the sums, [outputs, everywhere]."""
    chosen = torch.tensor(sorted(indices))
    # where it is not known, its weights are zero
    value = reading.value.index_select(reading.dim, chosen).nan_to_num(nan=0.0)
    if not bool(value.any()):
        return torch.zeros(1, 1)
    if not reading.additive:
        return torch.tensor([[0.0, 1.0]])  # one that could not be folded
    result = reading.on(torch.zeros_like(reading.value).index_copy_(reading.dim, chosen, value))
    return result.reshape(1, -1) if reading.weight is None else along(result, reading.dim)


def _drawn(inputs: Tensors) -> Tensors:
    """Another batch of the same shapes: normal numbers where there are numbers to calculate with, else other places."""
    chance = torch.Generator().manual_seed(1)

    def drawn(leaf: Any) -> Any:
        if floating(leaf):
            return torch.randn(leaf.shape, generator=chance, dtype=leaf.dtype)
        return leaf.flatten().flip(0).view(leaf.shape) if isinstance(leaf, Tensor) else leaf

    return tree_map(drawn, inputs)


def _difference(wanted: list[Tensor], found: list[Tensor]) -> float:
    scale = max((float(leaf.abs().max()) for leaf in wanted if leaf.numel()), default=1.0) or 1.0
    gaps = [float((a.double() - b.double()).abs().max()) for a, b in zip(wanted, found, strict=True) if a.numel()]
    return max(gaps, default=0.0) / scale


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
