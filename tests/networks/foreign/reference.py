"""What a network gives whose cut units nobody reads, made with the network's own modules and by nothing of scratchcard.

Of every cut unit the columns that read it are 0 and the rows that make it are drawn anew: their value must not matter.
Which is which is told by the class of the module. A tensor that belongs to no known class is 0 in every place of a cut
unit, which is one value of a maker too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_leaves, tree_map

Cut = dict[str, dict[int, set[int]]]
"""Parameter or buffer -> dimension -> indices of cut units."""

READS: tuple[tuple[type[nn.Module], int | None], ...] = (
    (_ConvTransposeNd, 0),
    (_ConvNd, 1),
    (nn.Linear, 1),
    (nn.MultiheadAttention, 1),
    (nn.RNNBase, 1),
    (nn.RNNCellBase, 1),
    (nn.Embedding, None),
    (_NormBase, None),
    (nn.GroupNorm, None),
    (nn.LayerNorm, None),
    (nn.PReLU, None),
)
"""Class of a module -> the dimension of its weights that is what they read; none of a layer that reads by no weight."""


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy as if trained: no scale, gate, bias or statistic is 0 or 1 by accident."""
    model, chance = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point() or (name in _buffers(model) and "running" not in name):
                continue
            uniform = torch.rand(tensor.shape, generator=chance).to(tensor)
            if name.endswith("bias") or "running_mean" in name:
                tensor.copy_(0.4 * uniform - 0.2)
            elif tensor.dim() < 2 or "running_var" in name:
                tensor.copy_(tensor + 0.1 * uniform if _told(tensor) else 0.5 + uniform)
            else:
                fan = max(tensor[0].numel(), 1)
                tensor.copy_((2 * uniform - 1) * (3 / fan) ** 0.5)
    return model


def _told(tensor: Tensor) -> bool:
    """Whether a vector's values mean something, as steps of time do: they are neither all 0 nor all 1."""
    return tensor.numel() > 1 and bool(tensor.std() > 1e-3)


def _buffers(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_buffers()}


def silent(model: nn.Module, cut: Cut, whole: Iterable[str] = (), seed: int = 0) -> nn.Module:
    """A copy in which cut units are drawn anew and read by nobody.

    Args:
        model: the large network.
        cut: all places of the cut units.
        whole: parameters of branches that are cut: they are 0.
        seed: of what is drawn.
    """
    model, chance = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    cut = _plain(model, cut)
    tensors = dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])
    zeros: list[tuple[Tensor, int, list[int]]] = []
    with torch.no_grad():
        for name, dims in cut.items():
            module, own = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
            for dim, indices in dims.items():
                known = [read for kind, read in READS if isinstance(module, kind)]
                conv1d = {"nf", "nx"} & vars(module).keys() and own == "weight"
                read = 0 if conv1d else known[0] if known else dim
                told = bool(known or conv1d or own == "bias")
                tensor, at = tensors[name], sorted(indices)
                if told and (tensor.dim() < 2 or read != dim):
                    piece = tensor.index_select(dim, torch.tensor(at))
                    drawn = 0.5 + torch.rand(piece.shape, generator=chance, dtype=torch.float64)
                    if "running_var" not in name:
                        drawn = drawn * torch.randn(piece.shape, generator=chance, dtype=torch.float64)
                    tensor.index_copy_(dim, torch.tensor(at), drawn.to(tensor))
                else:
                    zeros.append((tensor, dim, at))
        for tensor, dim, at in zeros:  # last: what is tied is read by nobody either
            tensor.index_fill_(dim, torch.tensor(at), 0)
        for name in whole:
            if not name.endswith(("original1", "weight_v")):  # a direction: of no length, it would be no number
                tensors[name].zero_()
    return model


def _plain(model: nn.Module, cut: Cut) -> Cut:
    """The cut of a network whose calculated weights - by a norm, a product - have been made plain ones, in place."""
    found: Cut = {}
    for name, dims in cut.items():
        path, made, rest = name.partition(".parametrizations.")
        own = rest.partition(".")[0] if made else name.rpartition(".")[2].removesuffix("_v").removesuffix("_orig")
        path = path if made else name.rpartition(".")[0]
        module = model.get_submodule(path)
        if made and parametrize.is_parametrized(module, own):
            _unparametrised(module)
        elif name.endswith(("weight_v", "weight_g")):
            own = "weight"
            if hasattr(module, "weight_g"):
                nn.utils.remove_weight_norm(module)
        elif name.endswith("weight_orig") and hasattr(module, "weight_orig"):
            nn.utils.remove_spectral_norm(module)
        elif not made and not name.endswith("weight_orig"):
            found.setdefault(name, {}).update(dims)
            continue
        whole = rest.endswith((".original", ".original1")) if made else not name.endswith("weight_g")
        if whole:  # of the shape of the weight itself
            found.setdefault(f"{path}.{own}", {}).update(dims)
    return found


def _unparametrised(module: nn.Module) -> None:
    """Make calculated weights plain ones; torch's own way would change the class, which the original has too."""
    values = {own: getattr(module, own).detach().clone() for own in module.parametrizations}  # pyright: ignore
    del module._modules["parametrizations"]
    module.__class__ = type(module).__bases__[0]
    for own, value in values.items():
        module.register_parameter(own, nn.Parameter(value))


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    """All tensors that a network gives, whatever they are packed in."""
    torch.manual_seed(0)
    with torch.no_grad():
        given = (
            model(**inputs)
            if isinstance(inputs, dict)
            else model(*inputs)
            if isinstance(inputs, tuple)
            else model(inputs)
        )
    return [
        leaf for leaf in tree_leaves(dict(given) if isinstance(given, Mapping) else given) if isinstance(leaf, Tensor)
    ]


def precise(model: nn.Module, inputs: Any) -> tuple[nn.Module, Any, bool]:
    """A network and its inputs in float64 where it runs so, else as they are."""
    doubled = copy.deepcopy(model).double()
    batch = tree_map(
        lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, inputs
    )
    try:
        outputs(doubled, batch)
    except Exception:  # of any kind: a type is written into it
        return model, inputs, False
    return doubled, batch, True


def gap(wanted: list[Tensor], found: list[Tensor]) -> float:
    """The largest difference of an output, by its own largest number; infinite where shapes or infinities differ."""
    if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in found]:
        return float("inf")
    worst = 0.0
    for one, other in zip(wanted, found, strict=True):
        one, other = one.double(), other.double()
        finite = one.isfinite()
        if not torch.equal(finite, other.isfinite()):
            return float("inf")
        if finite.any():
            scale = max(float(one[finite].abs().max()), 1e-6)
            worst = max(worst, float((one[finite] - other[finite]).abs().max()) / scale)
    return worst
