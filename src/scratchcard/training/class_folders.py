"""A folder of images with one folder per class in every split, as ImageNet is unpacked: train/<class>/*.JPEG."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scratchcard.training.hub import library

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
"""Split -> what its folder may be called; the first that is there is taken."""
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""Files that are images, in any case; others are passed over, and so are hidden ones."""


def class_folders(path: str) -> dict[str, Path]:
    """The folder of each split of this layout; empty when the training folder is not one of class folders."""
    names = {split: [Path(path, name) for name in names] for split, names in SPLIT_FOLDERS.items()}
    found = {split: next((folder for folder in folders if folder.is_dir()), None) for split, folders in names.items()}
    there = {split: folder for split, folder in found.items() if folder is not None}
    return there if "train" in there and any(entry.is_dir() for entry in there["train"].iterdir()) else {}


def read_class_folders(folders: dict[str, Path], wanted: Iterable[str]) -> dict[str, Any]:
    """The wanted splits as Hugging Face datasets with the columns `image` (paths) and `label`, by name.

    Classes are numbered in the order of their names. The folders are listed by Python, following links: the
    `datasets` library's own reader of image folders takes 25 times as long and does not follow them.
    Raises ValueError for a split without images in class folders, and where `datasets` is not installed.
    """
    datasets = library(str(folders["train"].parent))
    listed = {split: _listed(folders[split]) for split in wanted}
    classes = sorted({name for of_class in listed.values() for name in of_class})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=classes)})
    number = {name: label for label, name in enumerate(classes)}
    return {
        split: datasets.Dataset.from_dict(
            {
                "image": [image for images in of_class.values() for image in images],
                "label": [number[name] for name, images in of_class.items() for _ in images],
            },
            features=features,
        )
        for split, of_class in listed.items()
    }


def _listed(folder: Path) -> dict[str, list[str]]:
    """Class -> paths of its images, both sorted."""
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    images = {
        name: sorted(
            entry.path
            for entry in os.scandir(folder / name)
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
        )
        for name in classes
    }
    found = {name: paths for name, paths in images.items() if paths}
    if not found:
        raise ValueError(
            f"{folder} has no images in class folders; sort its images into one folder per class, "
            f"{folder / '<class>' / '*.jpg'}"
        )
    return found
