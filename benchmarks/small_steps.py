"""Is training the small network as much cheaper as its multiply-adds say? And what does slimming's penalty cost?

python benchmarks/small_steps.py > docs/results/small-steps.md

Training steps of the dense network and of the one with half of the channels take turns in one run, CPU seconds of one
thread; so do steps with and without the penalty on scaling factors.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.cost import cost
from scratchcard.networks.sites import find_sites
from scratchcard.networks.uniform import uniform_widths
from scratchcard.networks.zoo import densenet_40, resnet_20, vgg_16, vgg_19
from scratchcard.training.besides import ScaleL1
from scratchcard.training.data import Data
from scratchcard.training.loop import train
from scratchcard.training.recipe import Recipe

BATCH, STEPS, TURNS = 32, 2, 7
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "VGG-19": (vgg_19, 32),
    "VGG-16, quarter width": (partial(vgg_16, width=0.25), 32),
    "ResNet-20": (resnet_20, 32),
    "DenseNet-40": (densenet_40, 32),
}


def stepping(model: nn.Module, size: int, **changes: object) -> Iterator[None]:
    """Training that pauses after every few steps, by scratchcard's loop."""
    chance = torch.Generator().manual_seed(0)
    inputs = torch.randn(BATCH * 4, 3, size, size, generator=chance)
    targets = torch.randint(0, 10, (BATCH * 4,), generator=chance)
    data = Data.from_tensors("noise", (inputs, targets), (inputs, targets), (inputs, targets))
    recipe = Recipe(steps=10**6, optimizer="sgd", lr=1e-3, momentum=0.9, batch_size=BATCH, eval_every=10**6, **changes)  # pyright: ignore[reportArgumentType]
    for _ in train(model, data, F.cross_entropy, recipe, 0, range(STEPS, 10**6, STEPS)):
        yield


def in_turns(*loops: Iterator[None]) -> list[list[float]]:
    """CPU seconds of a step of each, one list per loop; the first turn warms up and does not count."""
    seconds: list[list[float]] = [[] for _ in loops]
    for turn in range(TURNS + 1):
        for own, loop in zip(seconds, loops, strict=True):
            began = time.process_time()
            next(loop)
            if turn:
                own.append((time.process_time() - began) / STEPS)
    return seconds


def line(name: str, make: Callable[[], nn.Module], size: int) -> str:
    """One network with and without half of its channels."""
    torch.manual_seed(0)
    model, x = make(), torch.randn(2, 3, size, size)
    sites = find_sites(model, x)
    plain = [name for name in sites.sites if name not in sites.choices and name not in sites.branches]
    small = compact(model, uniform_widths(sites, plain, 0.5), x, sites).module
    share = cost(small, x).macs / cost(model, x).macs
    dense, halved = in_turns(stepping(model, size), stepping(small, size))
    ratios = sorted(b / a for a, b in zip(dense, halved, strict=True))
    taken = statistics.median(ratios)
    return (
        f"| {name} | {1000 * statistics.median(dense):.0f} | {1000 * statistics.median(halved):.0f} | {taken:.3f} "
        f"[{ratios[1]:.3f}, {ratios[-2]:.3f}] | {share:.3f} | {taken / share:.2f} |"
    )


def penalty() -> str:
    """What the penalty costs, by itself, against a step of the dense VGG-19."""
    torch.manual_seed(0)
    model = vgg_19()
    (dense,) = in_turns(stepping(model, 32))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    added = ScaleL1(model, 1e-4)
    began = time.process_time()
    for step in range(1000):
        added.after_backward(step)
    each = (time.process_time() - began) / 1000
    return (
        f"The penalty on the {sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())} scales of VGG-19 takes "
        f"{1e6 * each:.0f} microseconds a step, {100 * each / statistics.median(dense):.3f} % of it (wanted: at most "
        "0.5 %)."
    )


def main() -> None:
    torch.set_num_threads(1)
    print("# Small means faster\n")
    print(
        f"A training step at batch {BATCH}, 32 pixels, CPU milliseconds of one thread; half of every site's units kept;"
    )
    print(
        f"median of {TURNS} turns, in brackets the second lowest and the second highest. The last column is the step's"
    )
    print("share of the dense step, divided by the share of multiply-adds (wanted for VGG-19: at most 1.3).\n")
    print("| network | dense, ms | half, ms | share of the step | share of MACs | step / MACs |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (make, size) in NETWORKS.items():
        print(line(name, make, size), flush=True)
    print(f"\n{penalty()}\n\n```\npython benchmarks/small_steps.py > docs/results/small-steps.md\n```\n")
    print(f"torch {torch.__version__}. Not measured on a GPU.")


if __name__ == "__main__":
    main()
