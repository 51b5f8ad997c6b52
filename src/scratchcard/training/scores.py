"""Scores of weights that no training has touched: what a network at its initialisation says about its connections.

Sources: SNIP (Lee et al. 2019, eq. 6), GraSP (Wang et al. 2020, eq. 8), SynFlow (Tanaka et al. 2020, eq. 2 and alg. 1),
magnitude at initialisation (Frankle & Carbin 2019, App. F.4). The higher, the more worth keeping. What the papers leave
open is as in their authors' code (namhoonlee/snip-public, alecwangcq/GraSP): the mode of the network, the temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from scratchcard.masks.criteria import random_scores
from scratchcard.networks.forward import call
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.training.data import batches
from scratchcard.training.loop import as_precise, placed
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive, seeded
from scratchcard.training.task import Task
from scratchcard.types import Scores, Tensors, WeightMask

Mode = Literal["inference", "train"]

MODES: dict[str, Mode] = {"snip": "inference", "grasp": "train"}
"""The scores that look at examples, and the mode of the network in which their authors' code does: SNIP's feeds
is_train=False, GraSP's leaves the network as it is made."""

TEMPERATURE = 200.0
"""What GraSP's authors' code divides the logits by before the cross-entropy."""

_OF_LOGITS = ("cross_entropy", "next_token")


@dataclass(frozen=True)
class Look:
    """How a score looks at training examples; scores that look at none ignore it."""

    examples: int
    """Rounded to whole batches."""
    mode: Mode | None = None
    """"inference": batch normalisation by its running statistics, no dropout; "train": by the batch's, with dropout;
    None: as in `MODES`."""
    temperature: float | None = None
    """What the outputs are divided by before the loss. None: for GraSP `TEMPERATURE` where the task names a loss of
    logits, else 1 - outputs that are no logits are compared with targets of their own scale, and what the outputs of
    someone's own loss are is not known."""


Score = Callable[[nn.Module, WeightMask, Task, Recipe, int, Look], Scores]
"""(network at its initialisation, mask so far, task, recipe, seed, look) -> a score per weight of the mask. The
network is not touched; weights that the mask cuts are taken as zero."""


def magnitude(model: nn.Module, mask: WeightMask, task: Task, recipe: Recipe, seed: int, look: Look) -> Scores:
    """|theta|: pruning at iteration 0 by the size of the initial weights."""
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach().cpu().abs() for name in mask}


def random(model: nn.Module, mask: WeightMask, task: Task, recipe: Recipe, seed: int, look: Look) -> Scores:
    """Chance alone: what every other score has to beat."""
    return random_scores(mask, derive(seed, "random-score"))


def snip(model: nn.Module, mask: WeightMask, task: Task, recipe: Recipe, seed: int, look: Look) -> Scores:
    """|theta x dL/dtheta|: how much the loss changes, to first order, when a connection goes.

    In inference mode, unless told otherwise: a fresh batch normalisation then hands on what it gets.
    """
    masked, weights = _masked(model, mask, recipe, look.mode or MODES["snip"])
    gradients = _mean_gradient(masked, weights, task, recipe, seed, look)
    return {
        name: (weight.detach() * gradient).abs().cpu()
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }


def grasp(model: nn.Module, mask: WeightMask, task: Task, recipe: Recipe, seed: int, look: Look) -> Scores:
    """Theta x (H g): how much the gradient's norm would fall, to first order, when a connection goes.

    H is the Hessian and g the gradient of the same mean loss, both in the weights that the mask keeps (the paper
    removes the highest -theta x H g). Both are of the loss of softened logits, and in training mode, unless told
    otherwise. The Hessian is never formed: H g is the gradient of g's product with a copy of itself held constant.
    """
    masked, weights = _masked(model, mask, recipe, look.mode or MODES["grasp"])
    if look.temperature is None and task.loss in _OF_LOGITS:
        look = replace(look, temperature=TEMPERATURE)
    with sdpa_kernel(SDPBackend.MATH):  # fused attention can be differentiated once only
        held = _mean_gradient(masked, weights, task, recipe, seed, look)
        for gradient, kept in zip(held, mask.values(), strict=True):
            gradient.masked_fill_(~kept.to(gradient.device), 0.0)  # nothing flows into what is cut
        for value, share in _losses(masked, task, recipe, seed, look):
            gradients = _gradients(value, weights, create_graph=True)
            product = torch.stack([(g * h).sum() for g, h in zip(gradients, held, strict=True)]).sum()
            if product.requires_grad:  # a loss that is linear in the weights has no curvature
                # not by autograd.grad, which silently passes over functions that can be differentiated once only
                (share * product).backward()
    return {
        name: (torch.zeros_like(weight) if weight.grad is None else weight.detach() * weight.grad).detach().cpu()
        for name, weight in weights.items()
    }


def synflow(model: nn.Module, mask: WeightMask, task: Task, recipe: Recipe, seed: int, look: Look) -> Scores:
    """|theta x dR/dtheta| with R the sum of the outputs of the network of absolute weights for an input of ones.

    Needs no data; in inference mode and float64, since R is a product over all layers. Inputs that are no numbers to
    calculate with (tokens) are one example's own.
    """
    masked, weights = _masked(model, mask, recipe, "inference")
    masked.double()
    with torch.no_grad():
        for tensor in masked.state_dict().values():
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                tensor.abs_()
    ones = tree_map(
        lambda leaf: torch.ones_like(leaf, dtype=torch.float64) if leaf.is_floating_point() else leaf,
        _on(task.example_inputs(1), recipe),
    )
    with seeded(0):
        outputs = call(masked, ones)
    leaves = tree_leaves(dict(outputs) if isinstance(outputs, dict) else outputs)
    flow = sum(leaf.sum() for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad)
    assert isinstance(flow, Tensor), "the outputs of a network depend on its weights"
    gradients = _gradients(flow, weights)
    return {
        name: (weight.detach() * part).abs().cpu()
        for (name, weight), part in zip(weights.items(), gradients, strict=True)
    }


SCORES: dict[str, Score] = {
    "magnitude": magnitude,
    "snip": snip,
    "grasp": grasp,
    "synflow": synflow,
    "random": random,
}
"""Every score by its name."""


def _masked(
    model: nn.Module, mask: WeightMask, recipe: Recipe, mode: Mode
) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A copy that may be calculated with, cut weights zero, and those of its weights that are scored."""
    masked = placed(MaskedWeights(mask).ship(model), recipe).train(mode == "train")
    if mode == "inference":
        for module in masked.modules():
            if isinstance(module, nn.RNNBase):  # cuDNN differentiates these in training mode only; the same otherwise
                module.training = True
                module.dropout = 0.0
    parameters = dict(masked.named_parameters())
    for name in mask:
        parameters[name].requires_grad_(True)
    return masked, {name: parameters[name] for name in mask}


def _losses(model: nn.Module, task: Task, recipe: Recipe, seed: int, look: Look) -> Iterator[tuple[Tensor, float]]:
    """The loss of each of the first training batches of the seed, with its share of all examples looked at."""
    size = min(recipe.batch_size, len(task.data.train), look.examples)
    number = max(1, round(look.examples / size))
    feed = batches(task.data.train, size, seed, 0, recipe.device)
    for step, (inputs, targets) in enumerate(islice(feed, number)):
        with seeded(derive(seed, "scores", step)):
            outputs = call(model, as_precise(inputs, recipe))
            if look.temperature not in (None, 1):
                outputs = _softened(outputs, look.temperature)
            # the caller differentiates it in here: a backward pass may draw, too
            yield task.loss_of(outputs, as_precise(targets, recipe)), 1 / number


def _softened(outputs: Any, temperature: float) -> Any:
    """The outputs with every floating-point tensor among them divided by the temperature."""
    leaves, structure = tree_flatten(outputs)
    floating = [isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves]
    if not any(floating):
        raise ValueError(
            f"no tensor of numbers is found in the network's outputs ({type(outputs).__name__}) to divide by the "
            f"temperature {temperature:g}; return a tensor, a tuple or a dict, or set temperature=1"
        )
    return tree_unflatten(
        [leaf / temperature if divided else leaf for leaf, divided in zip(leaves, floating, strict=True)], structure
    )


def _mean_gradient(
    model: nn.Module, weights: dict[str, nn.Parameter], task: Task, recipe: Recipe, seed: int, look: Look
) -> list[Tensor]:
    mean = [torch.zeros_like(weight) for weight in weights.values()]
    for value, share in _losses(model, task, recipe, seed, look):
        for total, part in zip(mean, _gradients(value, weights), strict=True):
            total += share * part
    return mean


def _gradients(value: Tensor, weights: dict[str, nn.Parameter], create_graph: bool = False) -> list[Tensor]:
    found = torch.autograd.grad(value, list(weights.values()), create_graph=create_graph, allow_unused=True)
    return [
        torch.zeros_like(weight) if gradient is None else gradient
        for weight, gradient in zip(weights.values(), found, strict=True)
    ]


def _on(inputs: Tensors, recipe: Recipe) -> Any:
    return tree_map(lambda leaf: leaf.to(recipe.device) if isinstance(leaf, Tensor) else leaf, inputs)
