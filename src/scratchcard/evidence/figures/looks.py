"""How arms, levels and methods look in every figure: fixed colours for light and dark, dashes and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scratchcard.evidence.arms import by_family, family_of

PAPER, INK, GREY, RULE, ZONE = "#ffffff", "#1f2328", "#5b626b", "#e6e8eb", "#eef3f7"
BLUE, ORANGE, GREEN, PURPLE, OCHRE = "#0072b2", "#c85200", "#00845f", "#aa4499", "#8a6d00"
RED, TEAL, VIOLET, BROWN = "#b3263f", "#007d8a", "#6a4bc4", "#7d4e2b"
ON_STRONG, ON_PALE = "#fdfefe", "#1d2a35"

DARK = {
    PAPER: "#14181c",
    INK: "#e8eaed",
    GREY: "#a9b1ba",
    RULE: "#2e343a",
    ZONE: "#222b33",
    BLUE: "#6bb8ec",
    ORANGE: "#ff9e57",
    GREEN: "#3fcf9f",
    PURPLE: "#e193d3",
    OCHRE: "#dcbc4e",
    RED: "#ff8a9a",
    TEAL: "#4fc6d3",
    VIOLET: "#b8a2ff",
    BROWN: "#d3a27c",
    # tickets from the densest to the sparsest
    "#2489bd": "#a8def5",
    "#0060a0": "#73b9ea",
    "#3b4cc0": "#94a9ff",
    "#7d2f9e": "#cf9bf7",
    "#a8165c": "#ff93c0",
    # noise from the least to the most
    "#b97400": "#ffd68a",
    "#c1440e": "#ff9d66",
    "#a01247": "#ff7fa8",
    "#5b1a5e": "#c493ff",
    # the dense network, trained longer
    "#46607a": "#a7c0d9",
    "#75583a": "#d6b892",
    "#5d6b2f": "#c2d08e",
    # distances from none to the largest (viridis, reversed), alike on both pages
    **{
        colour: colour
        for colour in (
            "#fde725",
            "#b5de2b",
            "#6ece58",
            "#35b779",
            "#1f9e89",
            "#26828e",
            "#31688e",
            "#3e4989",
            "#482878",
            "#440154",
        )
    },
    # shares of a layer, from all of it to next to nothing; text on the strong and on the pale ones
    "#08306b": "#d6ecfb",
    "#0b559f": "#a6d4f2",
    "#2576b4": "#6fb4e0",
    "#6aaed6": "#2c74a6",
    "#9ecae1": "#27618f",
    "#c6dbef": "#204e74",
    "#e3eef8": "#1b3850",
    "#f4f8fc": "#1a2731",
    ON_STRONG: "#0b1116",
    ON_PALE: "#f2f5f8",
}
"""Every colour of a figure on white -> what it is on a dark page."""

SHARES = list(DARK)[-10:-2]
DISTANCES = [colour for colour, dark in DARK.items() if colour == dark]


@dataclass(frozen=True)
class Look:
    """Colour, dash and shape together: nothing is told apart by colour alone."""

    colour: str
    dash: list[int]
    shape: str


STAR = "M0,-1.35L0.34,-0.47L1.28,-0.42L0.55,0.18L0.79,1.09L0,0.58L-0.79,1.09L-0.55,0.18L-1.28,-0.42L-0.34,-0.47Z"
HOURGLASS = "M-1.1,-1.1L1.1,-1.1L-1.1,1.1L1.1,1.1Z"
BOWTIE = "M-1.1,-1.1L1.1,1.1L1.1,-1.1L-1.1,1.1Z"
PENTAGON = "M0,-1.15L1.1,-0.36L0.68,0.93L-0.68,0.93L-1.1,-0.36Z"
BAR = "M-1.2,-0.3L1.2,-0.3L1.2,0.3L-1.2,0.3Z"

DENSE = Look(INK, [1, 0], "circle")
TICKET = Look(BLUE, [1, 0], "circle")
OTHERS = [
    Look(ORANGE, [7, 3], "square"),
    Look(GREEN, [2, 2], "triangle-up"),
    Look(PURPLE, [8, 3, 2, 3], "diamond"),
    Look(OCHRE, [4, 4], "cross"),
    Look(RED, [10, 2], "triangle-down"),
    Look(TEAL, [1, 3], STAR),
    Look(VIOLET, [5, 2, 1, 2], "triangle-right"),
    Look(BROWN, [12, 4], HOURGLASS),
]
"""Hues that stay apart under the common colour-vision deficiencies as far as the shapes beside them allow."""
LONGER = [
    Look("#46607a", [6, 3], BOWTIE),
    Look("#75583a", [2, 3], PENTAGON),
    Look("#5d6b2f", [10, 3, 2, 3], BAR),
]
"""The whole network trained longer: for as many operations as the search took, and for some times its steps."""
PREFERRED = {
    "dense": DENSE,
    "dense-for-the-search": LONGER[0],
    "ticket": TICKET,
    "fresh-init": OTHERS[0],
    "own-init-resample": OTHERS[3],
    "own-init-shuffle": OTHERS[4],
    "lottery-init": OTHERS[1],
    "sign-redrawn": OTHERS[5],
    "sign-constant": OTHERS[6],
    "random-sign-constant": OTHERS[7],
    "random-mask-layerwise": OTHERS[1],
    "random-mask-global": OTHERS[2],
    "shuffled-mask": OTHERS[3],
    "inverted-scores": OTHERS[4],
    "uniform-width": OTHERS[5],
    "continued": OTHERS[6],
    "search": OTHERS[0],
    "guided": OTHERS[2],
    "transferred": OTHERS[7],
    "fine-tune-full-schedule": OTHERS[0],
    "scratch-e": OTHERS[1],
    "scratch-b": OTHERS[2],
    "scratch-b-strict": OTHERS[3],
}
"""Looks of the arms that are known; those of one family differ."""
LEVELS = [
    Look("#2489bd", [6, 2], "square"),
    Look("#0060a0", [2, 2], "triangle-up"),
    Look("#3b4cc0", [9, 3, 2, 3], "diamond"),
    Look("#7d2f9e", [4, 4], "triangle-down"),
    Look("#a8165c", [12, 3], "cross"),
]
"""Tickets of one method, from the densest shown to the sparsest."""
NOISE = [
    Look("#b97400", [12, 2], "triangle-left"),
    Look("#c1440e", [6, 2], "triangle-up"),
    Look("#a01247", [3, 2], "diamond"),
    Look("#5b1a5e", [1, 2], "cross"),
]


def looks_of_arms(arms: Sequence[str]) -> list[Look]:
    """One look for each arm of one figure, no two alike while there are looks left.

    The known arms of one family, beside the dense network and the ticket, always keep their own.
    """
    found: list[Look] = []
    noisy = [arm for arm in arms if family_of(arm) == "noise"]
    times = [arm for arm in arms if arm.startswith("dense-times-")]
    reserved = [PREFERRED[arm] for arm in arms if arm in PREFERRED]
    for arm in arms:
        free = [look for look in OTHERS if look not in found and look not in reserved]
        free += [OTHERS[len(found) % len(OTHERS)]]
        own = PREFERRED.get(arm, free[0])
        if arm in noisy:
            own = NOISE[noisy.index(arm) % len(NOISE)]
        elif arm in times:
            own = LONGER[1 + times.index(arm) % (len(LONGER) - 1)]
        found.append(free[0] if own in found else own)
    return found


def looks_by_family(arms: Sequence[str]) -> list[Look]:
    """The looks that the arms have in the figures of their families, where a place says which arm is which."""
    groups = [[arm for arm in arms if family_of(arm) is None], *by_family(arms).values()]
    looks = {arm: look for group in groups for arm, look in zip(group, looks_of_arms(group), strict=True)}
    return [looks[arm] for arm in arms]


def looks_of_methods(number: int) -> list[Look]:
    """A look for each of so many methods' tickets."""
    looks = [TICKET, *OTHERS]
    return [looks[at % len(looks)] for at in range(number)]
