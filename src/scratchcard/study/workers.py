"""Running a study: its jobs, in this process or spread over worker processes.

The controls of a ticket are started when it appears in the store. Nothing but the store connects the jobs, so that any
of them can be done on another machine: whoever works on one has claimed it there (`study/claims.py`).
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pickle import PicklingError
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from scratchcard.study.agenda import Agenda
from scratchcard.study.claims import Claims
from scratchcard.study.execute import Trainings
from scratchcard.study.jobs import Chain, Control, DenseTraining, Job
from scratchcard.study.progress import Progress
from scratchcard.study.spec import RunSpec
from scratchcard.study.store import Store

if TYPE_CHECKING:
    from scratchcard.study.connectivity import Stability
    from scratchcard.study.study import Study

LOOK = 0.25
"""Seconds between two looks at what is in the store."""


def run_study(study: Study, store: Store, specs: list[RunSpec], workers: int, shown: Progress) -> None:
    """Run every spec that is not finished in the store, and wait for those that other processes are at.

    Raises:
        StoreError: the store cannot be used.
        ValueError: a worker process died.
    """
    finished = store.settled(specs)
    shown.at(len(finished))
    Claims(store.folder / "claims").clear()
    agenda = _agenda(study, specs, finished, store.ticket_ids())
    ids = {spec.id for spec in specs}
    waited = False

    def look() -> bool:
        """Count what is there and see what can be done; whether anything will be."""
        nonlocal waited
        shown.at(len((store.row_ids() & ids) | finished))
        agenda.found(store.ticket_ids())
        if agenda.waits and not waited:
            shown.note("Other processes that share the store are at what is left to do; waiting for their rows.")
            waited = True
        return not agenda.over

    if workers == 1:
        _in_this_process(study, store, agenda, look, shown.note)
    else:
        _in_processes(study, store, agenda, workers, look, shown.note)


def _agenda(study: Study, specs: list[RunSpec], finished: set[str], tickets: set[str]) -> Agenda[Job]:
    # what a method trains besides its tickets is a part of its chain
    own = {(method.label, arm.label) for method in study.methods for arm in method.own_arms(1)}
    dense = {spec.seed: spec for spec in specs if spec.method is None}
    chains: dict[tuple[str, int], list[RunSpec]] = {}
    controls: dict[str, list[Job]] = {}
    for spec in specs:
        if spec.method is not None and (spec.arm is None or (spec.method.label, spec.arm.label) in own):
            chains.setdefault((spec.method.label, spec.seed), []).append(spec)
        elif spec.method is not None and spec.id not in finished:
            controls.setdefault(spec.ticket.id, []).append(Control(spec))
    first: dict[Job, list[Job]] = {}
    for (_, seed), runs in chains.items():
        left = any(spec.id not in finished for spec in (dense[seed], *runs))
        if left or any(spec.id in controls and spec.id not in tickets for spec in runs):
            # all chains of a seed start from its dense training, so that comes first, with all that they will ask of it
            first.setdefault(DenseTraining(dense[seed]), []).append(Chain(tuple(runs)))
    return Agenda(first, controls)


def _done(
    job: Job,
    study: Study,
    trainings: Trainings,
    claims: Claims,
    note: Callable[[str], None],
    look: Callable[[], object] = lambda: None,
) -> bool:
    """Do a job, if nobody else is at it; whether that is so."""
    with claims.of(job.claim) as mine:
        if mine and not job.is_done(trainings.store):
            for _ in job.do(study, trainings, note):
                look()
    return mine


def _in_this_process(
    study: Study, store: Store, agenda: Agenda[Job], look: Callable[[], bool], note: Callable[[str], None]
) -> None:
    trainings, claims = study.trainings(store), Claims(store.folder / "claims")
    while look():
        job = agenda.take()
        if job is None:
            time.sleep(LOOK)
        elif _done(job, study, trainings, claims, note, look):
            agenda.ended(job)
        else:
            agenda.is_elsewhere(job)


def _in_processes(
    study: Study, store: Store, agenda: Agenda[Job], workers: int, look: Callable[[], bool], note: Callable[[str], None]
) -> None:
    pool = ProcessPoolExecutor(
        max_workers=workers,
        initializer=begin,
        initargs=(study, os.getpid()),
        env={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    try:
        running: dict[Future[Told], Job] = {}
        while look():
            while (job := agenda.take()) is not None:
                running[pool.submit(_job, job)] = job
            if not running:
                time.sleep(LOOK)
                continue
            for future in wait(running, timeout=LOOK, return_when=FIRST_COMPLETED).done:
                job, told = running.pop(future), future.result()
                for sentence in told.said:
                    store.say(sentence)
                for sentence in told.notes:
                    note(sentence)
                (agenda.ended if told.done else agenda.is_elsewhere)(job)
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


# what follows runs in a worker process

_STATE: dict[str, Any] = {}


def begin(study: Study | Stability, parent: int) -> None:
    """What a worker process does first: know what it works on, and end when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    torch.set_num_threads(1)
    store = Store(study.store)
    _STATE.update(study=study, trainings=study.trainings(store), claims=Claims(store.folder / "claims"))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    gc.freeze()  # what it begins with is never garbage, and to look through it again and again took 7 % of its time


def state_of_worker() -> tuple[Any, Trainings]:
    """What this worker process works on."""
    return _STATE["study"], _STATE["trainings"]


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class Told(NamedTuple):
    """What a worker process has to tell of a job."""

    done: bool
    """False where another process is at it."""
    notes: list[str]
    said: list[str]
    """By the store, about what was set aside."""


def _job(job: Job) -> Told:
    told = Told(False, [], [])
    trainings: Trainings = _STATE["trainings"]
    trainings.store.say = told.said.append
    return told._replace(done=_done(job, _STATE["study"], trainings, _STATE["claims"], told.notes.append))
