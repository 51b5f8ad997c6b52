"""One network of the foreign zoo, from its sites to what each cut of them gives: a row that can be committed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from foreign.beside import beside
from foreign.reference import Cut, gap, lively, outputs, precise, silent
from scratchcard.networks.compact import Compacted, Proof, compact
from scratchcard.networks.proved import find_sites
from scratchcard.networks.sites import Sites
from scratchcard.types import UnitMask

EXACT, EXACT_SINGLE = 1e-6, 1e-3
"""What may be left between a small network and its reference, in float64 and float32, of an output's largest number:
weights are of float32, and some are calculated from others when a network is made small."""
KINDS = ("ordinary", "heads", "choices")
"""Sites of many units."""
ALONE = ("ordinary again", "heads", "choices")
"""Cuts that are tried alone where all units cannot be cut together, or are no more than these."""
Row = dict[str, Any]


def measured(
    make: Callable[[], nn.Module], inputs: Callable[[int], Any], note: Callable[[Row], None], other: bool = True
) -> Row:
    """The row of one network.

    Args:
        make: builds it.
        inputs: a batch of so many examples.
        note: is told the row after each step, so that a network that ends the process leaves what is known.
        other: measure Torch-Pruning beside it.
    """
    torch.manual_seed(0)
    made = make().eval()
    model, batch = lively(made), inputs(2)
    if not all(bool(leaf.isfinite().all()) for leaf in outputs(model, batch)):
        model = made  # its weights mean something that drawn ones do not
    row: Row = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    began = time.process_time()
    try:
        sites = find_sites(model, batch)
    except ValueError as refused:
        row |= {"read": False, "why": _short(refused), "seconds": _since(began), "cuts": []}
        return row
    except Exception as error:
        row |= {"read": False, "crash": _short(error, kind=True), "seconds": _since(began), "cuts": []}
        return row
    row |= {"read": True, "seconds": _since(began), "share": share(model, sites), "kept": kept(model, sites)}
    row |= {kind: len(offered(sites, kind)) for kind in ("ordinary", "heads", "choices", "branches")}
    row["cuts"] = []
    note(row)
    for name, mask in masks(sites):
        if name in ALONE and "exact" in [cut["outcome"] for cut in row["cuts"] if cut["cut"] == "all units"]:
            continue  # all units together were exact, and these are among them
        began = time.process_time()
        whole = name == "ordinary"  # the others are proved by their weights alone: the sites have been proved already
        tried = _one(model, mask, batch, sites, inputs, "full" if whole else "weights")
        row["cuts"].append({"cut": name, **tried, "seconds": _since(began)})
        note(row)
    ends = {layer for layer, why in sites.kept.items() if why == "an output of the network"}
    if other:
        row["torch_pruning"] = beside(model, inputs, ends)
    return row


def _one(model: nn.Module, mask: UnitMask, batch: Any, sites: Sites, inputs: Callable[[int], Any], proof: Proof) -> Row:
    """What one mask gives: exact, refused, wrong or a crash."""
    try:
        small = compact(model, mask, batch, sites, proof)
    except ValueError as refused:
        return {"outcome": "refused", "why": _short(refused)}
    except Exception as error:
        return {"outcome": "crash", "why": _short(error, kind=True)}
    try:
        left, examples = compared(model, small, mask, sites, inputs)
    except Exception as error:
        return {"outcome": "crash", "why": "small network: " + _short(error, kind=True)}
    size = sum(parameter.numel() for parameter in small.module.parameters())
    return {"outcome": "exact" if left <= 1 else "wrong", "gap": left, "size": size, "examples": examples}


def compared(
    model: nn.Module, small: Compacted, mask: UnitMask, sites: Sites, inputs: Callable[[int], Any]
) -> tuple[float, int]:
    """The difference to the reference, by what is allowed, and on how many examples."""
    cut, whole = cut_places(sites, mask)
    for examples in (3, 2):  # another number than the example's, where the network takes it
        try:
            outputs(model, inputs(examples))
            large, batch, double = precise(model, inputs(examples))
            break
        except Exception:
            if examples == 2:
                raise
    little = small.module.double() if double else small.module
    found, worst = outputs(little.eval(), batch), 0.0
    for seed in (0, 1):
        worst = max(worst, gap(outputs(silent(large, cut, whole, seed).eval(), batch), found))
    return worst / (EXACT if double else EXACT_SINGLE), examples


def cut_places(sites: Sites, mask: UnitMask) -> tuple[Cut, set[str]]:
    """All places of the units that a mask cuts, and the parameters of whole branches among them."""
    cut: Cut = {}
    whole: set[str] = set()
    for site, left in mask.items():
        for unit, stays in zip(sites[site].units, left.tolist(), strict=True):
            if stays:
                continue
            if site in sites.branches:
                whole.update(unit)
                continue
            for name, dims in unit.items():
                for dim, indices in dims.items():
                    cut.setdefault(name, {}).setdefault(dim, set()).update(indices)
    return cut, whole


def masks(sites: Sites) -> Iterator[tuple[str, UnitMask]]:
    """Some branches; half of every ordinary site; half of all units; then ordinary ones again, heads, choices alone."""
    if offered(sites, "branches"):
        yield "branches", _some_branches(sites)
    if sites.ordinary:
        yield "ordinary", _half(sites, sites.ordinary, 0)
    parts = {"ordinary again" if kind == "ordinary" else kind: offered(sites, kind) for kind in KINDS}
    parts = {name: known for name, known in parts.items() if known}
    if len(parts) > 1:
        yield "all units", _half(sites, [one for known in parts.values() for one in known], 1)
    for seed, (name, known) in enumerate(parts.items(), start=2):
        yield name, _half(sites, known, seed)


def offered(sites: Sites, kind: str) -> list[str]:
    """The sites of a kind that can be cut."""
    return [name for name in getattr(sites, kind) if name in sites.sites]


def _half(sites: Sites, names: Any, seed: int) -> UnitMask:
    chance = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(len(sites[name]), generator=chance).argsort().argsort() < max(1, len(sites[name]) // 2)
        for name in names
    }


def _some_branches(sites: Sites) -> UnitMask:
    """Every other branch, of each addition one side at most."""
    taken: dict[str, str] = {}
    for name in offered(sites, "branches")[::2]:
        taken.setdefault(sites.branches[name].addition, name)
    return {name: torch.zeros(1, dtype=torch.bool) for name in taken.values()}


def covered(model: nn.Module, sites: Sites) -> dict[str, int]:
    """Parameter -> how many of its entries lie in a unit of an ordinary site or of one of heads."""
    lies: dict[str, dict[int, set[int]]] = {}
    for site in (*sites.ordinary, *offered(sites, "heads")):
        for unit in sites[site].units:
            for name, dims in unit.items():
                for dim, indices in dims.items():
                    lies.setdefault(name, {}).setdefault(dim, set()).update(indices)
    found = {}
    for name, parameter in model.named_parameters():
        outside = 1
        for dim, size in enumerate(parameter.shape):
            outside *= size - len(lies.get(name, {}).get(dim, ()))
        found[name] = parameter.numel() - outside
    return found


def share(model: nn.Module, sites: Sites) -> float:
    """The part of all parameters that lies in units."""
    return sum(covered(model, sites).values()) / sum(parameter.numel() for parameter in model.parameters())


def kept(model: nn.Module, sites: Sites) -> dict[str, int]:
    """Reason -> how many parameters outside of all units it holds."""
    inside, found = covered(model, sites), dict[str, int]()
    for name, parameter in model.named_parameters():
        left = parameter.numel() - inside[name]
        layer = name.removesuffix(".weight").removesuffix(".bias")
        why = sites.kept.get(layer) or sites.kept.get(name) or _heads_kept(sites, layer)
        why = why or ("vectors" if parameter.dim() < 2 else "not said")
        if left:
            found[why] = found.get(why, 0) + left
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _heads_kept(sites: Sites, layer: str) -> str:
    """Why the heads that a layer is part of are kept."""
    around = [
        name for name in sites.kept if name.endswith("heads") and layer.startswith(name.removesuffix("heads")[:-1])
    ]
    return sites.kept[max(around, key=len)] if around else ""


def _short(error: Exception, kind: bool = False) -> str:
    told = re.sub(r"0x[0-9a-f]+", "0x", " ".join(str(error).split()))
    return (f"{type(error).__name__}: " if kind else "") + told[:600]


def _since(began: float) -> float:
    return round(time.process_time() - began, 2)
