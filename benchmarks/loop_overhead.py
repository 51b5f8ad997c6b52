"""What scratchcard's loop and masks cost: CPU seconds per step beside a bare PyTorch loop, interleaved in one run.

    python benchmarks/overhead.py measure

The bare loop has the same model, optimizer (fused kernels) and in-memory data, one thread. The two take turns in blocks
of some steps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from scratchcard.masks.select import select
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.weights import list_weights, whole
from scratchcard.networks.zoo import conv_2, lenet_300_100
from scratchcard.training.data import Data
from scratchcard.training.loop import train
from scratchcard.training.recipe import Recipe

BATCH = 60


def bare(model: torch.nn.Module, data: Data, steps: int) -> Iterator[None]:
    """The loop anyone would write; yields after every `steps` steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1.2e-3, fused=True)
    inputs, targets = data.train.inputs, data.train.targets
    model.train()
    while True:
        order = torch.randperm(len(inputs))
        for first in range(0, len(inputs) - BATCH + 1, BATCH):
            index = order[first : first + BATCH]
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(inputs[index]), targets[index]).backward()
            optimizer.step()
            if (first // BATCH + 1) % steps == 0:
                yield


def ours(model: torch.nn.Module, data: Data, steps: int) -> Iterator[None]:
    """The loop of scratchcard, stopping after every `steps` steps; evaluation is the caller's and not in it."""
    recipe = Recipe(steps=10**6, lr=1.2e-3, batch_size=BATCH, eval_every=10**6)
    for snapshot in train(model, data, F.cross_entropy, recipe, 0, range(steps, 10**6, steps)):
        assert snapshot.step > 0
        yield


Loop = Callable[[], Iterator[None]]


def ratio(name: str, target: float, first: Loop, second: Loop, pairs: int, blocks: int, steps: int) -> dict[str, Any]:
    """How many times the CPU seconds of `first` the `second` takes.

    Where in memory a network happens to lie makes a few per cent, so the figure is over several pairs, each built anew:
    the median over pairs of the median over blocks.
    """
    medians, step = [], []
    for _ in range(pairs):
        loops = first(), second()
        for loop in loops:  # the first block also pays for one-off preparations
            next(loop)
        ratios = []
        for block in range(blocks):  # which of the two goes first alternates
            taken = {loop: _cpu(loop) for loop in (loops if block % 2 else reversed(loops))}
            ratios.append(taken[loops[1]] / taken[loops[0]])
            step.append(taken[loops[0]] / steps)
        medians.append(statistics.median(ratios))
    return {"compared": name, "ratios": medians, "blocks": blocks, "steps": steps, "step": statistics.median(step),
            "wanted": target}  # fmt: skip


def _cpu(loop: Iterator[None]) -> float:
    began = time.process_time()
    next(loop)
    return time.process_time() - began


def images(channels: int, size: int, number: int) -> Data:
    """Random images: only their shape matters here."""
    chance = torch.Generator().manual_seed(0)
    inputs = torch.rand(number, channels, size, size, generator=chance)
    targets = torch.randint(0, 10, (number,), generator=chance)
    return Data.from_tensors("random", (inputs, targets), (inputs[:10], targets[:10]), validation=10)


def masked(make: Callable[[], torch.nn.Module], data: Data) -> torch.nn.Module:
    """The network with half of every layer cut."""
    model = make()
    found = list_weights(model, data.validation.inputs)
    scores = {weight.name: dict(model.named_parameters())[weight.name].abs().detach() for weight in found}
    mask = select(scores, {weight.name: weight.size // 2 for weight in found}, whole(found))
    return MaskedWeights(mask).trainable(model)


def compare(
    name: str, make: Callable[[], torch.nn.Module], data: Data, repeats: tuple[int, int, int], mask_target: float
) -> Iterator[dict[str, Any]]:
    """Both figures of one network."""
    steps = repeats[-1]

    def plain() -> Iterator[None]:
        return ours(make(), data, steps)

    yield ratio(f"{name}: scratchcard / bare", 1.10, lambda: bare(make(), data, steps), plain, *repeats)
    of_masks = f"{name}: masked / unmasked, both scratchcard"
    yield ratio(of_masks, mask_target, plain, lambda: ours(masked(make, data), data, steps), *repeats)


def measure() -> Iterator[dict[str, Any]]:
    """One record per comparison of two loops."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield from compare("LeNet-300-100", lenet_300_100, images(1, 28, 20_000), (11, 30, 25), 1.05)
    yield from compare("Conv-2", conv_2, images(3, 32, 2_000), (7, 6, 4), 1.02)
