"""What scratchcard's loop and masks cost: CPU seconds per step beside a bare PyTorch loop, interleaved in one run.

    python benchmarks/loop_overhead.py

The bare loop has the same model, optimizer (fused kernels) and in-memory data, one thread. The two take turns in blocks
of some steps; a figure is the median over blocks of the ratio of neighbouring blocks, with its quartiles.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

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


def ratio(name: str, target: float, first: Iterator[None], second: Iterator[None], blocks: int, steps: int) -> None:
    """Print how many times the CPU seconds of `first` the `second` takes."""
    for loop in (first, second):  # the first block also pays for one-off preparations
        next(loop)
    seconds = []
    for block in range(blocks):  # which of the two goes first alternates
        taken = {loop: _cpu(loop) for loop in ((first, second) if block % 2 else (second, first))}
        seconds.append((taken[first], taken[second]))
    ratios = sorted(b / a for a, b in seconds)
    low, middle, high = statistics.quantiles(ratios, n=4)
    step = statistics.median(a for a, _ in seconds) / steps * 1e6
    print(
        f"{name:58s} {middle:6.3f}x  (quartiles {low:.3f}-{high:.3f}, {blocks} blocks of {steps} steps, "
        f"{step:,.0f} us a step)  wanted <= {target}: {'holds' if middle <= target else 'MISSED'}",
        flush=True,
    )


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


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, one thread, Adam (fused), batch {BATCH}; CPU seconds, second loop / first loop")
    for name, make, data, blocks, steps, mask_target in (
        ("LeNet-300-100", lenet_300_100, images(1, 28, 20_000), 60, 100, 1.05),
        ("Conv-2", conv_2, images(3, 32, 2_000), 16, 8, 1.02),
    ):
        ratio(f"{name}: scratchcard / bare", 1.10, bare(make(), data, steps), ours(make(), data, steps), blocks, steps)
        ratio(
            f"{name}: masked / unmasked, both scratchcard",
            mask_target,
            ours(make(), data, steps),
            ours(masked(make, data), data, steps),
            blocks,
            steps,
        )


if __name__ == "__main__":
    main()
