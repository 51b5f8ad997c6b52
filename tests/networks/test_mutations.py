"""Every rule, made wrong in every way a machine can think of: the gate refuses what is wrong, or it was right.

A fault wraps one rule of the operator and movement tables (it forgets to unite, to keep, where units are added up or
what a weight's outputs are; its labels are one place off) or what a layer is told of its new size (nothing, or twice).
One that changes nothing is told apart. What passes is compared with the network's own modules, the columns that read a
cut unit set to 0: who reads what is written down by hand in `rule_networks.py`.
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from rule_networks import NOT_HERE, SHOWN, Exercise, embedded, joined, networks_of
from torch import Tensor, nn

from scratchcard.networks import compact as compaction
from scratchcard.networks import sites as reading
from scratchcard.networks.compact import Compacted, compact
from scratchcard.networks.cuts import ShrinkSpec
from scratchcard.networks.forward import call
from scratchcard.networks.operators import RULES
from scratchcard.networks.silenced import leaves
from scratchcard.networks.sites import Sites, read_sites

NAMES = [name for name in RULES if hasattr(torch.ops.aten, name) and name not in NOT_HERE]
TELL = next(name for name in ("retell", "_retell") if hasattr(compaction, name))
"""What tells a layer its new size."""


class Partly:
    """Something with some of its methods replaced by ones that do nothing."""

    def __init__(self, whole: Any, silent: tuple[str, ...], **other: Any) -> None:
        vars(self).update(_whole=whole, _silent=silent, **other)

    def __getattr__(self, name: str) -> Any:
        return (lambda *_, **__: None) if name in self._silent else getattr(self._whole, name)


Rule = Callable[..., Any]


def without_unions(*silent: str) -> Callable[[Rule], Rule]:
    return lambda rule: (
        lambda walk, *rest, **named: rule(Partly(walk, (), unions=Partly(walk.unions, silent)), *rest, **named)
    )


def without(name: str) -> Callable[[Rule], Rule]:
    return lambda rule: lambda walk, *rest, **named: rule(Partly(walk, (name,)), *rest, **named)


def rolled(part: Any) -> Any:
    """Labels one place off, in every dimension that has any."""
    if isinstance(part, np.ndarray):
        return np.roll(part, 1) if part.any() else part
    return [rolled(one) for one in part]


FAULTS: dict[str, Callable[[Rule], Rule]] = {
    "unites nothing": without_unions("unite", "unite_all"),
    "keeps nothing": without_unions("keep"),
    "unites and keeps nothing": without_unions("unite", "unite_all", "keep"),
    "labels one place off": lambda rule: lambda *given, **named: rolled(rule(*given, **named)),
    "adds up unseen": without("consumes"),
    "outputs unseen": without("produces"),
    "numbers unseen": without("counts"),
}


@contextmanager
def programs_kept() -> Iterator[None]:
    """Every network is exported once, whatever is wrong with the rules."""
    with pytest.MonkeyPatch.context() as patch:
        known: dict[Any, Any] = {}
        capture = reading.capture

        def once(model: nn.Module, inputs: Any, training: bool = False) -> Any:
            key = (id(model), training)
            if key not in known:
                known[key] = (model, capture(model, inputs, training))
            return known[key][1]

        patch.setattr(reading, "capture", once)
        yield


@pytest.fixture(autouse=True)
def _programs() -> Iterator[None]:
    with programs_kept():
        yield


@functools.cache
def exercise(name: str, what: str) -> Exercise:
    return networks_of(name)[what]()


CASES = [(name, what) for name in NAMES for what in networks_of(name)]


def some(sites: Sites) -> dict[str, Tensor]:
    """A mask that keeps half of the units that a search would take, and is another one if shifted or turned round."""
    chance = torch.Generator().manual_seed(0)

    def drawn(units: int) -> Tensor:
        while True:
            kept = torch.zeros(units, dtype=torch.bool)
            kept[torch.randperm(units, generator=chance)[: (units + 1) // 2]] = True
            if not any(torch.equal(kept, other) for other in (kept.flip(0), kept.roll(1), kept.roll(-1))):
                return kept

    return {name: drawn(len(sites[name])) for name in (*sites.ordinary, *sites.heads) if len(sites[name]) > 1}


def told(sites: Sites) -> tuple[Any, ...]:
    """All that matters of what was found, whatever numbers its labels have."""
    known = {label: (name, at) for name in sites.sites for at, label in enumerate(sites.labels[name].tolist())}
    adds = {
        (node, part.argument, part.dim, tuple(known.get(root) for root in sites.unions.roots(part.labels).tolist()))
        for node, parts in sites.consumed.items()
        for part in parts
    }
    adds = {one for one in adds if any(one[3])}
    numbers = [(count.module, count.attribute, count.number) for count in getattr(sites, "counts", ())]
    return {name: site.units for name, site in sites.sites.items()}, adds, sites.outputs, sites.kept.keys(), numbers


def by_hand(case: Exercise, spec: ShrinkSpec) -> list[Tensor]:
    """What the large network gives, in float64, where the columns that read a unit that was cut are 0."""
    model = copy.deepcopy(case.model).double()
    weights = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for reader, (dim, columns) in case.reads.items():
            if reader in weights:
                gone = [at for at, column in enumerate(columns) if column is not None and was_cut(spec, *column)]
                weights[reader].index_fill_(dim, torch.tensor(gone, dtype=torch.int64), 0.0)
        return leaves(call(model, doubled(case.inputs)))


def was_cut(spec: ShrinkSpec, weight: str, dim: int, unit: int) -> bool:
    kept = spec.get(weight, {}).get(dim)
    return kept is not None and unit not in kept.tolist()


def doubled(inputs: Any) -> Any:
    return inputs.double() if inputs.is_floating_point() else inputs


def right(case: Exercise, small: Compacted) -> bool:
    wanted = by_hand(case, small.shrink_spec)
    with torch.no_grad():
        found = leaves(call(copy.deepcopy(small.module).double(), doubled(case.inputs)))
    scale = max(float(leaf.abs().max()) for leaf in wanted)
    return all(
        one.shape == other.shape and float((one - other).abs().max()) <= 1e-5 * scale
        for one, other in zip(wanted, found, strict=True)
    )


def outcome(case: Exercise, before: Sites) -> str:
    """What became of a network that was read with a fault in the rules."""
    try:
        sites = read_sites(case.model, case.inputs)
        if told(sites) == told(before):
            return "changes nothing"
        small = compact(case.model, some(sites), case.inputs, sites)
    except (ValueError, AssertionError):  # the latter where what the rules say contradicts itself
        return "refused"
    return "right all the same" if right(case, small) else "WRONG"


def fate(name: str, what: str, faults: dict[str, Callable[[Rule], Rule]]) -> Counter[tuple[str, str]]:
    case = exercise(name, what)
    before = read_sites(case.model, case.inputs)
    found: Counter[tuple[str, str]] = Counter()
    for fault, wrap in faults.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(RULES, name, wrap(RULES[name]))
            found[fault, outcome(case, before)] += 1
    return found


def test_every_rule_has_a_network():
    without_one = [name for name in NAMES if not networks_of(name)]
    assert not without_one, f"write down in rule_networks.py what these are shown on: {without_one}"
    assert len(NAMES) > 0.9 * len(RULES)


LIGHT = {"relu": "plain", "linear": "plain", "add": "of two", "view": "channels to neurons", "flip": "of units"}


@pytest.mark.parametrize(
    ("name", "what"), [pytest.param(*case, marks=[] if case in LIGHT.items() else pytest.mark.heavy) for case in CASES]
)
def test_a_right_rule_is_called_and_gives_a_right_network(name, what):
    case, called, rule = exercise(name, what), [], RULES[name]

    def told_of(*given: Any, **named: Any) -> Any:
        called.append(name)
        return rule(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RULES, name, told_of)
        sites = read_sites(case.model, case.inputs)
    assert called, f"{name} is not in the program of the network that it is to be shown on"
    small = compact(case.model, some(sites), case.inputs, sites)
    assert right(case, small)
    assert small.shrink_spec, "nothing was cut"


def test_no_fault_of_a_common_rule_passes():
    found = sum((fate(name, what, FAULTS) for name, what in LIGHT.items()), Counter())
    assert not [fault for fault, how in found if how == "WRONG"]
    assert {how for _, how in found} >= {"refused", "changes nothing"}


@pytest.mark.heavy
def test_no_fault_of_any_rule_passes():
    found: dict[tuple[str, str], Counter[tuple[str, str]]] = {case: fate(*case, FAULTS) for case in CASES}
    every = sum(found.values(), Counter())
    print("\n" + table(every, FAULTS))
    wrong = [(*case, fault) for case, one in found.items() for fault, how in one if how == "WRONG"]
    assert not wrong, f"these pass the gate and are wrong: {wrong}"
    alive = {name for (name, _), one in found.items() for _, how in one if how != "changes nothing"}
    assert alive == set(NAMES), f"no fault of these does anything: {set(NAMES) - alive}"


# what a layer is told of its new size

TOLD: dict[str, Callable[[], Exercise]] = {
    "_ConvNd": networks_of("conv2d")["plain"],
    "_ConvNd of groups": networks_of("conv2d")["of groups"],
    "_ConvTransposeNd": networks_of("conv_transpose2d")["plain"],
    "Linear": networks_of("linear")["plain"],
    "_NormBase": networks_of("batch_norm")["neurons"],
    "GroupNorm": networks_of("group_norm")["of four"],
    "PReLU": networks_of("prelu")["a slope for each"],
    "Embedding": networks_of("embedding")["plain"],
    "EmbeddingBag": lambda: embedded(nn.EmbeddingBag(11, 8)),
    "Bilinear": SHOWN["bilinear"]["with what is given"],
    "RNNBase": SHOWN["lstm"]["plain"],
    "RNNCellBase": SHOWN["gru_cell"]["plain"],
    "Flipped": networks_of("addmm")["plain"],
    "MultiheadAttention": joined,
}
"""Kind of layer that is told a new size -> a network with one."""
FORGOTTEN, TWICE = "told nothing", "told twice"


def test_every_kind_of_layer_that_is_told_its_size_has_a_network():
    tell = getattr(compaction, TELL)
    tree = ast.parse(inspect.getsource(tell if tell.__module__ == compaction.__name__ else inspect.getmodule(tell)))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    asked = [call.args for call in calls if ast.unparse(call.func) == "_is"]  # a table of kinds, or one after the other
    asked += [call.args[1:] for call in calls if ast.unparse(call).startswith("isinstance(module, ")]
    kinds = {ast.unparse(kind).rpartition(".")[2] for kinds in asked for kind in kinds} - {"kinds"}
    assert kinds
    assert kinds <= {kind.split()[0] for kind in TOLD}


def told_wrongly(kind: str, how: str, tell: Callable[..., None]) -> Callable[..., None]:
    """What layers of one kind are told, not at all or twice; all others as they are."""

    def wrong(module: nn.Module, *rest: Any) -> None:
        if kind.split()[0] not in {base.__name__ for base in type(module).__mro__}:
            tell(module, *rest)
        elif how == TWICE:
            before = numbers(module)
            tell(module, *rest)
            for name, now in numbers(module).items():
                setattr(module, name, now * now // before[name] if before[name] else now)

    return wrong


def numbers(module: nn.Module) -> dict[str, int]:
    return {name: value for name, value in vars(module).items() if type(value) is int}


NEEDS_IT = ("_ConvNd of groups", "GroupNorm", "MultiheadAttention")
"""Kinds of layers that calculate with what they are told."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in NEEDS_IT else pytest.mark.heavy) for kind in TOLD]
)
def test_no_layer_is_handed_out_that_does_not_know_its_size_and_needs_it(kind):
    case = TOLD[kind]()
    sites = read_sites(case.model, case.inputs)
    mask = {name: kept for name, kept in some(sites).items() if name in sites.ordinary}
    fine = compact(case.model, mask, case.inputs, sites, proof="weights")
    assert right(case, fine)
    found = {}
    for how in (FORGOTTEN, TWICE):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compaction, TELL, told_wrongly(kind, how, getattr(compaction, TELL)))
            if (kind, how) == ("MultiheadAttention", FORGOTTEN):
                patch.setattr(compaction, "free_of_width", lambda *_: None)
            try:
                small = compact(case.model, mask, case.inputs, sites)
            except ValueError:
                found[how] = "refused"
                continue
        same = all(
            numbers(one) == numbers(other)
            for one, other in zip(fine.module.modules(), small.module.modules(), strict=True)
        )
        found[how] = "changes nothing" if same else "right all the same" if right(case, small) else "WRONG"
    print(kind, found)
    assert "WRONG" not in found.values()
    assert found[FORGOTTEN] == "refused" or kind not in NEEDS_IT


def table(found: Counter[tuple[str, str]], faults: Any) -> str:
    ways = ("refused", "right all the same", "changes nothing", "WRONG")
    lines = [f"{'fault':<28}" + "".join(f"{way:>20}" for way in ways)]
    lines += [f"{fault:<28}" + "".join(f"{found[fault, way]:>20}" for way in ways) for fault in faults]
    return "\n".join([*lines, f"{'all':<28}" + "".join(f"{sum(found[f, w] for f in faults):>20}" for w in ways)])
