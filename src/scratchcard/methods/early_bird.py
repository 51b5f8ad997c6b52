"""Early-bird tickets: draw the channel mask while training, stop once it no longer changes, train only the ticket on.

Source: You et al. 2020, Drawing Early-Bird Tickets, sections 3 and 4: slimming's penalty and scaling factors, a mask by
a global percentile after every epoch, the distance between masks as the sign that the ticket is there. The ticket
inherits the search's weights and goes on with its schedule from that epoch. Ours: the search really stops; masks are
logged, not checkpoints; exactly n - floor(n p) units are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from scratchcard.fields import check_fields
from scratchcard.masks.early_bird import READINGS, EarlyBirdDetector, random_distance
from scratchcard.methods.slimming import SparsityTraining, told_of
from scratchcard.methods.ticket import Dense, Handed, Ticket, TooShort, Train
from scratchcard.methods.units import (
    CutsUnits,
    best_of_all,
    between_looks,
    check_every,
    check_factors,
    check_rates,
    equal_scores,
    factors_of,
    looks,
    planned_densities,
    share_cut,
    training_flops,
)
from scratchcard.networks.scaling import Factors, Scaled, scaling_factors
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits
from scratchcard.networks.weights import everything
from scratchcard.row import Emergence, Origin, Search
from scratchcard.training.clock import clock
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Scores, State, UnitMask
from scratchcard.words import unknown


@dataclass
class _Level:
    """What one level's detectors have seen of the search."""

    cut: Fraction
    detector: EarlyBirdDetector
    other: EarlyBirdDetector
    """The other reading, for the report."""
    steps: list[int] = field(default_factory=list)
    drawn: State | None = None
    """Weights at the step at which it fired."""
    seconds: float = 0.0


@dataclass(frozen=True)
class EarlyBird(CutsUnits):
    """Tickets of levels 1 ... `rounds`, all drawn along one search that stops when the last of them has settled."""

    rounds: int = field(default=1, metadata={"identity": False})
    rate: float = 0.5
    """Share of the units left that a level cuts, of all sites together."""
    epsilon: float = 0.1
    """The raw Hamming distance below which masks count as the same."""
    patience: int = 5
    """Length of the queue."""
    reading: Literal["consecutive", "window"] = "consecutive"
    """Which distances must be small: each mask's from the one before (the paper), or the newest one's from all older
    ones in the queue (the released code)."""
    every: int | None = None
    """Steps between two masks; None: an epoch."""
    draw: Literal["emergence", "end"] = "emergence"
    """"end" searches to the end of the training and draws mask and weights there, and trains them for the same steps as
    the early ticket: whether it was early enough."""
    strength: float = 1e-4
    """Of the L1 penalty on scaling factors, in search and retraining (`penalty_stays`)."""
    initial: float | None = 0.5
    """Scaling factors at the start, as of `Slimming`."""
    penalty_stays: bool = True
    """Whether the ticket is trained on under the penalty, as the released CIFAR scripts do: on the factors of batch
    normalisation, since gates are multiplied out of it."""
    precision: Literal["block8"] | None = None
    """"block8": the search is made in 8-bit block floating point, emulated; the ticket is trained in the recipe's."""
    low_throughout: bool = False
    """Whether the ticket is trained in `precision` too."""
    least: float = 1
    """Units that each site keeps at least: a number from 1, or below 1 a share."""
    keep: tuple[str, ...] = ()
    """What to keep whole: names that `inspect` prints - of sites, layers, weights, kinds of weights - or patterns."""
    only: tuple[str, ...] = ()
    """Names likewise: all else is kept whole. Choices and branches go by their own names alone."""

    origin = Origin(weights="trained", resumes=True)

    def __post_init__(self) -> None:
        """Refuse hyper-parameters that mean nothing, and rates at which any two masks would count as the same.

        Raises:
            ValueError: naming the field, what was seen and what is needed.
        """
        check_fields(self)
        check_rates("EarlyBird", self.rounds, self.rate)
        if self.draw not in ("emergence", "end"):
            raise ValueError(unknown("time to draw", self.draw, ("emergence", "end")))
        check_every("EarlyBird", self.every)
        if self.precision not in (None, "block8") or (self.low_throughout and self.precision is None):
            raise ValueError(
                f"EarlyBird searches in the recipe's precision (None) or in 'block8', and only the latter can be kept "
                f"for the ticket; got precision={self.precision!r}, low_throughout={self.low_throughout}"
            )
        check_factors("EarlyBird", self.strength, self.initial, self.least)
        self._detector(self.reading)  # refuses what it cannot work with
        for level in range(1, self.rounds + 1):
            self._refuse_vacuous(level, float(share_cut(self.rate, level)))

    @property
    def label(self) -> str:
        """Short name in rows: "early-bird", then what is not the default."""
        return "early-bird" + "".join(
            f"-{part}"
            for part, said in (
                (self.reading, self.reading != "consecutive"),
                ("drawn-at-end", self.draw == "end"),
                (f"{self.strength:g}", self.strength != EarlyBird.strength),
                (f"{self.precision}{'-throughout' if self.low_throughout else ''}", self.precision),
                (f"only-{'-'.join(self.only)}", self.only),
            )
            if said
        )

    def densities(self, task: Task) -> list[float]:
        """Density at every level if all sites lost the same share; which lose more is what the search finds."""
        factors = self._factors(task)
        cuts = [share_cut(self.rate, level) for level in range(1, self.rounds + 1)]
        return planned_densities(task, (*factors.norms, *factors.gated), cuts)

    def check(self, task: Task, recipe: Recipe) -> None:
        """Refuse a network with too few units that could be cut, or a training too short for the detector to fire.

        Raises:
            TooShort: with the number of steps that it needs.
            ValueError: as said.
        """
        if recipe.scale_l1:
            raise ValueError("the penalty of early-bird is its own `strength`; leave scale_l1 out of the recipe")
        draws = looks(task, recipe, self.every)
        needed = self.patience + (self.reading == "consecutive")
        if len(draws) < needed:
            each = between_looks(task, recipe, self.every)
            raise TooShort(
                f"{self.label} draws a mask every {each:,} steps, {len(draws)} in this training of {recipe.steps:,}, "
                f"and can fire after {needed} at the earliest, for which it needs {(needed - 1) * each + 1:,} steps; "
                "train longer, or draw more often with every="
            )
        factors = self._factors(task)
        for level in range(1, self.rounds + 1):
            scores = equal_scores(task, (*factors.norms, *factors.gated))
            mask, _ = best_of_all(scores, share_cut(self.rate, level), self.least)
            kept, total = sum(int(one.sum()) for one in mask.values()), sum(map(len, mask.values()))
            self._refuse_vacuous(level, 1 - kept / total)

    def find(self, task: Task, recipe: Recipe, seed: int, train: Train) -> Iterator[Ticket]:
        """Search until all levels have settled, then yield their tickets."""
        factors = self._factors(task)
        searched = Scaled(
            MaskedWeights(everything(task.fresh(0))), factors, None if task.start is not None else self.initial
        )
        low: dict[str, Any] = {"precision": self.precision} if self.precision else {}
        penalty = {"scale_l1": self.strength} if self.strength else {}
        search = Ticket(self, seed, 1, searched, (), Dense(0), changes=penalty | low, arm=SparsityTraining())
        other = next(reading for reading in READINGS if reading != self.reading)
        levels = [
            # a window of one mask has no distances; of two, it has the one that a queue of one distance has
            _Level(
                share_cut(self.rate, level),
                self._detector(self.reading),
                EarlyBirdDetector(self.epsilon, max(2, self.patience) if other == "window" else self.patience, other),
            )
            for level in range(1, self.rounds + 1)
        ]
        now, raw, steps = clock(recipe.device), {}, []
        began = now()
        running = train.search(search, looks(task, recipe, self.every))
        lost: Exception | None = None
        try:
            for snapshot in running:
                raw = snapshot.state()
                steps.append(snapshot.step)
                scores = searched.scores(raw)
                for level in levels:
                    self._watch(level, scores, raw, snapshot.step, now() - began)
                if self.draw == "emergence" and all(level.detector.epoch for level in levels):
                    running.close()  # pyright: ignore[reportAttributeAccessIssue]
                    break
        except Exception as error:  # whatever ended the search: a level that had settled is there without the others
            lost = error
            if self.draw == "end":
                raise
        changes = (penalty if self.penalty_stays else {}) | (low if self.low_throughout else {})
        idle: list[str] = []
        if "scale_l1" in changes and not scaling_factors(task.fresh(0)):
            idle = [
                "the penalty stays, but has nothing to act on in the ticket: the network has no batch normalisation, "
                "and the gates of the search are multiplied out"
            ]
        for number, level in enumerate(levels, start=1):
            if lost is not None and not level.detector.epoch:
                continue
            emerged = level.steps[level.detector.epoch - 1] if level.detector.epoch else None
            early = emerged is not None and self.draw == "emergence"
            drawn = level.drawn if early and level.drawn is not None else raw
            mask, notes = best_of_all(searched.scores(drawn), level.cut, self.least)
            at = emerged if early and emerged is not None else steps[-1]
            found = self._emergence(level, recipe, emerged, at, mask)
            never = [] if emerged else ["no early bird: its masks had not settled by the end of the training"]
            weights = searched.plain(drawn)
            told = told_of(task, mask, factors, weights)
            yield Ticket(
                self,
                seed,
                number,
                SmallUnits(mask, task.sites, task.example_inputs()),
                tuple(mask),
                Handed(at, searched.initial),
                start_step=emerged if emerged is not None else recipe.steps,
                changes=changes,
                scoring_flops=training_flops(task, recipe, at),
                weights=weights,
                search=Search(emergence=found, notes=[*never, *told, *notes, *idle], seconds=level.seconds),
            )
        if lost is not None:
            raise lost

    def _watch(self, level: _Level, scores: Scores, raw: State, step: int, seconds: float) -> None:
        """Show a level's detectors the mask of this step."""
        if self.draw == "emergence" and level.detector.epoch:
            return
        mask, _ = best_of_all(scores, level.cut, self.least)
        level.steps.append(step)
        level.seconds = seconds
        level.other.update(mask)
        before = level.detector.epoch
        if level.detector.update(mask) and before is None:
            level.drawn = raw

    def _emergence(self, level: _Level, recipe: Recipe, emerged: int | None, drawn: int, mask: UnitMask) -> Emergence:
        return Emergence(
            steps=level.steps,
            distances=[[round(far, 6) for far in row] for row in level.detector.matrix().tolist()],
            random=random_distance(mask),
            epsilon=self.epsilon,
            patience=self.patience,
            reading=self.reading,
            emerged=emerged,
            other_reading=level.steps[level.other.epoch - 1] if level.other.epoch else None,
            drawn=drawn,
            drops=list(recipe.milestones),
            search_steps=recipe.steps,
        )

    def _refuse_vacuous(self, level: int, cut: float) -> None:
        """Raise where so large or so small a share is cut that even random masks are within epsilon of one another."""
        at_random = 2 * cut * (1 - cut)
        if at_random <= self.epsilon:
            raise ValueError(
                f"at level {level} a share of {cut:.3g} is cut, and two random masks that cut so much differ in "
                f"{at_random:.3g} of their entries: within epsilon={self.epsilon:g} any mask would pass; choose "
                + (f"another rate, fewer rounds, or an epsilon below {at_random:.3g}" if at_random else "another rate")
            )

    def _detector(self, reading: str) -> EarlyBirdDetector:
        return EarlyBirdDetector(self.epsilon, self.patience, reading)

    def cuts(self, task: Task) -> tuple[str, ...]:
        """The sites of the task's network that it may cut: those whose units have scaling factors."""
        factors = self._factors(task)
        return (*factors.norms, *factors.gated)

    def _factors(self, task: Task) -> Factors:
        """Where the scaling factors of the task's network are.

        Raises:
            ValueError: there are none.
        """
        return factors_of("EarlyBird", task, self.keep, self.only)
