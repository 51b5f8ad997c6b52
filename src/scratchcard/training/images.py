"""Images of any size as a Dataset: rows of a table of encoded images, each decoded when it is asked for."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from scratchcard.training.splits import Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

READING = "1: RGB as stored; bilinear, antialiased; ImageNet's mean and deviation"
"""How images are read, part of the data's identity: changed whenever the same file would give other numbers."""
SAMPLED = 64
"""Of so many images per split the bytes are part of the identity; of all others, name, size and class."""


@dataclass(frozen=True, eq=False)
class Images(Dataset[tuple[Tensor, int]]):
    """Pairs (image, class): rows of a Hugging Face dataset, each decoded when it is asked for."""

    rows: Any
    """A `datasets.Dataset` whose images are not decoded."""
    column: str
    """Where the images are."""
    index: np.ndarray
    """The rows that are meant, int64, in this order."""
    labels: np.ndarray
    """The class of each of them, int64."""
    classes: tuple[str, ...]
    """Name of each class, in the order of the labels."""
    transform: Callable[[Image], Tensor]
    split: str
    """What the rows are a split of, for sentences."""

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        """The i-th image, transformed, and its class.

        Raises:
            Unreadable: the image is broken or not there; names it.
        """
        row = int(self.index[i])
        stored = self.rows[row][self.column] or {}
        try:
            return self.transform(_decoded(stored)), int(self.labels[i])
        except Exception as error:  # Pillow has a dozen kinds of them for what can be wrong with a file
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
            where = f"{stored.get('path') or ''} (row {row} of {self.split})".strip()
            raise Unreadable(f"the image {where} cannot be read; repair or remove it ({reason})") from error

    def encoded(self, i: int) -> bytes:
        """The i-th image as it is stored; nothing where there is none."""
        stored = self.rows[int(self.index[i])][self.column] or {}
        if stored.get("bytes") is None and stored.get("path") and Path(stored["path"]).is_file():
            return Path(stored["path"]).read_bytes()
        return stored.get("bytes") or b""

    def identity(self) -> str:
        """SHA-256 over name, size in bytes and class of every image and the bytes of a few; nothing is decoded.

        The name is the file's with its folder's, so that the data may be moved elsewhere.
        """
        import pyarrow.compute as compute  # comes with the `data` extra

        pc: Any = compute  # its functions are made when it is imported, unseen by a type checker
        digest = hashlib.sha256(repr(self.classes).encode() + self.labels.astype("<i8").tobytes())
        column = self.rows.data.column(self.column)
        paths = pc.struct_field(column, "path").take(self.index).to_pylist()
        inside = pc.binary_length(pc.struct_field(column, "bytes")).take(self.index).to_pylist()
        for path, size in zip(paths, inside, strict=True):
            name = "/".join(path.split(os.sep)[-2:]) if path else ""
            digest.update(f"|{name}:{_file_size(path) if size is None else size}".encode())
        for i in np.unique(np.linspace(0, len(self) - 1, SAMPLED).astype(int)):
            digest.update(self.encoded(i))
        return digest.hexdigest()


def _decoded(stored: dict[str, Any]) -> Image:
    """An RGB image of what is stored: bytes, or a path."""
    from PIL import Image  # comes with the `data` extra

    file = io.BytesIO(stored["bytes"]) if stored.get("bytes") is not None else stored.get("path")
    if file is None:
        raise ValueError("the row has no image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about cameras' tags and palettes, which change no pixel
        with Image.open(file) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;"):
                raise ValueError(f"more than 8 bits per channel, mode {image.mode}")
            return image.convert("RGB")


def _file_size(path: str | None) -> int:
    try:
        return os.path.getsize(path or "")
    except OSError:
        return -1
