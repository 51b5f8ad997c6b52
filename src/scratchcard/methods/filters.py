"""Filter pruning: cut a trained network's filters with the smallest norm, by shares set beforehand, and fine-tune.

Source: Li et al. 2017, Pruning Filters for Efficient ConvNets, section 3, as compared in Liu et al. 2019, Rethinking
the Value of Network Pruning. The norms of all layers that add to one stream count together. Largest, smallest and
random are the three criteria of the latter's lottery comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import torch

from scratchcard.fields import check_fields
from scratchcard.masks.criteria import random_scores
from scratchcard.masks.select import select
from scratchcard.methods.ticket import Dense, Ticket, Train
from scratchcard.methods.units import (
    CutsUnits,
    check_fine_tuning,
    check_rates,
    cuttable_sites,
    density_of,
    fine_tuning,
    kept_sentence,
    left_of,
    share_cut,
    sites_called,
)
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits, unit_magnitudes
from scratchcard.networks.weights import everything
from scratchcard.row import Search
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive
from scratchcard.training.task import Task
from scratchcard.types import Scores, State
from scratchcard.words import unknown

CRITERIA = ("l1", "l2", "random")


@dataclass(frozen=True)
class FilterPruning(CutsUnits):
    """Tickets of levels 1 ... `rounds`, each cut in one step from the same trained dense network."""

    criterion: Literal["l1", "l2", "random"] = "l1"
    """The norm of a unit's weights that says what it is worth; "random": nothing does."""
    rounds: int = field(default=1, metadata={"identity": False})
    rate: float | Mapping[str, float] | tuple[tuple[str, float], ...] = 0.5
    """Share of the units left that a level cuts, in every site; or per name or pattern as of `only`, e.g.
    {"stage1.*": 0.6, "stage2.*": 0.3}: the first that fits counts, and sites that none fits are kept whole. Kept as
    pairs, since their order matters."""
    smallest: bool = False
    """Keep the filters with the smallest norm instead: does the criterion know anything?"""
    keep: tuple[str, ...] = ()
    """What to keep whole: names that `inspect` prints - of sites, layers, weights, kinds of weights - or patterns."""
    only: tuple[str, ...] = ()
    """Names likewise: all else is kept whole. Choices and branches go by their own names alone."""
    fine_tune_lr: float | None = None
    """The constant rate of fine-tuning; None: the last one of the recipe's schedule."""
    fine_tune_steps: int | None = None
    """How long to fine-tune; None: a quarter of the recipe's steps."""

    def __post_init__(self) -> None:
        """Refuse hyper-parameters that mean nothing.

        Raises:
            ValueError: naming the field, what was seen and what is needed.
        """
        check_fields(self)
        if self.criterion not in CRITERIA:
            raise ValueError(unknown("criterion", self.criterion, CRITERIA))
        if isinstance(self.rate, Mapping):
            object.__setattr__(self, "rate", tuple(self.rate.items()))
        rates = [self.rate] if isinstance(self.rate, int | float) else list(dict(self.rate).values())
        check_rates("FilterPruning", self.rounds, *rates)
        if self.smallest and self.criterion == "random":
            raise ValueError("random filters have no smallest ones; use criterion 'l1' or 'l2' with smallest=True")
        check_fine_tuning("FilterPruning", self.fine_tune_lr, self.fine_tune_steps)

    @property
    def label(self) -> str:
        """Short name in rows: "l1-filters", "random-filters", then what is not the default."""
        return (
            f"{self.criterion}-filters"
            + ("-smallest" if self.smallest else "")
            + (f"-only-{'-'.join(self.only)}" if self.only else "")
        )

    def densities(self, task: Task) -> list[float]:
        """Density at every level, exact: how many weights are left depends on the counts, not on which units go."""
        sizes = {name: (len(task.sites[name]),) for name in self._shares(task, 1)}
        mask_of = lambda keep: select(random_scores(_ones(sizes), 0), keep, _ones(sizes))  # noqa: E731
        return [1.0, *(density_of(task, mask_of(self._keeps(task, at))) for at in range(1, self.rounds + 1))]

    def check(self, task: Task, recipe: Recipe) -> None:
        """Refuse a network without units that could be cut, or a recipe that fine-tuning does not fit.

        Raises:
            ValueError: as said.
        """
        self._shares(task, 1)
        fine_tuning(recipe, self.fine_tune_lr, self.fine_tune_steps)

    def find(self, task: Task, recipe: Recipe, seed: int, train: Train) -> Iterator[Ticket]:
        """Yield the tickets of levels 1, 2, ..., cut from the end of the dense training."""
        dense = Ticket(None, seed, 0, MaskedWeights(everything(task.fresh(0))), ())
        *_, end = [snapshot.state() for snapshot in train(dense, sorted(self.dense_steps(recipe)))]
        changes = fine_tuning(recipe, self.fine_tune_lr, self.fine_tune_steps)
        for level in range(1, self.rounds + 1):
            keeps = self._keeps(task, level)
            whole = _ones({name: (len(task.sites[name]),) for name in keeps})
            mask = select(self._scores(task, end, whole, derive(seed, "random-filters")), keeps, whole)
            small = SmallUnits(mask, task.sites, task.example_inputs())
            told = kept_sentence(task, mask)
            yield Ticket(
                self,
                seed,
                level,
                small,
                tuple(mask),
                Dense(recipe.steps),
                changes=changes,
                search=Search(notes=[told]),
            )

    def widths(self, task: Task, level: int) -> Mapping[str, int]:
        """Units that each site keeps at a level: its rate says so."""
        return self._keeps(task, level)

    def cuts(self, task: Task) -> tuple[str, ...]:
        """The sites of the task's network that it cuts."""
        return tuple(self._shares(task, 1))

    def _scores(self, task: Task, end: State, whole: Scores, chance: int) -> Scores:
        if self.criterion == "random":
            return random_scores(whole, chance)
        # of as many weights each, so that means rank as norms do
        found = unit_magnitudes(task.sites, end, power=1 if self.criterion == "l1" else 2)
        return {name: -found[name] if self.smallest else found[name] for name in whole}

    def _shares(self, task: Task, level: int) -> dict[str, Fraction]:
        """Site -> share of its units cut at a level.

        Raises:
            ValueError: no site can be cut, or a pattern of `rate` fits none.
        """
        chosen = cuttable_sites("FilterPruning", task, self.keep, self.only)
        if isinstance(self.rate, int | float):
            return dict.fromkeys(chosen, share_cut(self.rate, level))
        rates = dict(self.rate)
        meant = sites_called(task, rates)
        idle = [name for name, sites in meant.items() if not sites & set(chosen)]
        if idle:
            raise ValueError(f"FilterPruning has rates for {', '.join(idle)}, but what it cuts is: {', '.join(chosen)}")
        first = {site: next((rate for name, rate in rates.items() if site in meant[name]), None) for site in chosen}
        return {site: share_cut(rate, level) for site, rate in first.items() if rate is not None}

    def _keeps(self, task: Task, level: int) -> dict[str, int]:
        return {name: max(1, left_of(len(task.sites[name]), cut)) for name, cut in self._shares(task, level).items()}


def _ones(sizes: Mapping[str, tuple[int, ...]]) -> Scores:
    return {name: torch.ones(size, dtype=torch.bool) for name, size in sizes.items()}
