"""The program beside a handed-over network, load.py: it needs torch alone - no scratchcard, no task file, no data.

What it is told is written into it as plain literals; nothing that only a store says is run by it. Of the user's data it
has types and shapes, and the smallest and the largest number of each input, between which it makes inputs up.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from string import Template
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from scratchcard.networks.plain import argument_names, arguments_of, examples_of
from scratchcard.study.card import Asked
from scratchcard.types import Tensors
from scratchcard.words import one_line


@dataclass(frozen=True)
class Like:
    """An input as load.py makes it up."""

    kind: str
    shape: tuple[int, ...]
    """Of one example, or of the whole where all examples share it."""
    low: float
    high: float
    shared: bool

    @classmethod
    def of(cls, tensor: Tensor, examples: int) -> Like:
        """What is told of an input."""
        shared = not tensor.dim() or len(tensor) != examples
        numbers = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
        finite = numbers[numbers.isfinite()]
        exact = finite.double() if tensor.is_floating_point() or tensor.is_complex() else finite.to(torch.int64)
        low, high = (exact.min().item(), exact.max().item()) if exact.numel() else (0, 0)
        shape = tuple(tensor.shape if shared else tensor.shape[1:])
        return cls(str(tensor.dtype).removeprefix("torch."), shape, low, high, shared)

    def __repr__(self) -> str:
        """As it is written in load.py."""
        shared = ", shared=True" if self.shared else ""
        return f"Like(torch.{self.kind}, {self.shape!r}, {self.low!r}, {self.high!r}{shared})"

    def __str__(self) -> str:
        sizes = [*([] if self.shared else ["examples"]), *map(str, self.shape)]
        shared = ", the same for all examples" if self.shared else ""
        return f"{self.kind} [{', '.join(sizes)}] (seen: {self.low:.4g} to {self.high:.4g}){shared}"


@dataclass(frozen=True)
class Inputs:
    """What a network is called with."""

    positional: tuple[Any, ...]
    named: dict[str, Any]
    names: tuple[str, ...]
    """Of the positional ones."""

    @classmethod
    def of(cls, module: nn.Module, batch: Tensors) -> Inputs:
        """As a batch is."""
        examples = examples_of(batch)
        positional, named = tree_map(
            lambda leaf: Like.of(leaf, examples) if isinstance(leaf, Tensor) else leaf, arguments_of(batch)
        )
        return cls(positional, named, argument_names(inspect.signature(module.forward), len(positional)))

    @property
    def call(self) -> str:
        """How the network is called, in Python."""
        return f"model({', '.join([*self.names, *(f'{name}={name}' for name in self.named)])})"

    def lines(self) -> list[str]:
        """Every argument, in words."""
        given = [*zip(self.names, self.positional, strict=True), *self.named.items()]
        return [one_line(f"{name}: {tree_map(_Words, value)}", 400) for name, value in given]


class _Words:
    """An input in words, whatever it is packed in."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Told:
    """What load.py says of its network."""

    about: list[str]
    """What it is, in lines."""
    inputs: Inputs
    examples: int | None
    """How many it takes, where it takes no other number."""
    without: str
    """Why there is no model.pt2; empty where there is one."""


def program_of(told: Told, asked: Asked) -> str:
    """The text of load.py."""
    task, data = (asked.task or "path/to/task.py"), (f", {asked.data!r}" if asked.data else "")
    whole = _WITHOUT if told.without else _WITH
    return whole.substitute(
        about="\n".join(f"    {line!a}," for line in told.about),
        why=ascii(one_line(told.without)),
        torch=ascii(str(torch.__version__)),
        examples=told.examples,
        positional=_literal(told.inputs.positional),
        named=_literal(told.inputs.named),
        call=one_line(told.inputs.call),
        inputs="\n".join(f"#   {line}" for line in told.inputs.lines()),
        trained=_TRAINED.substitute(named=one_line(f"{task!r}{data}")),
    )


def _literal(value: Any) -> str:
    """Python of it, whose texts have no characters beyond ASCII."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!a}: {_literal(one)}" for name, one in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + "".join(f"{_literal(one)}, " for one in value).rstrip(" ") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return ascii(value)


_TRAINED = Template("""\
# The torch.nn.Module itself, to look into or to train further, needs scratchcard and the task that has the network's
# factory (a built-in name, path/to/file.py[:name] or package.module:name):
#
#   import scratchcard as sc
#   study = sc.named_study($named)
#   network = sc.load("model", model=study.task.model).module  # "model": the folder beside this file
""")

_WITHOUT = Template('''\
"""There is no model.pt2 in this folder: the network cannot be run with torch alone. This says why."""

import sys

ABOUT = [
$about
]
WHY = $why

$trained
if __name__ == "__main__":
    print(*ABOUT, sep="\\n")
    print(f"load.py: it cannot be run with torch alone: {WHY}", file=sys.stderr)
    sys.exit(2)
raise ImportError(f"this network cannot be run with torch alone: {WHY}")
''')

_WITH = Template('''\
"""Load the network that lies beside this file; it needs torch, and nothing else.

    python load.py        # says what it is, and runs it on made-up inputs
    python load.py 64     # the same with 64 examples

In a program: put this folder on its path (or this file beside model.pt2 into another), then

    from load import model, made_up

`model` is in evaluation mode and without gradients.
"""

import sys
import time
import warnings
from pathlib import Path
from statistics import median
from typing import NamedTuple

ABOUT = [
$about
]
MADE_WITH = $torch  # the version of torch

try:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Failed to initialize NumPy")  # it is not needed
        import torch

        model = torch.export.load(Path(__file__).parent / "model.pt2").module()
except Exception as error:  # no torch, an older one, a damaged file
    _told = f"model.pt2 cannot be loaded ({type(error).__name__}: {' '.join(str(error).split())[:300]}); it was "
    _told += f"made with torch {MADE_WITH}: install that version, and copy the file again if that does not help"
    if __name__ == "__main__":
        print(f"load.py: {_told}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(_told) from error
for _weight in model.parameters():
    _weight.requires_grad_(False)


class Like(NamedTuple):
    """An input: its type, the shape of one example, the smallest and the largest number that were seen."""

    kind: torch.dtype
    shape: tuple
    low: float
    high: float
    shared: bool = False  # the same for all examples; then the shape is of the whole

    def made_up(self, examples):
        shape = self.shape if self.shared else (examples, *self.shape)
        if self.kind.is_floating_point or self.kind.is_complex:
            return (torch.rand(shape, dtype=torch.float64) * (self.high - self.low) + self.low).to(self.kind)
        return torch.randint(self.low, self.high + 1, shape).to(self.kind)


# It is called as $call:
$inputs
POSITIONAL = $positional
NAMED = $named
EXAMPLES = $examples  # how many it takes; None: any number


def made_up(examples=EXAMPLES or 8):
    """Inputs of the right types and shapes: the positional ones and those by name, for model(*positional, **named)."""

    def fill(value):
        if isinstance(value, Like):
            return value.made_up(examples)
        if isinstance(value, dict):
            return {name: fill(one) for name, one in value.items()}
        return type(value)(map(fill, value)) if isinstance(value, (tuple, list)) else value

    return fill(POSITIONAL), fill(NAMED)


def shapes(value):
    """What inputs or outputs are, in words."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {shapes(one)}" for name, one in value.items())
    return f"({', '.join(map(shapes, value))})" if isinstance(value, (tuple, list)) else str(value)


def main(words):
    examples = int(words[0]) if words and words[0].isdecimal() else EXAMPLES or 8
    if len(words) > 1 or examples < 1 or words[:1] not in ([], [str(examples)]):
        return "the one thing that can be given is a number of examples, e.g. python load.py 8"
    if EXAMPLES and examples != EXAMPLES:
        return f"this network takes {EXAMPLES} examples at a time and no other number, not {examples}"
    print(*ABOUT, sep="\\n")
    positional, named = made_up(examples)
    print("inputs, made up:", ", ".join(filter(None, [*map(shapes, positional), shapes(named)])))
    seconds = []
    with torch.inference_mode():
        try:
            outputs = model(*positional, **named)
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return f"it does not run on inputs that are made up ({said}); call `model` with real ones"
        print("outputs:", shapes(outputs))
        while len(seconds) < 3 or (len(seconds) < 20 and sum(seconds) < 1):
            began = time.perf_counter()
            model(*positional, **named)
            seconds.append(time.perf_counter() - began)
    threads = torch.get_num_threads()
    print(
        f"{1000 * median(seconds):.3g} ms for {examples} examples (median of {len(seconds)} runs, CPU, "
        f"{threads} threads, torch {torch.__version__})"
    )
    return ""


$trained
if __name__ == "__main__":
    if _wrong := main(sys.argv[1:]):
        print(f"load.py: {_wrong}", file=sys.stderr)
        sys.exit(2)
''')
