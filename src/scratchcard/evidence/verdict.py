"""The verdict: per method one of a closed list of sentences, from the rows and the margin declared first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from scratchcard.evidence.arms import INITIAL, control
from scratchcard.evidence.caveats import FEW_SEEDS
from scratchcard.evidence.comparison import (
    Comparison,
    compare,
    differences,
    effect_text,
    margin_text,
    metric,
)
from scratchcard.evidence.fate import fate_of, told
from scratchcard.evidence.first import first_of_all
from scratchcard.evidence.legs import Leg, alpha_per_method, legs_of
from scratchcard.evidence.said import unsettled
from scratchcard.evidence.statistics import MOST_SEEDS, mean_sd, p_below, seeds_needed
from scratchcard.evidence.summary import covers, density_text, difference_text
from scratchcard.evidence.tradeoff import units_were_cut
from scratchcard.row import LONGER, Origin, Rows, StudySpec


class Outcome(Enum):
    """Everything a verdict can say, as templates; from the best answer to the worst."""

    BETTER_AND_SMALLER = "Better and smaller: {ticket} beats dense by {effect} {covered}."
    MATCHING_AND_SMALLER = "Matching and smaller: {ticket} is within {margin} of dense: {effect} {covered}."
    EXPLAINED_BY_A_CONTROL = (
        "Explained by a control: {ticket} is as good as dense, {effect} {covered}, but {control} does as well."
    )
    SMALLER_AT_A_PRICE = "Smaller at a price: {ticket} costs {effect} against dense {covered}."
    UNDECIDED = "Undecided: {ticket} against dense: {effect} {covered}; {more}."
    NO_SMALLER_MATCH = (
        "No smaller match: at {levels} the ticket is worse than dense by more than {margin}; {ticket}: {effect} "
        "{covered}."
    )
    DIVERGES = (
        "Diverges: in {lost} of {seeds} seeds {ticket} or the search for it diverged; where neither did, {effect} "
        "against dense {covered}."
    )
    FAILED = "Failed: {ticket} has no finished run in any of {seeds} seeds."


@dataclass(frozen=True)
class MethodVerdict:
    """What the study says about one method at its primary level."""

    method: str
    level: int
    density: float
    outcome: Outcome
    sentence: str
    why: str
    """What the controls say about the cause, as a sentence."""
    diverged: list[str]
    """Runs that diverged, each cause once, as sentences: they are said before anything else."""
    failed: list[str]
    """Runs that crashed and were left out, likewise."""
    caveats: list[str]
    """What the judged tickets are not, though their accuracy does not show it, as sentences."""
    comparisons: list[Comparison]
    """The primary ones: dense first, then the controls."""
    descriptive: list[Comparison]
    """The same comparisons at the other levels; they claim nothing."""
    legs: list[Leg]
    winning_ticket: bool
    """All three legs hold."""
    seeds_needed: int | None
    """Of an undecided outcome: seeds in total that would decide; None if decided, unknown or beyond 200, and where it
    is a control that is missing, which no number of seeds replaces."""

    @property
    def won(self) -> str:
        """Whether the ticket is a winning one, in words."""
        if self.winning_ticket:
            return "yes, all three legs hold"
        return "no" if any(leg.status == "fails" for leg in self.legs) else "not shown"

    def __str__(self) -> str:
        before = [*self.diverged, self.sentence, *self.failed, *self.caveats, self.why]
        after = [*map(str, self.comparisons), *map(str, self.legs), f"Winning ticket: {self.won}."]
        return "\n  ".join([*before, *after])


@dataclass(frozen=True)
class Verdict:
    """What a study says: a headline, then each method with its comparisons and the three legs."""

    study: str
    methods: list[MethodVerdict]
    sentence: str
    """The sentence of the method with the best outcome; of equals, the smallest ticket's."""
    first: list[str]
    """What has to be known before any sentence is read, e.g. that the dense network has learnt nothing."""
    convention: str
    """How its numbers are to be read."""

    def __str__(self) -> str:
        if len(self.methods) == 1:  # its sentence is the headline
            return "\n\n".join([*self.first, f"{self.study}: {self.methods[0]}", self.convention])
        return "\n\n".join([*self.first, f"{self.study}: {self.sentence}", *map(str, self.methods), self.convention])


def judge(rows: Rows) -> Verdict:
    """Say what the rows of a study show, each claim at the alpha the study declared.

    Args:
        rows: rows of one study, finished or not; diverged and failed runs are counted and named.

    Returns:
        The verdict; `print` it for the whole text.

    Raises:
        ValueError: if the study has no method.
    """
    if not rows.study.methods:
        raise ValueError(f"study {rows.study.name!r} has no method, so there is nothing to judge; give it one")
    found = compare(rows)
    family = sum(c.primary for c in found)
    methods = [_method(rows, name, [c for c in found if c.method == name], family) for name in rows.study.methods]
    best = min(methods, key=lambda verdict: (list(Outcome).index(verdict.outcome), verdict.density))
    return Verdict(rows.study.name, methods, best.sentence, first_of_all(rows), _convention(rows.study))


def _direction(study: StudySpec) -> str:
    """Which direction is good, where that is not plain."""
    return "" if study.higher_is_better else f"; a lower {study.metric} is better, and + means lower"


def _convention(study: StudySpec) -> str:
    return (
        f"Differences are per seed, + = ticket better{_direction(study)}. [interval]: of one comparison by itself, "
        f"{covers(study)}. p-values, and so claims, are corrected for all comparisons: an interval without 0 can be "
        "undecided."
    )


def _method(rows: Rows, method: str, own: list[Comparison], family: int) -> MethodVerdict:
    study, plan = rows.study, rows.study.methods[method]
    dense, *controls = (c for c in own if c.primary)
    tickets = fate_of(rows, method, dense.level, "ticket")
    origin = plan.origin or INITIAL
    levels = {dense.level, *range(1, len(plan.densities))}
    as_good = [
        c
        for c in controls
        if control(c.arm, origin).explains
        and c.n >= FEW_SEEDS
        and (c.adjusted_equivalence <= study.alpha or c.claim == "worse")
    ]
    good = dense.claim in ("better", "equivalent")
    not_better = _why_not_better(rows, dense, controls) if dense.claim == "better" else ""
    needed, more = None, ""
    if not tickets.finished and len(tickets.lost) == len(study.seeds):
        outcome = Outcome.FAILED
    elif dense.claim == "worse":
        nowhere = _worse_at_every_level(rows, method, levels, dense.margin)
        outcome = Outcome.NO_SMALLER_MATCH if nowhere else Outcome.SMALLER_AT_A_PRICE
    elif tickets.without and dense.n:
        outcome = Outcome.DIVERGES
    elif good and dense.n < FEW_SEEDS:
        outcome, needed = Outcome.UNDECIDED, FEW_SEEDS
        more = f"{dense.claim} by its numbers, but that takes at least {FEW_SEEDS} seeds; {_run(dense.n)}"
    elif good and as_good:
        outcome = Outcome.EXPLAINED_BY_A_CONTROL
    elif dense.claim == "better" and not not_better:
        outcome = Outcome.BETTER_AND_SMALLER
    elif dense.claim == "better" and dense.adjusted_equivalence > study.alpha:
        outcome, more = Outcome.UNDECIDED, not_better
    elif good:
        outcome = Outcome.MATCHING_AND_SMALLER
    else:
        outcome = Outcome.UNDECIDED
        needed = _needed(rows, dense, family)
        more = _more_text(dense, needed)
    sentence = outcome.value.format(
        ticket=f"the {method} ticket at density {density_text(dense.density)}",
        effect=effect_text(dense, study),
        margin=margin_text(dense, study),
        covered=f"({covers(study, f'{dense.n} of {len(study.seeds)} ')}{_direction(study)})",
        seeds=len(study.seeds),
        lost=len(tickets.without),
        control=_named(as_good, study, origin),
        levels=f"each of the {len(levels)} levels tested" if len(levels) > 1 else "the one level tested",
        more=more,
    )
    legs = legs_of(rows, dense)
    arms = ["dense", "ticket", *(c.arm for c in controls)]
    notes = (
        [f"{not_better[0].upper()}{not_better[1:]}."] if outcome is Outcome.MATCHING_AND_SMALLER and not_better else []
    )
    return MethodVerdict(
        method=method,
        level=dense.level,
        density=dense.density,
        outcome=outcome,
        sentence=sentence,
        why=_why(controls, study, origin),
        diverged=told(rows, method, dense.level, arms, "diverged"),
        failed=told(rows, method, dense.level, arms, "failed"),
        caveats=[*notes, *unsettled(rows, method, dense.level)],
        comparisons=[dense, *controls],
        descriptive=[c for c in own if not c.primary],
        legs=legs,
        winning_ticket=all(leg.status == "holds" for leg in legs),
        seeds_needed=needed,
    )


def _needed(rows: Rows, dense: Comparison, family: int) -> int | None:
    """Seeds in total that would decide between ticket and dense, never fewer than a good outcome takes."""
    study = rows.study
    numbers, _ = differences(rows, dense.method, dense.level, "dense", metric(study))
    sd = float(mean_sd(numbers, study.resolution)[1]) if dense.n > 1 else math.nan
    needed = seeds_needed(dense.mean, sd, dense.margin, study.alpha / family)
    return None if needed is None else max(needed, FEW_SEEDS)


def _worse_at_every_level(rows: Rows, method: str, levels: set[int], margin: float) -> bool:
    """Whether the ticket is shown worse than dense by more than the margin at every level that was planned.

    An intersection-union test (Berger 1982): every level has to reject, so none of them pays for the others. The
    primary one has also been shown to be worse among all comparisons of the study.
    """
    tests = [differences(rows, method, level, "dense", metric(rows.study))[0] for level in levels]
    return all(p_below(numbers, -margin, rows.study.resolution) <= alpha_per_method(rows.study) for numbers in tests)


def _why_not_better(rows: Rows, dense: Comparison, controls: list[Comparison]) -> str:
    """Why a ticket is not called better, though it beats the dense network; empty where nothing is missing."""
    study, plan = rows.study, rows.study.methods[dense.method]
    beside = {c.arm: c for c in controls}
    narrow = ("scratch-e", "fresh-init") if plan.uniform else ("uniform-width",)
    required = [(LONGER,)] if LONGER not in plan.left_out else []
    required += [narrow] if units_were_cut(rows, dense.method) else []
    missing = [arms[0] for arms in required if max((beside[a].n for a in arms if a in beside), default=0) < FEW_SEEDS]
    if missing:
        cannot = [f"{arm} cannot be run here: {why}" for arm, why in plan.left_out.items() if arm in missing]
        run = f"run it in {FEW_SEEDS} seeds or more" if len(missing) == 1 else f"run both in {FEW_SEEDS} seeds or more"
        return f"better than dense by its numbers, but that is claimed only beside {' and '.join(missing)}; " + (
            "; ".join(cannot) or run
        )
    longer = beside.get(LONGER)
    if longer is not None and longer.claim != "better":
        shown = "does as well" if longer.adjusted_equivalence <= study.alpha else "is not shown to be worse"
        shown = "does better" if longer.claim == "worse" else shown
        return (
            f"better than dense by its numbers, but {control(LONGER).what} {shown}: ticket minus it "
            f"{effect_text(longer, study)} ({covers(study, f'{longer.n} ')})"
        )
    return ""


def _run(seeds: int) -> str:
    more = FEW_SEEDS - seeds
    return f"run {more} more seed{'s' if more > 1 else ''}"


def _more_text(dense: Comparison, needed: int | None) -> str:
    if dense.n == 0:
        return "no seed has both runs finished: " + ("; ".join(dense.missing) or "nothing was run")
    if dense.n == 1:
        return "one seed shows no spread, so how many would decide is not known; run at least 3"
    if needed is None:
        return f"more than {MOST_SEEDS} seeds would be needed to decide"
    more = max(1, needed - dense.n)
    seeds = "seed" if more == 1 else "seeds"
    return f"{more} more {seeds} would decide (80 % power if mean and spread stay as they are)"


def _named(as_good: list[Comparison], study: StudySpec, origin: Origin) -> str:
    """The controls that do as well as the ticket; of many, two and the number of the others."""
    words = [f"{control(c.arm, origin).what} ({effect_text(c, study)})" for c in as_good]
    if len(words) > FEW - 1:
        words = [*words[:2], f"{len(words) - 2} more controls"]
    return " and ".join(words)


FEW = 4
"""So many controls are each given their own words; more are listed by what they show."""


def _why(controls: list[Comparison], study: StudySpec, origin: Origin) -> str:
    if not controls:
        return "Why: not known, no control of the same size was run."
    if len(controls) > FEW:
        return _why_of_many(controls, study)
    parts = []
    for c in controls:
        what, cause = control(c.arm, origin).what, control(c.arm, origin).cause
        effect = effect_text(c, study)
        if c.adjusted_equivalence <= study.alpha:
            parts.append(f"{what} does as well within the margin, ticket minus it {effect}")
        elif c.claim == "better":
            parts.append(f"{cause}: {effect} over {what}")
        elif c.claim == "worse":
            parts.append(f"{what} does better, ticket minus it {effect}")
        elif not c.n:
            parts.append(f"not known whether {cause}: no seed has both runs")
        else:
            parts.append(f"not known whether {cause}: {effect} over {what}")
    intervals = f" (intervals {covers(study)})" if any(c.n > 1 for c in controls) else ""
    return f"Why: {'; '.join(parts)}{intervals}."


def _why_of_many(controls: list[Comparison], study: StudySpec) -> str:
    """The same by label: which controls the ticket beats, which do as well or better, and which are open."""
    phrases = {"better": "beats", "equivalent": "is matched by", "worse": "is beaten by"}
    groups: dict[str, list[Comparison]] = {said: [] for said in (*phrases.values(), "is not told apart from")}
    for c in controls:
        shown = "equivalent" if c.adjusted_equivalence <= study.alpha else c.claim
        groups[phrases.get(shown, "is not told apart from")].append(c)
    parts = []
    for said, of_group in groups.items():
        names = ", ".join(c.arm for c in of_group)
        if said == "beats" and len(of_group) > FEW:
            least, *_, most = sorted(of_group, key=lambda c: c.mean)
            ends = [f"{difference_text(c.mean, study)} ({c.arm})" for c in (least, most)]
            names = f"{len(of_group)} of {len(controls)} controls, by {' to '.join(ends)}"
        if of_group:
            parts.append(f"{said} {names}")
    return f"Why: the ticket {'; '.join(parts)}."
