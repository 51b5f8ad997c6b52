"""The parts of a study that one worker does at a time: a dense training, a *chain* of tickets, or one control.

A chain is one method and one seed: each level needs the one before. It leaves tickets in the store, and controls begin
from these alone, so that any part can die and be started again, or be done on another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from scratchcard.methods.ticket import Method, Ticket
from scratchcard.networks.units import SmallUnits
from scratchcard.study.execute import Trainings
from scratchcard.study.lost import Stopped, described
from scratchcard.study.search import search
from scratchcard.study.spec import RunSpec
from scratchcard.study.store import Damaged, Store, StoreError
from scratchcard.study.tickets import keep, kept
from scratchcard.types import Snapshot

if TYPE_CHECKING:
    from scratchcard.study.study import Study


class Job(Protocol):
    """What one worker does at a time, and claims as a whole."""

    @property
    def claim(self) -> str:
        """The id it is claimed under: one for all studies that have it in common."""
        ...

    def is_done(self, store: Store) -> bool:
        """Whether all that it would leave is in the store."""
        ...

    def do(self, study: Study, trainings: Trainings, note: Callable[[str], None]) -> Iterator[None]:
        """Do it, yielding when rows have been written; what ended without a result is told to `note`."""
        ...


@dataclass(frozen=True)
class DenseTraining:
    """A seed's dense network, with every snapshot that a method of the study needs."""

    spec: RunSpec

    @property
    def claim(self) -> str:
        """The run's."""
        return self.spec.id

    def is_done(self, store: Store) -> bool:
        """Only the training itself knows which snapshots there must be."""
        return False

    def do(self, study: Study, trainings: Trainings, note: Callable[[str], None]) -> Iterator[None]:
        """Train it."""
        note(run_dense(trainings, study, self.spec.seed))
        yield


@dataclass(frozen=True)
class Chain:
    """All levels of one method and seed."""

    runs: tuple[RunSpec, ...]
    """Of its tickets, and of what the method trains besides."""

    @property
    def claim(self) -> str:
        """No run has the level 0 of a method; and however many levels are asked for, it is one chain."""
        return replace(self.runs[0].ticket, level=0).id

    def is_done(self, store: Store) -> bool:
        """Whether all levels have rows, and what was found is there."""
        lost = {spec.id for spec in self.runs if (row := store.row(spec.id)) is not None and not row.found}
        tickets = {spec.ticket.id for spec in self.runs} - lost
        return {spec.id for spec in self.runs} <= store.settled(self.runs) and tickets <= store.ticket_ids()

    def do(self, study: Study, trainings: Trainings, note: Callable[[str], None]) -> Iterator[None]:
        """Find the tickets, and train each."""
        method = self.runs[0].method
        assert method is not None, "a chain is a method's"
        for _ in run_chain(trainings, study, method.label, self.runs[0].seed, note):
            yield
        yield


@dataclass(frozen=True)
class Control:
    """One control of one ticket."""

    spec: RunSpec

    @property
    def claim(self) -> str:
        """The run's."""
        return self.spec.id

    def is_done(self, store: Store) -> bool:
        """Whether it has its row."""
        return bool(store.settled([self.spec]))

    def do(self, study: Study, trainings: Trainings, note: Callable[[str], None]) -> Iterator[None]:
        """Train it."""
        note(run_control(trainings, study, self.spec))
        yield


def run_dense(trainings: Trainings, study: Study, seed: int) -> str:
    """Train a seed's dense network with every snapshot that a method of the study needs.

    Returns a sentence when it ended without a result, else "".
    """
    stops = set().union(*(method.dense_steps(study.recipe) for method in study.methods))
    try:
        for _ in trainings.train(trainings.dense(seed), sorted(stops)):
            pass
    except Stopped as stopped:
        return str(stopped)
    return ""


def run_chain(trainings: Trainings, study: Study, label: str, seed: int, note: Callable[[str], None]) -> Generator[str]:
    """Find a method's tickets for one seed, yield the id of each once it is in the store, then train it.

    A training that ends without a result is told to `note`. Tickets that could not be found for want of it have rows
    that say so: that a search diverges is an outcome of the method, not a run that is missing.
    """
    method = next(method for method in study.methods if method.label == label)
    asked = Asked(trainings)
    told: set[str] = set()

    def tell(stopped: Stopped) -> None:
        if str(stopped) not in told:  # once, though the search may ask for the same training
            note(str(stopped))
        told.add(str(stopped))

    try:
        for found in method.find(study.task, study.recipe, seed, asked):
            ticket = replace(found, search_flops=asked.spent + found.scoring_flops)
            run = trainings.spec(ticket).id
            keep(trainings.store, run, ticket)
            yield run
            try:
                for _ in trainings.train(ticket, (trainings.recipe_of(ticket).steps,)):
                    pass
            except Stopped as stopped:  # the next level may not need it
                tell(stopped)
    except Stopped as stopped:
        tell(stopped)
        for level, density in enumerate(study.spec.methods[label].densities):
            if level:
                trainings.lose(method, seed, level, density, stopped)


class Asked:
    """The trainings that a method asks for, and what they cost."""

    def __init__(self, trainings: Trainings) -> None:
        self._trainings = trainings
        self.spent = 0.0
        """Training FLOPs of the rows that were asked for."""

    def __call__(self, ticket: Ticket, stops: Collection[int]) -> Iterator[Snapshot]:
        """Yield the snapshots at `stops`; a training that is iterated to its end leaves a row."""
        yield from self._trainings.train(replace(ticket, search_flops=self.spent), stops)
        row = self._trainings.store.row(self._trainings.spec(ticket).id)
        if row is None:
            raise StoreError(
                f"the row of {described(ticket)} was written to {self._trainings.store.folder} and is not there as it "
                "was; see that nothing else changes the store, and run the same command again"
            )
        self.spent += row.train_flops

    def search(self, ticket: Ticket, stops: Collection[int]) -> Iterator[Snapshot]:
        """Yield live snapshots of a training that leaves nothing in the store."""
        return search(self._trainings, ticket, stops)


def run_control(trainings: Trainings, study: Study, spec: RunSpec) -> str:
    """Train one control of one ticket; returns a sentence when it ended without a result, else ""."""
    assert spec.method is not None, "a control is an arm of a method's ticket"
    assert spec.arm is not None, "a control is an arm of a method's ticket"
    method = next(method for method in study.methods if method.label == spec.method.label)
    arm = next(arm for arm in study.controls if arm.label == spec.arm.label)
    ticket = _kept_or_found(trainings, study, method, spec.ticket)
    control = next(islice(arm(ticket, study.recipe, spec.seed, study.task), spec.replicate, None))
    assert trainings.spec(control) == spec, "a control is the run that was planned"
    try:
        # a small network is worth keeping, whoever's weights it began with; a masked one has the size of the dense one
        own = isinstance(control.subnetwork, SmallUnits)
        for _ in trainings.train(control, (trainings.recipe_of(control).steps,) if own else ()):
            pass
    except Stopped as stopped:
        return str(stopped)
    return ""


def _kept_or_found(trainings: Trainings, study: Study, method: Method, spec: RunSpec) -> Ticket:
    """The ticket that was kept, or, where it is damaged, found again: the trainings before it are there."""
    try:
        return kept(trainings.store, spec.id, method, study.task, lambda: trainings.sites)
    except Damaged as error:
        trainings.store.say(str(error))
    with closing(run_chain(trainings, study, method.label, spec.seed, lambda _: None)) as tickets:
        next((run for run in tickets if run == spec.id), None)
    return kept(trainings.store, spec.id, method, study.task, lambda: trainings.sites)
