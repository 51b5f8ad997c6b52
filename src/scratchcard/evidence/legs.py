"""The three legs of a winning ticket: commensurate accuracy, commensurate training time, fewer parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from scratchcard.evidence.caveats import FEW_SEEDS
from scratchcard.evidence.comparison import Comparison, differences, margin_text, metric
from scratchcard.evidence.fate import fate_of
from scratchcard.evidence.statistics import p_above, p_below, t_interval
from scratchcard.evidence.summary import covers, difference_text
from scratchcard.row import Row, Rows, StudySpec


@dataclass(frozen=True)
class Leg:
    """One of the three conditions of a winning ticket (Frankle & Carbin 2019, section 1)."""

    name: Literal["accuracy", "training time", "size"]
    status: Literal["holds", "fails", "undecided", "censored", "not observed"]
    text: str

    def __str__(self) -> str:
        return f"{self.name} {self.status}: {self.text}"


def legs_of(rows: Rows, dense: Comparison) -> list[Leg]:
    """Judge each leg by itself, so that a reader sees which one is missing.

    All three have to hold, so none pays for the others (an intersection-union test); only the number of
    methods that could be called winning divides alpha.

    Args:
        rows: rows of one study.
        dense: a method's primary comparison with the dense network.

    Returns:
        Accuracy, training time, size.
    """
    return [_accuracy(rows, dense), _training_time(rows, dense), _size(rows, dense)]


def alpha_per_method(study: StudySpec) -> float:
    """The level of what each method is asked once, outside the family of comparisons."""
    return study.alpha / len(study.methods)


def _accuracy(rows: Rows, dense: Comparison) -> Leg:
    study = rows.study
    numbers, _ = differences(rows, dense.method, dense.level, "dense", metric(study))
    alpha = alpha_per_method(study)
    tickets = fate_of(rows, dense.method, dense.level, "ticket")
    if tickets.without:
        what = f"in {len(tickets.without)} of {len(study.seeds)} seeds the ticket or the search for it diverged"
        return Leg("accuracy", "fails", what)
    if dense.n < FEW_SEEDS:
        return Leg("accuracy", "undecided", f"seeds with both runs finished: {dense.n}, at least {FEW_SEEDS} needed")
    low, high = (float(end) for end in t_interval(numbers, 2 * alpha, study.resolution))
    over = covers(study, f"{dense.n} ")
    bound = f"at most {margin_text(dense, study)} below is allowed"
    if p_above(numbers, -dense.margin, study.resolution) <= alpha or dense.claim == "better":
        return Leg("accuracy", "holds", f"at worst {difference_text(low, study)} against dense ({over}); {bound}")
    if p_below(numbers, -dense.margin, study.resolution) <= alpha:
        return Leg("accuracy", "fails", f"at best {difference_text(high, study)} against dense ({over}); {bound}")
    between = f"between {difference_text(low, study)} and {difference_text(high, study)}"
    return Leg("accuracy", "undecided", f"{between} against dense ({over}); {bound}")


def _training_time(rows: Rows, dense: Comparison) -> Leg:
    study = rows.study
    if study.dense_given:
        return Leg("training time", "not observed", "the dense network was given trained, and its training not seen")
    origin = study.methods[dense.method].origin
    if origin is not None and origin.trained and not origin.resumes:
        return Leg(
            "training time",
            "not observed",
            "its tickets start from trained weights, so that their own steps are not how long they took to train",
        )

    def log_step(row: Row) -> float | None:
        return None if row.early_stop is None else math.log(max(row.early_stop.step, 1))

    own, whole = ({row.recipe.get("steps") for row in _done(rows, dense, arm)} for arm in ("ticket", "dense"))
    if own and whole and own != whole:
        steps = " or ".join(sorted(map(str, own)))
        return Leg(
            "training time",
            "not observed",
            f"trained for {steps} steps of its own recipe, which the dense network's do not measure",
        )
    logs, _ = differences(rows, dense.method, dense.level, "dense", log_step)
    if len(logs) < 2:
        return Leg("training time", "undecided", f"seeds with both early-stop steps: {len(logs)}, at least 2 needed")
    alpha, limit = alpha_per_method(study), math.log1p(study.time_margin)
    # steps are seen only where the run was evaluated: that grid's width relative to the dense run's early stop
    stops = [row.early_stop.step for row in _done(rows, dense, "dense") if row.early_stop is not None]
    grain = study.recipe.get("eval_every", 0) / max(fmean(stops), 1)
    low, high = (math.exp(float(end)) for end in t_interval(logs, 2 * alpha, grain))
    text = (
        f"early-stop step {math.exp(fmean(logs)):.2f} [{low:.2f}, {high:.2f}] times the dense one's (over seeds); "
        f"at most {1 + study.time_margin:.2f} allowed"
    )
    # A censored step can only be later than seen: late tickets may hide a failure, late dense runs a success.
    if p_below(logs, limit, grain) <= alpha:
        hidden, status = _censored(rows, dense, "ticket"), "holds"
    elif p_above(logs, limit, grain) <= alpha:
        hidden, status = _censored(rows, dense, "dense"), "fails"
    else:
        return Leg("training time", "undecided", text)
    if hidden:
        return Leg("training time", "censored", f"{text}; {hidden}")
    return Leg("training time", status, text)


def _size(rows: Rows, dense: Comparison) -> Leg:
    before, after = _done(rows, dense, "dense"), _done(rows, dense, "ticket")
    if not before or not after:
        return Leg("size", "undecided", "no finished run of the dense network or of the ticket")
    full, most = min(row.nonzero for row in before), max(row.nonzero for row in after)
    return Leg("size", "holds" if most < full else "fails", f"{most:,} of {full:,} learnable numbers are not cut")


def _done(rows: Rows, dense: Comparison, arm: str) -> list[Row]:
    place = (dense.method, dense.level)
    return [
        row
        for row in rows
        if row.arm == arm and row.status == "done" and (arm == "dense" or (row.method, row.level) == place)
    ]


def _censored(rows: Rows, dense: Comparison, arm: str) -> str:
    runs = _done(rows, dense, arm)
    late = sum(row.early_stop.censored for row in runs if row.early_stop)
    return f"{late} of {len(runs)} {arm} runs still improved at their end" if late else ""
