"""A ticket: a subnetwork and the weights it starts from, with where it came from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.weights import Weight
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Snapshot


@dataclass(frozen=True)
class Dense:
    """The weights of the same seed's dense training at `step`; 0 is the initialisation, bit for bit."""

    step: int = 0


@dataclass(frozen=True)
class Fresh:
    """Weights freshly drawn by the task's model factory under `seed`."""

    seed: int


Weights = Dense | Fresh
"""Where a ticket's weights come from: a description, resolved by the study when the ticket is trained."""


@dataclass(frozen=True)
class Ticket:
    """What is trained: a structure, the weights it starts from, and the causes that led to it."""

    method: Method | None
    """None for the dense network."""
    seed: int
    level: int
    """Pruning round; 0 is the dense network."""
    subnetwork: MaskedWeights
    prunable: tuple[str, ...]
    """The weights the method was free to cut; a random mask shuffles among them."""
    start: Weights = Dense(0)
    start_step: int = 0
    """The step k at which its training begins (rewinding)."""
    arm: Arm | None = None
    """None for the ticket itself; otherwise the control it was turned into."""
    replicate: int = 0

    @property
    def arm_label(self) -> str:
        """What its row is called: "dense", "ticket", or the control's label."""
        if self.arm is not None:
            return self.arm.label
        return "ticket" if self.method is not None else "dense"


class Train(Protocol):
    """Handed to a method: trains a ticket (or finds that it was trained before) and yields snapshots at `stops`.

    Iterating to the end leaves a row in the study's store; stopping earlier leaves none.
    """

    def __call__(self, ticket: Ticket, stops: Collection[int]) -> Iterator[Snapshot]:
        """Yield the snapshots at `stops`, in order."""
        ...


class Method(Protocol):
    """A frozen dataclass of hyper-parameters with one verb."""

    @property
    def label(self) -> str:
        """Short name in rows and reports; different for methods of one study that differ in a hyper-parameter."""
        ...

    def weights(self, task: Task) -> list[Weight]:
        """What it would cut in the task's network and what not, and why."""
        ...

    def densities(self, task: Task) -> list[float]:
        """Density at every level, entry 0 the dense network's: exact, before anything is trained."""
        ...

    def check(self, task: Task, recipe: Recipe) -> None:
        """Raise ValueError when the method cannot work on this task with this recipe."""
        ...

    def find(self, task: Task, recipe: Recipe, seed: int, train: Train) -> Iterator[Ticket]:
        """Yield the tickets of levels 1, 2, ... as they are found."""
        ...


class Arm(Protocol):
    """A control: a frozen dataclass that turns a ticket into others which differ from it in one thing only."""

    @property
    def label(self) -> str:
        """Short name in rows and reports."""
        ...

    @property
    def replicates(self) -> int:
        """How many are drawn per ticket."""
        ...

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int) -> Iterable[tuple[Ticket, Recipe]]:
        """Yield what to train instead of the ticket, one per replicate."""
        ...
