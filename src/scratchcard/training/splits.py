"""A split of the data: examples held as tensors, or a Dataset too large for memory, read batch by batch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from scratchcard.training.seeds import derive
from scratchcard.types import Tensors

Batch: TypeAlias = tuple[Tensors, Tensors]
"""(inputs, targets) of some examples."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """A split held as tensors, batched by index on the device.

    NumPy arrays are converted: floats to torch's default dtype, integers to int64.
    Raises ValueError when a part is no tensor or array, or when the numbers of examples differ.
    """

    inputs: Tensors
    targets: Tensors

    def __post_init__(self) -> None:
        lengths = {}
        for part in ("inputs", "targets"):
            tensors = map_tensors(_tensor, getattr(self, part))
            object.__setattr__(self, part, tensors)
            lengths |= {f"{part}{name}": len(t) for name, t in named_tensors(tensors)} or {f"{part} ()": 0}
        if len(set(lengths.values())) != 1:
            seen = ", ".join(f"{name}: {n:,}" for name, n in lengths.items())
            raise ValueError(f"inputs and targets must have the same number of examples, got {seen}")

    def __len__(self) -> int:
        return len(named_tensors(self.targets)[0][1])

    def take(self, index: Tensor) -> Batch:
        """The examples at `index` (int64, on the tensors' device), in that order, as (inputs, targets)."""
        return _select(self.inputs, index), _select(self.targets, index)

    def to(self, device: torch.device | str) -> InMemory:
        """The same examples on `device`; nothing is copied when they are there already."""
        return InMemory(*(map_tensors(lambda t: t.to(device), part) for part in (self.inputs, self.targets)))

    def digest(self) -> str:
        """SHA-256 (hexadecimal) over names, dtypes, shapes and bytes of all tensors."""
        return _digest([self.inputs, self.targets])


class Unreadable(ValueError):
    """An example that a Dataset cannot read: one sentence that names it, told alike by any number of workers."""


@dataclass(frozen=True, eq=False)
class Streamed:
    """A split too large for memory: a map-style Dataset of (inputs, targets), read batch by batch.

    `workers` is the number of loading processes (0: none). `identity` names the content for good, e.g.
    "imagenet-1k train, 224 px"; without it the digest looks at a sample only. `plain` is the same examples
    without random transforms, for evaluation; None: `dataset` itself.
    Raises ValueError for a Dataset without length or index, and for a `plain` of another length. Values are
    not searched for NaN.
    """

    dataset: Dataset[Any]
    workers: int = 0
    identity: str | None = None
    plain: Dataset[Any] | None = None

    def __post_init__(self) -> None:
        for dataset in (self.dataset, self.plain):
            if dataset is not None and not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
                kind = type(dataset).__name__
                raise ValueError(f"{kind} has no length or no index; give a map-style Dataset, which has both")
        if self.plain is not None and len(self.for_evaluation()) != len(self):
            raise ValueError(
                f"plain must have the same examples as the dataset, without random transforms; it has "
                f"{len(self.for_evaluation()):,}, the dataset {len(self):,}"
            )

    def __len__(self) -> int:
        return len(self.dataset)  # pyright: ignore[reportArgumentType]

    def for_evaluation(self) -> Streamed:
        """The same examples as evaluation reads them: without random transforms where `plain` is given."""
        return self if self.plain is None else Streamed(self.plain, self.workers, self.identity)

    def read(self, index: list[int], seed: int, step: int) -> Batch:
        """The examples at `index`, as (inputs, targets); random transforms are seeded by (seed, step).

        That holds for transforms that draw from torch's, NumPy's or Python's global generator on the CPU.
        Raises ValueError when an example is not a pair.
        """
        fetch = getattr(self.dataset, "__getitems__", None)
        with _seeded(derive(seed, "transform", step)):
            return as_pair(default_collate(fetch(index) if fetch else [self.dataset[i] for i in index]))

    def digest(self) -> str:
        """SHA-256 of `identity` where given, else of the length and 64 evenly spaced examples.

        A change outside the sample goes unseen without `identity`. Random transforms are seeded.
        """
        if self.identity is not None:
            return hashlib.sha256(self.identity.encode()).hexdigest()
        index = np.unique(np.linspace(0, len(self) - 1, 64).astype(int)).tolist()
        readings = (self,) if self.plain is None else (self, self.for_evaluation())
        examples = (split.read([i], seed=0, step=i) for split in readings for i in index)
        return _digest((part for example in examples for part in example), str(len(self)))


Split: TypeAlias = InMemory | Streamed


def map_tensors(function: Callable[[Any], Tensor], tensors: Any) -> Tensors:
    """The same structure with `function` applied to every tensor."""
    if isinstance(tensors, dict):
        return {key: function(t) for key, t in tensors.items()}
    if isinstance(tensors, tuple):
        return tuple(function(t) for t in tensors)
    return function(tensors)


def _select(tensors: Tensors, index: Tensor) -> Tensors:
    if isinstance(tensors, Tensor):
        return tensors.index_select(0, index)
    return map_tensors(lambda t: t.index_select(0, index), tensors)


def named_tensors(tensors: Tensors) -> list[tuple[str, Tensor]]:
    """Every tensor with how it is reached: "" for a single one, "[0]" in a tuple, "['mask']" in a dict."""
    if isinstance(tensors, Tensor):
        return [("", tensors)]
    items = tensors.items() if isinstance(tensors, dict) else enumerate(tensors)
    return [(f"[{key!r}]", t) for key, t in items]


def _tensor(value: Any) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        array = torch.from_numpy(np.ascontiguousarray(value))
        kinds = {"f": torch.get_default_dtype(), "i": torch.int64, "u": torch.int64, "b": torch.bool}
        value = array.to(kinds[value.dtype.kind])
    if not isinstance(value, Tensor) or value.ndim == 0:
        seen = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        seen = "a tensor without dimensions" if isinstance(value, Tensor) else seen
        raise ValueError(
            "data must be tensors or numeric NumPy arrays (or tuples or dicts of them) with the examples "
            f"along the first dimension, got {seen}"
        )
    return value.detach()


def as_pair(batch: Any) -> Batch:
    """What a Dataset gave, as (inputs, targets); ValueError when it is no pair."""
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        seen = f"{len(batch)} parts" if isinstance(batch, tuple | list) else f"a {type(batch).__name__}"
        raise ValueError(f"every example of a Dataset must be a pair (inputs, targets), got {seen}")
    inputs, targets = (tuple(part) if isinstance(part, list) else part for part in batch)
    return inputs, targets


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's, NumPy's and torch's global generators start from `seed`, and are given back untouched."""
    python, array, torch_state = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
        torch.random.set_rng_state(torch_state)


def _digest(parts: Iterable[Tensors], first: str = "") -> str:
    digest = hashlib.sha256(first.encode())
    for part in parts:
        for name, t in named_tensors(part):
            digest.update(f"|{name}:{t.dtype}:{tuple(t.shape)}|".encode())
            digest.update(t.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
