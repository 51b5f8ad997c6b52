"""Winning tickets against fresh weights, structure by structure and learning rate by learning rate.

Source: Liu et al. 2019, Rethinking the Value of Network Pruning, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from scratchcard.evidence.caveats import FEW_SEEDS
from scratchcard.evidence.statistics import Paired, paired
from scratchcard.evidence.summary import covers
from scratchcard.row import Row, Rows, StudySpec

PAIRS = {"unstructured": ("ticket", "fresh-init"), "structured": ("lottery-init", "another-init")}
"""Structure -> the arm of original initial weights, and that of another draw of the same network's, so that nothing
else differs: weights of the large network cut to the structure, not drawn for its size."""


@dataclass(frozen=True)
class Drawn:
    """One structure at one learning rate."""

    structure: str
    rate: float
    method: str
    density: float
    """Share of all weights kept, mean over seeds."""
    own: tuple[float, ...]
    """Metric of the original initial weights, one per seed that has both."""
    fresh: tuple[float, ...]
    """Metric of fresh ones, the mean over draws of each seed."""
    dense: float
    """Mean metric of the dense network."""
    difference: Paired
    """Original minus fresh; positive means that the original initial weights are better. The interval is wide enough
    for all comparisons together (Bonferroni)."""
    compared: int
    """How many comparisons there are."""


def drawn(found: Sequence[tuple[float, Rows]]) -> list[Drawn]:
    """Every structure at every learning rate, in the order of the rates."""
    there = [
        (structure, rate, rows, method, arms)
        for structure, arms in PAIRS.items()
        for rate, rows in found
        if (method := next((name for name in rows.study.methods if _has(rows, name, arms)), None)) is not None
    ]
    return [_drawn(*one, len(there)) for one in there]


def answer(lottery: Sequence[Drawn], study: StudySpec) -> str:
    """What the comparison says, in words: a sentence per structure and rate."""
    factor, unit = (100, " percentage points") if study.metric_is_fraction else (1.0, "")
    told = []
    for one in lottery:
        d = one.difference
        spread = "" if d.n < 2 else f" [{factor * float(d.low):+.2f}, {factor * float(d.high):+.2f}]"
        verdict = (
            f"undecided, at least {FEW_SEEDS} seeds are needed"
            if d.n < FEW_SEEDS
            else "the original initial weights are better"
            if d.low > 0
            else "fresh weights are better"
            if d.high < 0
            else "no difference is shown"
        )
        told.append(
            f"{one.structure}, learning rate {one.rate:g}: original minus fresh {factor * float(d.mean):+.2f}{unit}"
            f"{spread} (n = {d.n}): {verdict}."
        )
    told.append(f"{interval(lottery, study)}s in brackets, {covers(study)}.")
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in told)


def interval(lottery: Sequence[Drawn], study: StudySpec) -> str:
    """What is sure about the intervals, in words."""
    sure, number = f"{100 * (1 - study.alpha):g} %", lottery[0].compared
    return f"{sure} interval" if number == 1 else f"{sure} simultaneous (Bonferroni, {number} comparisons) interval"


def _drawn(structure: str, rate: float, rows: Rows, method: str, arms: tuple[str, str], compared: int) -> Drawn:
    study = rows.study
    level = study.methods[method].primary
    own, fresh = (_by_seed(rows, method, level, arm) for arm in arms)
    seeds = sorted(own.keys() & fresh.keys())
    sign = 1 if study.higher_is_better else -1
    differences = [sign * (own[seed] - fresh[seed]) for seed in seeds]
    densities = [row.density for row in rows if (row.method, row.level, row.arm) == (method, level, arms[0])]
    dense = [_value(row, study) for row in rows if row.arm == "dense" and row.status == "done"]
    return Drawn(
        structure,
        rate,
        method,
        fmean(densities),
        tuple(own[seed] for seed in seeds),
        tuple(fresh[seed] for seed in seeds),
        fmean(dense) if dense else float("nan"),
        paired(differences, study.margin, study.alpha / compared, study.resolution),
        compared,
    )


def _has(rows: Rows, method: str, arms: tuple[str, str]) -> bool:
    level = rows.study.methods[method].primary
    return all(_by_seed(rows, method, level, arm) for arm in arms)


def _by_seed(rows: Rows, method: str, level: int, arm: str) -> dict[int, float]:
    """Seed -> mean metric over its draws."""
    values: dict[int, list[float]] = {}
    for row in rows:
        if (row.method, row.level, row.arm, row.status) == (method, level, arm, "done"):
            values.setdefault(row.seed, []).append(_value(row, rows.study))
    return {seed: fmean(several) for seed, several in values.items()}


def _value(row: Row, study: StudySpec) -> float:
    point = row.end if study.measure == "end" else row.early_stop
    assert point is not None, "a run that is done was measured"
    return point.test_metric
