"""What methods that cut whole units share: which sites they may cut, how many units a level keeps, how to fine-tune."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from typing import Any, get_args

import torch

from scratchcard.masks.select import select
from scratchcard.methods.levels import check_rounds
from scratchcard.methods.ticket import Arm
from scratchcard.networks.cost import cost
from scratchcard.networks.named import Names, fits, meant
from scratchcard.networks.scaling import Factors, find_factors
from scratchcard.networks.site_table import short
from scratchcard.networks.units import SmallUnits
from scratchcard.networks.weights import Kind, Weight, everything, list_weights
from scratchcard.row import Origin
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Scores, UnitMask

_SMALL = 1e-3
"""A schedule that ends below this share of its rate has no last rate that could fine-tune anything."""
_TUNED = 4
"""Fine-tuning takes a quarter of the training: 40 of 160 epochs (Liu et al. 2019, Rethinking, released code)."""


class CutsUnits(ABC):
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

    @abstractmethod
    def cuts(self, task: Task) -> Collection[str]:
        """The sites of the task's network that it may cut."""

    def weights(self, task: Task) -> list[Weight]:
        """The weights of the network: it cuts none by itself, they go with their units; of which sites is said."""
        return weights_of_units(task, self.cuts(task))


def weights_of_units(task: Task, cut: Collection[str]) -> list[Weight]:
    """The weights of a network of which whole units are cut: none goes by itself, and each says with what it goes.

    Args:
        task: gives the network.
        cut: the sites that may be cut.
    """
    going: dict[str, list[str]] = defaultdict(list)
    for site in cut:
        for name in {name for unit in task.sites[site].units for name in unit}:
            going[name].append(site)

    def why(name: str) -> str:
        return f"goes with units of {short(going[name], cut)}" if name in going else "none of its units is to be cut"

    return [
        replace(weight, prunable=False, reason=why(weight.name))
        for weight in list_weights(task.fresh(0), task.example_inputs(), also=("*",))
    ]


def cuttable_sites(
    who: str, task: Task, keep: Collection[str], only: Collection[str], choices: bool = False
) -> tuple[str, ...]:
    """The sites of the task's network that a method may cut.

    Channels, neurons, feed-forward neurons and attention heads always; whole branches, choices for one consumer, and
    what takes entries from frozen weights where they are asked for.

    Args:
        who: the method, for sentences.
        task: gives the network.
        keep: names of what is to be kept whole, see `sites_called`; whatever fits a pattern.
        only: likewise: all else is kept whole; () for no such limit. Branches and choices go by their own names alone.
        choices: whether channels are also chosen for one consumer alone (pre-activation networks, DenseNets).

    Raises:
        ValueError: the network cannot be read, a name fits nothing, or nothing is left to cut.
    """
    sites = task.sites
    stays = set().union(*sites_called(task, keep, keeping=True).values())
    goes = set().union(*sites_called(task, only).values())
    special = {*sites.branches, *sites.frozen, *(() if choices else sites.choices)}
    asked = [name for name in sites.sites if (name in goes if only else name not in special)]
    chosen = [name for name in asked if name not in stays]
    if not chosen:
        limits = " and ".join(f"{field}={tuple(to)!r}" for field, to in (("keep", keep), ("only", only)) if to)
        why = [f"{limits} leaves none of {short(list(sites.sites), ())}"] if limits and sites.sites else []
        why += [f"{layer}: {reason}" for layer, reason in sites.kept.items()]
        raise ValueError(f"{who} finds no unit that it could cut in this network ({'; '.join(why) or 'it has none'})")
    return tuple(chosen)


def sites_called(task: Task, entries: Collection[str], keeping: bool = False) -> dict[str, set[str]]:
    """The sites that each of some names stands for.

    A site's own name, that of a layer or weight with outputs among its units, a kind of such weights, or a pattern. Who
    names a layer to be cut means its channels for all who read them, so choices and branches have to be named.

    Args:
        task: gives the network.
        entries: as a person gave them.
        keeping: a pattern stands for all that fits it in any way, and a branch is kept for each of its layers.

    Raises:
        ValueError: one that fits nothing.
    """
    if not entries:
        return {}
    sites = task.sites
    among = [name for name in sites.sites if name not in sites.choices and (keeping or name not in sites.branches)]
    weights: dict[str, set[str]] = {name: set() for name in sites.outputs}
    for name in among:
        for unit in sites[name].units:
            for weight in unit.keys() & weights.keys():
                if name in sites.branches or sites.outputs[weight] in unit[weight]:
                    weights[weight].add(name)
    layers: dict[str, set[str]] = defaultdict(set)
    for weight, of in weights.items():
        if layer := weight.rpartition(".")[0]:
            layers[layer] |= of
    for name in sites.kept.keys() - sites.sites.keys():
        layers[name] |= set()
    sorts = [Names({name: [name] for name in sites.sites}), Names(layers), Names(weights)]
    if any(entry in get_args(Kind) for entry in entries) or not all(fits(entry, sorts) for entry in entries):
        kinds: dict[str, set[str]] = defaultdict(set)
        for weight in list_weights(task.fresh(0), task.example_inputs()):
            kinds[weight.kind] |= weights.get(weight.name, set())
        sorts.append(Names(kinds, patterns=False))
    return meant(entries, sorts, every=keeping)


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
