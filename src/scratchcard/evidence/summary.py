"""Rows to tables: every number per method, level and arm, with its count and its spread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from scratchcard.row import Row, Rows, StudySpec

T = TypeVar("T")
CONVENTION = (
    "Mean over seeds (the draws of one arm under one seed are averaged first), "
    "in brackets the smallest and the largest single run. Only finished runs are counted."
)


@dataclass(frozen=True)
class Spread:
    """A mean over seeds with the smallest and the largest single run."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """What the runs of one arm at one level of one method came to; None where no run has the number."""

    method: str
    level: int
    arm: str
    density: float
    seeds: int
    """Seeds with at least one finished run."""
    runs: int
    """Finished runs."""
    lost: int
    """Runs that diverged or failed."""
    end: Spread | None
    """Test metric after the last step."""
    early_stop: Spread | None
    """Test metric where validation loss was lowest."""
    stop_step: Spread | None
    """The step where validation loss was lowest; a lower bound where runs are censored."""
    censored: int
    """Runs whose early stop fell in the last 5 % of the run."""

    def metric(self, study: StudySpec) -> Spread | None:
        """The test metric at the point that the study's comparisons read."""
        return self.end if study.measure == "end" else self.early_stop


@dataclass(frozen=True)
class CurvePoint:
    """Mean over the finished runs of one level that have this step; `runs` counts them."""

    level: int
    density: float
    step: int
    runs: int
    test_metric: float
    validation_loss: float


def summarise(rows: Rows) -> list[Line]:
    """One line per method, level and arm: the dense network first, then in the order the study declared.

    Args:
        rows: The rows of one study, in any order.

    Returns:
        Lines sorted by method, level and arm. An arm without any row has no line.
    """
    methods = {name: position for position, name in enumerate(rows.study.methods)}
    arms = {name: position for position, name in enumerate(rows.study.arms)}
    groups: dict[tuple[str, int, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.method, row.level, row.arm].append(row)

    def declared(key: tuple[str, int, str]) -> tuple[bool, int, str, int, int, str]:
        method, level, arm = key
        place = methods.get(method, len(methods)), method, level
        return arm != "dense", *place, arms.get(arm, len(arms)), arm

    return [_line(*key, groups[key]) for key in sorted(groups, key=declared)]


def _line(method: str, level: int, arm: str, group: Sequence[Row]) -> Line:
    done = finished(group)
    return Line(
        method=method,
        level=level,
        arm=arm,
        density=fmean(row.density for row in done or group),  # one that failed may not have come to have its mask
        seeds=len({row.seed for row in done}),
        runs=len(done),
        lost=len(group) - len(done),
        end=spread((row.seed, row.end.test_metric) for row in done if row.end),
        early_stop=spread((row.seed, row.early_stop.test_metric) for row in done if row.early_stop),
        stop_step=spread((row.seed, row.early_stop.step) for row in done if row.early_stop),
        censored=sum(row.early_stop.censored for row in done if row.early_stop),
    )


def finished(rows: Iterable[Row]) -> list[Row]:
    """The runs that neither diverged nor failed."""
    return [row for row in rows if row.status == "done"]


def spread(values: Iterable[tuple[int, float]]) -> Spread | None:
    """Mean over seeds of the means within a seed, and the extremes over all values.

    Args:
        values: (seed, value) of each run.

    Returns:
        The spread, or None when there is no value.
    """
    by_seed: dict[int, list[float]] = defaultdict(list)
    for seed, value in values:
        by_seed[seed].append(value)
    if not by_seed:
        return None
    every = [value for of_seed in by_seed.values() for value in of_seed]
    return Spread(fmean(fmean(of_seed) for of_seed in by_seed.values()), min(every), max(every))


def learning_curves(rows: Rows, method: str, levels: Iterable[int], points: int = 60) -> list[CurvePoint]:
    """Mean learning curves of the dense network (level 0) and of a method's tickets.

    Args:
        rows: The rows of one study.
        method: The method whose tickets are followed.
        levels: Their levels; the dense network is always included.
        points: At most so many steps per curve, evenly spread, the first and the last among them.

    Returns:
        Points sorted by level and step. Diverged and failed runs are left out.
    """
    wanted = set(levels)
    by_level: dict[int, list[Row]] = defaultdict(list)
    for row in finished(rows):
        if row.curve and row.arm == "dense":
            by_level[0].append(row)
        elif row.curve and row.method == method and row.arm == "ticket" and row.level in wanted:
            by_level[row.level].append(row)
    curves = []
    for level, group in sorted(by_level.items()):
        density = fmean(row.density for row in group)
        at: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for row in group:
            if row.curve:
                for step, metric, loss in zip(
                    row.curve.steps, row.curve.test_metric, row.curve.validation_loss, strict=True
                ):
                    at[step].append((metric, loss))
        for step in thinned(sorted(at), points):
            metrics, losses = zip(*at[step], strict=True)
            curves.append(CurvePoint(level, density, step, len(metrics), fmean(metrics), fmean(losses)))
    return curves


def thinned(values: Sequence[T], most: int) -> list[T]:
    """At most `most` (two or more) of the values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def around(values: Sequence[int], most: int, middle: int) -> list[int]:
    """At most `most` (three or more) of the rising values, evenly spread, `middle` among them where it is a value."""
    kept = thinned(values, most)
    if middle in values and middle not in kept:
        nearest = min(kept[1:-1], key=lambda value: abs(value - middle))
        kept[kept.index(nearest)] = middle
    return kept


def metric_text(value: float, study: StudySpec) -> str:
    """A value of the study's metric as printed: 97.45 % for a fraction, four digits otherwise."""
    return f"{100 * value:.2f} %" if study.metric_is_fraction else f"{value:.4g}"


def difference_text(value: float, study: StudySpec) -> str:
    """A difference of the study's metric as printed, signed, in percentage points for a fraction."""
    return f"{100 * value:+.2f} pp" if study.metric_is_fraction else f"{value:+.4g}"


def covers(study: StudySpec, how_many: str = "") -> str:
    """What an interval of a study covers, in words: "over seeds; for these 360 test examples"; "over 5 seeds; ..."."""
    return f"over {how_many}seeds; for {_tested(study)}"


def _tested(study: StudySpec) -> str:
    examples, targets = study.test_examples, study.test_targets
    if examples and targets and examples != targets:
        return f"these {targets:,} predictions of {examples:,} test examples"
    number = examples or targets or (round(1 / study.resolution) if study.resolution else None)
    return f"these {number:,} test examples" if number else "this test data"


def sd_text(value: float, study: StudySpec) -> str:
    """A standard deviation of the study's metric as printed, in percentage points for a fraction."""
    return difference_text(value, study).lstrip("+")


def density_text(density: float) -> str:
    """A density in per cent with three digits, as the paper prints its levels: 100, 51.2, 3.52 %."""
    return f"{100 * density:#.3g}".rstrip(".") + " %"


def metric_cell(spread: Spread | None, study: StudySpec) -> str:
    """Mean and extremes of the metric in one cell of a table."""
    if spread is None:
        return "–"  # noqa: RUF001
    if study.metric_is_fraction:
        return f"{100 * spread.mean:.2f} % ({100 * spread.low:.2f} to {100 * spread.high:.2f})"
    return f"{spread.mean:.4g} ({spread.low:.4g} to {spread.high:.4g})"


def step_cell(line: Line) -> str:
    """Mean and extremes of the early-stop step in one cell; with censored runs the mean is a lower bound."""
    if line.stop_step is None:
        return "–"  # noqa: RUF001
    bound = "≥ " if line.censored else ""
    text = f"{bound}{line.stop_step.mean:,.0f} ({line.stop_step.low:,.0f} to {line.stop_step.high:,.0f})"
    return f"{text}, {line.censored} of {line.runs} censored" if line.censored else text


HEADER = ["method", "level", "density", "arm", "seeds", "runs"]
HEADER += ["metric at end", "metric at early stop", "early-stop step"]


def cells(line: Line, study: StudySpec) -> list[str]:
    """A line as printed, one cell per entry of HEADER."""
    runs = f"{line.runs}, {line.lost} lost" if line.lost else str(line.runs)
    causes = [line.method, str(line.level), density_text(line.density), line.arm, str(line.seeds), runs]
    return [*causes, metric_cell(line.end, study), metric_cell(line.early_stop, study), step_cell(line)]


def markdown(rows: Rows) -> str:
    """The table of a study as Markdown, with the convention of its numbers above it.

    Args:
        rows: The rows of one study.

    Returns:
        One caption and one table; text given by the user cannot break out of its cell.
    """
    study = rows.study

    def safe(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")

    table = [HEADER, ["---"] * len(HEADER), *(cells(line, study) for line in summarise(rows))]
    caption = f"{safe(study.task)}: test {safe(study.metric)}. {CONVENTION}"
    return "\n".join([caption, "", *("| " + " | ".join(map(safe, line)) + " |" for line in table)]) + "\n"
