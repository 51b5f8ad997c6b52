"""Keeping a few more units where that is faster: kernels like channels in multiples of 8."""

from __future__ import annotations

from typing import Literal

from torch import nn

from scratchcard.networks.compact import Compacted, compact
from scratchcard.networks.latency import latencies
from scratchcard.networks.proved import find_sites
from scratchcard.types import Scores, Tensors, UnitMask

CANDIDATES = (4, 8, 16)
"""Multiples that are tried besides none at all when measuring decides."""


def round_up(unit_mask: UnitMask, to: int, scores: Scores | None = None) -> UnitMask:
    """Keep so many more units that every site keeps a multiple of `to`, or all that it has.

    Args:
        unit_mask: site -> boolean tensor [units], True = kept.
        to: the multiple, at least 1.
        scores: site -> a score per unit: the highest of those that were cut come back first; without scores the
            first by position.

    Raises:
        ValueError: `to` is below 1.
    """
    if to < 1:
        raise ValueError(f"units are rounded up to a multiple of 1 or more, got {to}")
    rounded = {}
    for name, kept in unit_mask.items():
        missing = min(-int(kept.sum()) % to, int((~kept).sum()))
        cut = (~kept).nonzero().flatten()
        if scores is not None and name in scores:
            cut = cut[scores[name][cut].sort(descending=True, stable=True).indices]
        rounded[name] = kept.clone()
        rounded[name][cut[:missing]] = True
    return rounded


def compact_rounded(
    model: nn.Module,
    unit_mask: UnitMask,
    example_inputs: Tensors,
    round_to: int | Literal["measured"] = 8,
    scores: Scores | None = None,
    runs: int = 20,
) -> tuple[Compacted, UnitMask]:
    """A small network whose layers have sizes that run fast, and the mask that it is of.

    Units come back with the weights they have in the model, so that the network is that of the larger mask.

    Args:
        model: any module that `torch.export` can capture; it is not touched.
        unit_mask: site -> boolean tensor [units], True = kept.
        example_inputs: one batch; with "measured" the batch that is timed.
        round_to: a multiple; or "measured": that of `CANDIDATES`, or none, whose network was fastest here.
        scores: which units come back first, see `round_up`.
        runs: of each candidate, when measuring.

    Raises:
        ValueError: as `compact` and `round_up`.
    """
    sites = find_sites(model, example_inputs)
    multiples = (1, *CANDIDATES) if round_to == "measured" else (round_to,)
    masks = [round_up(unit_mask, to, scores) for to in multiples]
    best = masks[0]
    if len(masks) > 1:
        made = [compact(model, mask, example_inputs, sites, proof="weights").module for mask in masks]
        timed = latencies(made, example_inputs, runs)
        best = masks[min(range(len(masks)), key=lambda at: timed[at].median)]
    return compact(model, best, example_inputs, sites), best
