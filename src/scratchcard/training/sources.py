"""Where data comes from: five built-in sets by name, and any Hugging Face dataset by name or folder."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scratchcard.training.data import Data
from scratchcard.training.hub import NotLoaded, load_hub
from scratchcard.training.hub_images import load_images
from scratchcard.training.splits import InMemory
from scratchcard.training.teacher import planted_teacher
from scratchcard.words import unknown

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Per channel over the 50,000 training images in [0, 1]."""
IMAGENET = "ILSVRC/imagenet-1k"
"""On the hub, where one has to accept its terms."""


def load_data(name: str, **options: Any) -> Data:
    """Data by name: `load_data("digits")`, `load_data("cifar10", size=16, n=5000)`, `load_data("a/folder")`.

    Args:
        name: a key of `SOURCES`, or a Hugging Face dataset: "owner/name" on the hub or a local folder.
        options: of the source; see `digits`, `mnist`, `cifar10`, `imagenet`, `teacher` and `load_hub`. A dataset of
            images of several sizes, or too large for memory, is read with stream=True; see `load_images`.

    Raises:
        ValueError: an unknown name or option (with the nearest match), data that is not to be found, or the
            `data` extra missing where it is needed.
    """
    source: Callable[..., Data]
    if name in SOURCES:
        source, arguments = SOURCES[name], ()
    elif "/" in name or Path(name).is_dir():
        source, arguments = load_images if options.pop("stream", False) else load_hub, (name,)
    else:
        raise ValueError(unknown("data", name, SOURCES) + ', or a Hugging Face "owner/name" or folder')
    known = list(inspect.signature(source).parameters)[len(arguments) :] + (["stream"] if arguments else [])
    for option in options:
        if option not in known:
            raise ValueError(unknown(f"option for {name!r}:", option, known))
    return source(*arguments, **options)


def digits(validation: int | float = 144, split_seed: int = 0) -> Data:
    """scikit-learn's 1,797 handwritten digits, float32 [N, 1, 8, 8] in [0, 1]; no download.

    The test split is always the same 360, stratified by class (scikit-learn's `train_test_split`, seed 0).
    """
    # imported when used: it takes as long as torch, in every process of every study
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw: Any = load_digits()
    images = torch.tensor(raw.images / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(raw.target, dtype=torch.int64)
    train, test = train_test_split(range(len(labels)), test_size=360, random_state=0, stratify=labels)
    return Data.from_tensors(
        "digits", (images[train], labels[train]), (images[test], labels[test]), validation, split_seed
    )


def mnist(validation: int | float = 5000, split_seed: int = 0) -> Data:
    """MNIST (LeCun et al. 1998): 60,000 + 10,000 digits, float32 [N, 1, 28, 28] in [0, 1], not normalised."""
    path = _found("mnist", "ylecun/mnist")
    return load_hub(path, validation=validation, split_seed=split_seed, title="mnist")


def cifar10(size: int = 32, n: int | None = None, validation: int | float | None = None, split_seed: int = 0) -> Data:
    """CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 images, float32 [N, 3, size, size], mean 0 and variance 1.

    `size` averages by area to fewer pixels. `n` takes the first n training images, before validation is drawn
    (5,000, or n // 10). Normalised by each channel's mean and standard deviation over all training images at
    32 pixels. Test is always all 10,000.
    """
    if validation is None:
        validation = 5000 if n is None else max(1, n // 10)
    if not 1 <= size <= 32:
        raise ValueError(f"size={size} must be between 1 and 32 pixels")
    data = load_hub(
        _found("cifar10", "uoft-cs/cifar10"),
        validation=validation,
        split_seed=split_seed,
        n=n,
        size=None if size == 32 else size,
        title="cifar10" if size == 32 else f"cifar10 at {size} pixels",
    )
    mean, std = (torch.tensor(values)[:, None, None] for values in (CIFAR10_MEAN, CIFAR10_STD))
    for split in (data.train, data.validation, data.test):
        assert isinstance(split, InMemory), "load_hub holds a dataset in memory"
        assert isinstance(split.inputs, Tensor), "one column of images is one tensor"
        split.inputs.sub_(mean).div_(std)
    return data


def imagenet(
    size: int = 224,
    resize: int | None = None,
    workers: int | None = None,
    validation: int | float = 0.04,
    split_seed: int = 0,
    classes: int | Sequence[str] | None = None,
    n: int | None = None,
) -> Data:
    """ImageNet (Russakovsky et al. 2015): 1,281,167 + 50,000 images of 1,000 classes, read as they are needed.

    Options and augmentation are those of `load_images`. Test is the official validation split, all of it (of the
    `classes`): it chooses nothing. `validation` is drawn from the training images; 4 % are about as many as those
    of the test. Found in the folder imagenet/ of SCRATCHCARD_DATA (train/<class>/*.JPEG and val/<class>/*.JPEG,
    or the hub's parquet files), else downloaded: 150 GB, and as much again for what `datasets` makes of them.
    """
    path = _found("imagenet", IMAGENET)
    try:
        return load_images(
            path,
            size,
            resize,
            workers,
            test="validation",
            validation=validation,
            split_seed=split_seed,
            classes=classes,
            n=n,
            title="imagenet" if size == 224 else f"imagenet at {size} pixels",
        )
    except NotLoaded as error:
        raise ValueError(
            "ImageNet is not there: put train/<class>/*.JPEG and val/<class>/*.JPEG into a folder imagenet and set "
            "SCRATCHCARD_DATA to the folder that has it in it; or accept the terms at "
            f"https://huggingface.co/datasets/{IMAGENET} and log in with `hf auth login` ({path}: {error.reason})"
        ) from error


@functools.wraps(planted_teacher)
def teacher(**options: Any) -> Data:
    """The data of a `planted_teacher`; its arguments are the options."""
    return planted_teacher(**options)[0]


SOURCES: dict[str, Callable[..., Data]] = {
    "digits": digits,
    "mnist": mnist,
    "cifar10": cifar10,
    "imagenet": imagenet,
    "teacher": teacher,
}


def _found(folder: str, hub_name: str) -> str:
    """The local copy under SCRATCHCARD_DATA if there is one, else the name on the hub."""
    local = Path(os.environ.get("SCRATCHCARD_DATA", "")) / folder
    return str(local) if "SCRATCHCARD_DATA" in os.environ and local.is_dir() else hub_name
