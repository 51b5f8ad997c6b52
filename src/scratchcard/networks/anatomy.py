"""What a ticket looks like inside: its surviving initial weights, how far they travel, how its units are connected.

Source: Frankle & Carbin 2019, App. F.1, F.2, F.5, F.6. Values are in units of sigma, the standard deviation of the
layer's initial weights, so that seeds and layers can be added up and compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scratchcard.row import Anatomy, Connections, Histogram, Movement
from scratchcard.types import State, WeightMask

INITIAL_EDGES = [round(-4 + 0.2 * step, 10) for step in range(41)]
MOVEMENT_EDGES = [round(10 ** (-3 + 0.2 * step), 10) for step in range(26)]


def anatomy(mask: WeightMask, names: tuple[str, ...], initial: State, dense_end: State | None) -> dict[str, Anatomy]:
    """The anatomy of a ticket, one entry per prunable weight.

    Args:
        mask: the ticket's.
        names: the weights the method was free to cut.
        initial: of the dense network, same seed.
        dense_end: the dense network's weights after training; None where it was not seen.
    """
    return {name: _of(mask[name], initial[name], None if dense_end is None else dense_end[name]) for name in names}


def _of(kept: Tensor, initial: Tensor, end: Tensor | None) -> Anatomy:
    values = initial.double()
    sigma = float(values.std(correction=0))
    shown = sigma > 0  # a layer that starts from one value has no distribution
    return Anatomy(
        sigma=sigma,
        initial=_histogram(values[kept] / sigma, INITIAL_EDGES) if shown else None,
        movement=_movement(kept, (end.double() - values).abs() / sigma) if shown and end is not None else None,
        connections=_connections(kept),
    )


def _movement(kept: Tensor, travelled: Tensor) -> Movement:
    return Movement(kept=_histogram(travelled[kept], MOVEMENT_EDGES), cut=_histogram(travelled[~kept], MOVEMENT_EDGES))


def _histogram(values: Tensor, edges: list[float]) -> Histogram:
    inner = torch.tensor(edges[1:-1], dtype=torch.float64)
    places = torch.bucketize(values.flatten(), inner, right=True)
    return Histogram(edges=edges, counts=torch.bincount(places, minlength=len(edges) - 1).tolist())


def _connections(kept: Tensor) -> Connections:
    """Rows of a weight [out, in, ...] are units that connections lead into, columns units that they lead out of.

    As the weight is stored: the groups of a grouped convolution share their columns, and a transposed convolution has
    its inputs as rows.
    """
    flat = kept.flatten(2).sum(2) if kept.dim() > 2 else kept.long()
    return Connections(incoming=_doubling(flat.sum(1)), outgoing=_doubling(flat.sum(0)))


def _doubling(numbers: Tensor) -> list[int]:
    """How many of the numbers are 0, 1, 2, 3 to 4, 5 to 8, ..."""
    places = torch.where(numbers > 1, 2 + (numbers - 1).clamp(min=1).double().log2().floor().long(), numbers)
    return torch.bincount(places).tolist()
