"""Is training the small network as much cheaper as its multiply-adds say? And what does slimming's penalty cost?

python benchmarks/small_steps.py measure
python benchmarks/small_steps.py

The first command measures and writes docs/results/rows, then the page; the second writes the page again. Training
steps of the dense network and of the one with half of the channels take turns in one run, CPU seconds of one thread;
so do steps with and without the penalty on scaling factors.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from pages import main, records_page, table
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.cost import cost
from scratchcard.networks.proved import find_sites
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


def measured(name: str, make: Callable[[], nn.Module], size: int) -> dict[str, Any]:
    """One network with and without half of its channels: seconds of every turn, and the share of multiply-adds."""
    torch.manual_seed(0)
    model, x = make(), torch.randn(2, 3, size, size)
    sites = find_sites(model, x)
    plain = [name for name in sites.sites if name not in sites.choices and name not in sites.branches]
    small = compact(model, uniform_widths(sites, plain, 0.5), x, sites).module
    dense, halved = in_turns(stepping(model, size), stepping(small, size))
    return {"network": name, "dense": dense, "half": halved, "macs": cost(small, x).macs / cost(model, x).macs}


def penalty() -> dict[str, Any]:
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
    scales = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    return {"penalty": each, "step": statistics.median(dense), "scales": scales}


def collect(_: str) -> list[list[dict[str, Any]]]:
    torch.set_num_threads(1)
    asked = {"batch": BATCH, "turns": TURNS, "torch": torch.__version__}
    return [[asked, penalty(), *(measured(name, make, size) for name, (make, size) in NETWORKS.items())]]


def ratios(record: dict[str, Any]) -> list[float]:
    return sorted(b / a for a, b in zip(record["dense"], record["half"], strict=True))


def line(record: dict[str, Any]) -> list[str]:
    found = ratios(record)
    taken = statistics.median(found)
    dense, half = (f"{1000 * statistics.median(record[name]):.0f}" for name in ("dense", "half"))
    return [record["network"], dense, half, f"{taken:.3f} [{found[1]:.3f}, {found[-2]:.3f}]", f"{record['macs']:.3f}",
            f"{taken / record['macs']:.2f}"]  # fmt: skip


def write(records: Sequence[dict[str, Any]]) -> str:
    """The page in Markdown."""
    asked, added, *networks = records
    parts = [
        "# Small means faster",
        f"A training step at batch {asked['batch']}, 32 pixels, CPU milliseconds of one thread; half of every site's "
        f"units kept; median of {asked['turns']} turns, in brackets the second lowest and the second highest. The last "
        "column is the step's share of the dense step, divided by the share of multiply-adds (wanted for VGG-19: at "
        "most 1.3).",
        table(["network", "dense, ms", "half, ms", "share of the step", "share of MACs", "step / MACs"],
              map(line, networks)),
        f"The penalty on the {added['scales']} scales of VGG-19 takes {1e6 * added['penalty']:.0f} microseconds a "
        f"step, {100 * added['penalty'] / added['step']:.3f} % of it (wanted: at most 0.5 %).",
        f"```\n{PAGE.command} measure\n{PAGE.command}\n```",
        f"torch {asked['torch']}. Not measured on a GPU.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def answer(records: Sequence[dict[str, Any]]) -> str:
    """A step's share of the dense one over the share of multiply-adds, network by network."""
    told = (f"{record['network']} {statistics.median(ratios(record)) / record['macs']:.2f}" for record in records[2:])
    return f"The small network's share of a step over its share of the multiply-adds: {', '.join(told)}."


PAGE = records_page(
    name="small-steps",
    question="Is training the small network as much cheaper as its multiply-adds say?",
    command="python benchmarks/small_steps.py",
    rows=["small-steps"],
    write=write,
    answer=answer,
    gone="Nearly, in a wide VGG-19; in narrow networks and a DenseNet a step costs more than its share of the "
    "multiply-adds.",
)

if __name__ == "__main__":
    main(PAGE, collect)
