"""How much two workers get done in the time of one: wall-clock of the same study, LeNet-300-100 on MNIST-shaped data.

    python benchmarks/overhead.py measure

Each study begins in an empty store; the time includes starting the worker processes. Wants an otherwise idle machine
of two cores or more; wanted >= 1.8x.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from scratchcard.methods.arms import FreshInit
from scratchcard.methods.imp import IMP
from scratchcard.networks.zoo import lenet_300_100
from scratchcard.study.study import Study
from scratchcard.training.data import Data
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task


def seconds(workers: int, rounds: int) -> dict[str, Any]:
    """Run the study once: wall-clock seconds, and seconds a run once every worker had started."""
    chance = torch.Generator().manual_seed(0)
    inputs = torch.rand(20_000, 1, 28, 28, generator=chance)
    targets = torch.randint(0, 10, (20_000,), generator=chance)
    data = Data.from_tensors("random", (inputs, targets), (inputs[:5000], targets[:5000]), validation=5000)
    recipe = Recipe(steps=2000, lr=1.2e-3, batch_size=60, eval_every=100)
    with tempfile.TemporaryDirectory() as store:
        study = Study(
            Task("random", lenet_300_100, data), recipe, [IMP(rounds=rounds)], [FreshInit()], seeds=4, store=store
        )
        began = time.perf_counter()
        study.run(workers=workers, progress=False)
        taken = time.perf_counter() - began
        ends = sorted(path.stat().st_mtime for path in Path(store).glob("rows/*.json"))
        pace = (ends[-1] - ends[0]) / (len(ends) - workers)
    return {"workers": workers, "runs": len(ends), "seconds": taken, "pace": pace}


def measure(rounds: int = 3) -> list[dict[str, Any]]:
    """The same study by one worker, then by two."""
    return [seconds(workers, rounds) for workers in (1, 2)]
