"""Which parameters of anyone's network are weights, of which kind, and which can be pruned - or why not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList

from scratchcard.networks.copies import copied, without_masks
from scratchcard.networks.forward import as_fits, call
from scratchcard.networks.lengths import find_lengths
from scratchcard.networks.named import Names, fits, meant
from scratchcard.types import Tensors, WeightMask

Kind = Literal["conv", "linear", "output", "recurrent", "embedding", "bare"]

_NORMALISATION = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Weight:
    """One weight tensor of a network."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    """conv | linear | output (the last one the data goes through) | recurrent | embedding | bare (a parameter of a
    module of your own, of which nothing is known)."""
    prunable: bool
    reason: str = ""
    """Why it is kept whole; empty when prunable."""

    @property
    def size(self) -> int:
        """Number of entries."""
        return torch.Size(self.shape).numel()


def list_weights(
    model: nn.Module,
    example_inputs: Tensors,
    keep: Sequence[str] = (),
    also: Sequence[str] = (),
    more: Callable[[], Names] | None = None,
) -> list[Weight]:
    """List every weight of a network, and say which can be pruned.

    A weight is a parameter of two or more dimensions outside normalisation layers; biases are not weights. This is
    the denominator that reproduces the paper's levels (Frankle & Carbin 2019, section 1: Pm = ||m||_0 / |theta|). One
    that torch.nn.utils.prune has masked is listed whole and by its plain name: its masked entries are zeros like any.

    Args:
        model: any module; it is not touched.
        example_inputs: one batch, to see which layer comes last.
        keep: what to keep whole: names of weights or of their layers, patterns ("*.shortcut.*") or kinds ("output").
        also: names of bare or embedding weights, likewise, to prune all the same.
        more: other names of weights, asked for only where these do not do.

    Raises:
        ValueError: a name that fits no weight, or no weight that can be pruned.
    """
    model = without_masks(model)
    found = _classified(model)
    layers = {weight.name for weight in found if weight.kind != "bare"} | _calculated_from(model).keys()
    last = _last_called(model, example_inputs, layers)
    found = [
        replace(weight, kind="output") if weight.name == last and weight.kind in ("conv", "linear") else weight
        for weight in found
    ]
    stays, goes = weights_called(found, keep, more), weights_called(found, also, more)
    result = []
    for weight in found:
        if weight.name in goes:
            weight = replace(weight, prunable=True, reason="")
        if weight.name in stays:
            weight = replace(weight, prunable=False, reason="kept by the method's `keep`")
        result.append(weight)
    if not any(weight.prunable for weight in result):
        names = ", ".join(f"{weight.name} ({weight.reason})" for weight in result) or "none at all"
        raise ValueError(
            f"{type(model).__name__} has no weight that can be pruned; its weights are: {names}; "
            "name some in the method's `also`, or give a network with linear or convolutional layers"
        )
    return result


def weights_called(
    found: Sequence[Weight], entries: Collection[str], more: Callable[[], Names] | None = None
) -> set[str]:
    """The weights that some names stand for: their own, their kind's, their layer's, patterns of these but of kinds.

    Args:
        found: all weights of the network.
        entries: as a person gave them.
        more: other names of weights, asked for only where these do not do.

    Raises:
        ValueError: one that fits nothing; all names there are are told.
    """
    kinds, layers = defaultdict(list), defaultdict(list)
    for weight in found:
        kinds[weight.kind].append(weight.name)
        if layer := weight.name.rpartition(".")[0]:
            layers[layer].append(weight.name)
    sorts = [Names(kinds, patterns=False), Names({weight.name: [weight.name] for weight in found}), Names(layers)]
    if more is not None and not all(fits(entry, sorts) for entry in entries):
        sorts.append(more())
    return set().union(*meant(entries, sorts).values())


def everything(model: nn.Module) -> WeightMask:
    """The mask that keeps all weights of a network: its entries are the denominator of every density."""
    return whole(_classified(without_masks(model)))


def whole(found: Iterable[Weight]) -> WeightMask:
    """The mask that keeps everything."""
    return {weight.name: torch.ones(weight.shape, dtype=torch.bool) for weight in found}


def _classified(model: nn.Module) -> list[Weight]:
    found: dict[int, Weight] = {}
    calculated = _calculated_from(model)
    for module_name, module in model.named_modules(remove_duplicate=True):
        if isinstance(module, _NORMALISATION):
            continue
        for own_name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() < 2 or id(parameter) in found:
                continue
            name = f"{module_name}.{own_name}" if module_name else own_name
            kind, reason = calculated.get(name) or _kind(module, own_name, parameter)
            if not parameter.requires_grad:
                reason = "frozen (requires_grad is False)"
            found[id(parameter)] = Weight(name, tuple(parameter.shape), kind, prunable=not reason, reason=reason)
    return list(found.values())


def _calculated_from(model: nn.Module) -> dict[str, tuple[Kind, str]]:
    """Of parameters that torch calculates weights from: the kind, and why a zero there would mean something else."""
    found: dict[str, tuple[Kind, str]] = {}
    for path, module in model.named_modules():
        if not isinstance(module, ParametrizationList):
            continue
        layer = model.get_submodule(path.rpartition("parametrizations.")[0].rstrip("."))
        by = ", ".join(type(part).__name__ for part in module)
        reason = f"a weight is calculated from it ({by}), and nothing says that a zero here is a zero there"
        for own, parameter in module.named_parameters(recurse=False):
            plain = all(isinstance(part, _SpectralNorm) for part in module)  # divided by one number: zeros stay zeros
            found[f"{path}.{own}"] = _kind(layer, own, parameter) if plain else ("bare", reason)
    for length, (direction, _) in find_lengths(model).items():
        found[length] = "bare", "a length of weight_norm, no weight by itself"
        found[direction] = (
            "bare",
            "a direction of weight_norm: its size says nothing beside those of other rows, and one of zeros is none",
        )
    return found


def _kind(owner: nn.Module, own_name: str, parameter: nn.Parameter) -> tuple[Kind, str]:
    if "bias" in own_name:  # nn.MultiheadAttention's bias_k, some hand-written layers' 2-D biases
        return "bare", "a bias by its name"
    if isinstance(owner, _ConvNd):
        return "conv", ""
    if isinstance(owner, nn.Linear | nn.Bilinear | nn.MultiheadAttention):
        return "linear", ""
    if isinstance(owner, nn.RNNBase | nn.RNNCellBase):
        return "recurrent", ""
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        return "embedding", "an embedding: its rows are looked up, not multiplied"
    if own_name == "weight" and parameter.dim() == 2:  # hand-written linear layers, e.g. transformers' Conv1D
        return "linear", ""
    return "bare", f"a bare parameter of {type(owner).__name__}: nothing says that it is multiplied with activations"


def _last_called(model: nn.Module, example_inputs: Tensors, layers: set[str]) -> str | None:
    """The weight of the layer that is called last on a batch; a hookless (functional) network has none.

    A weight that several layers share goes by its first name, so that a tied output layer is an embedding.
    """
    probe = copied(model).eval()
    first_name: dict[int, str] = {}
    called: list[str] = []
    for module_name, module in probe.named_modules():
        own = [(name, p) for name, p in module.named_parameters(recurse=False) if p.dim() > 1]
        names = [first_name.setdefault(id(p), f"{module_name}.{name}" if module_name else name) for name, p in own]
        if layers.intersection(names):
            module.register_forward_hook(lambda *_, name=names[-1]: called.append(name))
    with torch.no_grad(), torch.random.fork_rng():
        call(probe, as_fits(example_inputs, probe))
    return called[-1] if called else None
