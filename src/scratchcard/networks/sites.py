"""The sites of anyone's network: which units can be removed, what moves with each, and what is kept, and why.

The network is exported (`torch.export`), every index of every dimension of its weights gets a label, and the rules of
`operators.py` say which labels are one. Labels that reach an output, or an operator that is not known, are kept.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from scratchcard.networks.branches import Branch, find_branches
from scratchcard.networks.calculated import Calculated, find_calculated, without_units
from scratchcard.networks.choices import Choice, find_choices
from scratchcard.networks.copies import copied, without_masks
from scratchcard.networks.counts import Count
from scratchcard.networks.forward import as_fits
from scratchcard.networks.frozen import frozen_of, why_kept
from scratchcard.networks.heads import Heads, Spans, head_roots, owner, site_name
from scratchcard.networks.inlined import put_in_line
from scratchcard.networks.labelling import Consumed, Labelling, Places, places
from scratchcard.networks.labels import KEPT, Labels, Unions
from scratchcard.networks.lengths import Lengths
from scratchcard.networks.quantised import check_not_quantised
from scratchcard.networks.site_table import share_inside, site_table
from scratchcard.networks.unread import keep_unread, unread, without_idle
from scratchcard.types import Tensors, UnitMask


@dataclass(frozen=True)
class Site:
    """A place where units can be removed, named by the layer whose outputs they are, `norm->reader`, or a branch."""

    name: str
    units: tuple[Places, ...]
    """For every unit, all the places that go with it."""
    layers: tuple[str, ...]
    """Every layer that has outputs among the units: the site's own, and those it is added to; of a choice, the
    normalisation and the layers that read it; of a branch, the modules that it consists of."""

    def __len__(self) -> int:
        return len(self.units)


@dataclass(frozen=True, repr=False)
class Sites:
    """All sites of a network, with what it takes to run it silenced."""

    sites: dict[str, Site]
    kept: dict[str, str]
    """Layer -> why none of its outputs, or not all of them, can be removed."""
    program: ExportedProgram
    consumed: dict[str, list[Consumed]]
    """Node of the program -> where it adds up."""
    labels: dict[str, Labels]
    """Site -> the label of each of its units."""
    outputs: dict[str, int]
    """Weight -> the dimension that its outputs are."""
    shapes: dict[str, tuple[int, ...]]
    """Of every parameter and buffer of the large network."""
    heads: dict[str, Heads]
    """Site -> what is known of its heads; only sites of whole attention heads."""
    choices: dict[str, Choice]
    """Site -> which normalisation chooses among the channels of a stream that others read whole; only such sites."""
    branches: dict[str, Branch]
    """Site -> the branch that it is; only sites of one unit, a whole branch."""
    unions: Unions = field(repr=False)
    frozen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Site -> the frozen weights (`requires_grad` is False) that it takes entries from; only sites that do."""
    calculated: dict[str, Calculated] = field(default_factory=dict)
    """Parameter -> the weight that is calculated from it, and from which others."""
    lengths: Lengths = field(default_factory=dict)
    """Of weights that are normalised: length -> direction, and its dimension."""
    counts: tuple[Count, ...] = ()
    """Numbers in its code, or told to its modules, that count units."""

    def __getitem__(self, name: str) -> Site:
        return self.sites[name]

    @property
    def ordinary(self) -> tuple[str, ...]:
        """The sites that a search takes where none are named: channels and neurons, cut for all who read them.

        None of those that would take entries from a frozen weight.
        """
        special = {*self.heads, *self.choices, *self.branches, *self.frozen}
        return tuple(name for name in self.sites if name not in special)

    @property
    def share(self) -> float:
        """The share of the network's parameters that lie in units, 0 to 1, exact.

        Units are those of ordinary sites and of heads; a parameter that lies in several, or has several names, counts
        once. What choices and branches could take besides is not in it.
        """
        return share_inside((unit for units in self._plain().values() for unit in units), self._parameters())

    def whole(self) -> UnitMask:
        """The mask that keeps every unit."""
        return {name: torch.ones(len(site), dtype=torch.bool) for name, site in self.sites.items()}

    def __repr__(self) -> str:
        return f"Sites({len(self.sites)} sites, {sum(map(len, self.sites.values()))} units, {len(self.kept)} kept)"

    def __str__(self) -> str:
        """A table of about ten lines: alike sites together, their units, what share they are, what is kept and why."""
        kinds = {
            "choices of channels for one reader": self.choices,
            "whole branches": self.branches,
            "of frozen layers": self.frozen,
        }
        besides = {what: [name for name in self.sites if name in of] for what, of in kinds.items()}
        return site_table(self._plain(), besides, self.kept, self._parameters())

    def _plain(self) -> dict[str, tuple[Places, ...]]:
        """The units of ordinary sites and of heads; not all that were found are offered."""
        return {name: self.sites[name].units for name in (*self.ordinary, *self.heads) if name in self.sites}

    def _parameters(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter of the network, under the first of its names."""
        signature, state = self.program.graph_signature, self.program.state_dict
        first: dict[int, str] = {}
        for name in signature.inputs_to_parameters.values():
            first.setdefault(id(state[name]), name)
        return {name: tuple(state[name].shape) for name in first.values()}


def read_sites(model: nn.Module, example_inputs: Tensors) -> Sites:
    """Read the sites of a network off its program, none of them tried; `find_sites` gives those that can be cut.

    Args:
        model: any module that `torch.export` can capture; it is not touched. Weights that torch.nn.utils.prune has
            masked are taken for plain ones, their masked entries 0.
        example_inputs: one batch, as the model is called with.

    Raises:
        ValueError: the network cannot be exported (control flow that depends on data); the source line is named.
    """
    model = without_masks(model)
    program = capture(model, example_inputs)
    walk = Labelling(program, model)
    walk.run()
    keep_unread(walk, _in_training(model, example_inputs) if unread(walk) else None)
    return _collected(model, program, walk, find_choices(walk))


def _in_training(model: nn.Module, example_inputs: Tensors) -> ExportedProgram | None:
    """The network's program in training mode; None where it has none, as without targets."""
    try:
        return capture(model, example_inputs, training=True)
    except ValueError:
        return None


def capture(model: nn.Module, example_inputs: Tensors, training: bool = False) -> ExportedProgram:
    """The network's program in evaluation mode, or in training mode, without what nobody reads.

    Raises:
        ValueError: it cannot be exported, and the source line is named; or it observes ranges, or is quantised already.
    """
    check_not_quantised(model)
    inputs = as_fits(example_inputs, model)
    arguments: tuple[Any, ...] = () if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else (inputs,)
    named = inputs if isinstance(inputs, dict) else {}
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the capture's own (an LSTM's flat weights); the model is a copy
            program = torch.export.export(copied(model).train(training), arguments, dict(named))
            put_in_line(program)
            without_idle(program)
            return program
    except Exception as error:  # of many kinds: whatever the capture runs into
        told = " ".join(str(error).split())
        where = told[told.rfind('File "') :][:200] if 'File "' in told else ""
        raise ValueError(
            f"this {type(model).__name__} cannot be read by torch.export ({type(error).__name__}: {told[:300]})"
            + (f"; see {where}" if where and where[:60] not in told[:300] else "")
            + "; control flow that depends on data must go, or stay in a part that you leave out"
        ) from error


def _collected(model: nn.Module, program: ExportedProgram, walk: Labelling, choices: dict[str, Choice]) -> Sites:
    """Units by the layer whose outputs they are, then those of choices."""
    owned = {name: walk.owned[first] for name, first in walk.same.items() if first in walk.owned}  # by all their names
    found = places(walk, walk.same)
    sites: dict[str, Site] = {}
    labels_of: dict[str, Labels] = {}
    kept: dict[str, str] = {}
    layers: dict[int, list[str]] = defaultdict(list)
    calculated = find_calculated(walk)
    outputs_of = _outputs(model, walk, calculated)
    outputs = [(name, layer, owned[name][dim]) for name, layer, dim in outputs_of if name in owned]
    for _, layer, labels in outputs:
        for root in dict.fromkeys(walk.unions.roots(labels).tolist()):
            layers[root].append(layer)
    taken: set[int] = set()
    repeated, heads = head_roots(walk.values, walk.unions, walk.weights), dict[str, Heads]()
    spans = Spans(walk.values, walk.unions)
    for _, layer, labels in outputs:
        roots = walk.unions.roots(labels)
        own = [root for root in dict.fromkeys(roots.tolist()) if root != KEPT and root not in taken]
        if own:
            taken.update(own)
            units = tuple(found[root] for root in own)
            everyone = tuple(dict.fromkeys(other for root in own for other in layers[root]))
            name = layer
            if repeated.issuperset(own):
                path = owner(everyone)
                name = site_name(path if site_name(path) not in sites else layer)
                heads[name] = Heads(path, spans.of(np.array(own)))
            sites[name] = Site(name, units, everyone)
            labels_of[name] = np.array(own)
        for label, root in zip(labels.tolist(), roots.tolist(), strict=True):
            if root == KEPT:
                kept.setdefault(layer, walk.unions.reason(label))
    consumed = dict(walk.consumed)
    for name, choice in choices.items():
        sites[name] = Site(name, choice.units, (choice.norm, *choice.readers))
        labels_of[name] = choice.labels
        for node, parts in choice.consumed.items():
            consumed[node] = [*consumed.get(node, []), *parts]
    branches = find_branches(walk, sites)
    for name, branch in branches.items():
        sites[name] = Site(name, (branch.unit,), branch.modules)
        labels_of[name] = np.array([branch.label])
    frozen = frozen_of(model, {name: site.units for name, site in sites.items()})
    for name, weights in frozen.items():
        kept[name] = "; ".join(filter(None, (kept.get(name), why_kept(weights))))
    output_dims = {name: dim for name, _, dim in outputs_of}
    shapes = {name: tuple(map(len, dims)) for name, dims in owned.items()}
    counts = tuple(count for count in walk.counted if walk.unions.roots(count.labels).any())
    special = (heads, choices, branches, walk.unions, frozen, calculated, walk.lengths, counts)
    return Sites(sites, kept, program, consumed, labels_of, output_dims, shapes, *special)


def _outputs(model: nn.Module, walk: Labelling, calculated: dict[str, Calculated]) -> list[tuple[str, str, int]]:
    """(parameter, layer, dimension of its outputs) of every weight that has outputs, in the order of the network."""
    found, parts = [], without_units(walk, calculated)
    for path, module in model.named_modules():
        layer = path.partition(".parametrizations.")[0]
        for own, parameter in module.named_parameters(recurse=False):
            name = f"{path}.{own}" if path else own
            if parameter.dim() < 2 or "bias" in own or walk.same[name] in parts:
                continue
            made = walk.same[name] in calculated and own.startswith("weight")  # weight_v, weight_orig
            whole = made or own == "weight" or (path != layer and own.startswith("original"))
            found.append((name, layer if whole and layer else name, walk.output_dims.get(name, 0)))
    return found
