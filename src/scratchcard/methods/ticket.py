"""A ticket: a subnetwork and the weights it starts from, with where it came from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from scratchcard.networks.scaling import Scaled
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits
from scratchcard.networks.weights import Weight
from scratchcard.row import Origin, Search
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Snapshot, State, WeightMask


@dataclass(frozen=True)
class Dense:
    """The weights of the same seed's dense training at `step`; 0 is the initialisation, bit for bit."""

    step: int = 0


@dataclass(frozen=True)
class Fresh:
    """Weights freshly drawn by the task's model factory under `seed`."""

    seed: int


@dataclass(frozen=True)
class End:
    """The weights that an earlier level of the same method and seed ended with."""

    level: int
    """1 or later; the end of the dense training is `Dense(steps)`."""
    continued: bool = False
    """Of the method's continued training at that level, not of its ticket."""


@dataclass(frozen=True)
class Redrawn:
    """The ticket's own starting weights, redrawn where its mask keeps: a key of `networks.redraw.REDRAWS`."""

    of: Dense | End
    how: str
    seed: int
    scale: float = 0.0


@dataclass(frozen=True)
class Narrow:
    """A narrower network of the same kind with as nearly as possible so many weights, freshly drawn."""

    seed: int
    weights: int


@dataclass(frozen=True)
class Handed:
    """The weights that the method's search left, handed over with the ticket and kept beside its mask."""

    step: int
    """Of the search."""
    factor: float | None = None
    """What the search's scaling factors of batch normalisation started at; None: as the factory has them."""


@dataclass(frozen=True)
class Scratch:
    """Weights freshly drawn under `seed` for the structure as it is: physically small, or sparse.

    The factory draws them for the large network; each layer's spread is then what the factory's own rule gives for the
    layer's new size (`networks.scratch`), as if the small network had been built first.
    """

    seed: int
    factor: float | None = None
    """What the weights of batch normalisation start at; None: as the factory has them."""


Weights = Dense | Fresh | End | Redrawn | Narrow | Handed | Scratch
"""Where a ticket's weights come from: a description, resolved by the study when the ticket is trained."""


@dataclass(frozen=True)
class Ticket:
    """What is trained: a structure, the weights it starts from, and the causes that led to it."""

    method: Method | None
    """None for the dense network."""
    seed: int
    level: int
    """Pruning round; 0 is the dense network."""
    subnetwork: MaskedWeights | SmallUnits | Scaled
    prunable: tuple[str, ...]
    """The weights, or sites, that the method was free to cut; a random mask shuffles among them."""
    start: Weights = Dense(0)
    start_step: int = 0
    """The step k at which its training begins (rewinding)."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the study's recipe in which its training differs (fine-tuning); plain data."""
    order: int | None = None
    """Seed of its data order, augmentation and dropout where it is not the ticket's own."""
    inverse: WeightMask | None = None
    """As many weights per layer, those with the lowest scores: what score inversion keeps; None without scores."""
    scoring_flops: float = 0.0
    """What finding it cost besides trainings that left rows."""
    search_flops: float = 0.0
    """What finding it cost in all, if nothing were shared; written by whoever ran the search."""
    weights: State | None = None
    """What `Handed` stands for, in the shapes of the large network."""
    search: Search = Search()  # noqa: RUF009 - a frozen record
    """How it was found, for the report."""
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
    """Handed to a method: trains a ticket (or finds that it was trained before) and yields snapshots at `stops`."""

    def __call__(self, ticket: Ticket, stops: Collection[int]) -> Iterator[Snapshot]:
        """Yield the snapshots at `stops`, in order. At the end a row and these snapshots are in the store."""
        ...

    def search(self, ticket: Ticket, stops: Collection[int]) -> Iterator[Snapshot]:
        """Yield the snapshots at `stops` of a training that may be changed and left at any of them.

        It leaves nothing in the store: what it found and what it cost goes on the ticket.
        """
        ...


class TooShort(ValueError):
    """The training is shorter than a method needs it; the message says how many steps it needs."""


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
        """Raise ValueError when the method cannot work on this task with this recipe.

        `TooShort` where more steps would do: a study of several methods goes on without it then.
        """
        ...

    @property
    def units(self) -> str:
        """What its masks are of: "weights", or whole units ("channels")."""
        ...

    @property
    def origin(self) -> Origin:
        """Which weights its tickets start from; trained ones are there at the places of their own mask alone."""
        ...

    def search_steps(self, recipe: Recipe, level: int) -> int:
        """At most so many steps' worth of training the dense network go before the ticket of a level is found."""
        ...

    def widths(self, task: Task, level: int) -> Mapping[str, int] | None:
        """Units that each site keeps at a level; None of single weights, and where the search finds how many."""
        ...

    def own_arms(self, level: int) -> tuple[Arm, ...]:
        """What the method itself trains at a level besides the ticket, e.g. a continued training."""
        ...

    def dense_steps(self, recipe: Recipe) -> set[int]:
        """Steps of the dense training whose weights it needs."""
        ...

    def find(self, task: Task, recipe: Recipe, seed: int, train: Train) -> Iterator[Ticket]:
        """Yield the tickets of levels 1, 2, ... as they are found."""
        ...


class Arm(Protocol):
    """A control: a frozen dataclass that turns a ticket into others which differ from it in one thing only.

    One that is run at a method's primary level alone says so by `primary_only = True`, see `primary_only`.
    """

    @property
    def label(self) -> str:
        """Short name in rows and reports."""
        ...

    @property
    def replicates(self) -> int:
        """How many are drawn per ticket."""
        ...

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterable[Ticket]:
        """Yield what to train instead of the ticket, one per replicate.

        Args:
            ticket: found by a method.
            recipe: the study's; a control that trains otherwise says so in its `Ticket.changes`.
            seed: the study's seed that the ticket belongs to.
            task: the study's, for its network.
        """
        ...


def primary_only(arm: Arm) -> bool:
    """Whether a control is run at a method's primary level alone, whatever the study says of the others."""
    return bool(getattr(arm, "primary_only", False))


def whole_training(ticket: Ticket) -> Ticket:
    """The ticket trained by the study's whole recipe, from step 0, without weights that came with it.

    For controls whose weights carry nothing of the training before step k: fresh weights that start there, or at the
    small rate of fine-tuning, could not learn, and so would be no control.
    """
    return replace(ticket, start_step=0, changes={}, weights=None)
