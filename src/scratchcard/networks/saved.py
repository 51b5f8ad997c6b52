"""A small network on disk: its weights, and the lists by which a freshly built model is cut to fit them; no pickle.

    manifest.json                 format, shrink spec as index lists, digests, versions; written last
    weights-DIGEST.safetensors    every parameter and persistent buffer, bit for bit; a shared one once

The digests (SHA-256) detect damage, not attackers.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import safetensors
import safetensors.torch
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from scratchcard.atomic import why_not_written, written_whole
from scratchcard.networks.apart import SELECTED
from scratchcard.networks.branches import Gone
from scratchcard.networks.choices import select
from scratchcard.networks.compact import Compacted, shrunk
from scratchcard.networks.copies import without_masks
from scratchcard.networks.forward import set_extra_states
from scratchcard.networks.head_counts import apply_edits
from scratchcard.networks.quantised import check_only_tensors
from scratchcard.row import Frozen
from scratchcard.types import State

FORMAT = 2
"""Version of the manifest; 1 had no selections and branches. A higher one is refused."""

_BITS = {
    torch.float32: (torch.int32, 0x7F80_0000, 0x007F_FFFF),
    torch.float64: (torch.int64, 0x7FF0_0000_0000_0000, 0x000F_FFFF_FFFF_FFFF),
    torch.bfloat16: (torch.int16, 0x7F80, 0x007F),
}
"""Type -> integer of its size, bits of the exponent, bits of the fraction."""


@dataclass(frozen=True)
class Saved:
    """What was written."""

    folder: Path
    bytes: dict[str, int]
    """File -> its size on disk."""
    flushed: int
    """Denormal numbers that were written as 0."""


class Weights(Frozen):
    """The file of the weights, as it was written."""

    file: str
    sha256: str
    bytes: int


class Manifest(Frozen):
    """All that loading needs besides the weights and the model."""

    format: int
    network: str
    """Class of the model, for people."""
    weights: Weights
    dtypes: dict[str, int]
    """Type -> how many numbers of it."""
    shared: dict[str, str]
    """Name of a tensor -> the name under which the same one is stored."""
    kept: dict[str, dict[Annotated[int, Field(ge=0)], list[Annotated[int, Field(ge=0)]]]]
    """The shrink spec: parameter or buffer -> dimension -> indices that are kept; what is not named is whole."""
    edits: dict[str, dict[str, int]]
    """Module -> attribute -> value: numbers of heads."""
    kept_whole: dict[str, str]
    error: float
    selected: dict[str, list[Annotated[int, Field(ge=0)]]] = Field(default_factory=dict)
    """BatchNorm -> positions of the channels that it reads."""
    branches: dict[str, Gone] = Field(default_factory=dict)
    versions: dict[str, str]
    digest: str
    """SHA-256 of all other fields."""

    def own_digest(self) -> str:
        """The digest that these fields have."""
        fields = self.model_dump_json(exclude={"digest"}, exclude_defaults=True)  # as it was before there were any
        return hashlib.sha256(fields.encode()).hexdigest()


class _Version(Frozen, extra="ignore"):
    format: int


def save(network: Compacted | nn.Module, folder: str | Path, overwrite: bool = False) -> Saved:
    """Write a network to a folder, whole or not at all: killed at any moment, what was there before is still there.

    Denormal numbers (below 1.2e-38 in float32) are written as 0: they make some processors a hundred times slower. In
    float16 they are ordinary weights and stay. Buffers that are not persistent are not written: the factory that `load`
    is given makes them. Masks of torch.nn.utils.prune are written as zeros of the weights that they mask.

    Args:
        network: what `compact` gave, trained further or not; or a module that was not cut.
        folder: a new or empty one, or, with `overwrite`, one that this function has written.
        overwrite: replace what was saved there.

    Returns:
        The size of each file, and how many numbers were flushed to 0.

    Raises:
        ValueError: the folder holds something else or cannot be written; state that is no tensor (extra states, packed
            weights of a quantised network), or tensors that have no values or no place in safetensors (all are named).
    """
    small = network if isinstance(network, Compacted) else Compacted(network, {}, {}, {}, 0.0)
    folder = Path(folder)
    tensors, shared = _stored(small.module)
    state, flushed = without_denormals({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    content = safetensors.torch.save({name: tensor.clone() for name, tensor in state.items()})
    sha = hashlib.sha256(content).hexdigest()
    numbers = Counter[str]()
    for tensor in state.values():
        numbers[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    fields = Manifest(
        format=FORMAT,
        network=type(small.module).__qualname__,
        weights=Weights(file=f"weights-{sha[:16]}.safetensors", sha256=sha, bytes=len(content)),
        dtypes=dict(numbers),
        shared=shared,
        kept={
            name: {dim: indices.tolist() for dim, indices in dims.items()} for name, dims in small.shrink_spec.items()
        },
        edits=small.edits,
        kept_whole=small.kept_whole,
        error=small.error,
        selected=small.selected,
        branches=small.branches,
        versions={
            "python": platform.python_version(),
            **{package: version(package) for package in ("scratchcard", "torch", "safetensors")},
        },
        digest="",
    )
    manifest = fields.model_copy(update={"digest": fields.own_digest()})
    _claim(folder, overwrite)
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        written = {}
        for file, data in ((manifest.weights.file, content), ("manifest.json", manifest.model_dump_json().encode())):
            with written_whole(folder / file) as part:
                part.write_bytes(data)
            written[file] = (folder / file).stat().st_size
        for old in folder.glob("weights-*.safetensors"):
            if old.name not in written:
                old.unlink()
    return Saved(folder, written, flushed)


def load(folder: str | Path, model: nn.Module | Callable[[], nn.Module]) -> Compacted:
    """Read what `save` wrote: every parameter and persistent buffer bitwise as saved, in evaluation mode.

    The large model is built, cut by the saved lists and filled; nothing is exported or compared again.

    Args:
        folder: one that `save` has written.
        model: makes the large model, as it was before it was compacted, with any weights; or one such model, which is
            not touched. The result lies on its device.

    Raises:
        ValueError: the folder is not of `save`, is damaged or of a newer format; the model is another one (every
            name that does not fit is told).
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    stored = _weights(folder, manifest.weights)
    if unstored := sorted(set(manifest.shared.values()) - stored.keys()):
        raise ValueError(
            f"{folder}/manifest.json shares tensors that are not stored, {unstored}; save the network again"
        )
    state = {**stored, **{name: stored[first] for name, first in manifest.shared.items()}}
    with torch.random.fork_rng(devices=[]):
        large = model if isinstance(model, nn.Module) else model()
    if not isinstance(large, nn.Module):
        raise ValueError(f"model must make a torch.nn.Module, it made a {type(large).__name__}; return the module")
    large = without_masks(large)
    spec = {
        name: {dim: torch.tensor(kept, dtype=torch.int64) for dim, kept in dims.items()}
        for name, dims in manifest.kept.items()
    }
    _check_spec(large, spec, manifest)
    small = shrunk(large, spec, manifest.branches)
    apply_edits(small, manifest.edits)
    select(small, manifest.selected)
    _check_fits(small, state, manifest)
    for name, tensor in _tensors(small).items():
        tensor.data = state[name].to(tensor.device, copy=True)  # takes the saved type, and shared ones stay shared
    set_extra_states(small, state)
    told = dict(manifest.kept_whole), manifest.error, manifest.selected, manifest.branches
    return Compacted(small.eval(), spec, manifest.edits, *told)


def without_denormals(state: State) -> tuple[State, int]:
    """The same weights with denormal numbers set to 0, and how many there were; float16 is left as it is."""
    total, clean = 0, {}
    for name, tensor in state.items():
        clean[name] = tensor
        if tensor.dtype in _BITS:
            integer, exponent, fraction = _BITS[tensor.dtype]
            bits = tensor.contiguous().view(integer)  # not compared with a limit: a processor may take them for 0 there
            denormal = ((bits & exponent) == 0) & ((bits & fraction) != 0)
            if number := int(denormal.sum()):
                total += number
                clean[name] = tensor.masked_fill(denormal, 0.0)
    return clean, total


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def _shared(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Name of a tensor that has an earlier name -> that name."""
    first: dict[int, str] = {}
    return {name: old for name, tensor in tensors.items() if (old := first.setdefault(id(tensor), name)) != name}


def _stored(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"save takes a Compacted or a torch.nn.Module, got a {type(module).__name__}; give one of them"
        )
    check_only_tensors(
        module,
        f"this {type(module).__name__}",
        "it would be lost, so nothing was saved; quantise after loading, or keep this network with torch.save",
    )
    tensors = _tensors(without_masks(module))
    wrong = [
        f"{name} ({'on meta' if tensor.is_meta else f'{tensor.layout} {tensor.dtype}'})".replace("torch.", "")
        for name, tensor in tensors.items()
        if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype == torch.complex128
    ]
    if wrong:
        raise ValueError(
            f"safetensors holds dense tensors that have values, and not complex128, but this {type(module).__name__} "
            f"has {', '.join(wrong)}; make them dense, or give them values first"
        )
    shared = _shared(tensors)
    return {name: tensor for name, tensor in tensors.items() if name not in shared}, shared


def _claim(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds what must not be lost."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file, a folder is needed; give the name of a new folder")
    with _told(folder):
        names = {path.name for path in folder.iterdir()}
    if "manifest.json" in names:
        if not overwrite:
            raise ValueError(f"{folder} holds a saved network already; give another folder, or overwrite=True")
        _manifest(folder)
    elif foreign := sorted(
        name for name in names if not name.startswith((".", "weights-"))
    ):  # what a kill left may stay
        raise ValueError(f"{folder} holds other things ({', '.join(foreign[:3])}); give a new or empty folder")


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = why_not_written(error, "choose another folder")
        raise ValueError(f"nothing was saved, {folder} cannot be written: {what}") from error


def _manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{folder} is not a network saved by scratchcard (manifest.json: {error.strerror}); give the folder that "
            "was given to save"
        ) from error
    try:
        found = _Version.model_validate_json(content).format
        if not 1 <= found <= FORMAT:
            raise ValueError(
                f"{path} has format {found}, this scratchcard reads formats up to {FORMAT}; "
                + ("install a newer scratchcard" if found > FORMAT else "save the network again")
            )
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(
            f"{path} is not a manifest as save writes it ({'.'.join(map(str, first['loc'])) or 'content'}: "
            f"{first['msg']}); take it from its source again, or save the network again"
        ) from error
    if not re.fullmatch(r"weights-[0-9a-f]{16}\.safetensors", manifest.weights.file):
        raise ValueError(
            f"{path} names its weights {manifest.weights.file!r}, only a file of its own folder called "
            "weights-DIGEST.safetensors is read; take it from its source again"
        )
    if manifest.own_digest() != manifest.digest:
        raise ValueError(
            f"{path} has other content than was written (damaged or edited); take it from its source again, or save "
            "the network again"
        )
    return manifest


def _weights(folder: Path, weights: Weights) -> State:
    path = folder / weights.file
    again = "take it from its source again, or save the network again"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} should be there but cannot be read ({error.strerror}); {again}") from error
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise ValueError(
            f"{path} has other bytes than were written ({len(content)} of them, {weights.bytes} were written); {again}"
        )
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:  # digests keep no attacker out
        raise ValueError(f"{path} is no safetensors file ({error}); {again}") from error


def _check_spec(large: nn.Module, spec: dict[str, dict[int, Tensor]], manifest: Manifest) -> None:
    """Refuse a model that has not the tensors, or not the sizes, that the lists were made for."""
    own = {**dict(large.named_parameters(remove_duplicate=False)), **dict(large.named_buffers(remove_duplicate=False))}
    wrong = []
    for name, dims in spec.items():
        if name not in own:
            wrong.append(f"{name} is not in it")
            continue
        shape = tuple(own[name].shape)
        for dim, kept in dims.items():
            if dim >= len(shape) or (kept.numel() and int(kept.max()) >= shape[dim]):
                last = int(kept.max()) if kept.numel() else 0
                wrong.append(f"{name} has shape {shape}, index {last} of dimension {dim} was kept")
    for norm, positions in manifest.selected.items():
        stated = own.get(f"{norm}.weight", own.get(f"{norm}.running_mean"))
        if stated is not None and f"{norm}.{SELECTED}" not in own and max(positions, default=0) >= len(stated):
            wrong.append(f"{norm} has {len(stated)} channels, position {max(positions)} was read")
    if wrong:
        raise ValueError(
            f"this {type(large).__name__} is not the model that was compacted (a {manifest.network}): "
            + "; ".join(wrong)
            + "; give the factory of that one, as it was before"
        )


def _check_fits(small: nn.Module, state: State, manifest: Manifest) -> None:
    """Refuse a cut model whose names, shapes or shared tensors are not those that were saved."""
    own = _tensors(small)
    wrong = [f"{name} is missing in the file" for name in sorted(own.keys() - state.keys())]
    wrong += [f"{name} is not in the model" for name in sorted(state.keys() - own.keys())]
    wrong += [
        f"{name} has shape {tuple(own[name].shape)}, saved was {tuple(state[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if own[name].shape != state[name].shape
    ]
    shared = _shared(own)
    wrong += [
        f"{name} is {f'one with {shared[name]}' if name in shared else 'on its own'}, saved was the contrary"
        for name in sorted(own.keys() & state.keys())
        if shared.get(name) != manifest.shared.get(name)
    ]
    if wrong:
        hint = "" if manifest.kept else " (if it was cut: save what compact gave, not its module alone)"
        raise ValueError(
            f"the saved {manifest.network} does not fit this {type(small).__name__}: {'; '.join(wrong)}; give the "
            f"factory of the model that was compacted, as it was before{hint}"
        )
