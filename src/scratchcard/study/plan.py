"""What a study would run, with which identity and at what price, before anything runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from scratchcard.methods.ticket import Arm, Method, primary_only
from scratchcard.networks.cost import cost
from scratchcard.row import MethodPlan
from scratchcard.study.budget import Budget, clock
from scratchcard.study.spec import Causes, RunSpec
from scratchcard.study.store import Store
from scratchcard.training.evaluate import evaluate
from scratchcard.training.loop import train
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task


@dataclass(frozen=True)
class Plan:
    """Every run of a study, in the order of seeds, methods and levels."""

    runs: tuple[RunSpec, ...]
    exist: frozenset[str]
    """Ids of the runs that are in the store already."""
    each: Budget
    """The price of one run, seconds measured on this machine; less for rewound ones, which are priced as whole ones."""
    longer: Mapping[str, float] = field(default_factory=dict)
    """Of runs that take longer: about how many trainings of the dense network each is worth."""
    notes: Sequence[str] = ()
    """What a person should know before anything is trained."""

    @property
    def missing(self) -> tuple[RunSpec, ...]:
        """The runs that would be started."""
        return tuple(spec for spec in self.runs if spec.id not in self.exist)

    @property
    def price(self) -> Budget:
        """What the missing runs cost, for one worker."""
        return self._of(self.missing)

    def _of(self, runs: Sequence[RunSpec]) -> Budget:
        number = sum(self.longer.get(spec.id, 1.0) for spec in runs)
        return Budget(self.each.flops * number, self.each.seconds * number)

    def describe(self, workers: int) -> str:
        """The plan as a few lines for a person."""
        number = Counter(spec.label for spec in self.runs)
        done = Counter(spec.label for spec in self.runs if spec.id in self.exist)
        lines = [f"{number[name]:5d} x {name}" + (f" ({done[name]} done)" if done[name] else "") for name in number]
        return "\n".join(
            [
                *self.notes,
                *lines,
                f"{len(self.runs):5d} trainings, {len(self.exist)} of them in the store, {len(self.missing)} to run",
                f"price: {self.price} of one worker; about {clock(self.price.seconds / workers)} with {workers}",
                *self._apart(),
            ]
        )

    def _apart(self) -> list[str]:
        """Of the price, what runs cost that take longer than one training of the dense network."""
        labels = dict.fromkeys(spec.label for spec in self.missing if spec.id in self.longer)
        found = []
        for label in labels:
            runs = [spec for spec in self.missing if spec.label == label]
            most = max(self.longer[spec.id] for spec in runs)
            number = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
            each = f"each about {most:.3g} trainings of the dense network"
            found.append(f"of it {label}: {self._of(runs)} ({number}, {each})")
        return found


def planned(
    causes: Causes,
    methods: Sequence[tuple[Method, MethodPlan]],
    arms: Sequence[Arm],
    seeds: Sequence[int],
    control_levels: Sequence[int] | None = None,
) -> Iterator[RunSpec]:
    """Yield the spec of every run of a study.

    Args:
        causes: what its runs have in common.
        methods: each with how many levels its tickets have, and which is its primary one.
        arms: the controls.
        seeds: the dense training of a seed is shared by all methods.
        control_levels: where the controls are run besides the primary level; None: at all levels. Controls that are
            run at the primary level alone say so themselves.
    """
    for seed in seeds:
        yield causes.spec(None, seed, 0, None, 0)
        for method, plan in methods:
            for level in range(1, len(plan.densities)):
                yield causes.spec(method.label, seed, level, None, 0)
                for own in method.own_arms(level):
                    yield causes.spec(method.label, seed, level, own.label, 0)
                everywhere = control_levels is None or level in control_levels
                for arm in (arm for arm in arms if arm.label not in plan.left_out):
                    if level == plan.primary or (everywhere and not primary_only(arm)):
                        for replicate in range(arm.replicates):
                            yield causes.spec(method.label, seed, level, arm.label, replicate)


LOOKED_AT = 1000
"""Examples of a split that are evaluated to see how fast that is."""


def price_of_one(task: Task, recipe: Recipe, store: Store | None = None, known: Sequence[str] = ()) -> Budget:
    """What one training costs: FLOPs counted, seconds from finished runs where there are some, else from a short trial.

    The trial is a few training steps and one evaluation on this machine, by one thread, thrown away.
    """
    flops = (
        cost(task.fresh(0), task.example_inputs()).training_flops
        * min(recipe.batch_size, len(task.data.train))
        * recipe.steps
    )
    rows = [
        row for run in known[:20] if store is not None and (row := store.row(run)) is not None and row.train_flops > 0
    ]
    if rows:
        return Budget(flops, sum(row.seconds for row in rows) / len(rows))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, steps = task.at_start(0), min(20, recipe.steps)
        warm = steps // 4  # the first steps also pay for one-off preparations
        trial = (task.loop or train)(model, task.data, task.loss_of, recipe, 0, sorted({warm, steps}), 0)
        next(trial)
        began = time.perf_counter()
        next(trial, None)
        per_step = (time.perf_counter() - began) / (steps - warm)
        per_evaluation = 0.0
        for split in (task.data.validation, task.data.test):
            looked_at = min(len(split), LOOKED_AT)
            began = time.perf_counter()
            evaluate(
                model, task, split, replace(recipe, eval_batch_size=min(recipe.eval_batch_size, looked_at)), looked_at
            )
            per_evaluation += (time.perf_counter() - began) * len(split) / looked_at
    except Exception as error:  # whatever the user's model, loss or data raise
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ValueError(f"task {task.name!r} fails after a few steps of training: {told}") from error
    finally:
        torch.set_num_threads(threads)
    return Budget(flops, per_step * recipe.steps + per_evaluation * len(recipe.evaluations()))
