"""What the operators do to labels by which a weight is calculated: norms, variances, lengths times directions.

A row that is calculated from its own entries alone can go; what is divided by something of the whole weight stays.
"""

from __future__ import annotations

from torch import nn
from torch.fx import Node
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm

from scratchcard.networks.labels import Dims
from scratchcard.networks.walk import Rule, Walk

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


REPARAMETRISED: dict[str, Rule] = {"_weight_norm": _length_and_direction}
"""Operator -> rule."""
