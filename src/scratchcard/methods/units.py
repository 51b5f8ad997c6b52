"""What methods that cut whole units share: which sites they may cut, how many units a level keeps, how to fine-tune."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from typing import Any

import torch

from scratchcard.masks.select import select
from scratchcard.methods.levels import check_rounds
from scratchcard.methods.ticket import Arm
from scratchcard.networks.compact import compact
from scratchcard.networks.cost import cost
from scratchcard.networks.scaling import Factors, find_factors
from scratchcard.networks.sites import Sites
from scratchcard.networks.units import SmallUnits
from scratchcard.networks.weights import Weight, everything, list_weights
from scratchcard.row import Origin
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Scores, UnitMask

_SMALL = 1e-3
"""A schedule that ends below this share of its rate has no last rate that could fine-tune anything."""
_TUNED = 4
"""Fine-tuning takes a quarter of the training: 40 of 160 epochs (Liu et al. 2019, Rethinking, released code)."""


class CutsUnits:
    """What every method says of itself that cuts whole units of a trained network and hands on its weights."""

    units = "channels"
    origin = Origin(weights="trained")

    def own_arms(self, level: int) -> tuple[Arm, ...]:
        """Trains nothing besides its tickets that leaves a row."""
        return ()

    def dense_steps(self, recipe: Recipe) -> set[int]:
        """Steps of the dense training that are worth keeping: its end."""
        return {recipe.steps}

    def search_steps(self, recipe: Recipe, level: int) -> int:
        """One training of the large network, of which all levels are cut."""
        return recipe.steps

    def widths(self, task: Task, level: int) -> Mapping[str, int] | None:
        """Not known beforehand."""
        return None

    def weights(self, task: Task) -> list[Weight]:
        """The weights of the network: it cuts none by itself, they go with their units."""
        reason = "goes with the units it belongs to"
        return [
            replace(weight, prunable=False, reason=reason)
            for weight in list_weights(task.fresh(0), task.example_inputs(), also=("*",))
        ]


def cuttable_sites(
    who: str, task: Task, keep: Collection[str], only: Collection[str], choices: bool = False
) -> tuple[str, ...]:
    """The sites of the task's network that a method may cut.

    Channels, neurons and feed-forward neurons always; attention heads where the network really runs with fewer of them,
    which only trying shows; whole branches, choices for one consumer, and what takes entries from frozen weights where
    they are asked for.

    Args:
        who: the method, for sentences.
        task: gives the network.
        keep: names or patterns of sites to keep whole.
        only: names or patterns: all else is kept whole; () for no such limit.
        choices: whether channels are also chosen for one consumer alone (pre-activation networks, DenseNets).

    Raises:
        ValueError: the network cannot be read, a pattern fits no site, or nothing is left to cut.
    """
    sites = task.sites
    idle = [one for one in (*keep, *only) if not any(fnmatch.fnmatchcase(name, one) for name in sites.sites)]
    if idle:
        raise ValueError(f"no site is called {', '.join(idle)}; the sites are: {', '.join(sites.sites)}")
    special = {*sites.branches, *sites.frozen, *(() if choices else sites.choices)}
    asked = [name for name in sites.sites if (_fits(name, only) if only else name not in special)]
    chosen = [name for name in asked if not _fits(name, keep)]
    heads = [name for name in chosen if name in sites.heads]
    stuck = set(heads) - set(_removable(task, sites, heads))
    if only and stuck:
        raise ValueError(
            f"{who} is to cut heads of {', '.join(sorted(stuck))}, but the network's code computes their size or "
            "number from others, so that it cannot run with fewer; take them from the tensors, or leave them out of "
            "`only`"
        )
    chosen = [name for name in chosen if name not in stuck]
    if not chosen:
        why = "; ".join(f"{layer}: {reason}" for layer, reason in sites.kept.items())
        raise ValueError(f"{who} finds no unit that it could cut in this network ({why or 'all are named in `keep`'})")
    return tuple(chosen)


def factors_of(who: str, task: Task, keep: Collection[str], only: Collection[str]) -> Factors:
    """Where the scaling factors of the units are that a method may cut; see `cuttable_sites` for the arguments.

    Raises:
        ValueError: there are none; also what `cuttable_sites` raises.
    """
    chosen = cuttable_sites(who, task, keep, only, choices=True)
    factors = find_factors(task.fresh(0), task.sites, chosen)
    if not factors.norms and not factors.gated:
        raise ValueError(
            f"{who} finds no unit that has, or could be given, a scaling factor: "
            + "; ".join(f"{site}: {why}" for site, why in factors.left.items())
        )
    return factors


def share_cut(rate: float, level: int) -> Fraction:
    """The share of units cut at a level, each level losing `rate` of what the one before left; exact."""
    return 1 - (1 - Fraction(str(rate))) ** level


def left_of(units: int, cut: Fraction) -> int:
    """N - floor(n p): how many of n units are kept when the share p is cut."""
    return units - floor(units * cut)


def equal_scores(task: Task, among: Collection[str]) -> Scores:
    """Scores that tell nothing: how many units a mask keeps is known beforehand, and refused if it cannot be."""
    return {name: torch.zeros(len(task.sites[name]), dtype=torch.float64) for name in among}


def best_of_all(scores: Scores, cut: Fraction, least: float) -> tuple[UnitMask, list[str]]:
    """The mask of the highest scores of all sites together, with exactly n - floor(n p) units kept.

    Ties are broken by position. Every site keeps its least number whatever its scores: a layer without units would cut
    the network in two.

    Args:
        scores: site -> a score per unit.
        cut: the share p to cut.
        least: units that each site keeps at least: a number from 1, or below 1 a share of its units.

    Returns:
        The mask, and a sentence for each site that is left more units than its scores would have given it.

    Raises:
        ValueError: the sites' least numbers add up to more than is to be kept.
    """
    total = sum(map(len, scores.values()))
    keep = left_of(total, cut)
    fewest = {
        name: min(len(score), max(1, ceil(least * len(score)) if least < 1 else int(least)))
        for name, score in scores.items()
    }
    if sum(fewest.values()) > keep:
        raise ValueError(
            f"{keep} of {total} units are to be kept, but the {len(scores)} sites keep {sum(fewest.values())} at "
            "least; cut less, or lower the least number of channels"
        )
    whole = {name: torch.ones(len(score), dtype=torch.bool) for name, score in scores.items()}
    protected = select(scores, fewest, whole)
    raised = {name: torch.where(protected[name], float("inf"), score) for name, score in scores.items()}
    mask = select(raised, keep, whole)
    flat = torch.cat([score.flatten() for score in scores.values()])
    freely = torch.zeros(total, dtype=torch.bool)
    freely[torch.sort(flat, descending=True, stable=True).indices[:keep]] = True
    given = dict(
        zip(scores, (int(part.sum()) for part in freely.split([len(s) for s in scores.values()])), strict=True)
    )
    notes = [
        f"{name} keeps {int(kept.sum())} of {len(kept)} units, its least number; by its scores alone {given[name]}"
        for name, kept in mask.items()
        if given[name] < int(kept.sum()) == fewest[name]
    ]
    return mask, notes


def planned_densities(task: Task, among: Collection[str], cuts: Collection[Fraction]) -> list[float]:
    """Share of all weights left, entry 0 the dense network's, when every site loses the same share of its units.

    Exact for methods that set each site's share beforehand; for those that find it by their scores it is what the plan
    goes by, and the rows say what came of it.
    """
    weights, found = everything(task.fresh(0)), [1.0]
    for cut in cuts:
        mask = {
            name: torch.arange(len(task.sites[name])) < max(1, left_of(len(task.sites[name]), cut)) for name in among
        }
        found.append(density_of(task, mask, weights))
    return found


def density_of(task: Task, mask: UnitMask, weights: Mapping[str, Any] | None = None) -> float:
    """Share of all weights (biases and normalisation left out) that a unit mask leaves."""
    small = SmallUnits(mask, task.sites, task.example_inputs())
    layers = small.layers(dict(weights or everything(task.fresh(0)))).values()
    return sum(left for left, _ in layers) / sum(total for _, total in layers)


def kept_sentence(task: Task, mask: UnitMask) -> str:
    """What a mask left, in units and in weights: the share asked for is of the former."""
    kept, total = sum(int(one.sum()) for one in mask.values()), sum(map(len, mask.values()))
    return (
        f"{kept} of {total} units kept ({kept / total:.1%}), which leaves {density_of(task, mask):.1%} of the weights"
    )


def fine_tuning(recipe: Recipe, lr: float | None, steps: int | None) -> dict[str, Any]:
    """In what fine-tuning differs from the recipe: one small constant rate, a quarter of the steps.

    Raises:
        ValueError: the optimizer is the user's own and sets its rate itself, or no rate was given and the recipe's
            schedule has no last one that could be used.
    """
    if callable(recipe.optimizer):
        raise ValueError(
            "fine-tuning sets the learning rate, but this recipe's optimizer is your own and sets it itself; name one "
            "(sgd, adam, adamw)"
        )
    if lr is None:
        factor = recipe.lr_factor(recipe.steps - 1)
        if factor < _SMALL:
            raise ValueError(
                f"this recipe's {recipe.schedule} schedule ends at {factor:.1g} of its rate, which tunes nothing; give "
                "fine_tune_lr"
            )
        lr = recipe.lr * factor
    return {
        "lr": lr,
        "steps": steps or max(1, recipe.steps // _TUNED),
        "schedule": "constant",
        "milestones": (),
        "warmup": 0,
    }


def check_rates(who: str, rounds: int, *rates: object) -> None:
    """Refuse a schedule that means nothing.

    Raises:
        ValueError: no round, no rate, or one that is not a number between 0 and 1.
    """
    if rounds < 1 or not rates or not all(isinstance(one, int | float) and 0 < one < 1 for one in rates):
        raise ValueError(
            f"{who} needs rounds of at least 1 and a rate between 0 and 1, got rounds={rounds}, "
            f"rate={', '.join(map(repr, rates)) or 'none'}"
        )
    check_rounds(who, rounds)


def check_factors(who: str, strength: float, initial: float | None, least: float) -> None:
    """Refuse a penalty, starting factors or a least number of units that mean nothing.

    Raises:
        ValueError: naming the field, what was seen and what is needed.
    """
    if not 0 <= strength < float("inf") or least <= 0:
        raise ValueError(f"{who} needs a strength of 0 or more and a least number above 0, got {strength=}, {least=}")
    if initial is not None and not 0 < initial < float("inf"):
        raise ValueError(
            f"{who}'s scaling factors start at a positive number, or as the network has them (None); got {initial=}"
        )


def between_looks(task: Task, recipe: Recipe, every: int | None) -> int:
    """The steps between two looks of a method into its search: so many, or (None) an epoch."""
    return every or max(1, len(task.data.train) // recipe.batch_size)


def looks(task: Task, recipe: Recipe, every: int | None) -> list[int]:
    """The steps at which a method looks into its search: every so many (None: an epoch), and the last one."""
    each = between_looks(task, recipe, every)
    return sorted({*range(each, recipe.steps + 1, each), recipe.steps})


def training_flops(task: Task, recipe: Recipe, steps: int) -> float:
    """What so many steps of training the dense network cost."""
    batch = min(recipe.batch_size, len(task.data.train))
    return steps * batch * cost(task.fresh(0), task.example_inputs()).training_flops


def check_every(who: str, every: int | None) -> None:
    """Refuse a number of steps between two looks into a search that means nothing.

    Raises:
        ValueError: it is below 1.
    """
    if every is not None and every < 1:
        raise ValueError(f"{who} looks into its search every so many steps, at least 1; got {every=}")


def check_fine_tuning(who: str, lr: float | None, steps: int | None) -> None:
    """Refuse a rate or a number of steps that mean nothing.

    Raises:
        ValueError: naming the field, what was seen and what is needed.
    """
    if lr is not None and not 0 < lr < float("inf"):
        raise ValueError(f"{who}'s fine_tune_lr must be a positive number, got {lr}")
    if steps is not None and steps < 1:
        raise ValueError(f"{who}'s fine_tune_steps must be at least 1, got {steps}")


def _removable(task: Task, sites: Sites, heads: list[str]) -> list[str]:
    """The sites of heads that the network runs without one of."""

    def runs(names: list[str]) -> bool:
        masks = {name: torch.arange(len(sites[name])) > 0 for name in names}
        if any(len(sites[name]) < 2 for name in names):
            return False
        try:
            compact(task.fresh(0), masks, task.example_inputs(), sites, proof="weights")
        except ValueError:
            return False
        return True

    if not heads or runs(heads):
        return heads
    return [name for name in heads if runs([name])]


def _fits(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
