"""Running a study: chains of tickets and their controls, in this process or spread over worker processes.

The unit of work is a *chain* (one method, one seed: each level needs the one before) or one control of one ticket.
Chains leave tickets in the store; the controls of a ticket are started when it appears there. Nothing but the store
connects the two, so that any part can die and be started again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from itertools import islice
from pickle import PicklingError
from typing import TYPE_CHECKING, Any

import torch
from loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from scratchcard.methods.ticket import Ticket
from scratchcard.networks.units import SmallUnits
from scratchcard.study.execute import Stopped, Trainings
from scratchcard.study.progress import Progress
from scratchcard.study.search import search
from scratchcard.study.spec import RunSpec
from scratchcard.study.store import Store
from scratchcard.study.tickets import keep, kept
from scratchcard.types import Snapshot

if TYPE_CHECKING:
    from scratchcard.study.connectivity import Stability
    from scratchcard.study.study import Study


def run_study(study: Study, store: Store, specs: list[RunSpec], workers: int, shown: Progress) -> None:
    """Run every spec that is not finished in the store.

    Raises:
        StoreError: the store cannot be used.
        ValueError: a worker process died.
    """
    finished = store.settled(specs)
    tickets = store.ticket_ids()
    shown.at(len(finished))
    # what a method trains besides its tickets is a part of its chain
    own = {(method.label, arm.label) for method in study.methods for arm in method.own_arms(1)}

    def chained(spec: RunSpec) -> bool:
        arm = None if spec.arm is None else spec.arm.label
        return spec.method is not None and (arm is None or (spec.method.label, arm) in own)

    controls: dict[str, list[RunSpec]] = {}
    for spec in specs:
        if spec.method is not None and not chained(spec) and spec.id not in finished:
            controls.setdefault(spec.ticket.id, []).append(spec)
    untrained = {spec.seed for spec in specs if spec.method is None and spec.id not in finished}
    # dict: each chain once, in the order of the plan
    chains = list(
        dict.fromkeys(
            (spec.method.label, spec.seed)
            for spec in specs
            if spec.method is not None
            and chained(spec)
            and (spec.id not in finished or spec.seed in untrained or spec.ticket.id not in tickets | finished)
        )
    )
    ids = {spec.id for spec in specs}

    def count() -> None:
        shown.at(len((store.row_ids() & ids) | finished))

    if workers == 1:
        _in_this_process(study, store, chains, controls, shown.note, count)
    else:
        _in_processes(study, store, chains, controls, workers, shown.note, count)


def _in_this_process(
    study: Study,
    store: Store,
    chains: list[tuple[str, int]],
    controls: dict[str, list[RunSpec]],
    note: Callable[[str], None],
    count: Callable[[], None],
) -> None:
    trainings = study.trainings(store)

    def run_controls(ticket: str) -> None:
        for spec in controls.pop(ticket, []):
            note(run_control(trainings, study, spec))
            count()

    for ticket in sorted(store.ticket_ids() & controls.keys()):
        run_controls(ticket)
    for seed in dict.fromkeys(seed for _, seed in chains):
        note(run_dense(trainings, study, seed))
        count()
    for method, seed in chains:
        for ticket in run_chain(trainings, study, method, seed, note):
            count()
            run_controls(ticket)
        count()


def _in_processes(
    study: Study,
    store: Store,
    chains: list[tuple[str, int]],
    controls: dict[str, list[RunSpec]],
    workers: int,
    note: Callable[[str], None],
    count: Callable[[], None],
) -> None:
    pool = ProcessPoolExecutor(
        max_workers=workers,
        initializer=begin,
        initargs=(study, os.getpid()),
        env={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    try:
        # all chains of a seed start from its dense training, so that comes first, with all that they will ask of it
        dense: dict[Future[str], int] = {}
        for seed in dict.fromkeys(seed for _, seed in chains):
            dense[pool.submit(_dense_job, seed)] = seed
        running: set[Future[str]] = set(dense)
        while True:
            for ticket in sorted(store.ticket_ids() & controls.keys()):
                running |= {pool.submit(_control_job, spec) for spec in controls.pop(ticket)}
            if not running:
                break
            done, running = wait(running, timeout=0.25, return_when=FIRST_COMPLETED)
            for future in done:
                note(future.result())
                if future in dense:
                    began = dense[future]
                    running |= {pool.submit(_chain_job, method, seed) for method, seed in chains if seed == began}
            count()
        pool.shutdown(wait=True)  # by themselves, so that they put away what they hold; what follows is for the others
    except (PicklingError, TypeError, AttributeError) as error:
        raise ValueError(
            f"this task cannot be sent to worker processes ({type(error).__name__}: {' '.join(str(error).split())}); "
            "run with one worker, or keep locks, files and the like out of its functions"
        ) from error
    except TerminatedWorkerError as error:
        raise ValueError(
            "a worker process was killed (often: memory ran out); finished runs are safe: "
            "run the same command again, with fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, kill_workers=True)


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


def run_chain(trainings: Trainings, study: Study, label: str, seed: int, note: Callable[[str], None]) -> Iterator[str]:
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
        assert row is not None, "a training that was iterated to its end left no row"
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
    ticket = kept(trainings.store, spec.ticket.id, method, study.task, lambda: trainings.sites)
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


# what follows runs in a worker process

_STATE: dict[str, Any] = {}


def begin(study: Study | Stability, parent: int) -> None:
    """What a worker process does first: know what it works on, and end when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    torch.set_num_threads(1)
    _STATE["study"], _STATE["trainings"] = study, study.trainings(Store(study.store))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def state_of_worker() -> tuple[Any, Trainings]:
    """What this worker process works on."""
    return _STATE["study"], _STATE["trainings"]


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _dense_job(seed: int) -> str:
    return run_dense(_STATE["trainings"], _STATE["study"], seed)


def _chain_job(label: str, seed: int) -> str:
    told: list[str] = []
    for _ in run_chain(_STATE["trainings"], _STATE["study"], label, seed, told.append):
        pass
    return "\n".join(told)


def _control_job(spec: RunSpec) -> str:
    return run_control(_STATE["trainings"], _STATE["study"], spec)
