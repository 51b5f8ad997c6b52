"""What each arm is in words, what its losing to the ticket means, and which controls it stands among.

What a control changes depends on what the ticket starts from: "the initial weights" is said of initial weights alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scratchcard.row import Origin

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
_ON_TOP = ", with the ticket's own steps on top"
_CONTROLS = {
    "fresh-init": Control("weights", "fresh weights in the same mask", "the {weights} matter"),
    "own-init-resample": Control(
        "weights",
        "weights drawn for each layer from the ticket's own {values}",
        "it matters where the {values} are, not only how they are distributed",
    ),
    "own-init-shuffle": Control(
        "weights",
        "the ticket's own {values} permuted within each layer",
        "it matters where the {values} are",
    ),
    "sign-redrawn": Control(
        "signs",
        "the signs of the ticket's {values} with magnitudes drawn anew",
        "the magnitudes of the {values} matter, not only their signs",
        explains=False,
    ),
    "sign-constant": Control(
        "signs",
        "the signs of the ticket's {values} with one magnitude per layer",
        "the magnitudes of the {values} matter, not only their signs",
        explains=False,
    ),
    "random-sign-constant": Control(
        "signs", "random signs with one magnitude per layer", "signs or magnitudes of the {values} matter"
    ),
    "random-mask-layerwise": Control("mask", "a random mask with the same density in every layer", _SHUFFLED),
    "random-mask-global": Control(
        "mask",
        "a random mask of the same density overall",
        "it matters which weights of the network are kept",
    ),
    "shuffled-mask": Control(
        "mask", "the mask shuffled within each layer, with the network's {weights} at the new places", _SHUFFLED
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
        "the {weights} matter, at the dense network's epochs",
    ),
    "scratch-b": Control(
        "budget",
        "the pruned architecture with fresh weights, trained for as many operations as the dense network",
        "the {weights} matter, at the dense network's computation",
    ),
    "scratch-b-strict": Control(
        "budget",
        f"the pruned architecture with fresh weights, trained for as many operations as the search took{_ON_TOP}",
        "the {weights} matter, at the same computation with the ticket's own steps counted",
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
    "dense-for-the-search": Control(
        "network",
        "the dense network trained for as many operations as search and ticket together",
        "the search gives more than training the dense network for as long",
        explains=False,
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
    "dense": "the whole network, trained from its initial weights, or as it was brought",
    "ticket": "the subnetwork that the method found, trained as the method has it: from weights that it rewound, or "
    "from those that it inherits",
}
"""The two arms that are no controls."""


SAME_STEPS = "-same-steps"
INITIAL = Origin(weights="initial")


def control(arm: str, origin: Origin = INITIAL) -> Control:
    """A control in words; one that is not known, e.g. a user's own, is called by its label.

    Args:
        arm: its label.
        origin: what the ticket that it stands beside starts from.
    """
    found = _template(arm)
    words = {"weights": origin.words, "values": origin.of("values")}
    return replace(found, what=_filled(found.what, words), cause=_filled(found.cause, words))


def _filled(text: str, words: dict[str, str]) -> str:
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", word)
    return text


def _template(arm: str) -> Control:
    if arm.endswith(SAME_STEPS):
        found = _template(arm.removesuffix(SAME_STEPS))
        return replace(
            found,
            what=f"{found.what}, trained for the ticket's own steps",
            cause=f"{found.cause}, or the steps before the ticket's own do",
        )
    if arm.startswith("dense-times-"):
        times = arm.removeprefix("dense-times-")
        return Control(
            "network",
            f"the dense network trained {times} times as long",
            f"the ticket has more than training the dense network {times} times as long gives",
            explains=False,
        )
    if arm.startswith("noise-"):
        size = arm.removeprefix("noise-")
        return Control(
            "noise",
            f"the ticket's {{values}} with noise of {size} standard deviations of their layer",
            f"the {{values}} matter more finely than {size} standard deviations",
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


def described(arm: str, origins: Sequence[Origin] = (INITIAL,)) -> str:
    """An arm as the report explains it, beside tickets that start from such weights."""
    if arm in WHOLE:
        return WHOLE[arm]
    if len({origin.words for origin in origins}) == 1:
        found = control(arm, origins[0])
    else:
        found, words = _template(arm), {"weights": "weights the ticket starts from", "values": "values it starts from"}
        found = replace(found, what=_filled(found.what, words), cause=_filled(found.cause, words))
    what = "an arm of this study's own" if found.what == arm else found.what
    return f"{what}; where it loses to the ticket, {found.cause}"


def family_of(arm: str) -> Family | None:
    """The family of a control; None for the dense network and the ticket."""
    return None if arm in WHOLE else control(arm).family


def by_family(arms: Sequence[str]) -> dict[Family, list[str]]:
    """The controls among some arms by family, families in their order and arms in the order given."""
    found: dict[Family, list[str]] = {family: [arm for arm in arms if family_of(arm) == family] for family in FAMILIES}
    return {family: members for family, members in found.items() if members}
