"""Any Hugging Face dataset as Data: images decoded to tensors in [0, 1], numeric columns as they are."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scratchcard.training.data import Data
from scratchcard.types import Tensors

TARGET_NAMES = ("label", "labels", "target", "targets", "y")
"""Columns taken for the targets when none is named and there is not exactly one column of class labels."""


def load_hub(
    path: str,
    inputs: str | Sequence[str] | None = None,
    targets: str | None = None,
    train: str = "train",
    test: str = "test",
    validation: str | int | float | None = None,
    split_seed: int = 0,
    subset: str | None = None,
    n: int | None = None,
    size: int | None = None,
    title: str | None = None,
) -> Data:
    """A Hugging Face dataset, all of it in memory.

    Args:
        path: "owner/name" on the hub (downloaded once, then cached), or a local folder in its layout.
        inputs: column or columns; several columns of one number each become [N, columns], others a dict.
            Images become float32 [N, C, H, W] in [0, 1]: one channel if all are grey, else three.
            Guessed, as `targets` is, where only one choice is possible.
        targets: column.
        train: name of the split to train on.
        test: name of the split to test on.
        validation: name of a split, or a count or a fraction of the training examples. By default the split
            "validation" where there is one, else 0.1.
        split_seed: draws the validation examples out of the training examples.
        subset: the configuration, for a dataset that has several.
        n: take the first n training examples only, before validation is drawn.
        size: pixels; every image is averaged by area to size x size.
        title: name of the data; by default the last part of `path`.

    Raises:
        ValueError: the `data` extra is not installed; the dataset, a split or a column is not to be found;
            the columns cannot be guessed; images of several sizes without `size`; text or ragged columns.
    """
    splits = read_splits(path, subset)
    if validation is None:
        validation = "validation" if "validation" in splits and test != "validation" else 0.1
    wanted = {"train": train, "test": test}
    if isinstance(validation, str):
        wanted["validation"] = validation
    if not set(wanted.values()) <= set(splits):
        asked = ", ".join(f"{option}={split!r}" for option, split in wanted.items())
        raise ValueError(f"{path!r} has the splits {', '.join(splits)}; asked for {asked}")
    chosen = {option: splits[split] for option, split in wanted.items()}
    if n is not None:
        if not 2 <= n <= len(chosen["train"]):
            raise ValueError(f"n={n} must be between 2 and the {len(chosen['train']):,} training examples")
        chosen["train"] = chosen["train"].select(range(n))
    columns, target = pick_columns(path, chosen["train"].features, inputs, targets)
    pairs = {o: (_inputs(split, columns, size), _tensor(split, target, size)) for o, split in chosen.items()}
    return Data.from_tensors(
        title or path.rstrip("/").rsplit("/", 1)[-1],
        pairs["train"],
        pairs["test"],
        validation=pairs["validation"] if isinstance(validation, str) else validation,
        split_seed=split_seed,
    )


class NotLoaded(ValueError):
    """A dataset that cannot be loaded; `reason` is what the `datasets` library said about it."""

    def __init__(self, path: str, reason: str) -> None:
        self.reason = reason
        gated = (
            f"accept its terms at https://huggingface.co/datasets/{path} and log in with `hf auth login`, or give a "
            "local folder"
        )
        local = (
            "without a network give a local folder, for mnist, cifar10 and imagenet by setting SCRATCHCARD_DATA to "
            "the folder that has theirs in it"
        )
        super().__init__(f"cannot load the dataset {path!r}; {gated if 'gated' in reason else local} ({reason})")


def library(path: str) -> Any:
    """The package `datasets`, which is to read `path`; ValueError where it is not installed."""
    try:
        with _quiet():
            import datasets
    except ImportError as error:
        raise ValueError(f"reading {path!r} needs the package `datasets`: pip install 'datasets[vision]'") from error
    return datasets


def read_splits(path: str, subset: str | None) -> dict[str, Any]:
    """Every split of a dataset, as the `datasets` library reads it, by name; `NotLoaded` where it cannot."""
    datasets = library(path)
    progress = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with _quiet():
            return {str(name): split for name, split in datasets.load_dataset(path, subset).items()}
    except Exception as error:  # of a dozen kinds: no network, no such dataset, a broken file, no such subset
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise NotLoaded(path, reason) from error
    finally:
        if not progress:
            datasets.enable_progress_bars()


@contextmanager
def _quiet() -> Iterator[None]:
    """What other packages deprecate, and how often they retry, is no news to a person who loads a dataset."""
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = {logger: logger.level for logger in loggers}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in levels:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)


def pick_columns(
    path: str, features: dict[str, Any], inputs: str | Sequence[str] | None, targets: str | None
) -> tuple[str | list[str], str]:
    """The input column or columns and the target column, guessed where they are not given.

    Raises ValueError for a column that is not there, and where several guesses are possible.
    """
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    listed = "its columns are " + ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
    given = [inputs] if isinstance(inputs, str) else list(inputs or [])
    missing = [column for column in (*given, *([targets] if targets else [])) if column not in kinds]
    if missing:
        raise ValueError(f"{path!r} has no column {', '.join(map(repr, missing))}; {listed}")
    free = [column for column in kinds if column not in given]
    labels = [c for c in free if kinds[c] == "ClassLabel"] or [c for c in free if c in TARGET_NAMES]
    if targets is None and len(labels) != 1:
        raise ValueError(f"which column of {path!r} has the targets? Give targets=...; {listed}")
    target = targets or labels[0]
    rest = [column for column in free if column != target]
    images = [column for column in rest if kinds[column] == "Image"]
    guesses = images if len(images) == 1 else rest
    if inputs is None and len(guesses) != 1:
        raise ValueError(f"which columns of {path!r} are the inputs? Give inputs=...; {listed}")
    return (guesses[0] if inputs is None else inputs if isinstance(inputs, str) else given), target


def _inputs(split: Any, columns: str | list[str], size: int | None) -> Tensors:
    if isinstance(columns, str):
        return _tensor(split, columns, size)
    tensors = {column: _tensor(split, column, size) for column in columns}
    if all(t.ndim == 1 for t in tensors.values()):
        return torch.stack([t.to(torch.get_default_dtype()) for t in tensors.values()], dim=1)
    return tensors


def _tensor(split: Any, column: str, size: int | None) -> Tensor:
    """A column as a tensor, examples first."""
    feature, alone = split.features[column], split.select_columns([column])
    if type(feature).__name__ == "Image":
        return _images(alone.cast_column(column, type(feature)(decode=False))[:][column], column, size)
    values = alone.with_format("numpy")[:][column]
    if values.dtype.kind not in "fiub":
        raise ValueError(
            f"column {column!r} is not numeric, or its entries differ in shape ({feature}); "
            "turn it into numbers of one shape first, e.g. by tokenising and padding"
        )
    if values.dtype == np.uint8 and values.ndim in (3, 4):
        return _pixels(values)
    return torch.tensor(values)


def _images(encoded: Sequence[dict[str, Any]], column: str, size: int | None) -> Tensor:
    from PIL import Image  # comes with the `data` extra

    images = [Image.open(io.BytesIO(e["bytes"]) if e["bytes"] else e["path"]) for e in encoded]
    modes = {image.mode for image in images}
    if modes & {"I", "F"} or any(mode.startswith("I;") for mode in modes):
        raise ValueError(f"column {column!r} has images of more than 8 bits per channel; give arrays instead")
    mode = "L" if modes <= {"1", "L"} else "RGB"
    sizes = {image.size for image in images}
    if size is None and len(sizes) > 1:
        seen = f"from {min(sizes)} to {max(sizes)}"
        raise ValueError(
            f"column {column!r} has images of {len(sizes):,} sizes, {seen}; give size=... to average them to squares "
            "in memory, or stream=True to crop them as they are needed"
        )

    decoded = [np.asarray(image if image.mode == mode else image.convert(mode)) for image in images]
    if size is None:
        return _pixels(np.stack(decoded))
    return torch.cat([F.interpolate(_pixels(array[None]), (size, size), mode="area") for array in decoded])


def _pixels(values: np.ndarray) -> Tensor:
    """Bytes [N, H, W] or [N, H, W, C] as float32 [N, C, H, W] in [0, 1]."""
    pixels = torch.tensor(values)  # a copy: what PIL and Arrow give must not be written to
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return pixels.contiguous().to(torch.float32).div_(255)  # moving bytes is cheaper than moving floats
