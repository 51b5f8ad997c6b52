"""A comparison is one ticket against one other arm, paired by seed; rows in, tested differences out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Literal

import numpy as np

from scratchcard.evidence.statistics import Floats, holm, paired
from scratchcard.evidence.summary import covers, difference_text
from scratchcard.row import Row, Rows, StudySpec

Claim = Literal["better", "worse", "equivalent", "undecided"]
Value = Callable[[Row], float | None]

DECIMALS = 12
"""Differences are rounded so: averaging draws must not turn equal numbers into a difference of 1e-16."""


@dataclass(frozen=True)
class Comparison:
    """Ticket minus another arm, one difference per seed; positive means that the ticket is better."""

    method: str
    level: int
    density: float
    arm: str
    """The other side: "dense", "fresh-init", ..."""
    n: int
    """Seeds with both sides finished."""
    mean: float
    """Mean difference in the metric's unit; nan when n is 0."""
    low: float
    high: float
    """Ends of the two-sided (1 - alpha) t interval; nan when n < 2."""
    p_difference: float
    p_equivalence: float
    adjusted_difference: float
    adjusted_equivalence: float
    """Corrected for all primary comparisons of the study; nan for a descriptive comparison."""
    margin: float
    """Half-width of the equivalence region, metric's unit; nan if relative and no dense run finished."""
    claim: Claim
    """What was shown; "better" if also equivalent, "equivalent" if also worse. Descriptive: nothing."""
    missing: list[str]
    """Runs of either side that do not count, in words."""
    primary: bool
    text: str = ""
    """The comparison as the verdict prints it."""

    def __str__(self) -> str:
        return self.text


def compare(rows: Rows) -> list[Comparison]:
    """Every comparison of a study, the primary ones with p-values corrected for each other.

    The family is: each method's ticket at its primary level against dense and against every control that
    was run there. An arm without a single row at that level makes no comparison.

    Args:
        rows: rows of one study, finished or not.

    Returns:
        By method in the order declared, then level (those with a ticket run, and the primary one), then arm,
        dense first.
    """
    study, margin = rows.study, _margin(rows)
    found = []
    for method, plan in study.methods.items():
        own = [row for row in rows if row.method == method and row.arm != "dense"]
        ran = {(row.level, row.arm) for row in own}
        controls = [arm for arm in study.arms if arm not in ("dense", "ticket")]
        controls += sorted({arm for _, arm in ran} - {*study.arms, "ticket"})
        for level in sorted({level for level, arm in ran if arm == "ticket"} | {plan.primary}):
            kept = [r.density for r in own if (r.level, r.arm, r.status) == (level, "ticket", "done")]
            density = fmean(kept) if kept else plan.densities[level]
            for arm in ["dense", *(arm for arm in controls if (level, arm) in ran)]:
                found.append(_uncorrected(rows, method, level, density, arm, margin, level == plan.primary))
    family = [c for c in found if c.primary]
    adjusted = holm([c.p_difference for c in family], [c.p_equivalence for c in family])
    claimed = map(partial(_claimed, study), family, *adjusted)
    return [_worded(study, next(claimed) if c.primary else c) for c in found]


def differences(rows: Rows, method: str, level: int, arm: str, value: Value) -> tuple[Floats, list[str]]:
    """Ticket minus another arm in some value, one number per seed that has both.

    Draws of one arm under one seed are averaged first: seeds are the independent repetitions, draws are not.

    Args:
        rows: rows of one study.
        method: label of the method.
        level: pruning round.
        arm: the other side.
        value: what is read from a finished row; None when the row does not have it.

    Returns:
        [seeds], in order of the seeds, and what is missing, in words.
    """
    ticket, lost_tickets = _per_seed(rows, method, level, "ticket", value)
    other, lost_others = _per_seed(rows, method, level, arm, value)
    both = sorted(ticket.keys() & other.keys())
    return np.round([ticket[seed] - other[seed] for seed in both], DECIMALS), lost_tickets + lost_others


def metric(study: StudySpec) -> Value:
    """What comparisons read: the test metric at the declared point of a run, signed so more is better."""
    sign, value = 1 if study.higher_is_better else -1, measured(study)

    def signed(row: Row) -> float | None:
        number = value(row)
        return None if number is None else sign * number

    return signed


def measured(study: StudySpec) -> Value:
    """The test metric at the declared point of a run, as it was measured."""

    def value(row: Row) -> float | None:
        untrained = study.dense_given and row.arm == "dense"
        point = row.end if untrained or study.measure == "end" else row.early_stop
        return None if point is None else point.test_metric

    return value


def effect_text(comparison: Comparison, study: StudySpec) -> str:
    """Mean difference and interval as printed, e.g. "+0.31 pp [+0.02, +0.60]"."""
    if not comparison.n:
        return "nothing to compare"
    mean, low, high = (difference_text(x, study) for x in (comparison.mean, comparison.low, comparison.high))
    return f"{mean} [{low.removesuffix(' pp')}, {high.removesuffix(' pp')}]" if comparison.n > 1 else mean


def margin_text(comparison: Comparison, study: StudySpec) -> str:
    """The margin as printed, without a sign."""
    return difference_text(comparison.margin, study).lstrip("+")


def _per_seed(rows: Rows, method: str, level: int, arm: str, value: Value) -> tuple[dict[int, float], list[str]]:
    values: dict[int, list[float]] = defaultdict(list)
    without: dict[str, list[int]] = defaultdict(list)
    ran = set()
    for row in rows:
        if row.arm != arm or (arm != "dense" and (row.method, row.level) != (method, level)):
            continue
        ran.add(row.seed)
        untrained = arm not in ("dense", "ticket") and row.trained_steps == 0
        number = value(row) if row.status == "done" and not untrained else None
        if number is not None:
            values[row.seed].append(number)
            continue
        measured = "had no step to be trained for" if untrained else "has no such measurement"
        without[row.status if row.status != "done" else measured].append(row.seed)
    one_for_all = arm == "dense" and rows.study.dense_given and bool(values)
    if not one_for_all:
        without["not run"] = [seed for seed in rows.study.seeds if seed not in ran]
    means = {seed: fmean(numbers) for seed, numbers in values.items()}
    missing = [f"{arm} {reason} ({_seeds(seeds)})" for reason, seeds in without.items() if seeds]
    if one_for_all:
        given = fmean(means.values())  # one given model stands beside every seed
        return {seed: means.get(seed, given) for seed in {*rows.study.seeds, *means}}, missing
    return means, missing


def _seeds(seeds: list[int]) -> str:
    """Seeds in words, several lost draws of one counted."""
    each = [f"{seed}{f' x {n}' if (n := seeds.count(seed)) > 1 else ''}" for seed in sorted(set(seeds))]
    return f"seed{'s' if len(each) > 1 else ''} {', '.join(each)}"


def _margin(rows: Rows) -> float:
    if rows.study.margin_kind == "absolute":
        return rows.study.margin
    dense = _per_seed(rows, "", 0, "dense", metric(rows.study))[0].values()
    return rows.study.margin * abs(fmean(dense)) if dense else float("nan")


def _uncorrected(
    rows: Rows, method: str, level: int, density: float, arm: str, margin: float, primary: bool
) -> Comparison:
    numbers, missing = differences(rows, method, level, arm, metric(rows.study))
    tested = paired(numbers, 0.0 if np.isnan(margin) else margin, rows.study.alpha, rows.study.resolution)
    return Comparison(
        method=method,
        level=level,
        density=density,
        arm=arm,
        n=tested.n,
        mean=float(tested.mean),
        low=float(tested.low),
        high=float(tested.high),
        p_difference=float(tested.p_difference),
        p_equivalence=float(tested.p_equivalence),
        adjusted_difference=float("nan"),
        adjusted_equivalence=float("nan"),
        margin=margin,
        claim="undecided",
        missing=missing,
        primary=primary,
    )


def _claimed(study: StudySpec, comparison: Comparison, difference: float, equivalence: float) -> Comparison:
    difference, equivalence, alpha = float(difference), float(equivalence), study.alpha
    claim: Claim = "undecided"
    if difference <= alpha and comparison.mean > 0:
        claim = "better"
    elif equivalence <= alpha:
        claim = "equivalent"
    elif difference <= alpha:
        claim = "worse"
    return replace(comparison, adjusted_difference=difference, adjusted_equivalence=equivalence, claim=claim)


def _worded(study: StudySpec, comparison: Comparison) -> Comparison:
    c = comparison
    text = f"ticket vs {c.arm}: {effect_text(c, study)}, n = {c.n} ({covers(study)})"
    if c.primary:
        both = max(c.adjusted_difference, c.adjusted_equivalence) <= study.alpha
        also = {"better": " and equivalent", "equivalent": " and worse"}.get(c.claim, "") if both else ""
        text += "" if np.isnan(c.margin) else f", margin {margin_text(c, study)}"
        text += f", adjusted p of difference {c.adjusted_difference:.2g}"
        text += f", of equivalence {c.adjusted_equivalence:.2g}: {c.claim}{also}"
    else:
        text = f"level {c.level}, {text}"
    return replace(comparison, text=text + (f" (missing: {'; '.join(c.missing)})" if c.missing else ""))
