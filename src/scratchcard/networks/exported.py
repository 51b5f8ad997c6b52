"""A network for other programs: ONNX and torch.export files that were read again, run, and found to give the same.

The weights are written as the module has them in evaluation mode, denormal numbers as 0. The first dimension, examples,
stays open: every file is run on the batch given, on a longer one and on a single example before it gets its name.
What a file takes and gives is plain - tensors in tuples, lists and dicts - so that it is read where nothing of the
network's own library is installed.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.modules import transformer
from torch.utils._pytree import tree_map

from scratchcard.atomic import written_whole
from scratchcard.networks.forward import as_fits, call, read_state, with_state
from scratchcard.networks.plain import arguments_of, examples_of, plain_forward, rows_of, tensors_of
from scratchcard.networks.saved import without_denormals
from scratchcard.types import Tensors
from scratchcard.words import one_line

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest difference of an output to the module's, relative to the largest number of that output, by the coarsest type
that the network has."""
IN_ONNX = {**TOLERANCE, torch.float64: 1e-6}
"""The same in ONNX, which keeps constants of layers, as that under a normalisation's root, in float32."""
LARGEST = 2_000_000_000
"""Bytes of weights that one ONNX file can hold; protobuf ends at 2 GiB."""
_NOISE = (
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated"),  # torch's own use, when it copies a program
    (UserWarning, r"# The axis name: \w+ will not be used"),  # one name for the batch of several inputs is meant
    (UserWarning, r"The tensor attributes? self\..*_flat_weights"),  # recurrent layers hold their weights in a list too
    (UserWarning, r"# ONNX model has different number of inputs than"),  # where None was given; names alone suffer
)
"""Warnings about what torch's exporters do among themselves."""
_TALKATIVE = (
    "torch.onnx._internal.exporter._registration",  # that torchvision is not installed
    "torch.fx.experimental.symbolic_shapes",
    "onnxscript.optimizer._constant_folding",
)
"""Loggers of the same."""

Run = Callable[[Tensors], list[Tensor]]
"""What a file gives for a batch."""


class NoFile(ValueError):
    """There is no right file of this network."""

    in_float32 = False
    """Whether there would be one of the same network in float32."""


@dataclass(frozen=True)
class Exported:
    """A file that was read again and run."""

    path: Path
    bytes: int
    """Size on disk."""
    error: float
    """Largest difference to the module over all batches, relative to the largest number of an output."""
    batches: tuple[int, ...]
    """Numbers of examples that it was run on; a single one where the file takes no other."""
    flushed: int
    """Denormal weights that were written as 0."""
    left_out: tuple[str, ...] = ()
    """Outputs of the module that are no tensors, e.g. a cache: they are not in the file."""


def export_onnx(module: nn.Module, example_inputs: Tensors, path: str | Path, any_number: bool = True) -> Exported:
    """Write a network as one ONNX file that has been checked and gives what the module does, for any batch size.

    It is read again, checked by `onnx.checker`, and run in ONNX Runtime on the CPU; only then does it get its name.

    Args:
        module: any that `torch.export` can capture; it is not touched. float32 runs best: of other types ONNX Runtime
            has not every operator (in float64 no convolution, in bfloat16 hardly anything), which is then said.
        example_inputs: one batch, as the module is called with. The first input's first dimension is the examples; what
            has another first dimension, a mask over positions say, is the same for all of them.
        path: ends in .onnx; a file of that name is replaced.
        any_number: of examples; False: the file takes as many as are given here, and no other number.

    Raises:
        ValueError: the packages of `scratchcard[export]` are missing; the network cannot be captured, translated or run
            (with whether it could in float32), or has its batch size written into it; the file computes something
            else; it cannot be written.
    """
    path = _named(path, ".onnx")
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise ValueError(
            f"ONNX export needs the package {error.name!r}: pip install onnx onnxscript onnxruntime"
        ) from error
    size = sum(tensor.numel() * tensor.element_size() for tensor in read_state(module).values())
    if size > LARGEST:
        raise ValueError(
            f"one ONNX file holds 2 GB of weights, this {type(module).__name__} has {size / 1e9:.1f} GB; use "
            "export_program, or a smaller network"
        )

    def write(ready: nn.Module, batch: Tensors, shapes: Any, part: Path) -> Run:
        positional, named = arguments_of(batch)
        program = torch.onnx.export(
            ready, positional, kwargs=named, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False
        )
        assert program is not None, "torch.onnx.export made no program"
        program.save(part, external_data=False)
        onnx.checker.check_model(str(part), full_check=True)
        return lambda inputs: _by_onnx_runtime(onnxruntime, part, inputs)

    try:
        return _proved(module, example_inputs, path, any_number, write, IN_ONNX)
    except NoFile as refused:
        if all(one.dtype == torch.float32 for one in read_state(module).values() if one.is_floating_point()):
            raise
        raise _with_float32(refused, module, example_inputs, any_number) from refused


def export_program(module: nn.Module, example_inputs: Tensors, path: str | Path, any_number: bool = True) -> Exported:
    """Write a network as a `torch.export` file that has been read again and gives what the module does.

    `torch.export.load(path).module()` runs it, for any batch size. The example batch is not in it, nor any pickle.

    Args:
        module: any that `torch.export` can capture, of any type; it is not touched.
        example_inputs: one batch, as the module is called with. The first input's first dimension is the examples; what
            has another first dimension, a mask over positions say, is the same for all of them.
        path: ends in .pt2; a file of that name is replaced.
        any_number: of examples; False: the file takes as many as are given here, and no other number.

    Raises:
        ValueError: the network cannot be captured, or has its batch size written into it; the file computes something
            else; it cannot be written.
    """

    def write(ready: nn.Module, batch: Tensors, shapes: Any, part: Path) -> Run:
        positional, named = arguments_of(batch)
        program = torch.export.export(ready, positional, named, dynamic_shapes=shapes)
        _without_examples(program)
        torch.export.save(program, part)
        again = torch.export.load(part).module()
        return lambda inputs: tensors_of(call(again, inputs))

    return _proved(module, example_inputs, _named(path, ".pt2"), any_number, write, TOLERANCE)


def _by_onnx_runtime(onnxruntime: Any, path: Path, inputs: Tensors) -> list[Tensor]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and told by us
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    given = dict(zip(names, tensors_of(arguments_of(inputs)), strict=True))
    return [torch.from_numpy(out) for out in session.run(None, {name: one.numpy() for name, one in given.items()})]


def _with_float32(refused: NoFile, module: nn.Module, example_inputs: Tensors, any_number: bool) -> NoFile:
    """What was refused, with whether float32 would do, which is tried."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            export_onnx(copy.deepcopy(module).float(), example_inputs, Path(folder) / "float32.onnx", any_number)
        except ValueError:
            return NoFile(f"{refused}. float32 would not help")
    told = NoFile(f"{refused}. float32 would do: export_onnx(copy.deepcopy(module).float(), ...)")
    told.in_float32 = True
    return told


def _proved(
    module: nn.Module,
    example_inputs: Tensors,
    path: Path,
    any_number: bool,
    write: Callable[[nn.Module, Tensors, Any, Path], Run],
    allowed: dict[torch.dtype, float],
) -> Exported:
    """Write to another name, compare on several batch sizes, rename."""
    clean, flushed = without_denormals(read_state(module))
    ready = with_state(module, clean).cpu().eval()
    given = tree_map(lambda leaf: leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf, example_inputs)
    given = as_fits(given, ready)
    count, what = examples_of(given), f"this {type(module).__name__}"
    batches = [given]
    if any_number:
        batches += [rows_of(given, torch.arange(2 * count, -1, -1) % count), rows_of(given, torch.tensor([0]))]
    traced = batches[1 if any_number else 0]  # a batch of one would be taken for a constant
    left_out = dict[str, None]()
    shapes = plain_forward(ready, given, any_number, left_out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part, torch.no_grad(), torch.random.fork_rng(devices=[]), _quiet():
            wanted = [_wanted(ready, batch, what) for batch in batches]
            if empty := [n for n, one in enumerate(wanted[0], 1) if one.numel() and not bool(one.isfinite().any())]:
                raise NoFile(
                    f"nothing is shown by output {empty[0]} of {what}: not one of its numbers is finite; give a batch "
                    "on which the network gives numbers"
                )
            try:
                with _without_shortcuts(), _silent_failure():
                    run = write(ready, traced, shapes, part)
            except OSError:
                raise
            except Exception as error:  # of many kinds: whatever the capture or the translation runs into
                raise NoFile(
                    f"{what} cannot be exported ({_first(error)}); control flow that depends on data, a batch size "
                    "that is written into its code, or an operator that the format lacks must go"
                ) from error
            limit = allowed[_coarsest([*clean.values(), *wanted[0]])]
            worst = max(_gap(ready, run, batch, own, what, limit) for batch, own in zip(batches, wanted, strict=True))
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror or error}); choose another folder or free some space"
        ) from error
    return Exported(path, path.stat().st_size, worst, tuple(map(examples_of, batches)), flushed, tuple(left_out))


def _wanted(ready: nn.Module, batch: Tensors, what: str) -> list[Tensor]:
    """What the network itself gives for a batch."""
    try:
        outputs = tensors_of(call(ready, batch))
    except Exception as error:  # whatever the user's code raises
        counts = sorted({leaf.shape[0] if leaf.dim() else 0 for leaf in tensors_of(batch)})
        inputs = f"; where all inputs are examples, they must be the same examples, got {counts} of them"
        inputs = inputs if len(counts) > 1 else ""
        raise NoFile(
            f"{what} itself cannot run a batch of {examples_of(batch)} examples ({_first(error)}){inputs}; a number of "
            "examples that is written into its code must go, and what every example shares may not be as long as the "
            "batch by chance"
        ) from error
    if not outputs:
        raise NoFile(f"{what} gives no tensors, which are all that a file can give; return tensors")
    return outputs


def _gap(ready: nn.Module, run: Run, batch: Tensors, wanted: list[Tensor], what: str, limit: float) -> float:
    """How far a file is from the network on one batch.

    Raises:
        NoFile: too far, or it cannot be run.
    """
    try:
        found = run(batch)
    except Exception as error:  # whatever another program's runtime raises
        raise NoFile(
            f"the file of {what} cannot be run on {examples_of(batch)} examples ({_first(error)}); nothing was "
            "written: a number of examples written into its code, or a type that the other program lacks, must go"
        ) from error
    gap = _difference(wanted, found)
    if not gap <= limit:
        with _without_shortcuts():
            shortcut = _difference(tensors_of(call(ready, batch)), found) <= limit
        raise NoFile(
            f"the file of {what} computes something else: on {examples_of(batch)} examples it differs by {gap:.2g} of "
            f"the largest output, allowed is {limit:g}; nothing was written: "
            + (
                "it gives what the layers do, but for evaluation torch has a path of its own, with zeros at padded "
                "positions; nn.TransformerEncoder(..., enable_nested_tensor=False) does without"
                if shortcut
                else "what is random, or depends on how often the network was called or on Python alone, cannot be "
                "in a file"
            )
        )
    return gap


def _named(path: str | Path, suffix: str) -> Path:
    path = Path(path)
    if path.suffix != suffix or path.is_dir():
        raise ValueError(
            f"the path must be of a file whose name ends in {suffix}, got {str(path)!r}; give it that ending"
        )
    return path


def _without_examples(program: ExportedProgram) -> None:
    program.example_inputs = None  # they would be written as a pickle, and are the user's data


def _coarsest(tensors: Iterable[Tensor]) -> torch.dtype:
    """The floating-point type with the largest roundings."""
    types = {one.dtype.to_real() if one.is_complex() else one.dtype for one in tensors}
    return max(types & TOLERANCE.keys(), key=lambda kind: torch.finfo(kind).eps, default=torch.float32)


def _difference(wanted: list[Tensor], found: list[Tensor]) -> float:
    """The largest difference, relative to the largest finite number of an output; numbers that count must be equal.

    Infinite where shapes or types differ, or what is not finite is not the same at the same place.
    """
    if [(leaf.shape, leaf.dtype) for leaf in wanted] != [(leaf.shape, leaf.dtype) for leaf in found]:
        return float("inf")
    worst = 0.0
    for one, other in zip(wanted, found, strict=True):
        finite = one.isfinite()
        odd, also = (torch.where(finite, 0, leaf) for leaf in (one, other))
        if not torch.equal(finite, other.isfinite()) or not torch.equal(odd.nan_to_num(0.5), also.nan_to_num(0.5)):
            return float("inf")
        if not (one.is_floating_point() or one.is_complex()):
            worst = max(worst, 0.0 if torch.equal(one, other) else float("inf"))
        elif bool(finite.any()):
            kind = torch.complex128 if one.is_complex() else torch.float64
            here, there = one[finite].to(kind), other[finite].to(kind)
            worst = max(worst, float((here - there).abs().max()) / (float(here.abs().max()) or 1.0))
    return worst


def _first(error: BaseException) -> str:
    """What was raised first, as exporters wrap it in advice of their own."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # colours
    return one_line(f"{type(error).__name__}: {said}", 300)


@contextlib.contextmanager
def _without_shortcuts() -> Iterator[None]:
    """Torch's transformer layers as they are written: fused ones, and a look whether a mask is causal, need numbers."""
    fused, looks = torch.backends.mha.get_fastpath_enabled(), transformer._detect_is_causal_mask
    torch.backends.mha.set_fastpath_enabled(False)
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: is_causal is True
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        transformer._detect_is_causal_mask = looks


@contextlib.contextmanager
def _silent_failure() -> Iterator[None]:
    """Drop what is printed on the way to an exception: torch prints whole programs there."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        yield
    sys.stderr.write(said.getvalue())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch's exporters say that concerns nobody here."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category, message in _NOISE:
                warnings.filterwarnings("ignore", message, category)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
