"""A folder or a Hugging Face dataset of images of any size as Data that is streamed: never held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from loky import cpu_count

from scratchcard.training.class_folders import class_folders, read_class_folders
from scratchcard.training.crops import CentreCrop, RandomCrop
from scratchcard.training.data import Data
from scratchcard.training.hub import pick_columns, read_splits
from scratchcard.training.images import READING, Images
from scratchcard.training.seeds import derive
from scratchcard.training.splits import InMemory


def load_images(
    path: str,
    size: int = 224,
    resize: int | None = None,
    workers: int | None = None,
    train: str = "train",
    test: str = "test",
    validation: str | int | float | None = None,
    split_seed: int = 0,
    classes: int | Sequence[str] | None = None,
    n: int | None = None,
    inputs: str | None = None,
    targets: str | None = None,
    subset: str | None = None,
    title: str | None = None,
) -> Data:
    """Images of any size and their classes, float32 [N, 3, size, size], read from disk as they are needed.

    Training images: a random part of 8-100 % of the area, resized to size x size, mirrored half of the time - a
    function of the run's seed and the step, whatever the workers. Images to evaluate on, held-out ones among them:
    the short side resized, the centre cut out. All are converted to RGB and normalised by ImageNet's mean and
    deviation; orientation tags are not followed. Names of the classes: `class_names(data)`.

    Args:
        path: a local folder with train/<class>/*.jpg, or what `load_hub` takes.
        size: pixels of a side, as the network sees it.
        resize: pixels that the short side is resized to for evaluation; by default 8/7 of `size` (256 for 224).
        workers: processes that read and decode, beside each training; by default as many as cores. Not identity.
        train: name of the split to train on.
        test: name of the split to test on.
        validation: name of a split, or a count or a fraction of the training images. By default the split
            "validation" where there is one, else 0.1.
        split_seed: draws the validation images out of the training images, and the `n`.
        classes: how many (the first, by number), or which by name; they are numbered anew, in their old order.
        n: so many training images, drawn at random, before validation is drawn.
        inputs: column of the images; guessed, as `targets` is, where only one choice is possible.
        targets: column of the classes.
        subset: the configuration, for a dataset that has several.
        title: name of the data; by default the last part of `path`.

    Raises:
        ValueError: the `data` extra is not installed; the dataset, a split, a column or a class is not to be found;
            test images without a class, or of one that is not trained; sizes that do not fit. When an image is
            read: `Unreadable`, with its name.
    """
    resize = round(size * 8 / 7) if resize is None else resize
    if not 1 <= size <= resize:
        raise ValueError(f"size={size} must be at least 1 pixel, and resize={resize} at least as many")
    if workers is not None and workers < 0:
        raise ValueError(f"workers={workers} must be 0 (the training itself reads) or more")
    folders = class_folders(path)
    splits: dict[str, Any] = dict(folders) or read_splits(path, subset)
    if validation is None:
        validation = "validation" if "validation" in splits and test != "validation" else 0.1
    wanted = {"train": train, "test": test}
    if isinstance(validation, str):
        wanted["validation"] = validation
    if not set(wanted.values()) <= set(splits):
        asked = ", ".join(f"{option}={split!r}" for option, split in wanted.items())
        raise ValueError(f"{path!r} has the splits {', '.join(splits)}; asked for {asked}")
    tables = read_class_folders(folders, set(wanted.values())) if folders else splits
    title = title or path.rstrip("/").rsplit("/", 1)[-1]
    column, target = pick_columns(path, tables[train].features, inputs, targets)
    names = _class_names([tables[split] for split in wanted.values()], target)
    number = _numbered(path, names, classes)
    centre = CentreCrop(size, resize)
    chosen = {
        option: _images(tables[split], str(column), target, names, number, centre, f"{title}, {split}")
        for option, split in wanted.items()
    }
    _check_trained(chosen)
    if n is not None:
        chosen["train"] = _drawn(chosen["train"], n, split_seed)
    identity = " ".join([f"{READING}; {centre}", *(f"{o}: {images.identity()}" for o, images in chosen.items())])
    return Data.from_dataset(
        title,
        replace(chosen["train"], transform=RandomCrop(size)),
        chosen["test"],
        chosen["validation"] if isinstance(validation, str) else validation,
        split_seed=split_seed,
        workers=cpu_count() if workers is None else workers,
        identity=hashlib.sha256(identity.encode()).hexdigest(),
        plain=chosen["train"],
    )


def class_names(data: Data) -> tuple[str, ...]:
    """Names of the classes of streamed images, in the order of their labels; ValueError for other data."""
    images = None if isinstance(data.test, InMemory) else data.test.dataset
    if not isinstance(images, Images):
        raise ValueError(f"{data.name} are not streamed images, so that nothing is known of their classes' names")
    return images.classes


def _images(
    table: Any,
    column: str,
    target: str,
    names: tuple[str, ...],
    number: dict[int, int],
    transform: CentreCrop,
    split: str,
) -> Images:
    """The images of a table whose classes are numbered, under their new numbers."""
    feature = table.features[column]
    if type(feature).__name__ != "Image":
        raise ValueError(f"column {column!r} of {split} has no images ({feature}); give inputs=... the one that has")
    labels = _labels(table, target)
    if (labels < 0).any():
        raise ValueError(
            f"{(labels < 0).sum():,} of {len(labels):,} images of {split} have no class; choose a split that has, "
            "e.g. test='validation'"
        )
    new = np.array([number.get(label, -1) for label in range(len(names))])[labels]
    index = np.flatnonzero(new >= 0)
    rows = table.select_columns([column]).cast_column(column, type(feature)(decode=False))
    return Images(rows, column, index, new[index], tuple(names[label] for label in number), transform, split)


def _labels(table: Any, target: str) -> np.ndarray:
    """A column of classes, int64; -1 where there is none."""
    import pyarrow as pa  # comes with the `data` extra
    import pyarrow.compute as pc

    values = table.data.column(target)
    if not pa.types.is_integer(values.type):
        raise ValueError(
            f"column {target!r} is no column of classes ({table.features[target]}); for other targets give "
            "sc.Data.from_dataset a Dataset of your own"
        )
    return pc.fill_null(values, -1).to_numpy().astype(np.int64)


def _class_names(tables: list[Any], target: str) -> tuple[str, ...]:
    """Of class labels their names; of whole numbers the numbers up to the largest of any split."""
    names = getattr(tables[0].features[target], "names", None)
    return tuple(names or map(str, range(max(_labels(table, target).max(initial=0) for table in tables) + 1)))


def _numbered(path: str, names: tuple[str, ...], classes: int | Sequence[str] | None) -> dict[int, int]:
    """Old number -> new number of the classes that were asked for, in order."""
    if classes is None or isinstance(classes, int):
        number = len(names) if classes is None else classes
        if not 2 <= number <= len(names):
            raise ValueError(f"classes={classes} must be between 2 and the {len(names):,} classes of {path!r}")
        return {label: label for label in range(number)}
    asked = {classes} if isinstance(classes, str) else set(classes)
    missing = sorted(asked - set(names))
    if missing or len(asked) < 2:
        raise ValueError(
            f"classes must name two or more of the {len(names):,} classes of {path!r} "
            f"({', '.join(names[:3])}, ...), got {', '.join(map(repr, missing or asked)) or 'none'}"
        )
    return {label: new for new, label in enumerate(i for i, name in enumerate(names) if name in asked)}


def _check_trained(chosen: dict[str, Images]) -> None:
    train = chosen["train"]
    for images in chosen.values():
        strange = np.setdiff1d(images.labels, train.labels)
        if strange.size:
            raise ValueError(
                f"{images.split} has images of {strange.size:,} classes of which {train.split} has none, the first "
                f"{images.classes[strange[0]]!r}; name the classes that both have by classes=[...]"
            )


def _drawn(images: Images, n: int, seed: int) -> Images:
    if not 2 <= n <= len(images):
        raise ValueError(f"n={n} must be between 2 and the {len(images):,} training images")
    chance = torch.Generator().manual_seed(derive(seed, "n"))
    chosen = torch.randperm(len(images), generator=chance)[:n].sort().values.numpy()
    return replace(images, index=images.index[chosen], labels=images.labels[chosen])
