"""A study that takes a second: four numbers, one hidden layer, a dozen steps - as objects, as a file, as a command."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from scratchcard import cli
from scratchcard.methods.imp import IMP
from scratchcard.row import Row
from scratchcard.study.study import Study
from scratchcard.training import measure
from scratchcard.training.data import Data
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task

TASK_FILE = '''
"""A task of someone's own."""

import torch
from torch import nn

import scratchcard as sc

HIDDEN = 6
chance = torch.Generator().manual_seed(0)


def examples(n):
    inputs = torch.randn(n, 4, generator=chance)
    return inputs, (inputs[:, 0] > 0).long()


def network():
    """The network."""
    return nn.Sequential(nn.Linear(4, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))


def unrelated():
    return 1


def loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)


task = sc.Task("tiny", network, sc.Data.from_tensors("tiny", examples(60), examples(30), examples(30)), loss=loss)
recipe = sc.Recipe(steps=12, batch_size=10, eval_every=6, lr=0.01)
methods = [sc.IMP(rounds=2)]
'''
"""A task file, as a person would write it."""


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))


def examples(n: int, seed: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] > 0).long()


def data() -> Data:
    return Data.from_tensors("tiny", examples(60, 0), examples(30, 1), examples(30, 2))


def tiny(**changes: Any) -> Task:
    return Task(**({"name": "tiny", "model": network, "data": data()} | changes))


RECIPE = Recipe(steps=4, batch_size=10, eval_every=2, lr=0.01)


def tiny_study(folder: Path, task: Task | None = None, **changes: Any) -> Study:
    """One round, one seed, every control, unless told otherwise."""
    asked = {"recipe": RECIPE, "methods": [IMP(rounds=1)], "seeds": 1, "store": folder}
    return Study(task or tiny(), **(asked | changes))


def started(study: Study, workers: int = 1) -> int:
    """Run a study in this process and count the trainings that were really started."""
    with mock.patch.object(measure, "train", wraps=measure.train) as train:
        study.run(workers=workers, progress=False)
    return train.call_count


def plain(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """What rows say, whatever their order; how long it took, and how fast networks ran, aside."""
    timed: Any = {"seconds": True, "training_seconds": True, "latency": True, "search": {"seconds"}}
    return sorted((row.model_dump(exclude=timed) for row in rows), key=lambda row: row["id"])


def write_task(folder: Path, text: str = TASK_FILE, name: str = "tiny.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    def is_one_sentence(self, *words: str) -> bool:
        """A user's mistake as promised: exit code 2, one line on stderr with these words in it, no traceback."""
        told = self.err.strip()
        assert self.code == 2, f"exit code {self.code}\n{told}"
        assert told.startswith("scratchcard: "), told
        assert len(told.splitlines()) == 1, told
        assert "Traceback" not in self.out + told, told
        missing = [word for word in words if word not in told]
        assert not missing, f"{missing} not in: {told}"
        return True


def command(capsys: pytest.CaptureFixture[str], *words: object) -> Said:
    """`scratchcard WORDS...` in this process; modules and search path are as before afterwards."""
    capsys.readouterr()
    modules, path = set(sys.modules), list(sys.path)
    try:
        with mock.patch.object(sys, "argv", ["scratchcard", *map(str, words)]), pytest.raises(SystemExit) as left:
            cli.main()
    finally:
        for name in set(sys.modules) - modules:
            file = str(getattr(sys.modules[name], "__file__", ""))
            if name.partition(".")[0] != "scratchcard" and not file.startswith((sys.prefix, sys.base_prefix)):
                del sys.modules[name]
        sys.path[:] = path
    said = capsys.readouterr()
    code = left.value.code
    return Said(code if isinstance(code, int) else 0 if code is None else 1, said.out, said.err)
