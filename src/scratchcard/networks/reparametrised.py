"""What the operators do to labels by which a weight is calculated: norms, variances, lengths times directions.

A row that is calculated from its own entries alone can go; what is divided by something of the whole weight stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.fx import Node
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm

from scratchcard.networks.labels import Dims
from scratchcard.networks.movement import MOVEMENT
from scratchcard.networks.walk import Rule, Walk, free

_SPECTRAL = (
    "divided by the largest singular value of the whole weight (spectral_norm), which every row and column has part in"
)
_ORTHOGONAL = "rows and columns are made orthogonal together (the orthogonal parametrization)"
_COUPLED: dict[type, str] = {parametrizations._SpectralNorm: _SPECTRAL, parametrizations._Orthogonal: _ORTHOGONAL}
"""Parametrization of torch -> why nothing of its weight can be cut; a line each."""


def coupled(model: nn.Module) -> dict[str, str]:
    """Parameter -> why nothing of it can be cut, of those that are known to be calculated with as a whole."""
    found: dict[str, str] = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for part in module if isinstance(module, ParametrizationList) else ():
            if why := _COUPLED.get(type(part)):
                found |= {f"{prefix}{name}": why for name, _ in module.named_parameters(recurse=False)}
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                found[f"{prefix}{hook.name}_orig"] = _SPECTRAL
    return found


def _length_and_direction(walk: Walk, node: Node, v: Dims, g: Dims, dim: int = 0) -> Dims:
    """Weight normalisation, g v / ||v||: what cutting takes from ||v|| is put into g, so that the rest stays."""
    if dim >= 0:
        walk.unions.unite(v[dim], g[dim], "of a length that is kept (weight_norm)")
    for at, labels in enumerate(g):
        if at != dim:
            walk.unions.keep(labels, "one length for many entries (weight_norm)")
    if not walk.measures(node, dim):
        for at, labels in enumerate(v):
            if at != dim:
                walk.unions.keep(labels, "under one norm with its neighbours, which is no parameter of its own")
    return v


def _gathered(walk: Walk, node: Node, x: Dims, *rest: Any, **named: Any) -> Dims:
    """One number of all entries along some dimensions: nothing goes of these."""
    schema = node.target._schema.arguments  # pyright: ignore
    given = {argument.name: part for argument, part in zip(schema[1:], rest, strict=False)} | named
    dim, stays = given.get("dim"), bool(given.get("keepdim", False))
    asked: Iterable[int] = (dim,) if isinstance(dim, int) else dim or range(len(x))
    over = {at % len(x) for at in asked}
    for at in over:
        walk.unions.keep(x[at], "under one norm or variance with its neighbours")
    return [free((1,))[0] if at in over else labels for at, labels in enumerate(x) if stays or at not in over]


def _gathered_twice(walk: Walk, node: Node, x: Dims, *rest: Any, **named: Any) -> list[Dims]:
    """A variance and a mean."""
    result = _gathered(walk, node, x, *rest, **named)
    return [result, result]


def _turned(walk: Walk, node: Node, x: Dims) -> Dims:
    return x[::-1]


REPARAMETRISED: dict[str, Rule] = {
    **dict.fromkeys(("var", "std", "norm", "linalg_vector_norm"), _gathered),
    **dict.fromkeys(("var_mean", "std_mean"), _gathered_twice),
    **dict.fromkeys(("t", "numpy_T"), _turned),
    **dict.fromkeys(("reshape_as", "view_as"), MOVEMENT["reshape"]),
    "_weight_norm": _length_and_direction,
}
"""Operator -> rule."""
