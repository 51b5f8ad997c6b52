"""A network for other programs: ONNX and torch.export files that were read again, run, and found to give the same.

The weights are written as the module has them in evaluation mode, denormal numbers as 0. The first dimension, examples,
stays open: every file is run on the batch given, on a longer one and on a single example before it gets its name.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.atomic import written_whole
from scratchcard.networks.forward import as_fits, call, read_state, with_state
from scratchcard.networks.saved import without_denormals
from scratchcard.types import Tensors

TOLERANCE = 1e-5
"""Largest difference of an output to the module's, relative to the largest number of that output."""
LARGEST = 2_000_000_000
"""Bytes of weights that one ONNX file can hold; protobuf ends at 2 GiB."""
_NOISE = (
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated"),  # torch's own use, when it copies a program
    (UserWarning, r"# The axis name: \w+ will not be used"),  # one name for the batch of several inputs is meant
)
"""Warnings about what torch's exporters do among themselves."""

Run = Callable[[Tensors], list[Tensor]]
"""What a file gives for a batch."""


@dataclass(frozen=True)
class Exported:
    """A file that was read again and run."""

    path: Path
    bytes: int
    """Size on disk."""
    error: float
    """Largest difference to the module over all batches, relative to the largest number of an output."""
    batches: tuple[int, ...]
    """Numbers of examples that it was run on."""
    flushed: int
    """Denormal weights that were written as 0."""


def export_onnx(module: nn.Module, example_inputs: Tensors, path: str | Path) -> Exported:
    """Write a network as one ONNX file that has been checked and gives what the module does, for any batch size.

    It is read again, checked by `onnx.checker`, and run in ONNX Runtime on the CPU; only then does it get its name.

    Args:
        module: float32 or float64, any that `torch.export` can capture; it is not touched.
        example_inputs: one batch, as the module is called with; examples first in every tensor.
        path: ends in .onnx; a file of that name is replaced.

    Raises:
        ValueError: the packages of `scratchcard[export]` are missing; the network cannot be captured or translated, or
            has its batch size written into it; the file computes something else; it cannot be written.
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

    def write(ready: nn.Module, batch: Tensors, part: Path) -> Run:
        arguments, named, shapes = _called(batch)
        program = torch.onnx.export(
            ready, arguments, kwargs=named, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False
        )
        assert program is not None, "torch.onnx.export made no program"
        program.save(part, external_data=False)
        onnx.checker.check_model(str(part), full_check=True)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        session = onnxruntime.InferenceSession(part.read_bytes(), options, providers=["CPUExecutionProvider"])
        names = [node.name for node in session.get_inputs()]

        def run(inputs: Tensors) -> list[Tensor]:
            given = inputs if isinstance(inputs, dict) else dict(zip(names, tree_leaves(inputs), strict=True))
            return [torch.from_numpy(out) for out in session.run(None, {n: given[n].numpy() for n in names})]

        return run

    return _proved(module, example_inputs, path, write)


def export_program(module: nn.Module, example_inputs: Tensors, path: str | Path) -> Exported:
    """Write a network as a `torch.export` file that has been read again and gives what the module does.

    `torch.export.load(path).module()` runs it, for any batch size. The example batch is not in it, nor any pickle.

    Args:
        module: any that `torch.export` can capture; it is not touched.
        example_inputs: one batch, as the module is called with; examples first in every tensor.
        path: ends in .pt2; a file of that name is replaced.

    Raises:
        ValueError: the network cannot be captured, or has its batch size written into it; the file computes something
            else; it cannot be written.
    """

    def write(ready: nn.Module, batch: Tensors, part: Path) -> Run:
        arguments, named, shapes = _called(batch)
        program = torch.export.export(ready, arguments, named, dynamic_shapes=shapes)
        _without_examples(program)
        torch.export.save(program, part)
        again = torch.export.load(part).module()
        return lambda inputs: _outputs(again, inputs)

    return _proved(module, example_inputs, _named(path, ".pt2"), write)


def _proved(
    module: nn.Module, example_inputs: Tensors, path: Path, write: Callable[[nn.Module, Tensors, Path], Run]
) -> Exported:
    """Write to another name, compare on several batch sizes, rename."""
    clean, flushed = without_denormals(read_state(module))
    ready = with_state(module, clean).cpu().eval()
    given = tree_map(lambda leaf: leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf, example_inputs)
    given = as_fits(given, ready)
    count = _examples(given)
    longer = _rows(given, torch.arange(2 * count, -1, -1) % count)
    batches = [given, longer, _rows(given, torch.tensor([0]))]
    what = f"this {type(module).__name__}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part, torch.no_grad(), torch.random.fork_rng(devices=[]), _quiet():
            try:
                run = write(ready, longer, part)  # a batch of one would be taken for a constant
            except OSError:
                raise
            except Exception as error:  # of many kinds: whatever the capture or the translation runs into
                raise ValueError(
                    f"{what} cannot be exported ({_first(error)}); control flow that depends on data, a batch size "
                    "that is written into its code, or an operator that the format lacks must go"
                ) from error
            worst = 0.0
            for batch in batches:
                try:
                    found = run(batch)
                except Exception as error:  # whatever another program's runtime raises
                    raise ValueError(
                        f"the file of {what} cannot be run on {_examples(batch)} examples ({_first(error)}); nothing "
                        "was written: take the number of examples in its code from the tensor, and use float32"
                    ) from error
                gap = _difference(_outputs(ready, batch), found)
                if not gap <= TOLERANCE:
                    raise ValueError(
                        f"the file of {what} computes something else: on {_examples(batch)} examples it differs by "
                        f"{gap:.2g} of the largest output, allowed is {TOLERANCE:g}; nothing was written: export it in "
                        "float32, without randomness, and with finite outputs"
                    )
                worst = max(worst, gap)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror or error}); choose another folder or free some space"
        ) from error
    return Exported(path, path.stat().st_size, worst, tuple(map(_examples, batches)), flushed)


def _named(path: str | Path, suffix: str) -> Path:
    path = Path(path)
    if path.suffix != suffix or path.is_dir():
        raise ValueError(
            f"the path must be of a file whose name ends in {suffix}, got {str(path)!r}; give it that ending"
        )
    return path


def _examples(inputs: Tensors) -> int:
    counts = {leaf.shape[0] if leaf.dim() else 0 for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"every input's first dimension must be the same examples, got {sorted(counts)} of them; give one batch "
            "of at least one example"
        )
    return counts.pop()


def _rows(inputs: Tensors, rows: Tensor) -> Tensors:
    return tree_map(lambda leaf: leaf[rows].contiguous(), inputs)


def _called(batch: Tensors) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Positional and keyword arguments, and which dimension of each is open."""
    dim = torch.export.Dim("batch")
    if isinstance(batch, dict):
        return (), batch, {name: {0: dim} for name in batch}
    arguments = batch if isinstance(batch, tuple) else (batch,)
    return arguments, {}, tuple({0: dim} for _ in arguments)


def _without_examples(program: ExportedProgram) -> None:
    program.example_inputs = None  # they would be written as a pickle, and are the user's data


def _outputs(net: nn.Module, inputs: Tensors) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(call(net, inputs)) if isinstance(leaf, Tensor)]


def _difference(wanted: list[Tensor], found: list[Tensor]) -> float:
    if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in found]:
        return float("inf")
    worst = 0.0
    for one, other in zip(wanted, found, strict=True):
        if one.numel():
            scale = float(one.double().abs().max()) or 1.0
            gap = float((one.double() - other.double()).abs().max()) / scale
            worst = gap if not gap <= worst else worst  # what is no number stays
    return worst


def _first(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch's exporters say that concerns nobody here."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)  # that torchvision is not installed
    try:
        with warnings.catch_warnings():
            for category, message in _NOISE:
                warnings.filterwarnings("ignore", message, category)
            yield
    finally:
        logger.setLevel(level)
