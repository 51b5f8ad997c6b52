"""How an image of any size becomes a square: a random part of it to train on, its centre to evaluate on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1], over ImageNet's training images; every published ImageNet network has these."""
ATTEMPTS = 10
"""How many parts are drawn before a long or narrow image is cut in its centre."""


@dataclass(frozen=True)
class RandomCrop:
    """A random part of the image, resized to size x size pixels and mirrored half of the time: [3, size, size].

    Area 8-100 % of the image's, evenly; width / height from 3/4 to 4/3, evenly in its logarithm. Draws from
    torch's global generator, the same number of times for every image.
    Source: Szegedy et al. 2015, Going Deeper with Convolutions, sec. 6; the flip: Krizhevsky et al. 2012, sec. 4.1.
    """

    size: int

    def __call__(self, image: Image) -> Tensor:
        """An RGB image of any size, as normalised float32."""
        flip, *part = torch.rand(1 + 4 * ATTEMPTS, dtype=torch.float32).tolist()
        cropped = _resized(image.crop(random_box(*image.size, part)), self.size, self.size)
        return _normalised(np.asarray(cropped)[:, ::-1] if flip < 0.5 else np.asarray(cropped))


@dataclass(frozen=True)
class CentreCrop:
    """The image with its short side resized to `resize` pixels, cut to the central size x size: [3, size, size].

    Source: the single-crop test of He et al. 2016, sec. 3.4 and 4.1, at 256 and 224 pixels.
    """

    size: int
    resize: int

    def __call__(self, image: Image) -> Tensor:
        """An RGB image of any size, as normalised float32."""
        short = min(image.size)
        width, height = (side * self.resize // short for side in image.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        whole = _resized(image, width, height)
        return _normalised(np.asarray(whole.crop((left, top, left + self.size, top + self.size))))


def random_box(width: int, height: int, chance: Sequence[float]) -> tuple[int, int, int, int]:
    """The part of an image that `chance` stands for, as (left, top, right, bottom) in whole pixels.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        chance: four numbers in [0, 1) for each attempt: area, shape, left, top. The first part that fits into
            the image is taken; if none does, the largest in the centre whose shape is allowed.
    """
    for area, shape, left, top in zip(*[iter(chance)] * 4, strict=True):
        pixels, ratio = (0.08 + 0.92 * area) * width * height, math.exp((2 * shape - 1) * math.log(4 / 3))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(left * (width - w + 1)), int(top * (height - h + 1))
            return x, y, x + w, y + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    x, y = (width - w) // 2, (height - h) // 2
    return x, y, x + w, y + h


def _resized(image: Image, width: int, height: int) -> Image:
    from PIL.Image import Resampling  # comes with the `data` extra

    return image.resize((width, height), Resampling.BILINEAR)  # Pillow's averages over all pixels that become one


def _normalised(pixels: np.ndarray) -> Tensor:
    """Bytes [H, W, 3] as float32 [3, H, W]."""
    planes = torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))
    mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return planes.to(torch.float32).div_(255).sub_(mean).div_(std)
