"""Zeros in parameters that silence a unit: the weights that read it, or what these are calculated from, are 0 there.

Of a weight that is calculated (low rank added, direction and length) it is found by trying, on drawn numbers, which
parts of it must be 0 too, and that they change nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.export import ExportedProgram

from scratchcard.networks.calculated import Calculated, calculate
from scratchcard.networks.lengths import Lengths, fitted

Zeros = dict[tuple[str, int], Tensor]
"""(Parameter, dimension) -> the indices at which it is not 0."""


def set_zeros(tensors: Mapping[str, Tensor], zeros: Zeros, lengths: Lengths) -> None:
    """Set parameters to 0, in place; what is left of normalised weights stays as it is."""
    before = {
        name: tensors[name].detach().clone()
        for length, (direction, _) in lengths.items()
        for name in (length, direction)
        if name in tensors
    }
    with torch.no_grad():
        for (name, dim), kept in zeros.items():
            tensors[name].index_fill_(dim, _rest(tensors[name].shape[dim], kept).to(tensors[name].device), 0.0)
        for name, value in fitted(lengths, before, tensors).items():
            tensors[name].copy_(value)


@contextlib.contextmanager
def zeros_for_now(tensors: Mapping[str, Tensor], zeros: Zeros, lengths: Lengths) -> Iterator[None]:
    """As `set_zeros`; afterwards the parameters are bitwise what they were."""
    whole = [
        tensors[name].detach() for pair, (other, _) in lengths.items() for name in (pair, other) if name in tensors
    ]
    parts = [(tensors[name].detach(), dim, kept) for (name, dim), kept in zeros.items()]
    rests = [_rest(tensor.shape[dim], kept).to(tensor.device) for tensor, dim, kept in parts]
    values = [tensor.index_select(dim, rest) for (tensor, dim, _), rest in zip(parts, rests, strict=True)]
    copies = [tensor.clone() for tensor in whole]
    try:
        set_zeros(tensors, zeros, lengths)
        yield
    finally:
        for (tensor, dim, _), rest, value in zip(parts, rests, values, strict=True):
            tensor.index_copy_(dim, rest, value)
        for tensor, value in zip(whole, copies, strict=True):
            tensor.copy_(value)


def zeros_of_parts(
    program: ExportedProgram,
    calculated: Mapping[str, Calculated],
    lengths: Lengths,
    spec: Mapping[str, Mapping[int, Tensor]],
    zeros: Zeros,
) -> Zeros:
    """What else must be 0 for calculated weights to be 0 where they read a unit that is cut.

    Args:
        program: the network's.
        calculated: those of its weights that read cut units.
        lengths: of its normalised weights.
        spec: parameter -> dimension -> indices that are kept.
        zeros: of the parameters that such weights go by, where they read.

    Raises:
        ValueError: no zeros do this and nothing else.
    """
    if not calculated:
        return {}
    nodes, chance, more = {node.name: node for node in program.graph.nodes}, torch.Generator().manual_seed(0), Zeros()
    state = {  # drawn, since a part may be 0 for now
        name: torch.randn(own.shape, generator=chance, dtype=torch.float64) if own.is_floating_point() else own
        for name, own in {**program.state_dict, **program.constants}.items()
        if isinstance(own, Tensor)
    }
    for main, known in calculated.items():
        own = {dim: kept for (name, dim), kept in zeros.items() if name == main}
        if not own:
            continue

        def weight(zeros: Zeros, node: str = known.node) -> Tensor:
            tried = {name: value.clone() for name, value in state.items()}
            set_zeros(tried, zeros, lengths)
            return calculate(program, nodes[node], tried)

        wanted = _left(weight({}), own)
        here: Zeros = {(main, dim): kept for dim, kept in own.items()}
        for part in known.parts:
            for dim, kept in spec.get(part, {}).items():
                if part not in lengths and _close(_left(weight({**here, (part, dim): kept}), own), wanted):
                    here[part, dim] = kept
        found = weight(here)
        silent = all(
            not bool(found.index_select(dim, _rest(found.shape[dim], kept)).any()) for dim, kept in own.items()
        )
        if not silent or not _close(_left(found, own), wanted):
            raise ValueError(f"no zeros of what a weight is calculated from ({main}) silence a unit and nothing else")
        more |= here
    return more


def _left(weight: Tensor, own: Mapping[int, Tensor]) -> Tensor:
    for dim, kept in own.items():
        weight = weight.index_select(dim, kept)
    return weight


def _rest(size: int, kept: Tensor) -> Tensor:
    gone = torch.ones(size, dtype=torch.bool)
    gone[kept] = False
    return gone.nonzero().flatten()


def _close(found: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(found, wanted, rtol=1e-9, atol=1e-12)
