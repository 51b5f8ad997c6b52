"""Every site is tried before it is offered: what cannot be cut is moved to what is kept, with the sentence why.

All sites are cut at once behind the gate; only where that is refused are they tried in halves, those that passed
together with the next. A proof depends on the network's code and not on its weights, so it can be kept.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from scratchcard.networks.compact import compacted
from scratchcard.networks.gate import Originals
from scratchcard.networks.sites import Sites, read_sites
from scratchcard.types import Tensors


class Proofs(Protocol):
    """Where proofs are kept: digest of a network -> the sites of it that cannot be cut, and why."""

    def refused(self, digest: str) -> dict[str, str] | None:
        """What was found of a network; None where it has not been tried."""
        ...

    def keep(self, digest: str, refused: dict[str, str]) -> None:
        """Keep what was found."""
        ...


def find_sites(model: nn.Module, example_inputs: Tensors, proofs: Proofs | None = None) -> Sites:
    """Find every site of a network that can be cut: each is proved by cutting it, with weights redrawn.

    Args:
        model: any module that `torch.export` can capture; it is not touched.
        example_inputs: one batch, as the model is called with.
        proofs: where proofs are kept, so that a network that is known is not tried again.

    Raises:
        ValueError: the network cannot be exported (control flow that depends on data); the source line is named.
    """
    found = read_sites(model, example_inputs)
    if not found.sites:
        return found
    digest = "" if proofs is None else _digest(model, example_inputs, found)
    refused = None if proofs is None else proofs.refused(digest)
    if refused is None:
        refused = _Trial(model, example_inputs, found).refused
        if proofs is not None:
            proofs.keep(digest, refused)
    return _without(found, refused)


class _Trial:
    """The sites of a network, cut behind the gate."""

    def __init__(self, model: nn.Module, example_inputs: Tensors, sites: Sites) -> None:
        self._model, self._inputs, self._sites = model, example_inputs, sites
        self._originals = Originals(model)
        self._passed: list[str] = []
        self.refused: dict[str, str] = {}
        """Site -> why it cannot be cut."""
        branches = [name for name in sites.sites if name in sites.branches]
        units = [name for name in sites.sites if name not in sites.branches and len(sites[name]) > 1]
        halves = [half for half in (branches[::2], branches[1::2]) if half]  # the others show what goes through them
        if not any(self._objection([*units, *half]) for half in halves or [[]]):
            return
        self._try(_kindred(units))
        for half in halves:
            self._passed = []
            self._try([[name] for name in half])

    def _try(self, groups: list[list[str]]) -> None:
        """Let pass what can be cut together with what passed before."""
        names = [name for group in groups for name in group]
        why = self._objection([*self._passed, *names]) if names else ""
        if not why:
            self._passed += names
        elif len(groups) > 1:
            half = len(groups) // 2
            self._try(groups[:half])
            self._try(groups[half:])
        elif len(names) == 1:
            self.refused[names[0]] = why
        else:
            self._try_kin(names)

    def _try_kin(self, names: list[str]) -> None:
        """Of sites that are alike the first and the last, and where neither can be cut, none of them."""
        first, *rest, last = names
        self._try([[first]])
        self._try([[last]])
        if {first, last} <= self.refused.keys():
            self.refused |= {name: f"as {first}: {self.refused[first]}" for name in rest}
        elif rest:
            self._try([[name] for name in rest])

    def _objection(self, names: Sequence[str]) -> str:
        """Why these sites cannot be cut together; empty where they can."""
        try:
            masks = {name: self._mask(name) for name in names}
            compacted(self._model, masks, self._inputs, self._sites, "full", self._originals)
        except ValueError as error:
            return str(error)
        return ""

    def _mask(self, name: str) -> Tensor:
        """Half of the units, in no order; the first stays, so that sites that choose from others find some."""
        units = len(self._sites[name])
        if name in self._sites.branches:
            return torch.zeros(units, dtype=torch.bool)
        order = 1 + torch.randperm(units - 1, generator=torch.Generator().manual_seed(units))
        return torch.ones(units, dtype=torch.bool).index_fill(0, order[: max(1, units // 2)], False)


def _kindred(names: Iterable[str]) -> list[list[str]]:
    """Sites whose names differ in their numbers alone, as those of the blocks of a network do."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    return list(groups.values())


def _without(sites: Sites, refused: dict[str, str]) -> Sites:
    """The sites that can be cut; the others are kept, with the reason.

    Heads and choices stay known, as what else is cut has to do with them.
    """
    gone = {name: f"cutting it was tried, and {why}" for name, why in refused.items() if name in sites.sites}
    if not gone:
        return sites
    kept = dict(sites.kept)
    for name, why in gone.items():
        ordinary = name in sites.ordinary
        for layer in sites[name].layers if ordinary else (name,):
            kept[layer] = f"{kept[layer]}; {why}" if layer in kept else why
    return replace(
        sites,
        sites={name: site for name, site in sites.sites.items() if name not in gone},
        labels={name: labels for name, labels in sites.labels.items() if name not in gone},
        kept=kept,
        branches={name: branch for name, branch in sites.branches.items() if name not in gone},
        frozen={name: weights for name, weights in sites.frozen.items() if name not in gone},
    )


def _digest(model: nn.Module, example_inputs: Tensors, sites: Sites) -> str:
    """Of all that a proof rests on: the program, what the modules are told, their code, and ours."""
    sha = hashlib.sha256(f"{version('torch')} {_our_code()}\n{sites.program.graph}\n".encode())
    for leaf in tree_leaves(example_inputs):
        sha.update(f"{tuple(leaf.shape)} {leaf.dtype}\n".encode() if isinstance(leaf, Tensor) else f"{leaf!r}".encode())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
    kinds = set[type]()
    for path, module in model.named_modules():
        plain = {name: value for name, value in vars(module).items() if isinstance(value, int | float | str | tuple)}
        sha.update(f"{path} {type(module).__qualname__} {plain}\n".encode())
        kinds.add(type(module))
    for file in sorted({file for kind in kinds if (file := _file_of(kind))}):
        sha.update(Path(file).read_bytes())
    return sha.hexdigest()


def _file_of(kind: type) -> str:
    """The file of a class of the user's; empty where it has none, or is torch's, whose version is told."""
    try:
        return "" if kind.__module__.startswith("torch.") else inspect.getfile(kind)
    except (TypeError, OSError):  # typed at a prompt
        return ""


@functools.cache
def _our_code() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
