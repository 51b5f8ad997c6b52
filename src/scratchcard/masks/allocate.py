"""How a number of weights is shared out among layers before any score is looked at: uniform, or Erdos-Renyi-Kernel."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Literal, get_args

import torch

from scratchcard.words import unknown

Allocation = Literal["uniform", "erk"]


def allocate(shapes: Mapping[str, tuple[int, ...]], total: int, how: Allocation) -> dict[str, int]:
    """Share out exactly `total` entries among tensors, each getting at least one and at most all of its own.

    "uniform": every tensor gets the same density. "erk": its density is in proportion to (sum of its dimensions) /
    (product of its dimensions), so that thin layers stay denser (Evci et al. 2020, Rigging the Lottery, section 3,
    "Erdos-Renyi-Kernel"); densities above 1 are cut to 1 and the rest rises. Fractions are rounded by Webster's method
    (highest quotients), which makes shares of a smaller total never larger: masks of falling totals can be nested.

    Args:
        shapes: of every tensor.
        total: entries to keep, from one per tensor to all.
        how: "uniform" or "erk".

    Raises:
        ValueError: an unknown allocation, or a total that is out of reach.
    """
    if how not in get_args(Allocation):
        raise ValueError(unknown("allocation", how, get_args(Allocation)))
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    if not len(sizes) <= total <= sum(sizes.values()):
        raise ValueError(
            f"asked to share out {total} entries among {len(sizes)} tensors that have {sum(sizes.values())}; choose a "
            "number from one per tensor to all"
        )
    raw = {name: 1.0 if how == "uniform" else sum(shape) / sizes[name] for name, shape in shapes.items()}

    # a tensor claims its (j + 1)-th entry at the level (j + 1/2) / (size x raw density); the lowest claims win
    def claimed(level: float) -> dict[str, int]:
        return {n: min(sizes[n], max(1, int(level * sizes[n] * raw[n] + 0.5))) for n in sizes}

    low, high = 0.0, 2 / min(raw.values()) + 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(claimed(middle).values()) <= total else (low, middle)
    shares = claimed(low)
    assert sum(shares.values()) <= total, "the lowest level claims one entry per tensor"
    claims = [((shares[n] + 0.5) / (sizes[n] * raw[n]), at, n) for at, n in enumerate(sizes) if shares[n] < sizes[n]]
    heapq.heapify(claims)
    for _ in range(total - sum(shares.values())):  # claims of equal level: the earlier tensor first
        _, at, name = heapq.heappop(claims)
        shares[name] += 1
        if shares[name] < sizes[name]:
            heapq.heappush(claims, ((shares[name] + 0.5) / (sizes[name] * raw[name]), at, name))
    return shares
