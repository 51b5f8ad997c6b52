"""Iterative magnitude pruning: train, cut the smallest weights, rewind the rest, repeat (Frankle & Carbin 2019).

Source: The Lottery Ticket Hypothesis, section 1 and Strategy 1 of App. B ("resetting"); continued training is its
Strategy 2. Rewinding to a step k > 0 is Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket
Hypothesis; rewinding the learning rate alone, and fine-tuning, are Renda et al. 2020, Comparing Rewinding and
Fine-tuning. What the first paper leaves open: every round trains on the same data order; the optimizer starts fresh;
biases and normalisation are never cut and rewind with the weights; ties are broken by position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch

from scratchcard.fields import check_fields
from scratchcard.masks.criteria import CRITERIA, random_scores
from scratchcard.masks.schedule import Share, rounds
from scratchcard.masks.select import inverted, select
from scratchcard.methods.levels import Rate, check_rates, cuttable, densities, keeps
from scratchcard.methods.ticket import Dense, End, Ticket, Train
from scratchcard.methods.units import cuttable_sites, fine_tuning, weights_of_units
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits, unit_magnitudes
from scratchcard.networks.weights import Weight, everything, whole
from scratchcard.row import Origin
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive
from scratchcard.training.task import Task
from scratchcard.types import Scores, State, WeightMask
from scratchcard.words import unknown

Between = Literal["rewind", "lr-rewind", "continue", "fine-tune"]
"""What happens to the surviving weights between two rounds.

rewind: they go back to their values at step k, and train from there (Strategy 1). lr-rewind: they stay, the learning
rate goes back to that of step k (Renda et al. 2020). continue: they stay and train on under the whole schedule; only
the tickets that are handed out are reset (Strategy 2). fine-tune: they stay and train on under a small constant rate.
"""


@dataclass(frozen=True)
class Continued:
    """The same mask on weights that were never rewound: what continued training is at this level (App. B, Strategy 2).

    No control to be asked for: a method that searches by it trains it.
    """

    replicates: int = field(default=1, init=False, metadata={"identity": False})

    @property
    def label(self) -> str:
        """The name in rows: "continued"."""
        return "continued"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with the weights that the continued training of the level before ended with."""
        before = End(ticket.level - 1, continued=True) if ticket.level > 1 else Dense(recipe.steps)
        yield replace(ticket, start=before, start_step=0, arm=self)


@dataclass(frozen=True)
class IMP:
    """Tickets of levels 1 ... `rounds`, each cut from the trained ticket of the level before."""

    # how far to go does not change what is found on the way there: more rounds reuse the trainings of fewer
    rounds: int = field(default=10, metadata={"identity": False})
    rate: Rate = 0.2
    """Fraction of the surviving weights removed per round: one for all, or per kind of layer, e.g.
    {"conv": 0.1, "linear": 0.2, "output": 0.1}; kinds left out are kept whole."""
    scope: Share = "layer"
    """"layer": each layer loses its own fraction; "global": the lowest scores of all layers together; "uniform" and
    "erk": at densities set beforehand (`masks.allocate`). Under the last three the rates give the total alone."""
    rewind: int = 0
    """The step k that survivors are rewound to; 0 resets them to their initialisation."""
    one_shot: bool = False
    """Reach every level in one step from the trained dense network, at the same densities."""
    keep: tuple[str, ...] = ()
    """What to keep whole: names that `inspect` prints - of sites, layers, weights, kinds of weights - or patterns:
    ("output", "*.shortcut.*")."""
    also: tuple[str, ...] = ()
    """Names or patterns of weights to cut although scratchcard would keep them."""
    only: tuple[str, ...] = ()
    """Names likewise: all else is kept whole, e.g. ("conv",) (Frankle & Carbin 2019, App. H.6)."""
    criterion: str = "large_final"
    """How trained weights are ranked: a key of `masks.criteria.CRITERIA`, or "random"."""
    between: Between = "rewind"
    """What happens to the survivors between two rounds: see `Between`."""
    fine_tune_lr: float | None = None
    """The constant learning rate of fine-tuning; None: the last one of the recipe's schedule."""
    fine_tune_steps: int | None = None
    """How long to fine-tune; None: as many steps as the recipe has."""
    units: Literal["weights", "channels"] = "weights"
    """What is cut: single weights, or whole units (channels, neurons, attention heads where the network runs with fewer
    of them), ranked by the mean |w| of their filters (Li et al. 2017); the network is trained in its small form."""

    def __post_init__(self) -> None:
        """Refuse hyper-parameters that mean nothing.

        Raises:
            ValueError: naming the field, what was seen and what is needed.
        """
        check_fields(self)
        check_rates("IMP", self.rounds, self.rate, self.scope)
        if self.units not in ("weights", "channels"):
            raise ValueError(unknown("unit to cut", self.units, ("weights", "channels")))
        if self.units == "channels":
            self._check_channels()
        if self.rewind < 0:
            raise ValueError(f"IMP rewinds to a step of the training, 0 or later; got rewind={self.rewind}")
        if self.criterion not in (*CRITERIA, "random"):
            raise ValueError(unknown("criterion", self.criterion, (*CRITERIA, "random")))
        if self.between not in get_args(Between):
            raise ValueError(unknown("way between rounds", self.between, get_args(Between)))
        if self.between != "fine-tune" and (self.fine_tune_lr is not None or self.fine_tune_steps is not None):
            raise ValueError(f"fine_tune_lr and fine_tune_steps need between='fine-tune', got {self.between!r}")
        if self.fine_tune_lr is not None and not 0 < self.fine_tune_lr < float("inf"):
            raise ValueError(f"fine_tune_lr must be a positive number, got {self.fine_tune_lr}")
        if self.fine_tune_steps is not None and self.fine_tune_steps < 1:
            raise ValueError(f"fine_tune_steps must be at least 1, got {self.fine_tune_steps}")
        if self.between != "rewind" and self.units == "channels":
            raise ValueError(f"IMP(units='channels') rewinds between rounds; got between={self.between!r}")
        if self.between == "continue" and self.one_shot:
            raise ValueError("one-shot pruning has a single round, so there is nothing to continue between rounds")
        if self.between == "fine-tune" and self.rewind:
            raise ValueError(f"fine-tuning rewinds nothing; leave rewind={self.rewind} out, or use between='lr-rewind'")

    def _check_channels(self) -> None:
        """Whole units have one rate and counts of their own per site, and are ranked by the size of trained weights."""
        usual = {
            "scope": self.scope == "layer",
            "rate": not isinstance(self.rate, Mapping),
            "criterion": self.criterion in ("large_final", "small_final", "random"),
            "also": not self.also,
        }
        wrong = [f"{name}={getattr(self, name)!r}" for name, fine in usual.items() if not fine]
        if wrong:
            raise ValueError(
                f"IMP(units='channels') takes one rate, scope 'layer', a criterion of final weights (large_final, "
                f"small_final, random) and no `also`; got {', '.join(wrong)}"
            )

    @property
    def label(self) -> str:
        """Short name in rows: "imp", then what is not the default, e.g. "imp-one-shot-global-rewind-500"."""
        return "imp" + "".join(
            f"-{part}"
            for part, said in (
                ("one-shot", self.one_shot),
                (self.units, self.units != "weights"),
                (self.scope, self.scope != "layer"),
                (f"only-{'-'.join(self.only)}", self.only),
                (self.criterion.replace("_", "-"), self.criterion != "large_final"),
                (_SAID.get(self.between, self.between), self.between != "rewind"),
                (f"rewind-{self.rewind}" if self.between != "lr-rewind" else f"{self.rewind}", self.rewind),
            )
            if said
        )

    def own_arms(self, level: int) -> tuple[Continued, ...]:
        """Continued training needs one of its own per level; the other ways train the tickets themselves."""
        return (Continued(),) if self.between == "continue" else ()

    @property
    def origin(self) -> Origin:
        """The weights at the rewinding step, or those that were trained under the mask of the level before."""
        if self.between in ("lr-rewind", "fine-tune"):
            return Origin(weights="trained")
        return Origin(weights="rewound", step=self.rewind) if self.rewind else Origin(weights="initial")

    def search_steps(self, recipe: Recipe, level: int) -> int:
        """The dense training, and of iterative pruning that of every level before."""
        each = recipe.steps if self.between == "continue" else self._steps(recipe) - self.rewind
        return recipe.steps + (0 if self.one_shot else (level - 1) * each)

    def widths(self, task: Task, level: int) -> Mapping[str, int] | None:
        """Units that each site keeps at a level, where units are cut."""
        if self.units == "weights":
            return None
        *_, keep = self._keeps_of_units(task, self._sites(task), level)
        return keep

    def check(self, task: Task, recipe: Recipe) -> None:
        """Refuse a rewinding step outside the training, or one where no training was seen.

        Raises:
            ValueError: as said; a schedule without a last rate to fine-tune by; also what `cuttable` raises.
        """
        if self.rewind >= recipe.steps:
            raise ValueError(
                f"IMP(rewind={self.rewind}) must rewind to a step before the end of training at {recipe.steps}"
            )
        if self.rewind and task.start is not None and self.between != "lr-rewind":
            raise ValueError(
                f"IMP(rewind={self.rewind}) needs the dense training, Task(start=...) brings only its end; use rewind=0"
            )
        self._changes(recipe)
        self.weights(task)

    def dense_steps(self, recipe: Recipe) -> set[int]:
        """Steps of the dense training whose weights it needs: the rewinding point and the end."""
        return {0 if self.between == "lr-rewind" else self.rewind, recipe.steps}

    def densities(self, task: Task) -> list[float]:
        """Density at every level, exact: kept / all weights."""
        if self.units == "channels":
            return self._densities_of_channels(task)
        found = self.weights(task)
        return densities(found, keeps(found, self.rate, self.scope, self.rounds))

    def find(self, task: Task, recipe: Recipe, seed: int, train: Train) -> Iterator[Ticket]:
        """Yield the tickets of levels 1, 2, ..., training each (but the last) once it has been taken."""
        if self.units == "channels":
            yield from self._find_channels(task, recipe, seed, train)
            return
        found = self.weights(task)
        prunable = tuple(weight.name for weight in found if weight.prunable)
        entire = whole(found)
        dense = Ticket(None, seed, 0, MaskedWeights(entire), prunable)
        initial = {name: value for name, value in task.at_start(seed).state_dict().items() if name in entire}
        # the rewinding point is asked for together with the end, so that one dense training serves both
        *_, end = [snapshot.state() for snapshot in train(dense, sorted(self.dense_steps(recipe)))]
        changes = self._changes(recipe)
        mask = entire
        for level, keep in enumerate(keeps(found, self.rate, self.scope, self.rounds), start=1):
            within = entire if self.one_shot else mask
            scores = self._scores(initial, end, within, prunable, derive(seed, "random-criterion", level))
            mask = select(scores, keep, within)
            ticket = Ticket(
                self,
                seed,
                level,
                MaskedWeights(mask),
                prunable,
                self._start(level, recipe),
                self.rewind,
                changes,
                inverse=inverted(scores, mask, within),
            )
            yield ticket
            if self.own_arms(level):
                (search,) = Continued()(ticket, recipe, seed, task)
                *_, end = [snapshot.state() for snapshot in train(search, (recipe.steps,))]
            elif not self.one_shot and level < self.rounds:
                *_, end = [snapshot.state() for snapshot in train(ticket, (self._steps(recipe),))]

    def _find_channels(self, task: Task, recipe: Recipe, seed: int, train: Train) -> Iterator[Ticket]:
        """The same search over whole units, every training in the small form of its level."""
        sites, cuttable = task.sites, self._sites(task)
        within = {name: torch.ones(len(sites[name]), dtype=torch.bool) for name in cuttable}
        dense = Ticket(None, seed, 0, MaskedWeights(everything(task.fresh(0))), ())
        *_, end = [snapshot.state() for snapshot in train(dense, sorted(self.dense_steps(recipe)))]
        changes, mask = self._changes(recipe), within
        for level, keep in enumerate(self._keeps_of_units(task, cuttable, self.rounds), start=1):
            here = within if self.one_shot else mask
            sign = -1.0 if self.criterion == "small_final" else 1.0
            scores = (
                random_scores(here, derive(seed, "random-criterion", level))
                if self.criterion == "random"
                else {name: sign * score for name, score in unit_magnitudes(sites, end).items() if name in here}
            )
            mask = select(scores, keep, here)
            small = SmallUnits(mask, sites, task.example_inputs())
            start = self._start(level, recipe)
            ticket = Ticket(
                self, seed, level, small, cuttable, start, self.rewind, changes, inverse=inverted(scores, mask, here)
            )
            yield ticket
            if not self.one_shot and level < self.rounds:
                *_, trained = [s.state() for s in train(ticket, (self._steps(recipe),))]
                end = small.enlarged(trained)

    def _densities_of_channels(self, task: Task) -> list[float]:
        """Exact beforehand: how many weights are left depends on the counts of the sites, not on which units go."""
        sites, weights = task.sites, everything(task.fresh(0))
        chosen = self._sites(task)
        found = [1.0]
        for keep in self._keeps_of_units(task, chosen, self.rounds):
            mask = {name: torch.arange(len(sites[name])) < keep[name] for name in chosen}
            layers = SmallUnits(mask, sites, task.example_inputs()).layers(weights).values()
            found.append(sum(left for left, _ in layers) / sum(total for _, total in layers))
        return found

    def _keeps_of_units(self, task: Task, among: tuple[str, ...], levels: int) -> Iterator[dict[str, int]]:
        """Units that each site keeps at levels 1, 2, ... `levels`."""
        shapes = {name: (len(task.sites[name]),) for name in among}
        rates = dict.fromkeys(among, float(self.rate))  # pyright: ignore[reportArgumentType]
        for keep in rounds(shapes, rates, self.scope, levels):
            assert isinstance(keep, dict), "units are shared out per site"
            yield keep

    def weights(self, task: Task) -> list[Weight]:
        """What it would cut in this task's network and what not, and why.

        Raises:
            ValueError: none of the rates is for a kind of weight that this network has, or a name fits nothing.
        """
        if self.units == "channels":
            return weights_of_units(task, self._sites(task))
        return cuttable("IMP", task, self.rate, self.keep, self.also, self.only)

    def _sites(self, task: Task) -> tuple[str, ...]:
        """The sites that it cuts, where it cuts units."""
        return cuttable_sites("IMP", task, self.keep, self.only)

    def _start(self, level: int, recipe: Recipe) -> Dense | End:
        if not self.origin.trained:
            return Dense(self.rewind)
        return Dense(recipe.steps) if self.one_shot or level == 1 else End(level - 1)

    def _scores(self, initial: State, end: State, within: WeightMask, prunable: tuple[str, ...], chance: int) -> Scores:
        if self.criterion == "random":
            return random_scores({name: within[name] for name in prunable}, chance)
        rank = CRITERIA[self.criterion]
        return {name: rank(initial[name].to(end[name]), end[name], within[name]) for name in prunable}

    def _steps(self, recipe: Recipe) -> int:
        """At which step a ticket's training ends."""
        return self._changes(recipe).get("steps", recipe.steps)

    def _changes(self, recipe: Recipe) -> dict[str, Any]:
        """In what a ticket's training differs from the recipe: fine-tuning has one small constant rate."""
        if self.between != "fine-tune":
            return {}
        return fine_tuning(recipe, self.fine_tune_lr, self.fine_tune_steps or recipe.steps)


_SAID = {"continue": "continued", "fine-tune": "fine-tuned"}
