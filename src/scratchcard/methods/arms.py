"""The controls: what is done to a ticket before it is trained, differing from it in one thing only.

Source: Frankle & Carbin 2019: random reinitialisation (sections 2-4), random sparse networks (App. E; the paper does
not say whether its random masks keep the counts of each layer, so both are here, by name), the ticket's own
initialisations (App. F.3), noise (App. F.7). Zhou et al. 2019: signs and constants (section 4). Frankle et
al. 2021, Missing the Mark: shuffled masks and inverted scores (section 5).

Of a ticket that is rewound to step k, controls whose weights carry nothing of the steps before k train all steps from
0: they could not make up for those steps otherwise. The other reading has its own name, "-same-steps". Noise and other
places for the weights of step k go on from there, as the ticket does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from scratchcard.masks.select import Scope, shuffle
from scratchcard.methods.budgets import (
    AnotherInit,
    DenseLonger,
    FullSchedule,
    Guided,
    LotteryInit,
    ReInit,
    ScratchB,
    ScratchE,
)
from scratchcard.methods.ticket import (
    Arm,
    Dense,
    End,
    Fresh,
    Narrow,
    Redrawn,
    Scratch,
    Ticket,
    whole_training,
)
from scratchcard.networks.cost import cost
from scratchcard.networks.scaling import Scaled
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.uniform import uniform_at
from scratchcard.networks.units import SmallUnits
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive
from scratchcard.training.task import Task

_FRESH, _UNIFORM = "fresh-init", "uniform-width"
Steps = Literal["whole", "ticket"]
"""How long a control of a rewound ticket is trained: by the whole schedule from step 0, or from step k as the ticket
is."""


# how many are drawn does not change any one of them
def _draws(number: int) -> int:
    return field(default=number, metadata={"identity": False})


@dataclass(frozen=True)
class FreshInit:
    """The ticket's mask with freshly drawn weights: is it the structure alone?"""

    replicates: int = _draws(3)
    steps: Steps = "whole"

    @property
    def label(self) -> str:
        """The name in rows: "fresh-init", "fresh-init-same-steps"."""
        return _FRESH + _same(self.steps)

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with other weights, one per replicate."""
        for replicate in range(self.replicates):
            start = _fresh(ticket, seed, replicate)
            yield replace(_trained(ticket, self.steps), start=start, arm=self, replicate=replicate)


@dataclass(frozen=True)
class RandomMask:
    """As many weights at random places, freshly drawn: is it the number of weights alone?

    Against the fresh-init arm only the places differ. "layer": every layer keeps its own count; "global": only the
    total is kept.
    """

    scope: Scope = "layer"
    replicates: int = _draws(1)
    steps: Steps = "whole"

    @property
    def label(self) -> str:
        """The name in rows, which says what the mask keeps: the layers' counts, or only the total."""
        return self._places + _same(self.steps)

    @property
    def _places(self) -> str:
        return "random-mask-layerwise" if self.scope == "layer" else "random-mask-global"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with a shuffled mask and other weights, one per replicate."""
        for replicate in range(self.replicates):
            yield replace(
                _trained(ticket, self.steps),
                subnetwork=_shuffled(ticket, self.scope, derive(seed, self._places, ticket.level, replicate)),
                # the weights of the fresh-init arm, so that the two differ in the places alone
                start=_fresh(ticket, seed, replicate),
                arm=self,
                replicate=replicate,
            )


@dataclass(frozen=True)
class ShuffledMask:
    """The mask shuffled within every layer, the network's own weights at the new places: does it matter which are kept?

    Against the ticket only the places differ; against the random mask only the weights.
    """

    replicates: int = _draws(1)

    @property
    def label(self) -> str:
        """The name in rows: "shuffled-mask"."""
        return "shuffled-mask"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with a shuffled mask, one per replicate."""
        start = _untrained(ticket)
        for replicate in range(self.replicates):
            # the places of the random-mask arm, so that the two differ in the weights alone
            chance = derive(seed, "random-mask-layerwise", ticket.level, replicate)
            shuffled = _shuffled(ticket, "layer", chance)
            yield replace(ticket, subnetwork=shuffled, start=start, arm=self, replicate=replicate)


@dataclass(frozen=True)
class InvertedScores:
    """As many weights per layer, but those that the method scored lowest: does the score know anything?"""

    replicates: int = field(default=1, init=False, metadata={"identity": False})

    @property
    def label(self) -> str:
        """The name in rows: "inverted-scores"."""
        return "inverted-scores"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with the mask of its inverted scores.

        Of an iterative method they are those of its last round; of one that prunes at initialisation, those of the
        whole network.

        Raises:
            ValueError: the ticket was not found by a score.
        """
        if ticket.inverse is None:
            raise ValueError(f"a ticket of {ticket.method and ticket.method.label} has no scores to invert")
        start = _untrained(ticket)
        yield replace(ticket, subnetwork=replace(ticket.subnetwork, mask=ticket.inverse), start=start, arm=self)


@dataclass(frozen=True)
class OwnInit:
    """The ticket's mask with its own surviving initial values, layer by layer in other places: is it the distribution?

    With replacement they are drawn anew from the layer's survivors (App. F.3), without it they change places (Zhou et
    al. 2019, "reshuffle").
    """

    replacement: bool = True
    replicates: int = _draws(3)

    @property
    def label(self) -> str:
        """The name in rows: "own-init-resample" or "own-init-shuffle"."""
        return "own-init-resample" if self.replacement else "own-init-shuffle"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with its own values redrawn, one per replicate."""
        yield from _redrawn(self, ticket, seed, "resample" if self.replacement else "permute")


@dataclass(frozen=True)
class Noise:
    """The ticket with Gaussian noise of `scale` sigmas of each layer's initial weights: how exactly must they be those?

    Source: Frankle & Carbin 2019, App. F.7, with scales 0.5, 1, 2, 3.
    """

    scale: float
    replicates: int = _draws(1)

    def __post_init__(self) -> None:
        """Refuse a scale that is none."""
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"noise has a positive scale, in sigmas of a layer's initial weights; got {self.scale}")

    @property
    def label(self) -> str:
        """The name in rows, e.g. "noise-0.5"."""
        return f"noise-{self.scale:g}"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with noisy weights, one per replicate."""
        yield from _redrawn(self, ticket, seed, "noise", self.scale)


@dataclass(frozen=True)
class Signs:
    """The ticket's signs and nothing else of its weights: are the signs enough (Zhou et al. 2019, section 4)?"""

    magnitude: Literal["redrawn", "constant"] = "redrawn"
    """"redrawn": newly drawn from the layer's initialisation; "constant": sigma everywhere."""
    keep: bool = True
    """False: random signs on the constant, so that against it only the signs differ."""
    replicates: int = _draws(1)

    def __post_init__(self) -> None:
        """Refuse random signs on redrawn magnitudes: that is the fresh-init arm."""
        if self.magnitude not in ("redrawn", "constant") or (self.magnitude == "redrawn" and not self.keep):
            raise ValueError(
                f"Signs keeps them with magnitude 'redrawn' or 'constant', or draws them on 'constant'; got "
                f"magnitude={self.magnitude!r}, keep={self.keep} (random signs and magnitudes are sc.FreshInit)"
            )

    @property
    def label(self) -> str:
        """The name in rows: "sign-redrawn", "sign-constant", "random-sign-constant"."""
        return f"{'' if self.keep else 'random-'}sign-{self.magnitude}"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with other magnitudes or signs, one per replicate."""
        yield from _redrawn(self, ticket, seed, self.label)


@dataclass(frozen=True)
class UniformWidth:
    """A dense network of the same size, every layer narrower by one factor: is it the size alone?

    For tickets of whole units: every site that the method may cut, to the same multiply-accumulates, from fresh weights
    of the small network and by the study's whole recipe. For tickets of weights: to the same number of weights, by a
    model factory with a parameter `width`.
    """

    replicates: int = _draws(1)
    steps: Steps = "whole"

    @property
    def label(self) -> str:
        """The name in rows: "uniform-width", "uniform-width-same-steps"."""
        return _UNIFORM + _same(self.steps)

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield a narrow dense network in the ticket's place, one per replicate."""
        if isinstance(ticket.subnetwork, SmallUnits):
            yield from self._of_units(ticket, ticket.subnetwork, seed, task)
            return
        weights = sum(int(kept.sum()) for kept in ticket.subnetwork.mask.values())
        for replicate in range(self.replicates):
            start = Narrow(derive(seed, _UNIFORM, ticket.level, replicate), weights)
            trained = _trained(ticket, self.steps)
            yield replace(trained, subnetwork=MaskedWeights({}), start=start, arm=self, replicate=replicate)

    def _of_units(self, ticket: Ticket, small: SmallUnits, seed: int, task: Task) -> Iterator[Ticket]:
        model, inputs = task.fresh(0), task.example_inputs()
        macs = cost(small.trainable(model), inputs).macs
        narrow = replace(small, mask=uniform_at(model, small.sites, ticket.prunable, inputs, macs))
        for replicate in range(self.replicates):
            # the weights of scratch-e, so that the two differ in the widths alone
            start = Scratch(derive(seed, "scratch", ticket.level, replicate))
            trained = _trained(ticket, self.steps)
            yield replace(trained, subnetwork=narrow, start=start, arm=self, replicate=replicate)


def _same(steps: Steps) -> str:
    return "-same-steps" if steps == "ticket" else ""


def _trained(ticket: Ticket, steps: Steps) -> Ticket:
    return ticket if steps == "ticket" else whole_training(ticket)


def _fresh(ticket: Ticket, seed: int, replicate: int) -> Fresh:
    return Fresh(derive(seed, _FRESH, ticket.level, replicate))


def _shuffled(ticket: Ticket, scope: Scope, chance: int) -> MaskedWeights | SmallUnits:
    generator = torch.Generator().manual_seed(chance)
    assert not isinstance(ticket.subnetwork, Scaled), "a search is no ticket, and has no controls"
    return replace(ticket.subnetwork, mask=shuffle(ticket.subnetwork.mask, ticket.prunable, scope, generator))


def _redrawn(arm: OwnInit | Noise | Signs, ticket: Ticket, seed: int, how: str, scale: float = 0.0) -> Iterator[Ticket]:
    assert isinstance(ticket.start, Dense | End), "a method's ticket starts from weights that its trainings left"
    for replicate in range(arm.replicates):
        # new magnitudes are those of the fresh-init arm, so that the two differ in the signs alone
        label = _FRESH if how == "sign-redrawn" else arm.label
        start = Redrawn(ticket.start, how, derive(seed, label, ticket.level, replicate), scale)
        trained = ticket if how == "noise" else whole_training(ticket)
        yield replace(trained, start=start, arm=arm, replicate=replicate)


def _untrained(ticket: Ticket) -> Dense:
    """Weights that are there at every place, whatever the mask."""
    assert isinstance(ticket.start, Dense), "a control that `refusal` names is never asked for"
    return ticket.start


ARMS: dict[str, Arm] = {
    arm.label: arm
    for arm in (
        FreshInit(),
        RandomMask("layer"),
        RandomMask("global"),
        OwnInit(),
        OwnInit(replacement=False),
        *(Noise(scale) for scale in (0.5, 1.0, 2.0, 3.0)),
        Signs("redrawn"),
        Signs("constant"),
        Signs("constant", keep=False),
        ShuffledMask(),
        InvertedScores(),
        UniformWidth(),
        FullSchedule(),
        ReInit(),
        ScratchE(),
        ScratchB(),
        ScratchB(strict=True),
        ScratchB(cap=2),
        LotteryInit(),
        AnotherInit(),
        Guided(),
        DenseLonger(),
        DenseLonger(3),
        FreshInit(steps="ticket"),
        RandomMask("layer", steps="ticket"),
        RandomMask("global", steps="ticket"),
        UniformWidth(steps="ticket"),
    )
}
"""Every control by its label, with its usual number of replicates."""

USUAL = ("fresh-init", "random-mask-layerwise", "random-mask-global")
"""The controls that a study runs on tickets of initial or rewound weights when none are named."""
RETHINKING = ("fine-tune-full-schedule", "scratch-e", "scratch-b", "uniform-width")
"""Those that it runs on tickets that inherit trained weights (Liu et al. 2019, Rethinking, sections 3 and 4)."""
PAPER = (*USUAL, "own-init-resample", "noise-0.5", "noise-1", "noise-2", "noise-3")
"""The controls of Frankle & Carbin 2019: sections 2-4, App. E, F.3, F.7."""
