"""Arms that ask what inherited weights are worth: fine-tune, or train the same architecture from scratch, and how long.

Source: Liu et al. 2019, Rethinking the Value of Network Pruning, sections 3 to 5. A scratch arm is physically small
before it is initialised. Wang et al. 2023, Why Is the State of Neural Network Pruning so Confusing? show that the
conclusion depends on the rate of fine-tuning, so the whole schedule is an arm too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch

from scratchcard.methods.ticket import Dense, Fresh, Handed, Scratch, Ticket, whole_training
from scratchcard.methods.units import training_flops
from scratchcard.networks.cost import cost
from scratchcard.networks.speedup import sparse_speedup
from scratchcard.networks.stages import Pattern, guided_positions, guided_widths, position_pattern, width_pattern
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits
from scratchcard.networks.weights import everything
from scratchcard.row import LONGER
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive
from scratchcard.training.task import Task


# how many are drawn does not change any one of them
def _draws(number: int = 1) -> int:
    return field(default=number, metadata={"identity": False})


@dataclass(frozen=True)
class FullSchedule:
    """The ticket's inherited weights trained by the study's whole recipe: is it the small rate that held them back?"""

    replicates: int = field(default=1, init=False, metadata={"identity": False})

    @property
    def label(self) -> str:
        """The name in rows: "fine-tune-full-schedule"."""
        return "fine-tune-full-schedule"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with the recipe of the dense training."""
        yield replace(ticket, changes={}, start_step=0, arm=self)


@dataclass(frozen=True)
class ReInit:
    """The ticket's structure from fresh weights of its own size, trained exactly as the ticket: only weights differ.

    Of tickets that go on with their search's schedule: the rest of it, from the step of the draw, beginning with the
    scaling factors that the search began with. Where little is left of it, or only its small rates, fresh weights
    learn next to nothing: so it is run where it is asked for by name, and scratch-E is usual. Training early-bird
    tickets without loading their weights, as the released code of You et al. 2020 does, is this arm.
    """

    replicates: int = _draws()

    @property
    def label(self) -> str:
        """The name in rows: "re-init"."""
        return "re-init"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with the fresh weights of scratch-E, one per replicate."""
        factor = ticket.start.factor if isinstance(ticket.start, Handed) else None
        for replicate in range(self.replicates):
            start = replace(_fresh(ticket, seed, replicate), factor=factor)
            yield replace(ticket, start=start, weights=None, arm=self, replicate=replicate)


@dataclass(frozen=True)
class ScratchE:
    """The ticket's structure from fresh weights, as many epochs as the dense network: are inherited ones worth it?"""

    replicates: int = _draws()

    @property
    def label(self) -> str:
        """The name in rows: "scratch-e"."""
        return "scratch-e"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the structure with fresh weights of its own size, one per replicate."""
        for replicate in range(self.replicates):
            yield _from_scratch(self, ticket, seed, replicate, {})


@dataclass(frozen=True)
class ScratchB:
    """As scratch-E, for as many floating-point operations as the dense training: int(E x F_dense / F_small) steps.

    Milestones and warm-up are stretched in proportion. The same fresh weights as scratch-E.
    """

    strict: bool = False
    """Whether the ticket's own steps are counted: K1 x F_dense / F_small + K2, of K1 steps' worth of the large network
    before the ticket was there and K2 after (Wang et al. 2023). An early-bird ticket's K1 is the step of its draw, an
    iterative method's the dense training and that of every level before."""
    cap: float | None = None
    """At most so many times the dense steps; the paper's ImageNet runs have 2."""
    replicates: int = _draws()

    def __post_init__(self) -> None:
        """Refuse a cap below 1."""
        if self.cap is not None and not 1 <= self.cap < float("inf"):
            raise ValueError(f"scratch-b is capped at 1 or more times the dense steps, got cap={self.cap}")

    @property
    def label(self) -> str:
        """The name in rows: "scratch-b", "scratch-b-strict", "scratch-b-cap-2"."""
        return "scratch-b" + ("-strict" if self.strict else "") + (f"-cap-{self.cap:g}" if self.cap else "")

    def trainings(self, searched: float, share: float) -> float:
        """About how many trainings of the dense network one run is worth, where the search took so many.

        Args:
            searched: of them.
            share: of the dense network's operations that the ticket's need but are not saved: its density, where
                masked weights are calculated with; 1 for small networks.
        """
        times = (searched if self.strict else 1) / share + self.strict
        return min(times, self.cap / share) if self.cap else times

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the structure with fresh weights and a longer training, one per replicate."""
        ratio = max(1.0, flops_ratio(ticket, task))
        before, after = recipe.steps, 0
        if self.strict:
            seen = ticket.start.step if isinstance(ticket.start, Dense | Handed) else 0  # of a model that was brought
            before = max(round(ticket.search_flops / training_flops(task, recipe, 1)), seen)
            after = _own_steps(ticket, recipe)
        steps = int(before * Fraction(min(ratio, self.cap or ratio)).limit_denominator(10**9)) + after
        for replicate in range(self.replicates):
            yield _from_scratch(self, ticket, seed, replicate, stretched(recipe, steps))


@dataclass(frozen=True)
class LotteryInit:
    """The ticket's structure from its own original initial weights: does a lottery need a structured ticket's init?"""

    replicates: int = field(default=1, init=False, metadata={"identity": False})

    @property
    def label(self) -> str:
        """The name in rows: "lottery-init"."""
        return "lottery-init"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket at the initialisation of the dense training, with its recipe."""
        yield replace(whole_training(ticket), start=Dense(0), arm=self)


@dataclass(frozen=True)
class AnotherInit:
    """As lottery-init, with another draw of the large network's initial weights: is it the draw that matters?

    Cut to the structure in the same way, so that nothing else differs; scratch-E also has the spread of its own size.
    """

    replicates: int = _draws()

    @property
    def label(self) -> str:
        """The name in rows: "another-init"."""
        return "another-init"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket at an initialisation of a dense network, with the study's recipe, one per replicate."""
        for replicate in range(self.replicates):
            start = Fresh(derive(seed, self.label, ticket.level, replicate))
            yield replace(whole_training(ticket), start=start, arm=self, replicate=replicate)


@dataclass(frozen=True)
class DenseLonger:
    """The dense network trained for as many operations as search and ticket together: would that have done as well?

    Its schedule is stretched in proportion, milestones and warm-up included. What a ticket gains over a dense network
    that was trained once is worth its search only where it beats this one too; of a ticket that matches it says
    nothing, since that one is smaller all the same.
    """

    times: float | None = None
    """So many times the recipe's steps instead, whatever the search cost."""
    replicates: int = field(default=1, init=False, metadata={"identity": False})

    primary_only = True

    def __post_init__(self) -> None:
        """Refuse a length that is none.

        Raises:
            ValueError: as said.
        """
        if self.times is not None and not 0 < self.times < float("inf"):
            raise ValueError(f"the dense network is trained a positive number of times as long, got times={self.times}")

    @property
    def label(self) -> str:
        """The name in rows: "dense-for-the-search", "dense-times-3"."""
        return LONGER if self.times is None else f"dense-times-{self.times:g}"

    def trainings(self, searched: float, share: float) -> float:
        """About how many trainings of the dense network one run is worth, where the search took so many."""
        return self.times or searched + 1

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the dense network of the ticket's seed with a longer training."""
        if self.times is None:
            share = 1.0
            if isinstance(ticket.subnetwork, SmallUnits):
                share = 1 / flops_ratio(ticket, task)
            worth = ticket.search_flops / training_flops(task, recipe, 1) + _own_steps(ticket, recipe) * share
        else:
            worth = self.times * recipe.steps
        whole = MaskedWeights(everything(task.fresh(0)))
        longer = stretched(recipe, max(1, round(worth)))
        yield replace(whole_training(ticket), subnetwork=whole, start=Dense(0), changes=longer, arm=self)


@dataclass(frozen=True)
class Guided:
    """A new structure by the ticket's own statistics, averaged over each stage: is it more than how much goes where?

    Of units: every site of a stage keeps the stage's mean share. Of weights: a random mask with the stage's mean share
    at each position of the kernels.
    """

    replicates: int = _draws()

    @property
    def label(self) -> str:
        """The name in rows: "guided"."""
        return "guided"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield a network of the ticket's stage-wise widths or positions, one per replicate."""
        yield from _patterned(self, ticket, seed, task, pattern_of(ticket, task))


@dataclass(frozen=True)
class Transferred:
    """As guided, with the statistics of another network or another data set: do they carry over?"""

    pattern: Pattern
    """One entry per stage, largest feature maps first, e.g. ((0.9,), (0.6,), (0.2,)); see `pattern_of`."""
    source: str
    """Where it was taken from, for the label: "vgg-16"."""
    replicates: int = _draws()

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        object.__setattr__(self, "pattern", tuple(tuple(stage) for stage in self.pattern))
        if not self.pattern or not all(stage and all(0 <= share <= 1 for share in stage) for stage in self.pattern):
            raise ValueError(
                f"a pattern has shares in [0, 1] for every stage, e.g. ((0.9,), (0.6,)); got {self.pattern}"
            )
        if not self.source:
            raise ValueError("a transferred pattern needs a source, a short name of where it was taken from")

    @property
    def label(self) -> str:
        """The name in rows, e.g. "transferred-vgg-16"."""
        return f"transferred-{self.source}"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield a network of the pattern's widths or positions, one per replicate."""
        yield from _patterned(self, ticket, seed, task, self.pattern)


def pattern_of(ticket: Ticket, task: Task) -> Pattern:
    """What a ticket keeps in each stage: to be used for another network, by `Transferred`.

    Args:
        ticket: of units, or of weights.
        task: whose network it is of.
    """
    if isinstance(ticket.subnetwork, SmallUnits):
        return width_pattern(task.sites, {name: ticket.subnetwork.mask[name] for name in ticket.prunable})
    return position_pattern(task.sites, ticket.subnetwork.mask, ticket.prunable)


def flops_ratio(ticket: Ticket, task: Task) -> float:
    """Forward operations of the dense network / those of the ticket's, by one counter; of weight masks in theory."""
    model, inputs = task.fresh(0), task.example_inputs()
    if isinstance(ticket.subnetwork, SmallUnits):
        small = ticket.subnetwork.trainable(model)
        return cost(model, inputs).forward_flops / cost(small, inputs).forward_flops
    return sparse_speedup(model, ticket.subnetwork.mask, inputs)


def stretched(recipe: Recipe, steps: int) -> dict[str, Any]:
    """In what a training of other length differs from the recipe: milestones and warm-up in proportion."""
    steps = max(steps, len(recipe.milestones) + 1)
    scaled = [int(Fraction(milestone, recipe.steps) * steps) for milestone in recipe.milestones]
    for at in range(len(scaled)):  # of a training that became so short that they fall together
        scaled[at] = max(scaled[at], scaled[at - 1] + 1 if at else 1)
    return {
        "steps": steps,
        "milestones": tuple(min(one, steps - len(scaled) + at) for at, one in enumerate(scaled)),
        "warmup": int(Fraction(recipe.warmup, recipe.steps) * steps),
    }


def _own_steps(ticket: Ticket, recipe: Recipe) -> int:
    """How many steps the ticket is trained for, once it was found."""
    return replace(recipe, **ticket.changes).steps - ticket.start_step


def _from_scratch(
    arm: ScratchE | ScratchB | Guided | Transferred, ticket: Ticket, seed: int, replicate: int, changes: dict[str, Any]
) -> Ticket:
    start = _fresh(ticket, seed, replicate)
    return replace(whole_training(ticket), start=start, changes=changes, arm=arm, replicate=replicate)


def _fresh(ticket: Ticket, seed: int, replicate: int) -> Scratch:
    """One draw for all arms from scratch, so that they differ in structure or length alone."""
    return Scratch(derive(seed, "scratch", ticket.level, replicate))


def _patterned(arm: Guided | Transferred, ticket: Ticket, seed: int, task: Task, pattern: Pattern) -> Iterator[Ticket]:
    for replicate in range(arm.replicates):
        if isinstance(ticket.subnetwork, SmallUnits):
            made = replace(ticket.subnetwork, mask=guided_widths(task.sites, ticket.prunable, pattern))
        else:
            chance = torch.Generator().manual_seed(derive(seed, arm.label, ticket.level, replicate))
            whole = ticket.subnetwork.mask
            made = MaskedWeights(guided_positions(task.sites, whole, ticket.prunable, pattern, chance))
        yield replace(_from_scratch(arm, ticket, seed, replicate, {}), subnetwork=made)
