"""Network slimming: train under an L1 penalty on scaling factors, cut the units with the smallest, fine-tune the rest.

Source: Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming, sections 3 and 4. Ours:
exactly n - floor(n p) channels are kept, ties by position; no site loses its last ones, and it is said where that
mattered; factors of any network (batch normalisation in 1, 2 and 3 dimensions, channels chosen for one consumer where
normalisation comes first, gates where there is none); the small network is trained, not a masked one. As in the paper
the shift of channels that were cut is dropped with them: what that costs is the first point of the ticket's curve.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from scratchcard.fields import check_fields
from scratchcard.methods.ticket import Dense, End, Handed, Ticket, Train
from scratchcard.methods.units import (
    CutsUnits,
    best_of_all,
    check_factors,
    check_fine_tuning,
    check_rates,
    equal_scores,
    factors_of,
    fine_tuning,
    kept_sentence,
    planned_densities,
    share_cut,
)
from scratchcard.networks.scaling import Factors, Scaled
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits
from scratchcard.networks.weights import everything
from scratchcard.row import Search
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import State, UnitMask


@dataclass(frozen=True)
class SparsityTraining:
    """The network that a ticket was cut from, trained under the penalty: what the search itself reached.

    No control to be asked for: the method trains it.
    """

    replicates: int = field(default=1, init=False, metadata={"identity": False})

    @property
    def label(self) -> str:
        """The name in rows: "search"."""
        return "search"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Nothing: it is trained before there is a ticket."""
        raise AssertionError("a search is trained by its method, before there is a ticket")


@dataclass(frozen=True)
class Slimming(CutsUnits):
    """Tickets of levels 1 ... `rounds`, cut by the scaling factors that a training under the penalty leaves."""

    rounds: int = field(default=1, metadata={"identity": False})
    rate: float = 0.5
    """Share of the units left that a level cuts, of all sites together."""
    strength: float = 1e-4
    """Of the L1 penalty: 1e-4 for VGGs, 1e-5 for ResNets and DenseNets in the paper; it depends on data and rate."""
    initial: float | None = 0.5
    """Scaling factors at the start; None leaves the factory's, as those of a model that was brought trained
    (`Task.start`) and of later passes always are. Gates then start at the mean size of the normalised units' factors,
    so that both kinds can be ranked together; at 1 where no unit that may be cut is normalised."""
    passes: bool = False
    """Whether each level is searched anew, in the fine-tuned network of the level before (several passes, sec. 3);
    otherwise all levels are cut from one search."""
    least: float = 1
    """Units that each site keeps at least: a number from 1, or below 1 a share."""
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
        check_rates("Slimming", self.rounds, self.rate)
        check_factors("Slimming", self.strength, self.initial, self.least)
        check_fine_tuning("Slimming", self.fine_tune_lr, self.fine_tune_steps)

    @property
    def label(self) -> str:
        """Short name in rows: "slimming", then what is not the default."""
        return (
            "slimming"
            + ("-passes" if self.passes else "")
            + (f"-{self.strength:g}" if self.strength != Slimming.strength else "")
            + (f"-only-{'-'.join(self.only)}" if self.only else "")
        )

    def own_arms(self, level: int) -> tuple[SparsityTraining, ...]:
        """The training under the penalty: one for all levels, or one for each pass."""
        return (SparsityTraining(),) if level == 1 or self.passes else ()

    def densities(self, task: Task) -> list[float]:
        """Density at every level if all sites lost the same share; which lose more is what the search finds."""
        cuts = [share_cut(self.rate, level) for level in range(1, self.rounds + 1)]
        factors = self._factors(task)
        return planned_densities(task, (*factors.norms, *factors.gated), cuts)

    def check(self, task: Task, recipe: Recipe) -> None:
        """Refuse a network without so many units that could be cut, or a recipe that fine-tuning does not fit.

        Raises:
            ValueError: as said.
        """
        if recipe.scale_l1:
            raise ValueError("the penalty of slimming is its own `strength`; leave scale_l1 out of the recipe")
        factors = self._factors(task)
        best_of_all(equal_scores(task, (*factors.norms, *factors.gated)), share_cut(self.rate, self.rounds), self.least)
        fine_tuning(recipe, self.fine_tune_lr, self.fine_tune_steps)

    def find(self, task: Task, recipe: Recipe, seed: int, train: Train) -> Iterator[Ticket]:
        """Train under the penalty, then yield the tickets of levels 1, 2, ..."""
        factors = self._factors(task)
        changes = fine_tuning(recipe, self.fine_tune_lr, self.fine_tune_steps)
        penalty = {"scale_l1": self.strength}
        searched = Scaled(
            MaskedWeights(everything(task.fresh(0))), factors, None if task.start is not None else self.initial
        )
        start: Dense | End = Dense(0)
        scores, left = {}, {}
        for level in range(1, self.rounds + 1):
            if level == 1 or self.passes:
                search = Ticket(self, seed, level, searched, (), start, changes=penalty, arm=SparsityTraining())
                *_, raw = [snapshot.state() for snapshot in train(search, (recipe.steps,))]
                scores, left = searched.scores(raw), searched.plain(raw)
            mask, notes = best_of_all(scores, share_cut(self.rate, level), self.least)
            small = SmallUnits(mask, task.sites, task.example_inputs())
            ticket = Ticket(
                self,
                seed,
                level,
                small,
                tuple(mask),
                Handed(recipe.steps, searched.initial),
                changes=changes,
                weights=left,
                search=Search(notes=[*told_of(task, mask, factors, left), *notes]),
            )
            yield ticket
            if self.passes and level < self.rounds:
                # asked for, so that the next ticket's price has it; its factors go on from where fine-tuning left them
                list(train(ticket, (changes["steps"],)))
                searched, start = Scaled(small, factors, None), End(level)

    def search_steps(self, recipe: Recipe, level: int) -> int:
        """One training under the penalty; of several passes each level's, and the fine-tuning between them."""
        between = fine_tuning(recipe, self.fine_tune_lr, self.fine_tune_steps)["steps"]
        return level * recipe.steps + (level - 1) * between if self.passes else recipe.steps

    def cuts(self, task: Task) -> tuple[str, ...]:
        """The sites of the task's network that it may cut: those whose units have scaling factors."""
        factors = self._factors(task)
        return (*factors.norms, *factors.gated)

    def _factors(self, task: Task) -> Factors:
        """Where the scaling factors of the task's network are.

        Raises:
            ValueError: there are none.
        """
        return factors_of("Slimming", task, self.keep, self.only)


def told_of(task: Task, mask: UnitMask, factors: Factors, weights: State) -> list[str]:
    """What was cut, in units and weights, the shift that went with it, and what was left whole for want of a factor.

    Args:
        task: gives the network.
        mask: of the units that are kept.
        factors: where those of the network are, by which the mask was drawn.
        weights: of the whole network, before it was cut.
    """
    told = [kept_sentence(task, mask)]
    shifts = [
        weights[bias][unit[weight][0]].abs().max()
        for site, norms in factors.norms.items()
        for unit, stays in zip(task.sites[site].units, mask[site].tolist(), strict=True)
        for weight in norms
        if not stays and weight in unit and (bias := weight.removesuffix("weight") + "bias") in weights
    ]
    if shifts:
        told.append(
            f"the shift of units that were cut was dropped, not folded into what reads them: up to "
            f"{float(torch.stack(shifts).max()):.3g} after normalisation; what all of cutting costs is the first "
            "point of the ticket's curve"
        )
    return [*told, *(f"{site} is kept whole: {why}" for site, why in factors.left.items())]
