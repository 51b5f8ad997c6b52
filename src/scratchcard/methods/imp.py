"""Iterative magnitude pruning: train, cut the smallest weights, rewind the rest, repeat (Frankle & Carbin 2019).

Source: The Lottery Ticket Hypothesis, section 1 and Strategy 1 of App. B ("resetting"); rewinding to a step k > 0 is
Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis. What the paper leaves open: every round
trains on the same data order; the optimizer starts fresh; biases and normalisation are never cut and rewind with the
weights; ties are broken by position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from scratchcard.masks.schedule import rounds
from scratchcard.masks.select import Scope, select
from scratchcard.methods.ticket import Dense, Ticket, Train
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.weights import Kind, Weight, list_weights, whole
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.words import unknown


@dataclass(frozen=True)
class IMP:
    """Tickets of levels 1 ... `rounds`, each cut from the trained ticket of the level before."""

    # how far to go does not change what is found on the way there: more rounds reuse the trainings of fewer
    rounds: int = field(default=10, metadata={"identity": False})
    rate: float | Mapping[str, float] = 0.2
    """Fraction of the surviving weights removed per round: one for all, or per kind of layer, e.g.
    {"conv": 0.1, "linear": 0.2, "output": 0.1}; kinds left out are kept whole."""
    scope: Scope = "layer"
    """"layer": each layer loses its own fraction; "global": the smallest weights of all layers together."""
    rewind: int = 0
    """The step k that survivors are rewound to; 0 resets them to their initialisation."""
    one_shot: bool = False
    """Reach every level in one step from the trained dense network, at the same densities."""
    keep: tuple[str, ...] = ()
    """Names, patterns or kinds of weights to keep whole: ("output", "*.shortcut.*")."""
    also: tuple[str, ...] = ()
    """Names or patterns of weights to cut although scratchcard would keep them."""
    units: Literal["weights"] = "weights"
    """What is cut: single weights."""

    def __post_init__(self) -> None:
        """Refuse hyper-parameters that mean nothing.

        Raises:
            ValueError: naming the field, what was seen and what is needed.
        """
        if self.rounds < 1:
            raise ValueError(f"IMP needs at least one round, got rounds={self.rounds}")
        if self.scope not in ("layer", "global"):
            raise ValueError(unknown("scope", self.scope, ("layer", "global")))
        if self.units != "weights":
            raise ValueError(unknown("unit to cut", self.units, ("weights",)))
        if self.rewind < 0:
            raise ValueError(f"IMP rewinds to a step of the training, 0 or later; got rewind={self.rewind}")
        rates = self.rate.values() if isinstance(self.rate, Mapping) else [self.rate]
        if not all(0 < rate < 1 for rate in rates):
            raise ValueError(
                f"IMP removes a fraction between 0 and 1 of the surviving weights per round; got rate={self.rate}"
            )
        for kind in self.rate if isinstance(self.rate, Mapping) else ():
            if kind not in get_args(Kind):
                raise ValueError(unknown("kind of weight", kind, get_args(Kind)))
        if self.scope == "global" and isinstance(self.rate, Mapping):
            raise ValueError("a global ranking has one rate for all layers; give rate=0.2 or scope='layer'")

    @property
    def label(self) -> str:
        """Short name in rows: "imp", then "-one-shot", "-global", "-rewind-K" where not the default."""
        return (
            "imp"
            + ("-one-shot" if self.one_shot else "")
            + ("-global" if self.scope == "global" else "")
            + (f"-rewind-{self.rewind}" if self.rewind else "")
        )

    def check(self, task: Task, recipe: Recipe) -> None:
        """Refuse a rewinding step outside the training, or one where no training was seen.

        Raises:
            ValueError: as said; also what `list_weights` raises about `keep` and `also`.
        """
        if self.rewind >= recipe.steps:
            raise ValueError(
                f"IMP(rewind={self.rewind}) must rewind to a step before the end of training at {recipe.steps}"
            )
        if self.rewind and task.start is not None:
            raise ValueError(
                f"IMP(rewind={self.rewind}) needs the dense training, Task(start=...) brings only its end; use rewind=0"
            )
        self.weights(task)

    def densities(self, task: Task) -> list[float]:
        """Density at every level, exact: kept / all weights."""
        found = self.weights(task)
        total = sum(weight.size for weight in found)
        fixed = sum(weight.size for weight in found if not weight.prunable)
        return [
            1.0,
            *((fixed + (keep if isinstance(keep, int) else sum(keep.values()))) / total for keep in self._keeps(found)),
        ]

    def find(self, task: Task, recipe: Recipe, seed: int, train: Train) -> Iterator[Ticket]:
        """Yield the tickets of levels 1, 2, ..., training each (but the last) once it has been taken."""
        found = self.weights(task)
        prunable = tuple(weight.name for weight in found if weight.prunable)
        everything = whole(found)
        dense = Ticket(None, seed, 0, MaskedWeights(everything), prunable)
        # the rewinding point is asked for together with the end, so that one dense training serves both
        *_, end = [snapshot.state() for snapshot in train(dense, sorted({self.rewind, recipe.steps}))]
        mask = everything
        for level, keep in enumerate(self._keeps(found), start=1):
            magnitude = {name: end[name].abs() for name in prunable}
            mask = select(magnitude, keep, within=everything if self.one_shot else mask)
            ticket = Ticket(self, seed, level, MaskedWeights(mask), prunable, Dense(self.rewind), self.rewind)
            yield ticket
            if not self.one_shot and level < self.rounds:
                *_, end = [snapshot.state() for snapshot in train(ticket, (recipe.steps,))]

    def weights(self, task: Task) -> list[Weight]:
        """What it would cut in this task's network and what not, and why.

        Raises:
            ValueError: none of the rates is for a kind of weight that this network has.
        """
        found = list_weights(task.fresh(0), task.example_inputs(), self.keep, self.also)
        if not isinstance(self.rate, Mapping):
            return found
        if not any(weight.prunable and weight.kind in self.rate for weight in found):
            kinds = sorted({weight.kind for weight in found if weight.prunable})
            raise ValueError(
                f"IMP's rates are for {', '.join(self.rate)}, but what can be cut in this network is of kind "
                + ", ".join(kinds)
            )
        return [
            replace(weight, prunable=False, reason=f"the method has no rate for kind {weight.kind!r}")
            if weight.prunable and weight.kind not in self.rate
            else weight
            for weight in found
        ]

    def _keeps(self, found: list[Weight]) -> Iterator[dict[str, int] | int]:
        sizes = {weight.name: weight.size for weight in found if weight.prunable}
        rate = self.rate
        rates = {w.name: rate[w.kind] if isinstance(rate, Mapping) else rate for w in found if w.prunable}
        return rounds(sizes, rates, self.scope, self.rounds)
