"""The one loop: a generator of snapshots; who asks for them decides what happens and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from scratchcard.networks.forward import call, read_state, write_state
from scratchcard.training.augment import augment
from scratchcard.training.besides import what_else
from scratchcard.training.data import Data, batches
from scratchcard.training.metrics import PerBatch
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive
from scratchcard.types import Snapshot, Tensors


def train(
    model: nn.Module, data: Data, loss: PerBatch, recipe: Recipe, seed: int, stops: Collection[int], start: int = 0
) -> Iterator[Snapshot]:
    """Train `model` in place from step `start` and yield a snapshot at each of `stops`.

    The batch, its augmentation, the dropout and the learning rate at step s are functions of (seed, s) alone: a
    training that starts at step k sees from k on what one from 0 would, and all arms of one seed see the same.
    The optimizer starts fresh. Between two snapshots the model belongs to the loop; at a snapshot anyone may read and
    evaluate it. The global random state is as the caller left it whenever the caller has control.

    Args:
        model: what is trained, e.g. `subnetwork.trainable(...)`; moved to the recipe's device and precision.
        data: its training split is used, nothing else.
        loss: (outputs, targets) -> scalar tensor.
        recipe: see `Recipe`.
        seed: of the data order, augmentation and dropout.
        stops: steps from `start` to `recipe.steps` at which to yield, e.g. `recipe.evaluations()`.
        start: the step to begin at (rewinding).

    Raises:
        ValueError: a stop outside [start, recipe.steps].
    """
    outside = sorted(stop for stop in stops if not start <= stop <= recipe.steps)
    if outside:
        raise ValueError(f"a training from step {start} to {recipe.steps} cannot stop at {outside}")
    device = torch.device(recipe.device)
    placed(model, recipe)
    optimizer = recipe.make_optimizer(model.parameters())
    peak_rates = [group["lr"] for group in optimizer.param_groups]
    stop_at, last = frozenset(stops), max(stops, default=start)
    besides = what_else(model, optimizer, recipe, seed)
    feed = batches(data.train, recipe.batch_size, seed, start, device)
    chance = derive(seed, "dropout")
    factor, total, since = None, torch.zeros((), device=device), start
    model.train()
    outer = _RandomState(device)
    try:
        for step in range(start, last + 1):
            if step in stop_at:
                outer.restore()
                mean = float(total) / (step - since) if step > since else None
                yield Snapshot(
                    step, mean, lambda: read_state(model), lambda state: write_state(model, state), frozenset(besides)
                )
                outer = _RandomState(device)
                model.train()
                total, since = torch.zeros((), device=device), step
            if step == last:
                return
            inputs, targets = next(feed)
            if recipe.augment:
                inputs = augment(inputs, recipe.augment, seed, step, recipe.crop)
            if recipe.lr_factor(step) != factor:
                factor = recipe.lr_factor(step)
                for group, peak in zip(optimizer.param_groups, peak_rates, strict=True):
                    group["lr"] = peak * factor
            outer.seed((chance + step) % 2**63)
            optimizer.zero_grad(set_to_none=True)
            with ExitStack() as around:
                for context in (autocast(recipe), *(part.forward(step) for part in besides.values())):
                    around.enter_context(context)
                value = loss(call(model, as_precise(inputs, recipe)), as_precise(targets, recipe))
            value.backward()
            for part in besides.values():
                part.after_backward(step)
            optimizer.step()
            for part in besides.values():
                part.after_step(step)
            total += value.detach()
    finally:
        outer.restore()


def placed(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The model itself, moved to the recipe's device, to float64 and channels last where it says so."""
    model.to(device=recipe.device, dtype=torch.float64 if recipe.precision == "float64" else None)
    if recipe.channels_last:
        for parameter in model.parameters():
            if parameter.dim() == 4:  # not the model as a whole: that would refuse 3-D convolutions
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def autocast(recipe: Recipe) -> AbstractContextManager[object]:
    """The context in which outputs and loss are computed: bfloat16 autocast where the recipe says so."""
    if recipe.precision == "bfloat16":
        return torch.autocast(torch.device(recipe.device).type, dtype=torch.bfloat16)
    return nullcontext()


def as_precise(batch: Tensors, recipe: Recipe) -> Tensors:
    """The batch with floating-point tensors in float64, and images channels last, where the recipe says so."""
    if recipe.precision != "float64" and not recipe.channels_last:
        return batch

    def changed(leaf: object) -> object:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        leaf = leaf.double() if recipe.precision == "float64" else leaf
        return leaf.contiguous(memory_format=torch.channels_last) if recipe.channels_last and leaf.dim() == 4 else leaf

    return tree_map(changed, batch)


class _RandomState:
    """The global random state as it was found, to be given back; and a way to seed it that costs a microsecond."""

    def __init__(self, device: torch.device) -> None:
        self._cpu = torch.default_generator
        self._cuda = torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else None
        self._found = [
            (generator, generator.get_state()) for generator in (self._cpu, self._cuda) if generator is not None
        ]
        self.seed: Callable[[int], object] = self._cpu.manual_seed if self._cuda is None else self._seed_both

    def _seed_both(self, seed: int) -> None:
        self._cpu.manual_seed(seed)
        if self._cuda is not None:
            self._cuda.manual_seed(seed)

    def restore(self) -> None:
        """Give it back, once: from then on the state is the caller's to change."""
        for generator, state in self._found:
            generator.set_state(state)
        self._found = []
