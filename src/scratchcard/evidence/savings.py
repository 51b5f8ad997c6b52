"""What finding a smaller network cost, search and retraining, beside training dense once and beside pruning late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from scratchcard.evidence.price import NOTHING, flops_text
from scratchcard.evidence.summary import Spread, finished, spread
from scratchcard.evidence.tradeoff import units_were_cut
from scratchcard.row import Row, Rows

Text = Callable[[float], str]
Against = Literal["dense once", "train-prune-retrain"]
AGREE = 0.01
"""Seconds are only given where the operations of the runs they are added up from agree with the search's so far."""


@dataclass(frozen=True)
class Cost:
    """What a way to a trained network cost: its training steps alone, evaluation left out."""

    flops: float
    seconds: float | None
    """None where they were not all seen."""


@dataclass(frozen=True)
class Saving:
    """Search and retraining of one method at its primary level, beside one reference; seeds are paired."""

    method: str
    level: int
    against: Against
    reference: str
    """What stands for `against`, in words."""
    n: int
    """Seeds that have both."""
    flops: Spread
    reference_flops: Spread
    ratio: Spread
    """Own operations / the reference's."""
    seconds: Spread | None
    reference_seconds: Spread | None
    seconds_ratio: Spread | None


def savings(rows: Rows) -> list[Saving]:
    """Every method that cuts whole units, against training the dense network once; early ones against late ones too.

    Train-prune-retrain is what the study's own methods that prune a trained network cost, each by itself; where it
    has none, it is the dense training and the ticket's own training after it.

    Args:
        rows: The rows of one study. A dense network that was given trained has no cost, so nothing is compared.
    """
    study = rows.study
    if study.dense_given:
        return []
    dense = {row.seed: Cost(row.train_flops, row.training_seconds) for row in finished(rows) if row.arm == "dense"}
    costs = {
        method: _costs(rows, method, plan.primary)
        for method, plan in study.methods.items()
        if units_were_cut(rows, method)
    }
    early = {method for method in costs if _draws_early(rows, method)}
    found = []
    for method, own in costs.items():
        level = study.methods[method].primary
        found.append(_saving(method, level, "dense once", "dense, once", own, dense))
        if method not in early:
            continue
        late = {name: cost for name, cost in costs.items() if name not in early and cost}
        for name, cost in late.items():
            found.append(_saving(method, level, "train-prune-retrain", name, own, cost))
        if not late:
            own_training = _training(rows, method, level)
            both = {
                seed: Cost(dense[seed].flops + cost.flops, _plus(dense[seed].seconds, cost.seconds))
                for seed, cost in own_training.items()
                if seed in dense
            }
            what = "dense, then the ticket's own training (added up; the study has no such method)"
            found.append(_saving(method, level, "train-prune-retrain", what, own, both))
    return [saving for saving in found if saving]


HEADER = ["method", "against", "in", "n seeds", "search + retrain", "reference", "share", "saved"]


def lines(saving: Saving) -> list[list[str]]:
    """A saving as printed: one line in operations and one in seconds, cells as in HEADER."""
    name = [
        saving.method,
        saving.reference if saving.against == "dense once" else f"{saving.against}: {saving.reference}",
    ]

    def line(unit: str, own: Spread | None, other: Spread | None, ratio: Spread | None, text: Text) -> list[str]:
        if own is None or other is None or ratio is None:
            return [*name, unit, *[NOTHING] * 5]
        saved = f"{100 * (1 - ratio.mean):+.0f} %"
        return [*name, unit, str(saving.n), span(own, text), span(other, text), span(ratio, percent), saved]

    timed = saving.seconds, saving.reference_seconds, saving.seconds_ratio
    return [
        line("operations", saving.flops, saving.reference_flops, saving.ratio, flops_text),
        line("seconds", *timed, "{:,.3g}".format),
    ]


def span(found: Spread, text: Text) -> str:
    """Mean, and the extremes where they differ."""
    mean, low, high = text(found.mean), text(found.low), text(found.high)
    return mean if low == high else f"{mean} ({low} to {high})"


def percent(share: float) -> str:
    """A share in per cent, without decimals."""
    return f"{100 * share:.0f} %"


def _saving(
    method: str, level: int, against: Against, reference: str, own: dict[int, Cost], other: dict[int, Cost]
) -> Saving | None:
    both = sorted(own.keys() & other.keys())
    flops = spread((seed, own[seed].flops) for seed in both)
    others = spread((seed, other[seed].flops) for seed in both)
    ratio = spread((seed, own[seed].flops / other[seed].flops) for seed in both if other[seed].flops)
    if not (flops and others and ratio):
        return None
    timed = [
        (seed, mine, theirs)
        for seed in both
        if (mine := own[seed].seconds) is not None and (theirs := other[seed].seconds)
    ]
    return Saving(
        method, level, against, reference, len(both), flops, others, ratio,
        spread((seed, mine) for seed, mine, _ in timed),
        spread((seed, theirs) for seed, _, theirs in timed),
        spread((seed, mine / theirs) for seed, mine, theirs in timed),
    )  # fmt: skip


def _costs(rows: Rows, method: str, level: int) -> dict[int, Cost]:
    """Seed -> what its ticket cost, if nothing were shared."""
    return {
        row.seed: Cost(row.search_flops + row.train_flops, _plus(_search_seconds(rows, row), row.training_seconds))
        for row in _tickets(rows, method, level)
    }


def _training(rows: Rows, method: str, level: int) -> dict[int, Cost]:
    """Seed -> what training its ticket cost, once it was found."""
    return {row.seed: Cost(row.train_flops, row.training_seconds) for row in _tickets(rows, method, level)}


def _tickets(rows: Rows, method: str, level: int) -> list[Row]:
    return [row for row in finished(rows) if (row.method, row.level, row.arm) == (method, level, "ticket")]


def _draws_early(rows: Rows, method: str) -> bool:
    return any(row.method == method and row.arm == "ticket" and row.search.emergence is not None for row in rows)


def _search_seconds(rows: Rows, ticket: Row) -> float | None:
    """Seconds of the trainings that found a ticket: its own record, or the runs whose operations are the search's."""
    if ticket.search.seconds:
        return ticket.search.seconds
    same = [row for row in finished(rows) if row.seed == ticket.seed]
    before = [
        row
        for row in same
        if row.method == ticket.method and row.arm == "ticket" and row.level < ticket.level and row.replicate == 0
    ]
    searches = [
        row for row in same if row.method == ticket.method and row.arm == "search" and row.level <= ticket.level
    ]
    dense = [row for row in same if row.arm == "dense"]
    guesses: list[Sequence[Row]] = [[], dense, [*dense, *before]]
    if searches:
        guesses = [searches, [*searches, *before], [*dense, *searches]]
    for runs in guesses:
        if abs(sum(row.train_flops for row in runs) - ticket.search_flops) <= AGREE * ticket.search_flops:
            each = [row.training_seconds for row in runs]
            return None if None in each else sum(one for one in each if one is not None)
    return None


def _plus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
