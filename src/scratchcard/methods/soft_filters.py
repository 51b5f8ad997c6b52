"""Soft filter pruning: set the smallest filters to zero after every epoch, let them grow again, cut them at the end.

Source: He et al. 2018, Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks, algorithm 1 (L2 norm,
after every epoch), as compared in Liu et al. 2019, Rethinking the Value of Network Pruning. Ours: filters whose layers
add to one stream go together, and the ticket may be fine-tuned; with `fine_tune_steps=0` it is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from scratchcard.fields import check_fields
from scratchcard.masks.select import select
from scratchcard.methods.slimming import SparsityTraining
from scratchcard.methods.ticket import Dense, Handed, Ticket, Train
from scratchcard.methods.units import (
    CutsUnits,
    check_every,
    check_fine_tuning,
    check_rates,
    cuttable_sites,
    fine_tuning,
    kept_sentence,
    left_of,
    looks,
    planned_densities,
    share_cut,
    training_flops,
)
from scratchcard.networks.lengths import fitted
from scratchcard.networks.sites import Sites
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits, unit_magnitudes
from scratchcard.networks.weights import everything
from scratchcard.row import Search
from scratchcard.training.clock import clock
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Snapshot, State, UnitMask


@dataclass(frozen=True)
class SoftFilterPruning(CutsUnits):
    """Tickets of levels 1 ... `rounds`, each from a search of its own that sets small filters to 0 again and again."""

    rounds: int = field(default=1, metadata={"identity": False})
    rate: float = 0.3
    """Share of the units left that a level cuts, in every site."""
    every: int | None = None
    """Steps between two times that filters are set to zero; None: an epoch."""
    keep: tuple[str, ...] = ()
    """What to keep whole: names that `inspect` prints - of sites, layers, weights, kinds of weights - or patterns."""
    only: tuple[str, ...] = ()
    """Names likewise: all else is kept whole. Choices and branches go by their own names alone."""
    fine_tune_lr: float | None = None
    """The constant rate of fine-tuning; None: the last one of the recipe's schedule."""
    fine_tune_steps: int | None = None
    """How long to fine-tune; 0: not at all; None: a quarter of the recipe's steps."""

    def __post_init__(self) -> None:
        """Refuse hyper-parameters that mean nothing.

        Raises:
            ValueError: naming the field, what was seen and what is needed.
        """
        check_fields(self)
        check_rates("SoftFilterPruning", self.rounds, self.rate)
        check_every("SoftFilterPruning", self.every)
        check_fine_tuning("SoftFilterPruning", self.fine_tune_lr, self.fine_tune_steps or None)

    @property
    def label(self) -> str:
        """Short name in rows: "soft-filters"."""
        return "soft-filters" + (f"-only-{'-'.join(self.only)}" if self.only else "")

    def densities(self, task: Task) -> list[float]:
        """Density at every level, exact."""
        cuts = [share_cut(self.rate, level) for level in range(1, self.rounds + 1)]
        return planned_densities(task, self.cuts(task), cuts)

    def check(self, task: Task, recipe: Recipe) -> None:
        """Refuse a network without units that could be cut, or a recipe that fine-tuning does not fit.

        Raises:
            ValueError: as said.
        """
        self.cuts(task)
        self._changes(recipe)

    def find(self, task: Task, recipe: Recipe, seed: int, train: Train) -> Iterator[Ticket]:
        """Search for each level in turn, and yield its ticket."""
        sites, chosen = task.sites, self.cuts(task)
        changes, start_step = self._changes(recipe)
        now = clock(recipe.device)
        lost: Exception | None = None
        for level in range(1, self.rounds + 1):
            keeps = self.widths(task, level)
            search = Ticket(
                self, seed, level, MaskedWeights(everything(task.fresh(0))), (), Dense(0), arm=SparsityTraining()
            )
            began, mask, state = now(), {}, {}
            running = train.search(search, looks(task, recipe, self.every))
            try:
                for snapshot in running:
                    state = snapshot.state()
                    mask = _largest(sites, state, keeps)
                    if snapshot.step < recipe.steps:
                        _write(snapshot, _zeroed(sites, mask, state), task)
            except Exception as error:  # whatever ended this search: the other levels have one of their own
                lost = error
                continue
            told = kept_sentence(task, mask)
            yield Ticket(
                self,
                seed,
                level,
                SmallUnits(mask, sites, task.example_inputs()),
                chosen,
                Handed(recipe.steps),
                start_step=start_step,
                changes=changes,
                scoring_flops=training_flops(task, recipe, recipe.steps),
                weights=state,
                search=Search(notes=[told], seconds=now() - began),
            )
        if lost is not None:
            raise lost

    def widths(self, task: Task, level: int) -> dict[str, int]:
        """Units that each site keeps at a level: the rate says so."""
        cut = share_cut(self.rate, level)
        return {name: max(1, left_of(len(task.sites[name]), cut)) for name in self.cuts(task)}

    def cuts(self, task: Task) -> tuple[str, ...]:
        """The sites of the task's network that it may cut."""
        return cuttable_sites("SoftFilterPruning", task, self.keep, self.only)

    def _changes(self, recipe: Recipe) -> tuple[dict[str, object], int]:
        """How the ticket is trained, and from which step."""
        if self.fine_tune_steps == 0:
            return {}, recipe.steps
        return fine_tuning(recipe, self.fine_tune_lr, self.fine_tune_steps), 0


def _write(snapshot: Snapshot, state: State, task: Task) -> None:
    """Put these weights into the training that the snapshot is of.

    Raises:
        ValueError: a loop of the user's own gives snapshots that cannot be written to.
    """
    if snapshot.write is None:
        raise ValueError(
            f"SoftFilterPruning sets filters to zero while task {task.name!r} is trained, but the snapshots of its own "
            "loop cannot be written to; let it yield them as training.loop.train does"
        )
    snapshot.write(state)


def _largest(sites: Sites, state: State, keeps: dict[str, int]) -> UnitMask:
    """The units with the largest L2 norms, so many of each site."""
    squares = unit_magnitudes(sites, state, power=2)
    whole = {name: torch.ones(len(sites[name]), dtype=torch.bool) for name in keeps}
    return select({name: squares[name] for name in keeps}, keeps, whole)


def _zeroed(sites: Sites, mask: UnitMask, state: State) -> State:
    """The weights that make the units to be cut, set to zero; biases and normalisation stay, as in the paper."""
    changed: State = {}
    for site, kept in mask.items():
        for unit in (~kept).nonzero().flatten().tolist():
            for name, dims in sites[site].units[unit].items():
                dim = sites.outputs.get(name)
                if dim is not None and dim in dims:
                    changed.setdefault(name, state[name].clone()).index_fill_(dim, torch.tensor(dims[dim]), 0.0)
    return changed | fitted(sites.lengths, state, {**state, **changed})
