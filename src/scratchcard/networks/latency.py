"""How fast a network really is on this machine: the median of repeated runs, with what it was measured under."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median, quantiles

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.networks.copies import copied
from scratchcard.networks.forward import as_fits, call
from scratchcard.types import Tensors


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward pass of a batch, in evaluation mode without gradients."""

    median: float
    quartiles: tuple[float, float]
    runs: int
    warm_up: int
    """Runs before the first that counts."""
    batch: int
    device: str
    threads: int

    def __str__(self) -> str:
        low, high = (1000 * q for q in self.quartiles)
        return (
            f"{1000 * self.median:.3g} ms [{low:.3g}, {high:.3g}] for a batch of {self.batch} on {self.device}, "
            f"{self.threads} thread(s), median and quartiles of {self.runs} runs"
        )


def latency(
    model: nn.Module, inputs: Tensors, runs: int = 20, warm_up: int = 3, threads: int = 1, device: str = "cpu"
) -> Latency:
    """Time a network; of several to be compared use `latencies`, which takes turns.

    Args:
        model: any module; it is not touched.
        inputs: one batch.
        runs: how many count.
        warm_up: how many come before.
        threads: of torch, while it is measured.
        device: where it runs.
    """
    return latencies([model], inputs, runs, warm_up, threads, device)[0]


def latencies(
    models: list[nn.Module], inputs: Tensors, runs: int = 20, warm_up: int = 3, threads: int = 1, device: str = "cpu"
) -> list[Latency]:
    """Time several networks in turns on one batch, so that a busy moment of the machine meets all of them."""
    held = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ready = [copied(model).eval().to(device) for model in models]
        batch = as_fits(inputs, ready[0])
        moved = tree_map(lambda leaf: leaf.to(device), batch)
        seconds: list[list[float]] = [[] for _ in ready]
        with torch.inference_mode():
            for run in range(warm_up + runs):
                for own, model in zip(seconds, ready, strict=True):
                    began = time.perf_counter()
                    call(model, moved)
                    if device != "cpu":
                        torch.cuda.synchronize()
                    if run >= warm_up:
                        own.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(held)
    size = tree_leaves(inputs)[0].shape[0]
    found = []
    for own in seconds:
        low, _, high = quantiles(own, n=4)
        found.append(Latency(median(own), (low, high), runs, warm_up, size, device, threads))
    return found
