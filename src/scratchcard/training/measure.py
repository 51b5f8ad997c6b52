"""One training with its measurements: curves, the early-stop point found afterwards, the end."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from torch import nn

from scratchcard.networks.forward import read_state
from scratchcard.row import Curve, Point
from scratchcard.training.besides import check_heard
from scratchcard.training.clock import clock
from scratchcard.training.evaluate import evaluate
from scratchcard.training.loop import placed, train
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Snapshot

TRAIN_METRIC_EXAMPLES = 10_000
"""At most so many training examples are looked at for the training metric at the end."""
CENSORED_TAIL = 0.05
"""An early-stop step in the last 5 % of a run is censored: the minimum may lie beyond the run's end."""


class Diverged(Exception):
    """A training's loss was no longer a finite number."""


class Measurement:
    """Train and measure: iterate `snapshots`, then read the curve, the two points and the training metric."""

    def __init__(self, task: Task, recipe: Recipe, seed: int, start: int = 0) -> None:
        self._task, self._recipe, self._seed, self._start = task, recipe, seed, start
        self._steps: list[int] = []
        self._train_loss: list[float | None] = []
        self._validation_loss: list[float] = []
        self._test_metric: list[float] = []
        self.train_metric: float | None = None
        self.training_seconds: float | None = None
        """Of the steps alone, evaluation left out; see `training.clock`. None where nothing was to be trained."""

    def snapshots(self, model: nn.Module, stops: Collection[int]) -> Iterator[Snapshot]:
        """Train the model in place, measure at every evaluation of the recipe, and yield at `stops`.

        Raises:
            Diverged: training or validation loss is not finite; the curve so far stands.
            ValueError: a loop of the user's own leaves out what the recipe asks for.
        """
        task, recipe = self._task, self._recipe
        looks = recipe.evaluations(self._start)
        loop, now = task.loop or train, clock(recipe.device)
        self.training_seconds, began = 0.0, now()
        for snapshot in loop(model, task.data, task.loss_of, recipe, self._seed, sorted({*looks, *stops}), self._start):
            self.training_seconds = round(self.training_seconds + now() - began, 6)
            check_heard(snapshot, recipe, self._start, task.name)
            if snapshot.train_loss is not None and not math.isfinite(snapshot.train_loss):
                raise Diverged(f"the training loss was {snapshot.train_loss} by step {snapshot.step}")
            if snapshot.step in looks:
                self._look(model, snapshot, last=snapshot.step == recipe.steps)
            if snapshot.step in stops:
                yield snapshot
            began = now()

    def without_training(self, model: nn.Module) -> Iterator[Snapshot]:
        """Measure a model that was trained elsewhere; it is yielded as its own start and end."""
        placed(model, self._recipe)
        self._look(model, Snapshot(0, None, lambda: read_state(model)), last=True)
        for step in (0, self._recipe.steps):
            yield Snapshot(step, None, lambda: read_state(model))

    def _look(self, model: nn.Module, snapshot: Snapshot, last: bool) -> None:
        data, recipe = self._task.data, self._recipe
        validation_loss, _ = evaluate(model, self._task, data.validation, recipe)
        _, test_metric = evaluate(model, self._task, data.test, recipe)
        if not (math.isfinite(validation_loss) and math.isfinite(test_metric)):
            raise Diverged(
                f"the validation loss was {validation_loss} and the test metric {test_metric} at step {snapshot.step}"
            )
        self._steps.append(snapshot.step)
        self._train_loss.append(snapshot.train_loss)
        self._validation_loss.append(validation_loss)
        self._test_metric.append(test_metric)
        if last:
            _, seen = evaluate(model, self._task, data.train, recipe, limit=TRAIN_METRIC_EXAMPLES)
            self.train_metric = seen if math.isfinite(seen) else None

    @property
    def curve(self) -> Curve:
        """Everything measured so far."""
        return Curve(
            steps=self._steps,
            train_loss=self._train_loss,
            validation_loss=self._validation_loss,
            test_metric=self._test_metric,
        )

    @property
    def early_stop(self) -> Point | None:
        """The evaluation with the lowest validation loss, the first of equals (Frankle & Carbin 2019, App. C).

        Its test metric is read there, never used to choose. Censored in the last 5 % of the training.
        """
        if not self._steps:
            return None
        at = min(range(len(self._steps)), key=self._validation_loss.__getitem__)
        tail_begins = self._recipe.steps - CENSORED_TAIL * (self._recipe.steps - self._start)
        return self._point(at, censored=self._steps[at] > tail_begins)

    @property
    def end(self) -> Point | None:
        """The last evaluation."""
        return self._point(-1) if self._steps else None

    def _point(self, at: int, censored: bool = False) -> Point:
        return Point(
            step=self._steps[at],
            validation_loss=self._validation_loss[at],
            test_metric=self._test_metric[at],
            censored=censored,
        )
