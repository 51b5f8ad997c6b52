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
    due = {name: size if how == "uniform" else sum(shapes[name]) for name, size in sizes.items()}

    # a tensor claims its (j + 1)-th entry at the level (2 j + 1) / (2 x what is due to it); the lowest claims win
    def claimed(level: float) -> dict[str, int]:
        return {n: min(sizes[n], max(1, int(level * due[n] + 0.5))) for n in sizes}

    low, high = 0.0, max(sizes[n] / due[n] for n in sizes) + 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(claimed(middle).values()) <= total else (low, middle)
    # the last few are counted claim by claim: quotients of whole numbers tie exactly, products with a level do not
    shares = claimed(low * (1 - 1e-9))
    assert sum(shares.values()) <= total, "the lowest level claims one entry per tensor"
    claims = [((2 * shares[n] + 1) / due[n], at, n) for at, n in enumerate(sizes) if shares[n] < sizes[n]]
    heapq.heapify(claims)
    for _ in range(total - sum(shares.values())):  # claims of equal level: the earlier tensor first
        _, at, name = heapq.heappop(claims)
        shares[name] += 1
        if shares[name] < sizes[name]:
            heapq.heappush(claims, ((2 * shares[name] + 1) / due[name], at, name))
    return shares
