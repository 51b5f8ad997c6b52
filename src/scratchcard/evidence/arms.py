"""What each arm is in words, what its losing to the ticket means, and which controls it stands among."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Family = Literal["weights", "noise", "signs", "mask", "budget", "network"]

FAMILIES: dict[Family, str] = {
    "weights": "other initial weights",
    "noise": "noise on the initial weights",
    "signs": "signs and magnitudes",
    "mask": "another mask",
    "budget": "other weights and budgets",
    "network": "other controls",
}
"""Each family of controls, as a heading."""


@dataclass(frozen=True)
class Control:
    """One control in words."""

    family: Family
    what: str
    cause: str
    """What is shown when the control loses to the ticket."""
    explains: bool = True
    """Whether a control that does as well explains the ticket away: it keeps nothing of the initial weights or of the
    mask that the method found. One that keeps part of either only says which part matters."""


_SHUFFLED = "it matters which weights of a layer are kept"
_ON_TOP = ", with the ticket's own steps (fine-tuning) on top"
_CONTROLS = {
    "fresh-init": Control("weights", "fresh weights in the same mask", "the initial weights matter"),
    "own-init-resample": Control(
        "weights",
        "weights drawn for each layer from the ticket's own initial values",
        "it matters where the initial values are, not only how they are distributed",
    ),
    "own-init-shuffle": Control(
        "weights",
        "the ticket's own initial values permuted within each layer",
        "it matters where the initial values are",
    ),
    "sign-redrawn": Control(
        "signs",
        "the signs of the ticket's initial values with magnitudes drawn anew",
        "the magnitudes of the initial values matter, not only their signs",
        explains=False,
    ),
    "sign-constant": Control(
        "signs",
        "the signs of the ticket's initial values with one magnitude per layer",
        "the magnitudes of the initial values matter, not only their signs",
        explains=False,
    ),
    "random-sign-constant": Control(
        "signs", "random signs with one magnitude per layer", "signs or magnitudes of the initial values matter"
    ),
    "random-mask-layerwise": Control("mask", "a random mask with the same density in every layer", _SHUFFLED),
    "random-mask-global": Control(
        "mask",
        "a random mask of the same density overall",
        "it matters which weights of the network are kept",
    ),
    "shuffled-mask": Control(
        "mask", "the mask shuffled within each layer, with the original weights at the new places", _SHUFFLED
    ),
    "inverted-scores": Control(
        "mask", "a mask of the lowest-scored weights, as many in each layer", "the order of the scores matters"
    ),
    "fine-tune-full-schedule": Control(
        "budget",
        "the ticket's inherited weights trained by the whole recipe",
        "inherited weights are worth more under the training that the method gives them than under the whole recipe",
        explains=False,
    ),
    "re-init": Control(
        "weights",
        "the pruned architecture with fresh weights, trained exactly as the ticket is",
        "the inherited weights matter, under the ticket's own training",
    ),
    "scratch-e": Control(
        "budget",
        "the pruned architecture with fresh weights, trained for as many epochs as the dense network",
        "the inherited weights matter, at the dense network's epochs",
    ),
    "scratch-b": Control(
        "budget",
        "the pruned architecture with fresh weights, trained for as many operations as the dense network",
        "the inherited weights matter, at the dense network's computation",
    ),
    "scratch-b-strict": Control(
        "budget",
        "the pruned architecture with fresh weights, trained for as many operations as the large network before it "
        f"was cut{_ON_TOP}",
        "the inherited weights matter, at the same computation with fine-tuning counted",
    ),
    "lottery-init": Control(
        "weights",
        "the ticket's structure with its original initial weights, trained by the whole recipe",
        "the trained weights matter, not only those they grew from",
        explains=False,
    ),
    "another-init": Control(
        "weights",
        "the ticket's structure with another draw of the large network's initial weights, trained by the whole recipe",
        "the trained weights matter, not only the structure",
    ),
    "uniform-width": Control(
        "network",
        "a dense network of the ticket's size, every layer narrower by one factor, with fresh weights",
        "it matters where a network is smaller, not only that it is",
    ),
    "guided": Control(
        "network",
        "a structure made anew from the ticket's averages per stage (widths, or positions in a kernel), with fresh "
        "weights",
        "more of the ticket matters than its averages per stage",
    ),
    "transferred": Control(
        "network",
        "a structure made from the averages per stage of a ticket found elsewhere, with fresh weights",
        "it matters that the ticket was found here",
    ),
    "search": Control(
        "network",
        "the whole network as the search left it, before anything was cut from it",
        "cutting it and training on gives more than it had",
        explains=False,
    ),
    "continued": Control(
        "network", "the same mask with its weights trained on, not rewound", "rewinding matters", explains=False
    ),
}

WHOLE = {
    "dense": "the whole network, trained from its original initial weights",
    "ticket": "the subnetwork that the method found, trained as the method has it: from weights that it rewound, or "
    "from those that it inherits",
}
"""The two arms that are no controls."""


def control(arm: str) -> Control:
    """A control in words; one that is not known, e.g. a user's own, is called by its label."""
    if arm.startswith("noise-"):
        size = arm.removeprefix("noise-")
        return Control(
            "noise",
            f"the ticket's initial values with noise of {size} standard deviations of their layer",
            f"the initial values matter more finely than {size} standard deviations",
            explains=False,
        )
    whole, capped, times = arm.partition("-cap-")
    if capped and whole in ("scratch-b", "scratch-b-strict"):
        found = _CONTROLS[whole]
        stretched, on_top, _ = found.what.partition(_ON_TOP)  # what is on top is not capped
        what = f"{stretched}, but at most {times} times its steps{on_top}"
        return Control("budget", what, f"{found.cause}, so capped")
    if arm.startswith("transferred-"):
        found, source = _CONTROLS["transferred"], arm.removeprefix("transferred-")
        return Control("network", found.what.replace("elsewhere", f"elsewhere ({source})"), found.cause)
    return _CONTROLS.get(arm, Control("network", arm, f"what {arm} changes matters"))


def described(arm: str) -> str:
    """An arm as the report explains it."""
    if arm in WHOLE:
        return WHOLE[arm]
    found = control(arm)
    what = "an arm of this study's own" if found.what == arm else found.what
    return f"{what}; where it loses to the ticket, {found.cause}"


def family_of(arm: str) -> Family | None:
    """The family of a control; None for the dense network and the ticket."""
    return None if arm in WHOLE else control(arm).family


def by_family(arms: Sequence[str]) -> dict[Family, list[str]]:
    """The controls among some arms by family, families in their order and arms in the order given."""
    found: dict[Family, list[str]] = {family: [arm for arm in arms if family_of(arm) == family] for family in FAMILIES}
    return {family: members for family, members in found.items() if members}
