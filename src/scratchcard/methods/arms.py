"""The controls: what is done to a ticket before it is trained, differing from it in one thing only.

Source: Frankle & Carbin 2019: random reinitialisation (sections 2-4), random sparse networks (App. E; the paper does
not say whether its random masks keep the counts of each layer, so both are here, by name), the ticket's own
initialisations (App. F.3), noise (App. F.7). Zhou et al. 2019: signs and constants (section 4). Frankle et
al. 2021, Missing the Mark: shuffled masks and inverted scores (section 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from scratchcard.masks.select import Scope, shuffle
from scratchcard.methods.budgets import (
    AnotherInit,
    FullSchedule,
    Guided,
    LotteryInit,
    ReInit,
    ScratchB,
    ScratchE,
    Transferred,
)
from scratchcard.methods.ticket import Arm, Dense, End, Fresh, Method, Narrow, Redrawn, Scratch, Ticket
from scratchcard.networks.cost import cost
from scratchcard.networks.narrow import takes_width
from scratchcard.networks.scaling import Scaled
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.uniform import uniform_at
from scratchcard.networks.units import SmallUnits
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive
from scratchcard.training.task import Task

_FRESH = "fresh-init"


# how many are drawn does not change any one of them
def _draws(number: int) -> int:
    return field(default=number, metadata={"identity": False})


@dataclass(frozen=True)
class FreshInit:
    """The ticket's mask with freshly drawn weights: is it the structure alone?"""

    replicates: int = _draws(3)

    @property
    def label(self) -> str:
        """The name in rows: "fresh-init"."""
        return _FRESH

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with other weights, one per replicate."""
        for replicate in range(self.replicates):
            yield replace(ticket, start=_fresh(ticket, seed, replicate), arm=self, replicate=replicate)


@dataclass(frozen=True)
class RandomMask:
    """As many weights at random places, freshly drawn: is it the number of weights alone?

    Against the fresh-init arm only the places differ. "layer": every layer keeps its own count; "global": only the
    total is kept.
    """

    scope: Scope = "layer"
    replicates: int = _draws(1)

    @property
    def label(self) -> str:
        """The name in rows, which says what the mask keeps: the layers' counts, or only the total."""
        return "random-mask-layerwise" if self.scope == "layer" else "random-mask-global"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield the ticket with a shuffled mask and other weights, one per replicate."""
        for replicate in range(self.replicates):
            yield replace(
                ticket,
                subnetwork=_shuffled(ticket, self.scope, derive(seed, self.label, ticket.level, replicate)),
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

    @property
    def label(self) -> str:
        """The name in rows: "uniform-width"."""
        return "uniform-width"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int, task: Task) -> Iterator[Ticket]:
        """Yield a narrow dense network in the ticket's place, one per replicate."""
        if isinstance(ticket.subnetwork, SmallUnits):
            yield from self._of_units(ticket, ticket.subnetwork, seed, task)
            return
        weights = sum(int(kept.sum()) for kept in ticket.subnetwork.mask.values())
        for replicate in range(self.replicates):
            start = Narrow(derive(seed, self.label, ticket.level, replicate), weights)
            yield replace(ticket, subnetwork=MaskedWeights({}), start=start, arm=self, replicate=replicate)

    def _of_units(self, ticket: Ticket, small: SmallUnits, seed: int, task: Task) -> Iterator[Ticket]:
        model, inputs = task.fresh(0), task.example_inputs()
        macs = cost(small.trainable(model), inputs).macs
        narrow = replace(small, mask=uniform_at(model, small.sites, ticket.prunable, inputs, macs))
        for replicate in range(self.replicates):
            # the weights of scratch-e, so that the two differ in the widths alone
            start = Scratch(derive(seed, "scratch", ticket.level, replicate))
            yield replace(
                ticket,
                subnetwork=narrow,
                start=start,
                start_step=0,
                changes={},
                weights=None,
                arm=self,
                replicate=replicate,
            )


def refusal(arm: Arm, method: Method, task: Task) -> str:
    """Why a control cannot be run on a method's tickets for a task, as half a sentence; empty where it can."""
    in_units = method.units != "weights"
    if isinstance(arm, UniformWidth) and not in_units and not takes_width(task.model):
        return "the model factory takes no parameter `width`, a factor on the units of every layer"
    if in_units and (
        isinstance(arm, OwnInit | Noise | Signs) or (isinstance(arm, RandomMask) and arm.scope != "layer")
    ):
        return "its tickets are counted in whole units, and this control in single weights"
    if in_units and method.inherits and isinstance(arm, FreshInit | RandomMask | ShuffledMask | InvertedScores):
        return "its tickets are trained on from trained weights; re-init, scratch-e and scratch-b train fresh ones"
    if isinstance(arm, ShuffledMask | InvertedScores) and method.inherits:
        return "its tickets go on from weights trained under their own mask, so there are none at other places"
    if isinstance(arm, FullSchedule) and not method.inherits:
        return "its tickets do not inherit trained weights, and are trained by the whole recipe already"
    if isinstance(arm, ReInit) and not method.resumes:
        if not method.inherits:
            return "its tickets do not inherit trained weights; fresh-init gives them fresh ones"
        return "its tickets are fine-tuned at a small rate, too small for fresh weights; scratch-e trains them"
    if isinstance(arm, LotteryInit | AnotherInit) and not method.inherits:
        return "its tickets start from their original weights already"
    if isinstance(arm, LotteryInit) and task.start is not None:
        return "the dense model was brought trained, and from which weights it started is not known"
    if isinstance(arm, FullSchedule | LotteryInit | AnotherInit) and not in_units:
        return "of tickets of single weights, lr-rewinding and rewinding are methods of their own"
    if isinstance(arm, Guided | Transferred) and not _can_be_read(task):
        return "the network cannot be read by torch.export, which tells its stages"
    return ""


def _can_be_read(task: Task) -> bool:
    try:
        return bool(task.sites)
    except ValueError:
        return False


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
        yield replace(ticket, start=start, arm=arm, replicate=replicate)


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
    )
}
"""Every control by its label, with its usual number of replicates."""

USUAL = ("fresh-init", "random-mask-layerwise", "random-mask-global")
"""The controls that a study runs on tickets of rewound weights when none are named."""
RETHINKING = ("fine-tune-full-schedule", "re-init", "scratch-e", "scratch-b", "uniform-width")
"""Those that it runs on tickets that inherit trained weights (Liu et al. 2019, Rethinking, sections 3 and 4)."""
PAPER = (*USUAL, "own-init-resample", "noise-0.5", "noise-1", "noise-2", "noise-3")
"""The controls of Frankle & Carbin 2019: sections 2-4, App. E, F.3, F.7."""
