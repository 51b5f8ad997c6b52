"""From which step should this network be rewound? Two trainings part there, and the line between their ends is walked.

Source: Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis: a network is stable at step k
when two trainings from k on, under two data orders, end in networks whose straight connection loses next to nothing;
IMP finds matching tickets when it rewinds to a stable step. The error is that of the validation split: it chooses
something.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as Folder
from typing import Literal

import torch
from loky.process_executor import ProcessPoolExecutor

from scratchcard.methods.ticket import Dense, Ticket
from scratchcard.row import Connectivity, Path
from scratchcard.study.execute import Stopped, Trainings
from scratchcard.study.limits import check_workers, chosen_seeds
from scratchcard.study.progress import Progress
from scratchcard.study.spec import Causes
from scratchcard.study.store import Store
from scratchcard.study.workers import begin, state_of_worker
from scratchcard.training.between import along
from scratchcard.training.fits import check_fits
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive
from scratchcard.training.task import Task

SHARES = (0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Of the training: the steps that are tried one after the other when none are named."""


@dataclass(frozen=True)
class Child:
    """A dense training that goes on from a step under a data order of its own."""

    step: int
    replicates: int = field(default=2, metadata={"identity": False})

    @property
    def label(self) -> str:
        """The name in rows, e.g. "child-500"."""
        return f"child-{self.step}"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the dense network from the step on, one per data order."""
        for replicate in range(self.replicates):
            yield replace(
                ticket,
                start=Dense(self.step),
                start_step=self.step,
                order=derive(seed, "data order", replicate),
                arm=self,
                replicate=replicate,
            )


@dataclass(frozen=True)
class Stability:
    """The search for the step to rewind to: `for found in Stability(task, recipe).walk(): ...`."""

    task: Task
    recipe: Recipe = field(default_factory=Recipe)
    steps: Sequence[int] | None = None
    """Where trainings part; None: at rising shares of the training (`SHARES`)."""
    seeds: int | Sequence[int] = 3
    """Initialisations; each gives one pair of trainings per step."""
    points: int = 30
    """Evaluations along each line, both ends included."""
    statistics: Literal["interpolated", "re-estimated"] = "interpolated"
    """What batch normalisation runs with between the ends: interpolated statistics, or new ones from training data."""
    store: str | Folder = "runs"
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            ValueError: steps outside the training, no seeds, fewer than three points, a given trained model.
        """
        if self.seeds in (0, ()):
            raise ValueError("connectivity needs at least one seed")
        object.__setattr__(self, "seeds", chosen_seeds(self.seeds, "connectivity"))
        if self.steps is not None:
            object.__setattr__(self, "steps", tuple(sorted(set(self.steps))))
        outside = [step for step in self.steps or () if not 0 <= step < self.recipe.steps]
        if outside or self.steps == ():
            raise ValueError(
                f"trainings of {self.recipe.steps} steps can part at steps from 0 to {self.recipe.steps - 1}; "
                f"got {outside or 'none'}"
            )
        if self.points < 3:
            raise ValueError(f"a line needs at least 3 points, its ends and one between; got points={self.points}")
        if self.task.start is not None:
            raise ValueError("a given trained model has no training in which two could part; leave Task(start=...) out")

    @property
    def candidates(self) -> tuple[int, ...]:
        """The steps in question, rising."""
        if self.steps is not None:
            return tuple(self.steps)
        return tuple(sorted({round(share * self.recipe.steps) for share in SHARES}))

    def trainings(self, store: Store) -> Trainings:
        """Its trainings, backed by a store; the dense ones are those of any study of the task."""
        arms = [Child(step) for step in self.candidates]
        return Trainings(self.task, self.recipe, store, Causes.of(self.task, self.recipe, [], arms))

    @property
    def price(self) -> float:
        """How many whole trainings it takes to try every candidate."""
        assert isinstance(self.seeds, tuple), "seeds were made a tuple"
        parts = sum(2 * (1 - step / self.recipe.steps) for step in self.candidates)
        return len(self.seeds) * (1 + parts)

    def walk(self, workers: int = 1, progress: bool = True) -> Iterator[Connectivity]:
        """Yield what is known after each step tried, rising; stop asking when you know enough.

        What is in the store is not trained again.

        Raises:
            ValueError: one batch does not fit through model, loss and metric, or a training diverges.
            StoreError: the store cannot be used.
        """
        check_fits(self.task, self.recipe)
        backed = self.trainings(Store(self.store))
        assert isinstance(self.seeds, tuple), "seeds were made a tuple"
        paths: list[Path] = []
        runs = len(self.seeds) * (1 + 2 * len(self.candidates))
        done = 0
        pool = _pool(self, workers) if check_workers(workers) > 1 else None
        try:
            with Progress(runs, show=progress) as shown:

                def trained(jobs: list[tuple[int, int | None, int]]) -> None:
                    nonlocal done
                    ended = pool.map(_job, jobs) if pool is not None else (_train(backed, self, *job) for job in jobs)
                    for message in ended:
                        if message:
                            raise ValueError(message)
                        done += 1
                        shown.at(done)

                shown.at(0)
                trained([(seed, None, 0) for seed in self.seeds])
                for step in self.candidates:
                    trained([(seed, step, order) for seed in self.seeds for order in (0, 1)])
                    paths += [self._path(backed, seed, step) for seed in self.seeds]
                    yield self._record(paths)
            if pool is not None:
                pool.shutdown(wait=True)  # by themselves, so that they put away what they hold
        finally:
            if pool is not None:
                pool.shutdown(wait=True, kill_workers=True)

    def _path(self, backed: Trainings, seed: int, step: int) -> Path:
        one, other = (
            next(backed.train(child, (self.recipe.steps,))).state()
            for child in Child(step)(backed.dense(seed), self.recipe, seed, self.task)
        )
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            losses, values = along(
                one,
                other,
                self.task,
                self.recipe,
                self.task.data.validation,
                self.points,
                self.statistics == "re-estimated",
            )
        finally:
            torch.set_num_threads(threads)
        return Path(seed=seed, step=step, values=values, losses=losses)

    def _record(self, paths: list[Path]) -> Connectivity:
        metric = self.task.measured_by
        return Connectivity(
            task=self.task.name,
            data=self.task.data.describe(),
            metric=metric.name,
            higher_is_better=metric.higher_is_better,
            metric_is_fraction=metric.fraction,
            steps=self.recipe.steps,
            statistics=self.statistics,
            paths=paths,
            command=self.command,
            machine={"torch": torch.__version__, "python": platform.python_version(), "device": self.recipe.device},
        )


def _pool(stability: Stability, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        max_workers=workers,
        initializer=begin,
        initargs=(stability, os.getpid()),
        env={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )


def _train(backed: Trainings, stability: Stability, seed: int, step: int | None, order: int) -> str:
    """Train a dense network (with all snapshots that its children start from), or a child; what went wrong, else ""."""
    dense = backed.dense(seed)
    try:
        if step is None:
            for _ in backed.train(dense, stability.candidates):
                pass
        else:
            child = list(Child(step)(dense, stability.recipe, seed, stability.task))[order]
            for _ in backed.train(child, (stability.recipe.steps,)):
                pass
    except Stopped as stopped:
        return str(stopped)
    return ""


def _job(job: tuple[int, int | None, int]) -> str:
    stability, backed = state_of_worker()
    return _train(backed, stability, *job)
