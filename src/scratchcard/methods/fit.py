"""Which control can be run on which method's tickets: a control that could not learn would be none."""

from __future__ import annotations

from scratchcard.methods.arms import (
    FreshInit,
    InvertedScores,
    Noise,
    OwnInit,
    RandomMask,
    ShuffledMask,
    Signs,
    UniformWidth,
)
from scratchcard.methods.budgets import (
    AnotherInit,
    DenseLonger,
    FullSchedule,
    Guided,
    LotteryInit,
    ReInit,
    ScratchB,
    ScratchE,
    Transferred,
)
from scratchcard.methods.ticket import Arm, Method
from scratchcard.networks.narrow import takes_width
from scratchcard.networks.uniform import share_of
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task

ONE_DRAW = "the model factory gives the same weights under every seed, so that fresh ones would be no others"
"""Why no control that draws weights can be run on a task of one draw."""

_DRAWN = (FreshInit, RandomMask, ReInit, ScratchE, ScratchB, AnotherInit, Guided, Transferred)
"""The controls that ask what other weights from the model factory would do."""


def refusal(arm: Arm, method: Method, task: Task, recipe: Recipe, density: float = 1.0) -> str:
    """Why a control cannot be run on a method's tickets for a task, as half a sentence; empty where it can.

    Args:
        arm: the control.
        method: whose tickets it would be run on.
        task: the study's.
        recipe: the study's.
        density: the share of weights kept that the study's verdict is to be about.
    """
    in_units, origin = method.units != "weights", method.origin
    redraws = isinstance(arm, _DRAWN) or (isinstance(arm, Signs) and arm.magnitude == "redrawn")
    if task.one_draw and redraws:
        return ONE_DRAW
    if isinstance(arm, DenseLonger) and arm.times is None and not method.search_steps(recipe, 1):
        return "finding its tickets costs nothing, so that this would be the dense network once more"
    if isinstance(arm, UniformWidth):
        if not in_units and not takes_width(task.model):
            return "the model factory takes no parameter `width`, a factor on the units of every layer"
        if uniform_already(method, task, level_near(method, task, density)):
            with_fresh = "scratch-e" if origin.trained else "fresh-init"
            return f"its tickets keep the same share of every site already: {with_fresh} is this architecture"
    if in_units and (
        isinstance(arm, OwnInit | Noise | Signs) or (isinstance(arm, RandomMask) and arm.scope != "layer")
    ):
        return "its tickets are counted in whole units, and this control in single weights"
    if origin.trained and isinstance(arm, ShuffledMask | InvertedScores):
        return "its tickets go on from weights trained under their own mask, so there are none at other places"
    if origin.trained and isinstance(arm, FreshInit | RandomMask | OwnInit | Signs):
        others = "re-init, scratch-e and scratch-b train" if origin.resumes else "scratch-e and scratch-b train"
        return f"its tickets are trained on from trained weights; {others} fresh ones"
    if isinstance(arm, FreshInit | RandomMask | UniformWidth) and arm.steps == "ticket" and origin.weights != "rewound":
        return "its tickets are not rewound to a later step, so that it would be the control without -same-steps again"
    if isinstance(arm, FullSchedule) and not origin.trained:
        return "its tickets do not inherit trained weights, and are trained by the whole recipe already"
    if isinstance(arm, ReInit) and not origin.resumes:
        if not origin.trained:
            return "its tickets do not inherit trained weights; fresh-init gives them fresh ones"
        return "its tickets are fine-tuned at a small rate, too small for fresh weights; scratch-e trains them"
    if isinstance(arm, LotteryInit | AnotherInit) and not origin.trained:
        return "its tickets start from their original weights already"
    if isinstance(arm, LotteryInit) and task.start is not None:
        return "the dense model was brought trained, and from which weights it started is not known"
    if isinstance(arm, FullSchedule | LotteryInit | AnotherInit) and not in_units:
        return "of tickets of single weights, lr-rewinding and rewinding are methods of their own"
    if isinstance(arm, Guided | Transferred) and not _can_be_read(task):
        return "the network cannot be read by torch.export, which tells its stages"
    return ""


def level_near(method: Method, task: Task, density: float) -> int:
    """The level, 1 or higher, whose share of weights kept is nearest to `density`."""
    densities = method.densities(task)
    return min(range(1, len(densities)), key=lambda level: abs(densities[level] - density))


def uniform_already(method: Method, task: Task, level: int) -> bool:
    """Whether a level's tickets have the widths that one share of all sites gives."""
    widths = method.widths(task, level)
    return widths is not None and share_of(task.sites, widths) is not None


def _can_be_read(task: Task) -> bool:
    try:
        return bool(task.sites)
    except ValueError:
        return False
