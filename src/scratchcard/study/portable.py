"""A handed-over network's files for whoever has not its code: model.pt2 for torch alone, model.onnx for other runtimes.

What cannot be written is told, as the rest is worth having.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from scratchcard.networks.exported import Exported, NoFile, export_onnx, export_program
from scratchcard.networks.forward import as_fits
from scratchcard.networks.plain import examples_of
from scratchcard.training.task import Task
from scratchcard.types import Tensors

EXAMPLES = 8
"""In the batch that files are written with."""


@dataclass(frozen=True)
class Portable:
    """What was written."""

    files: dict[str, int]
    """File -> bytes."""
    batch: Tensors
    """What the network was called with, in its own type."""
    examples: int | None
    """How many examples model.pt2 takes, where it takes no other number."""
    without_program: str = ""
    """Why there is no model.pt2; empty where there is one."""
    without_onnx: str = ""
    """Why there is no model.onnx; empty where there is one."""
    limits: tuple[str, ...] = ()
    """What a file is that the network is not, in sentences."""

    @property
    def notes(self) -> list[str]:
        """What has to be known before the files are used, in sentences."""
        missing = [("model.pt2", self.without_program), ("ONNX file", self.without_onnx)]
        return [*(f"There is no {name}: {why}" for name, why in missing if why), *self.limits]


def write_portable(module: nn.Module, task: Task, sizes: Iterable[int], folder: Path) -> Portable:
    """Write both files, for any number of examples where the network allows.

    Args:
        module: the network.
        task: whose validation inputs it is tried on; they are in no file.
        sizes: numbers of examples to try where a file of any number cannot be.
        folder: where they are put.
    """
    batch, files, limits = task.example_inputs(EXAMPLES), dict[str, int](), list[str]()
    program, why = _program(module, batch, folder, True), ""
    if isinstance(program, str):
        why = program
        fixed = ((one, _program(module, one, folder, False)) for one in _batches(task, sizes))
        batch, program = next(((one, made) for one, made in fixed if isinstance(made, Exported)), (batch, None))
    examples = program.batches[0] if program is not None and len(program.batches) == 1 else None
    if program is not None:
        files["model.pt2"] = program.bytes
    if examples is not None:
        limits.append(f"model.pt2 and model.onnx take {examples} examples at a time and no other number, since {why}")
    without = ""
    try:
        files["model.onnx"] = export_onnx(module, batch, folder / "model.onnx", examples is None).bytes
    except ValueError as refused:
        without = str(refused)
        if isinstance(refused, NoFile) and refused.in_float32:
            single = copy.deepcopy(module).float()
            files["model.onnx"] = export_onnx(single, batch, folder / "model.onnx", examples is None).bytes
            limits.append(f"model.onnx is in float32, which the network is not, since {without}")
            without = ""
    left_out = program.left_out if program is not None else ()
    limits += [f"Left out, as they are no tensors: {', '.join(left_out)}"] if left_out else []

    def told(text: str) -> str:
        return text.replace(f"{folder}{os.sep}", "")

    return Portable(
        files,
        as_fits(batch, module),
        examples,
        "" if program is not None else told(why),
        told(without),
        tuple(map(told, limits)),
    )


def _program(module: nn.Module, batch: Tensors, folder: Path, any_number: bool) -> Exported | str:
    """The file, or why there is none."""
    try:
        return export_program(module, batch, folder / "model.pt2", any_number)
    except ValueError as error:
        return str(error)


def _batches(task: Task, sizes: Iterable[int]) -> Iterator[Tensors]:
    """Batches of these many examples, the longest first, as far as there are so many."""
    for size in sorted(set(sizes), reverse=True):
        batch = task.example_inputs(size)
        if examples_of(batch) == size:
            yield batch
