"""The mean of every arm at one level of a method, with its interval over seeds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean, stdev

from scratchcard.evidence.comparison import measured
from scratchcard.evidence.statistics import t_interval
from scratchcard.evidence.summary import finished
from scratchcard.row import Rows


@dataclass(frozen=True)
class ArmMean:
    """The test metric of one arm at one level, at the point that the study's comparisons read."""

    arm: str
    n: int
    """Seeds with a finished run; draws of one seed are averaged first."""
    mean: float
    low: float
    high: float
    """Ends of the two-sided (1 - alpha) t interval of the mean; nan when n is 1."""
    sd: float = float("nan")
    """Sample standard deviation over seeds; nan when n is 1."""


def arm_means(rows: Rows, method: str, level: int) -> list[ArmMean]:
    """The dense network, the ticket and every control of one level, each by itself.

    These intervals hold what differs from seed to seed. Whether two arms differ is told by their paired differences
    (`compare`), which do not.

    Args:
        rows: The rows of one study.
        method: Label of the method.
        level: Pruning round.

    Returns:
        One entry for each arm with a finished run, in the order the study declared.
    """
    study, value = rows.study, measured(rows.study)
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in finished(rows):
        if (row.arm == "dense" or (row.method, row.level) == (method, level)) and (number := value(row)) is not None:
            found[row.arm][row.seed].append(number)
    arms = [arm for arm in study.arms if arm in found] + sorted(found.keys() - set(study.arms))
    means = []
    for arm in arms:
        numbers = [fmean(draws) for _, draws in sorted(found[arm].items())]
        # t_interval takes the grain of a difference of two numbers, and this is one
        low, high = t_interval(numbers, study.alpha, study.resolution / 2**0.5)
        sd = stdev(numbers) if len(numbers) > 1 else float("nan")
        means.append(ArmMean(arm, len(numbers), fmean(numbers), float(low), float(high), sd))
    return means
