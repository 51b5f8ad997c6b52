"""Which weights a method may cut, and how many it leaves at each level: the same for every method that cuts weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import get_args

from scratchcard.masks.schedule import SHARES, rounds
from scratchcard.networks.named import Names
from scratchcard.networks.weights import Kind, Weight, everything, list_weights, weights_called
from scratchcard.training.task import Task
from scratchcard.words import unknown

Rate = float | Mapping[str, float]
"""Fraction of the surviving weights removed per round: one for all, or per kind of layer, e.g. {"conv": 0.1, "linear":
0.2, "output": 0.1}; kinds left out are kept whole."""
ROUNDS = 1000
"""Rounds beyond which a number is a slip of the hand: each is a training, and 1 % a round leaves nothing by then."""
Keep = dict[str, int] | int
"""What `select` is to keep: per weight, or over all of them."""


def check_rates(who: str, number: int, rate: Rate, share: str) -> None:
    """Refuse a schedule that means nothing.

    Raises:
        ValueError: naming the field, what was seen and what is needed.
    """
    if number < 1:
        raise ValueError(f"{who} needs at least one round, got rounds={number}")
    check_rounds(who, number)
    if share not in SHARES:
        raise ValueError(unknown("scope", share, SHARES))
    rates = rate.values() if isinstance(rate, Mapping) else [rate]
    if not all(0 < one < 1 for one in rates):
        raise ValueError(
            f"{who} removes a fraction between 0 and 1 of the surviving weights per round; got rate={rate}"
        )
    for kind in rate if isinstance(rate, Mapping) else ():
        if kind not in get_args(Kind):
            raise ValueError(unknown("kind of weight", kind, get_args(Kind)))


def cuttable(
    who: str, task: Task, rate: Rate, keep: Sequence[str], also: Sequence[str], only: Sequence[str] = ()
) -> list[Weight]:
    """Every weight of the task's network, and whether the method may cut it.

    Args:
        who: the method, for sentences.
        task: gives the network.
        rate: kinds without a rate are kept whole.
        keep: what to keep whole: names of weights, layers or sites, patterns of these, or kinds.
        also: names, likewise, to cut although scratchcard would keep them.
        only: names, likewise: all else is kept whole; () for no such limit.

    Raises:
        ValueError: a name that fits nothing, or nothing is left to cut.
    """

    def more() -> Names:
        return _sites_in_weights(task)

    found = list_weights(task.fresh(0), task.example_inputs(), keep, also, more)
    within = weights_called(found, only, more)

    def limited(weight: Weight) -> Weight:
        if not weight.prunable:
            return weight
        if only and weight.name not in within:
            return replace(weight, prunable=False, reason="not among the method's `only`")
        if isinstance(rate, Mapping) and weight.kind not in rate:
            return replace(weight, prunable=False, reason=f"the method has no rate for kind {weight.kind!r}")
        return weight

    limits = [limited(weight) for weight in found]
    if not any(weight.prunable for weight in limits):
        kinds = ", ".join(sorted({weight.kind for weight in found if weight.prunable}))
        rates = f"{who}'s rates are for {', '.join(rate)}, but " if isinstance(rate, Mapping) else ""
        raise ValueError(
            f"{rates}what can be cut in this network is of kind {kinds}"
            + (f", and {who} is to cut only {', '.join(only)}" if only else "")
        )
    return limits


def check_rounds(who: str, number: int) -> None:
    """Refuse more rounds than anybody means.

    Raises:
        ValueError: with the number.
    """
    if number > ROUNDS:
        raise ValueError(f"{who} has at most {ROUNDS:,} rounds, each one a training; got rounds={number}")


def keeps(found: Sequence[Weight], rate: Rate, share: str, number: int) -> Iterator[Keep]:
    """What is to be kept at levels 1, 2, ... `number`."""
    shapes = {weight.name: weight.shape for weight in found if weight.prunable}
    rates = {w.name: rate[w.kind] if isinstance(rate, Mapping) else rate for w in found if w.prunable}
    return rounds(shapes, rates, share, number)  # pyright: ignore[reportArgumentType]


def densities(found: Sequence[Weight], levels: Iterator[Keep]) -> list[float]:
    """Density at every level, entry 0 the dense network's; exact: kept / all weights."""
    total = sum(weight.size for weight in found)
    fixed = sum(weight.size for weight in found if not weight.prunable)
    return [1.0, *((fixed + (keep if isinstance(keep, int) else sum(keep.values()))) / total for keep in levels)]


def _sites_in_weights(task: Task) -> Names:
    """The network's sites by the weights of their layers: of heads their projections, of a choice those that read it.

    None where the network's units cannot be read: its weights have their own names.
    """
    try:
        sites = task.sites.sites.values()
    except ValueError:
        return Names({})
    weights = everything(task.fresh(0))
    return Names(
        {
            site.name: [name for name in weights if any(f"{name}.".startswith(f"{layer}.") for layer in site.layers)]
            for site in sites
        }
    )
