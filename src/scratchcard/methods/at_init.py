"""Pruning at initialisation: score the untrained network, cut, then train once - SNIP, GraSP, SynFlow, and what they
have to beat.

Sources as in `training/scores.py`; the comparison is that of Frankle et al. 2021, Pruning Neural Networks at
Initialization: Why Are We Missing the Mark? Every level is cut anew from the whole network, to the densities that
iterative pruning with the same rates would have there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from math import ceil, inf
from typing import get_args

import torch
from torch import nn

from scratchcard.fields import check_fields
from scratchcard.masks.schedule import Share
from scratchcard.masks.select import inverted, select
from scratchcard.methods.levels import Keep, Rate, check_rates, cuttable, densities, keeps
from scratchcard.methods.ticket import Dense, Ticket, Train
from scratchcard.networks.cost import cost
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.weights import Weight, whole
from scratchcard.row import Origin
from scratchcard.training.recipe import Recipe
from scratchcard.training.scores import MODES, SCORES, Look, Mode
from scratchcard.training.task import Task
from scratchcard.types import Scores, WeightMask
from scratchcard.words import unknown

_NAMES = {"magnitude": "magnitude-at-init", "random": "random-at-init"}
_USUAL: dict[str, Share] = {"magnitude": "layer", "random": "layer"}
_PASSES = {"snip": 1, "grasp": 4, "synflow": 1}
"""Forward and backward passes per example; a backward pass through a backward pass is about two more."""


@dataclass(frozen=True)
class AtInit:
    """Tickets of levels 1 ... `rounds`, found by a score before anything is trained.

    A trained model that was given (`Task.start`) is scored as it is.
    """

    score: str
    """A key of `SCORES`: "magnitude", "snip", "grasp", "synflow", "random"."""
    rounds: int = field(default=10, metadata={"identity": False})
    rate: Rate = 0.2
    """As of `IMP`: it sets the density of every level."""
    scope: Share | None = None
    """How a level's weights are shared among layers: "layer" (each by its own rate), "global" (by the scores),
    "uniform", "erk"; None: as the score's paper has it ("layer" for magnitude and random, else "global")."""
    iterations: int | None = None
    """Score and cut so many times on the way to a level, at densities that fall exponentially; None: 100 for SynFlow
    (its paper's), else 1."""
    examples: int = 512
    """Training examples that SNIP and GraSP look at, rounded to whole batches."""
    mode: Mode | None = None
    """The network's mode as they look: "inference" (batch normalisation by its running statistics, no dropout) or
    "train"; None: as in their authors' code ("inference" for SNIP, "train" for GraSP)."""
    temperature: float | None = None
    """What GraSP divides the network's outputs by before the loss; None: the published 200 for "cross_entropy" and
    "next_token", 1 for any other loss, whose outputs need not be logits."""
    keep: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    """As of `IMP`."""

    def __post_init__(self) -> None:
        """Refuse hyper-parameters that mean nothing.

        Raises:
            ValueError: naming the field, what was seen and what is needed.
        """
        check_fields(self)
        if self.score not in SCORES:
            raise ValueError(unknown("score", self.score, SCORES))
        object.__setattr__(self, "scope", self.scope or _USUAL.get(self.score, "global"))
        if self.iterations is None:
            object.__setattr__(self, "iterations", 100 if self.score == "synflow" else 1)
        for name in ("iterations", "examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"AtInit needs {name} of at least 1, got {name}={getattr(self, name)}")
        if self.mode is not None and self.score not in MODES:
            raise ValueError(
                f"AtInit needs a mode only for {' and '.join(MODES)}, which look at examples, got mode={self.mode!r} "
                f"for {self.score}"
            )
        object.__setattr__(self, "mode", self.mode or MODES.get(self.score))
        if self.mode not in (None, *get_args(Mode)):
            raise ValueError(unknown("mode", self.mode, get_args(Mode)))
        if self.temperature is not None:
            if self.score != "grasp":
                raise ValueError(
                    f"AtInit needs a temperature only for grasp, got temperature={self.temperature} for {self.score}"
                )
            if not 0 < self.temperature < inf:
                raise ValueError(f"AtInit needs a positive temperature, got temperature={self.temperature}")
            object.__setattr__(self, "temperature", float(self.temperature))
        check_rates("AtInit", self.rounds, self.rate, self._share)

    @property
    def _share(self) -> Share:
        assert self.scope is not None, "the usual scope was filled in"
        return self.scope

    @property
    def look(self) -> Look:
        """How its score looks at examples."""
        return Look(self.examples, self.mode, self.temperature)

    @property
    def label(self) -> str:
        """Short name in rows: "snip", "magnitude-at-init"; then whatever is unusual of the score, and the limits."""
        usual = AtInit(self.score)
        return (
            _NAMES.get(self.score, self.score)
            + (f"-{self.scope}" if self.scope != usual.scope else "")
            + (f"-iterations-{self.iterations}" if self.iterations != usual.iterations else "")
            + (f"-{self.mode}" if self.mode != usual.mode else "")
            + (f"-temperature-{self.temperature:g}" if self.temperature is not None else "")
            + (f"-only-{'-'.join(self.only)}" if self.only else "")
        )

    units = "weights"
    origin = Origin(weights="initial")

    def own_arms(self, level: int) -> tuple[()]:
        """None: nothing is trained to find its tickets."""
        return ()

    def check(self, task: Task, recipe: Recipe) -> None:
        """Refuse a network in which nothing can be cut, or where the score cannot be calculated or says nothing.

        Raises:
            ValueError: as said.
        """
        found = self.weights(task)
        quick = replace(self, examples=recipe.batch_size)
        try:
            scores = quick._scores(task.at_start(0), whole(found), _names(found), task, recipe, 0)
        except RuntimeError as error:  # e.g. a layer that can be differentiated once only
            raise ValueError(
                f"the {self.score} score cannot be calculated in the network of task {task.name!r} "
                f"({' '.join(str(error).split())[:300]}); use another score"
            ) from error
        wrong = sorted(name for name, score in scores.items() if not bool(torch.isfinite(score).all()))
        if wrong:
            raise ValueError(
                f"the {self.score} score of {', '.join(wrong)} is not finite in the network of task {task.name!r}; "
                "use another score, or look at its initialisation"
            )
        if not any(bool(score.any()) for score in scores.values()):
            raise ValueError(
                f"the {self.score} score of every weight is 0 in the network of task {task.name!r}, so there is "
                "nothing to choose by (does its last layer start from zero?); use another score or initialisation"
            )

    def dense_steps(self, recipe: Recipe) -> set[int]:
        """Steps of the dense training that are worth keeping: its end, to see how far weights travelled."""
        return {recipe.steps}

    def search_steps(self, recipe: Recipe, level: int) -> int:
        """What scoring costs, in steps of a training."""
        return ceil(self._passes / recipe.batch_size)

    def widths(self, task: Task, level: int) -> None:
        """It cuts no units."""
        return

    def weights(self, task: Task) -> list[Weight]:
        """What it would cut in this task's network and what not, and why."""
        return cuttable("AtInit", task, self.rate, self.keep, self.also, self.only)

    def densities(self, task: Task) -> list[float]:
        """Density at every level, exact: kept / all weights."""
        found = self.weights(task)
        return densities(found, keeps(found, self.rate, self._share, self.rounds))

    def find(self, task: Task, recipe: Recipe, seed: int, train: Train) -> Iterator[Ticket]:
        """Yield the tickets of levels 1, 2, ...; nothing is trained to find them."""
        found = self.weights(task)
        prunable = _names(found)
        everything = whole(found)
        model = task.at_start(seed)
        first = self._scores(model, everything, prunable, task, recipe, seed)
        price = self._price(task)
        for level, keep in enumerate(keeps(found, self.rate, self._share, self.rounds), start=1):
            mask = self._cut(model, everything, first, prunable, keep, task, recipe, seed)
            yield Ticket(
                self,
                seed,
                level,
                MaskedWeights(mask),
                prunable,
                Dense(0),
                inverse=inverted(first, mask, everything),
                scoring_flops=price,
            )

    def _cut(
        self,
        model: nn.Module,
        everything: WeightMask,
        first: Scores,
        prunable: Collection[str],
        keep: Keep,
        task: Task,
        recipe: Recipe,
        seed: int,
    ) -> WeightMask:
        """The mask of one level, by so many rounds of scoring and cutting (Tanaka et al. 2020, alg. 1)."""
        iterations = self.iterations or 1
        sizes = {name: everything[name].numel() for name in prunable}
        mask, scores = everything, first
        for done in range(1, iterations + 1):
            if done > 1:
                scores = self._scores(model, mask, prunable, task, recipe, seed)
            share = done / iterations

            def falling(size: int, target: int, share: float = share) -> int:
                return round(size * (target / size) ** share)

            wanted = (
                max(falling(sum(sizes.values()), keep), len(sizes))
                if isinstance(keep, int)
                else {name: max(falling(sizes[name], count), 1) for name, count in keep.items()}
            )
            mask = select(scores, wanted, within=mask)
        return mask

    def _scores(
        self, model: nn.Module, mask: WeightMask, prunable: Collection[str], task: Task, recipe: Recipe, seed: int
    ) -> Scores:
        scores = SCORES[self.score](model, mask, task, recipe, seed, self.look)
        return {name: scores[name] for name in prunable}

    def _price(self, task: Task) -> float:
        """Floating-point operations of finding one level's ticket, forward and backward."""
        return self._passes * cost(task.fresh(0), task.example_inputs()).training_flops if self._passes else 0.0

    @property
    def _passes(self) -> int:
        """Forward and backward passes of one example that finding one level's ticket takes."""
        examples = 1 if self.score == "synflow" else self.examples
        return examples * _PASSES.get(self.score, 0) * (self.iterations or 1)


def _names(found: list[Weight]) -> tuple[str, ...]:
    return tuple(weight.name for weight in found if weight.prunable)
