"""A study: a task, a recipe, methods, controls and seeds - declared, priced, run, and read back as rows."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from scratchcard.methods.arms import ARMS, PAPER, RETHINKING, USUAL, UniformWidth
from scratchcard.methods.budgets import DenseLonger, ScratchB
from scratchcard.methods.fit import ONE_DRAW, level_near, refusal, uniform_already
from scratchcard.methods.imp import IMP
from scratchcard.methods.ticket import Arm, Method, TooShort
from scratchcard.row import LONGER, VERSION, MethodPlan, Origin, Rows, StudySpec
from scratchcard.study.execute import Trainings, plain_fields
from scratchcard.study.limits import check_kinds, check_size, check_workers, chosen_seeds
from scratchcard.study.notes import about_frozen, about_margin, about_other_data, about_task
from scratchcard.study.plan import Plan, planned, price_of_one
from scratchcard.study.progress import Progress
from scratchcard.study.proofs import KeptProofs
from scratchcard.study.spec import Causes, RunSpec
from scratchcard.study.store import Store
from scratchcard.study.workers import run_study
from scratchcard.training.constant import constant_metric, distance_to_right
from scratchcard.training.data import InMemory
from scratchcard.training.fits import check_fits
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.words import unknown


@dataclass(frozen=True)
class Study:
    """Is there a smaller network as good as this one, and why? `Study(task, recipe).run()`."""

    task: Task
    recipe: Recipe = field(default_factory=Recipe)
    methods: Sequence[Method] = (IMP(),)
    arms: Sequence[Arm | str] | str = "usual"
    """Controls, as objects or by their label in `ARMS`; "usual" for fresh weights and random masks, or, of tickets that
    inherit trained weights, what trains their architecture from scratch, and for the dense network trained for as many
    operations as the search; "paper" for those of Frankle & Carbin, "rethinking" for those of Liu et al., "all" for
    every one that fits the task. Dense network and tickets are always run."""
    control_levels: Sequence[int] | None = None
    """The levels at which controls are run besides each method's primary one; None: at all levels."""
    seeds: int | Sequence[int] = 5
    """How many (0, 1, ...), or which."""
    margin: float | None = None
    """How much worse still counts as matching: in the metric's unit (default 0.005) for shares such as accuracy, as a
    fraction of the dense mean for anything else. The default there is in the metric's unit: 1 % of what a constant
    predictor reaches on validation, or, where higher is better, of how far that is from right outputs; 1 % of the dense
    mean where that cannot be calculated."""
    primary: float = 0.2
    """The verdict is about each method's level of the density nearest to this; other levels are descriptive."""
    measure: Literal["end", "early_stop"] = "end"
    """Where in a run the test metric is read."""
    store: str | Path = "runs"
    name: str = ""
    """Of the study, in reports; the task's name when empty."""
    command: str = ""
    """What to type to run it again; made up when empty."""

    _proofs: KeptProofs = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be studied.

        Raises:
            ValueError: no seeds or methods, a name that is not known, a margin or density out of range.
        """
        for name, kind in (("task", Task), ("recipe", Recipe)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(
                    f"a study's {name} must be sc.{kind.__name__}, got {type(getattr(self, name)).__name__}"
                )
        check_kinds(self)
        object.__setattr__(self, "_proofs", KeptProofs(self.store))
        self.task.proved_in(self._proofs)
        presets = {"usual": (*USUAL, *RETHINKING, LONGER), "paper": PAPER, "rethinking": RETHINKING, "all": tuple(ARMS)}
        whichever_fit = self.arms in ("all", "usual", "rethinking")
        usual = self.arms == "usual"
        if isinstance(self.arms, str) and self.arms in presets:
            object.__setattr__(self, "arms", presets[self.arms])
        for name in ("methods", "arms"):
            if not isinstance(getattr(self, name), list | tuple):
                raise ValueError(f"a study's {name} must be a list, e.g. [sc.IMP()], got {getattr(self, name)!r}")
        object.__setattr__(self, "seeds", chosen_seeds(self.seeds))
        for arm in self.arms:
            if isinstance(arm, str) and arm not in ARMS:
                raise ValueError(unknown("control", arm, (*ARMS, *presets)))
        object.__setattr__(self, "arms", tuple(ARMS[arm] if isinstance(arm, str) else arm for arm in self.arms))
        object.__setattr__(self, "methods", tuple(self.methods))
        for kind, labels in (
            ("method", [m.label for m in self.methods]),
            ("control", [a.label for a in self.controls]),
        ):
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(
                    f"each {kind} of a study needs a label of its own, but several are called {', '.join(twice)}; "
                    "run them as two studies in one store"
                )
        if not self.methods:
            raise ValueError("a study needs at least one method, e.g. methods=[sc.IMP()]")
        if usual:
            inherited = [method.origin.trained for method in self.methods]
            chosen = {LONGER, *(RETHINKING if any(inherited) else ()), *(() if all(inherited) else USUAL)}
            object.__setattr__(self, "arms", tuple(arm for arm in self.controls if arm.label in chosen))
        if self.control_levels is not None:
            object.__setattr__(self, "control_levels", tuple(self.control_levels))
            if not all(isinstance(level, int) and level >= 1 for level in self.control_levels):
                raise ValueError(
                    f"control_levels are numbers of pruning rounds, 1 or higher; got {list(self.control_levels)}"
                )
        check_size(self._seeds, self.methods, self.controls)
        fitting = {a.label for a in self.controls for m in self.methods if not self._refusal(a, m)}
        idle = [arm for arm in self.controls if arm.label not in fitting]
        # that the factory has one draw alone is said of the study, and refuses no control that was asked for
        if idle and not whichever_fit and not self.task.one_draw:
            raise ValueError(
                f"the control {idle[0].label} cannot be run on any method of this study: "
                f"{self._refusal(idle[0], self.methods[0])}; leave it out"
            )
        if not self.task.one_draw:
            object.__setattr__(self, "arms", tuple(arm for arm in self.controls if arm.label in fitting))
        if not 0 < self.primary <= 1:
            raise ValueError(
                f"a density is the share of weights kept, above 0 and at most 1; got primary={self.primary}"
            )
        if self.margin is not None and not 0 < self.margin < 1:
            raise ValueError(
                f"a margin is the loss that still counts as matching, above 0 and below 1; got margin={self.margin}"
            )
        if self.measure not in ("end", "early_stop"):
            raise ValueError(unknown("measure", self.measure, ("end", "early_stop")))

    @property
    def _seeds(self) -> tuple[int, ...]:
        return self.seeds if isinstance(self.seeds, tuple) else tuple(range(int(self.seeds)))  # pyright: ignore[reportArgumentType]

    @property
    def controls(self) -> tuple[Arm, ...]:
        """The controls as objects."""
        return tuple(arm for arm in self.arms if not isinstance(arm, str))

    @cached_property
    def causes(self) -> Causes:
        """The identity of what its runs have in common: the task's code and data, recipe, methods, controls."""
        return Causes.of(self.task, self.recipe, self.methods, self.controls)

    @cached_property
    def able(self) -> tuple[Method, ...]:
        """The methods that the recipe is long enough for; where that is none, all of them, and `check` refuses them."""
        if len(self.methods) == 1:
            return tuple(self.methods)
        return tuple(m for m in self.methods if not isinstance(self._checked[m.label], TooShort)) or tuple(self.methods)

    @cached_property
    def _checked(self) -> dict[str, ValueError | None]:
        """What every method has against this task and recipe."""
        found: dict[str, ValueError | None] = dict.fromkeys(method.label for method in self.methods)
        for method in self.methods:
            try:
                method.check(self.task, self.recipe)
            except ValueError as error:
                found[method.label] = error
        return found

    @cached_property
    def spec(self) -> StudySpec:
        """What is declared before anything runs."""
        metric = self.task.measured_by
        margin, kind = self._declared_margin
        methods = {}
        for method in self.able:
            primary = level_near(method, self.task, self.primary)
            # of those that "better" needs it is always said why they cannot be run
            needed = [DenseLonger(), *([UniformWidth()] if method.units != "weights" else [])]
            arms = {arm.label: arm for arm in (*needed, *self.controls)}
            methods[method.label] = MethodPlan(
                fields=_json(plain_fields(method)),
                densities=method.densities(self.task),
                primary=primary,
                uniform=uniform_already(method, self.task, primary),
                origin=method.origin if self.task.start is None or method.origin.trained else Origin(weights="given"),
                left_out={label: why for label, arm in arms.items() if (why := self._refusal(arm, method))},
            )
        controls = self.controls
        if len(self.able) < len(self.methods):  # those of a method that is left out alone are not run either
            controls = [a for a in controls if not all(a.label in plan.left_out for plan in methods.values())]
        own = list(dict.fromkeys(arm.label for method in self.able for arm in method.own_arms(1)))
        test = self.task.data.test
        return StudySpec(
            version=VERSION,
            name=self.name or self.task.name,
            task=self.task.name,
            task_digest=self.causes.task,
            data=self.task.data.describe(),
            data_digest=self.causes.data,
            metric=metric.name,
            higher_is_better=metric.higher_is_better,
            metric_is_fraction=metric.fraction,
            test_examples=len(test),
            test_targets=self.task.data.test_targets,
            resolution=1 / self.task.data.test_targets if metric.fraction else 0.0,
            loss=self.task.loss if isinstance(self.task.loss, str) else getattr(self.task.loss, "__name__", "own loss"),
            dense_given=self.task.start is not None,
            constant=constant_metric(self.task, test, self.recipe) if isinstance(test, InMemory) else None,
            one_draw=self.task.one_draw,
            recipe=_json(self.recipe.fields()),
            methods=methods,
            planned=len(self._planned(methods)),
            control_levels=None if self.control_levels is None else list(self.control_levels),
            arms=["dense", "ticket", *own, *(arm.label for arm in controls)],
            replicates={arm.label: arm.replicates for arm in controls},
            seeds=list(self._seeds),
            measure=self.measure,
            margin=margin,
            margin_kind=kind,
            command=self.command or f"scratchcard.Study(...).run()  # of task {self.task.name!r}",
        )

    def check(self) -> None:
        """Try everything that can be known to fail before the first training.

        Raises:
            ValueError: one batch does not fit through model, loss and metric, or a method cannot work on this task.
        """
        check_fits(self.task, self.recipe)
        for method in self.able:
            if (error := self._checked[method.label]) is not None:
                raise error

    def plan(self) -> Plan:
        """What would run and what it costs; nothing is written, and trained only for a second to see the speed."""
        self.check()
        specs = self._specs()
        store = Store(self.store) if (Path(self.store) / "store.json").exists() else None
        exist = frozenset(() if store is None else store.settled(specs))
        longer = self._longer(specs)
        each = price_of_one(self.task, self.recipe, store, sorted(exist - longer.keys()))
        return Plan(tuple(specs), exist, each, longer, self.notes(store))

    def notes(self, store: Store | None = None) -> list[str]:
        """What a person should know before anything is trained, as sentences."""
        found = [
            f"{method.label} is left out: {self._checked[method.label]}"
            for method in self.methods
            if method not in self.able
        ]
        if self.task.one_draw:
            reasons = [pair for plan in self.spec.methods.values() for pair in plan.left_out.items()]
            left = sorted({arm for arm, why in reasons if why == ONE_DRAW})
            found.append(
                f"The model factory of task {self.task.name!r} gives the same weights under every seed (does it seed "
                "itself, or return one object?): seeds differ in the order of the data alone, and fresh weights would "
                "be the same weights" + (f", so that these controls are left out: {', '.join(left)}." if left else ".")
            )
        if store is not None and (older := store.older()):
            found.append(
                f"The store {store.folder} has {older} run{'s' if older > 1 else ''} of an earlier version of "
                "scratchcard: they stay and can be reported, but what controls, crops and scores are has changed, so "
                "none of them is taken for a run of this study."
            )
        found += [*about_task(self.task), *about_frozen(self.task, self.able), *about_margin(self.spec, self.margin)]
        return found if store is None else [*found, *about_other_data(self.task, self.spec, store)]

    @property
    def _declared_margin(self) -> tuple[float, Literal["absolute", "relative"]]:
        """The margin with its kind: never a result, unless it cannot be told beforehand."""
        if self.task.measured_by.fraction:
            return (0.005 if self.margin is None else self.margin), "absolute"
        validation = self.task.data.validation
        if self.margin is None and isinstance(validation, InMemory):
            distance = distance_to_right(self.task, validation, self.recipe)
            if distance is not None:
                return float(f"{0.01 * distance:.3g}"), "absolute"  # the last digits depend on the machine
        return (0.01 if self.margin is None else self.margin), "relative"

    def _longer(self, specs: Sequence[RunSpec]) -> dict[str, float]:
        """Of runs that take longer than one training of the dense network: about how many of these each is worth."""
        methods, arms = {m.label: m for m in self.methods}, {a.label: a for a in self.controls}
        found = {}
        for spec in specs:
            arm = None if spec.arm is None else arms.get(spec.arm.label)
            if spec.method is None or not isinstance(arm, DenseLonger | ScratchB):
                continue
            method, plan = methods[spec.method.label], self.spec.methods[spec.method.label]
            searched = method.search_steps(self.recipe, spec.level) / self.recipe.steps
            # a small network needs fewer operations a step, masked weights count as dense ones
            share = plan.densities[spec.level] if method.units == "weights" else 1.0
            worth = arm.trainings(searched, share)
            if worth > 1:
                found[spec.id] = worth
        return found

    def _refusal(self, arm: Arm, method: Method) -> str:
        return refusal(arm, method, self.task, self.recipe, self.primary)

    def run(self, workers: int | None = None, progress: bool = True) -> Rows:
        """Run what is not in the store yet, and return all rows of the study.

        Safe to interrupt or kill at any moment: what is finished stays, and the same call continues.

        Args:
            workers: processes of one thread each, each with its own copy of the data; 1 runs in this process;
                None: as many as there are cores.
            progress: show runs done and the time left.

        Raises:
            ValueError: as `check`; also when the store cannot be used.
        """
        workers = check_workers(cores() if workers is None else workers)
        self.check()
        store = Store(self.store)
        store.clear_leftovers()
        self._proofs.write()
        specs = self._specs()
        store.write_study(self._id, self.spec, [spec.id for spec in specs])
        with Progress(len(specs), show=progress) as shown:
            for sentence in self.notes(store):
                if progress:
                    shown.note(sentence)
                else:
                    warnings.warn(sentence, stacklevel=2)
            run_study(self, store, specs, workers, shown)
        return self.rows()

    def rows(self) -> Rows:
        """The study's rows that are in the store now, in the order of the plan."""
        store = Store(self.store, create=False)
        found = [row for spec in self._specs() if (row := store.row(spec.id)) is not None]
        return Rows(found, self.spec, str(self.store), self)

    def trainings(self, store: Store) -> Trainings:
        """The study's trainings, backed by a store."""
        return Trainings(self.task, self.recipe, store, self.causes)

    def _specs(self) -> list[RunSpec]:
        return self._planned(self.spec.methods)

    def _planned(self, plans: Mapping[str, MethodPlan]) -> list[RunSpec]:
        methods = [(method, plans[method.label]) for method in self.able]
        return list(planned(self.causes, methods, self.controls, self._seeds, self.control_levels))

    @property
    def _id(self) -> str:
        # what a constant predictor reaches is no choice, and depends on the machine in its last digit; the digest of
        # the data is in the task's
        declared = self.spec.model_dump(exclude={"command", "constant", "data_digest"})
        return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()[:24]


def cores() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read(folder: str | Path) -> list[Rows]:
    """The studies of a store with their rows, the latest study first; no task code is needed for it.

    Raises:
        StoreError: the folder is no store, or something in it is damaged.
    """
    return Store(folder, create=False).studies()


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value))
