"""Data: three splits of examples, and batches whose content is a function of the seed and the step alone."""

from __future__ import annotations

import hashlib
import multiprocessing
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from scratchcard.training.seeds import derive
from scratchcard.training.splits import (
    Batch,
    InMemory,
    Split,
    Streamed,
    Unreadable,
    as_pair,
    map_tensors,
    named_tensors,
)
from scratchcard.types import Tensors


@dataclass(frozen=True, eq=False)
class Data:
    """A training, a validation and a test split, none of them empty and (where in memory) all values finite.

    `split_seed` says how validation was carved out of the training examples; None when it was given.
    Raises ValueError for an empty split, and for NaN or infinite values, naming split and first index.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    split_seed: int | None = None

    def __post_init__(self) -> None:
        for which in ("train", "validation", "test"):
            _check(getattr(self, which), f"{self.name}, {which} split")

    @classmethod
    def from_tensors(
        cls,
        name: str,
        train: tuple[Any, Any],
        test: tuple[Any, Any],
        validation: int | float | tuple[Any, Any] = 0.1,
        split_seed: int = 0,
    ) -> Data:
        """Data from (inputs, targets) pairs of tensors or NumPy arrays, or of tuples or dicts of these.

        `validation` is a count, a fraction in (0, 1) of the training examples, or a pair of its own. Count
        and fraction are drawn by `split_seed` alone, without regard to classes; test is never touched.
        Raises ValueError for a validation that leaves no training example, and as `Data` and `InMemory` do.
        """
        given = InMemory(*validation) if isinstance(validation, tuple) else validation
        return cls._carved(name, InMemory(*train), InMemory(*test), given, split_seed)

    @classmethod
    def from_dataset(
        cls,
        name: str,
        train: Dataset[Any],
        test: Dataset[Any],
        validation: int | float | Dataset[Any] = 0.1,
        split_seed: int = 0,
        in_memory: bool | None = None,
        workers: int = 0,
        identity: str | None = None,
        plain: Dataset[Any] | None = None,
    ) -> Data:
        """Data from map-style Datasets of (inputs, targets).

        A TensorDataset goes to memory, any other is streamed by `workers` processes; `in_memory` overrules.
        Reading a Dataset with random transforms into memory draws each example once and freezes it.
        `validation`, `split_seed`: as in `from_tensors`; `identity`: as in `Streamed`, of all splits.
        `plain`: the examples of `train` without random transforms; validation is drawn from it, and training
        accuracy measured on it. Raises ValueError for a `plain` of training examples that go to memory.
        """

        def split(dataset: Dataset[Any], which: str, plain: Dataset[Any] | None = None) -> Split:
            if in_memory or (in_memory is None and isinstance(dataset, TensorDataset)):
                if plain is not None:
                    raise ValueError("plain=... is for streamed training data; augment data in memory by the recipe")
                return _read(Streamed(dataset))
            return Streamed(dataset, workers, identity and f"{identity}, {which}", plain)

        given = validation if isinstance(validation, int | float) else split(validation, "validation")
        return cls._carved(name, split(train, "train", plain), split(test, "test"), given, split_seed)

    @classmethod
    def _carved(cls, name: str, train: Split, test: Split, validation: int | float | Split, split_seed: int) -> Data:
        if isinstance(validation, InMemory | Streamed):
            return cls(name, train, validation, test)
        _check(train, f"{name}, train split")  # before carving, so that the index named is the caller's
        n, held_out = len(train), _held_out(len(train), validation)
        shuffled = _shuffled(n, split_seed, "validation")
        carved, kept = (part.sort().values for part in shuffled.split([held_out, n - held_out]))
        how = f"{held_out} for validation by split seed {split_seed}"
        given = _subset(train.for_evaluation() if isinstance(train, Streamed) else train, carved, how)
        return cls(name, _subset(train, kept, f"without {how}"), given, test, split_seed)

    def describe(self) -> str:
        """One line for a person: "digits: 1,293 train, 144 validation (split seed 0), 360 test"."""
        how = "" if self.split_seed is None else f" (split seed {self.split_seed})"
        train, validation, test = len(self.train), len(self.validation), len(self.test)
        return f"{self.name}: {train:,} train, {validation:,} validation{how}, {test:,} test"

    @property
    def test_targets(self) -> int:
        """How many things the test split asks for: examples, or tokens where every position has a target."""
        targets = self.test.targets if isinstance(self.test, InMemory) else None
        return targets.numel() if isinstance(targets, Tensor) and not targets.is_floating_point() else len(self.test)

    def digest(self) -> str:
        """SHA-256 (hexadecimal) over the digests of the three splits; the name plays no part."""
        parts = [self.train.digest(), self.validation.digest(), self.test.digest()]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def order(n: int, batch_size: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch as batches of indices, int64 [n // batch_size, batch_size].

    The permutation is a function of (seed, epoch) only. The ragged last batch is dropped, as in Frankle &
    Carbin 2019 (160 epochs of 45,000 in batches of 64 are 112,480 iterations); n < batch_size is one batch.
    """
    size = min(batch_size, n)
    return _shuffled(n, seed, "order", epoch)[: n // size * size].view(-1, size)


def batches(
    split: Split, batch_size: int, seed: int, start_step: int = 0, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """Training batches without end, from step `start_step` on; the one at step s is a function of (seed, s).

    A run resumed or rewound at step k therefore sees the same data from k on. Random transforms inside a
    streamed Dataset are functions of (seed, s) too, with any number of workers, if `Streamed.read` can seed
    them. A split in memory is moved to `device` once, and batches are picked there by index.
    Raises ValueError for a batch_size below 1.
    """
    n, per_epoch = len(split), len(split) // _positive(batch_size) or 1
    picked_on = device if isinstance(split, InMemory) else "cpu"

    def indices() -> Iterator[Tensor]:
        for epoch in count(start_step // per_epoch):
            done = max(0, start_step - epoch * per_epoch)
            yield from order(n, batch_size, seed, epoch)[done:].to(picked_on).unbind()

    if isinstance(split, InMemory):
        placed = split.to(device)
        return (placed.take(index) for index in indices())
    keys = ((step, index.tolist()) for step, index in enumerate(indices(), start_step))
    return _stream(split, keys, seed, device)


def sequential(
    split: Split, batch_size: int, device: torch.device | str = "cpu", limit: int | None = None
) -> Iterator[Batch]:
    """Every example once, in order, for evaluation (without random transforms where a split says how to read it so).

    The ragged last batch is kept; with `limit` it is the first so many examples, whatever the batches. Every batch is a
    copy: a network may change its inputs in place, the data stay.
    """
    n = len(split) if limit is None else min(len(split), limit)
    starts = range(0, n, _positive(batch_size))
    if isinstance(split, Streamed):
        keys = ((start, list(range(start, min(start + batch_size, n)))) for start in starts)
        return _stream(split.for_evaluation(), keys, 0, device)
    inputs, targets = split.inputs, split.targets

    def rows(tensors: Tensors, start: int) -> Tensors:
        return map_tensors(lambda t: t[start : min(start + batch_size, n)].to(device, copy=True), tensors)

    return ((rows(inputs, start), rows(targets, start)) for start in starts)


def spread_out(split: Split, examples: int, device: torch.device | str = "cpu") -> Batch:
    """At most so many examples as evaluation reads them, evenly spread over the split: of sorted ones, all kinds."""
    number = min(examples, len(split))
    index = torch.arange(number) * (len(split) - 1) // max(1, number - 1)
    if isinstance(split, InMemory):
        batch = split.take(index.to(named_tensors(split.targets)[0][1].device))
    else:
        batch = split.for_evaluation().read(index.tolist(), seed=0, step=0)
    inputs, targets = (map_tensors(lambda t: t.to(device), part) for part in batch)
    return inputs, targets


class _Batches(Dataset[Batch | Unreadable]):
    """Batches by (step, indices): their random transforms are the same whichever worker reads them."""

    def __init__(self, split: Streamed, seed: int) -> None:
        self.split, self.seed = split, seed

    def __getitem__(self, key: tuple[int, list[int]]) -> Batch | Unreadable:
        step, index = key
        try:
            return self.split.read(index, self.seed, step)
        except Unreadable as error:  # handed over, as a DataLoader buries what a worker raises in a traceback
            return error


def _stream(
    split: Streamed, keys: Iterable[tuple[int, list[int]]], seed: int, device: torch.device | str
) -> Iterator[Batch]:
    loader = DataLoader(
        _Batches(split, seed),
        batch_size=None,
        sampler=keys,
        num_workers=split.workers,
        multiprocessing_context=_start_method() if split.workers else None,
        pin_memory=torch.device(device).type == "cuda",
        collate_fn=_unchanged,
        generator=torch.Generator(),  # the default would draw from the global one, and so shift it
    )
    for batch in loader:
        if isinstance(batch, Unreadable):
            raise batch
        inputs, targets = (map_tensors(lambda t: t.to(device, non_blocking=True), part) for part in batch)
        yield inputs, targets


def _start_method() -> str | None:
    """How loading processes are started: as this process would start any, unless a DataLoader cannot use that."""
    usual, own = multiprocessing.get_all_start_methods(), multiprocessing.get_start_method(allow_none=True)
    return own if own is None or own in usual else usual[0]  # a study's worker processes start others by loky


def _unchanged(batch: Any) -> Any:
    return batch


def _read(split: Streamed) -> InMemory:
    """All examples in memory."""
    if isinstance(split.dataset, TensorDataset):
        return InMemory(*as_pair(split.dataset.tensors))
    if not len(split):
        raise ValueError("a Dataset to be read into memory has no examples")
    return InMemory(*split.read(list(range(len(split))), seed=0, step=0))


def _shuffled(n: int, *causes: int | str) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive(*causes)))


def _subset(split: Split, index: Tensor, which: str) -> Split:
    if isinstance(split, InMemory):
        return InMemory(*split.take(index.to(named_tensors(split.targets)[0][1].device)))
    identity = split.identity and f"{split.identity}, {which}"
    chosen: Any = array("q", index.tolist())  # a list's numbers would be copied into every worker one by one
    plain = None if split.plain is None else Subset(split.plain, chosen)
    return Streamed(Subset(split.dataset, chosen), split.workers, identity, plain)


def _held_out(n: int, validation: int | float) -> int:
    if isinstance(validation, bool) or (isinstance(validation, float) and not 0 < validation < 1):
        raise ValueError(f"validation={validation!r} must be a fraction in (0, 1), a count, or examples")
    held_out = max(1, round(validation * n)) if isinstance(validation, float) else validation
    if not 1 <= held_out < n:
        raise ValueError(
            f"validation={validation!r} holds out {held_out:,} of {n:,} training examples; "
            "at least 1 must be held out and at least 1 left"
        )
    return held_out


def _check(split: Split, where: str) -> None:
    if not len(split):
        raise ValueError(f"{where}: there are no examples")
    if isinstance(split, Streamed):
        return
    for part, tensors in (("inputs", split.inputs), ("targets", split.targets)):
        for name, t in named_tensors(tensors):
            if t.is_floating_point() and not _all_finite(t):
                bad = (~torch.isfinite(t.reshape(len(t), -1))).any(dim=1).nonzero()
                raise ValueError(
                    f"{where}: {len(bad):,} of {len(t):,} examples have NaN or infinite {part}{name}, "
                    f"the first at index {bad[0].item()}; repair or drop them"
                )


def _all_finite(t: Tensor) -> bool:
    # the extremes of a tensor with NaN are NaN; looking at them is 80 times as fast as at every element
    return t.numel() == 0 or all(extreme.isfinite() for extreme in t.aminmax())


def _positive(batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    return batch_size
