"""Augmentation of image batches: every draw is a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Callable
from math import floor

import torch
import torch.nn.functional as F
from torch import Tensor

from scratchcard.training.seeds import derive
from scratchcard.types import Tensors
from scratchcard.words import unknown


def augment(inputs: Tensors, names: tuple[str, ...], seed: int, step: int, crop: float) -> Tensor:
    """A batch of images, each augmented by a draw of its own that is a function of (seed, step).

    Args:
        inputs: images [B, C, H, W].
        names: keys of `AUGMENTATIONS`, applied in this order; the draws of one do not depend on the others.
        seed: the run's seed.
        step: the optimizer step the batch is for.
        crop: as of `Recipe`.

    Raises:
        ValueError: an unknown name, or inputs that are not images.
    """
    if not isinstance(inputs, Tensor) or inputs.ndim != 4:
        seen = list(inputs.shape) if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
        raise ValueError(f"augmentation needs one tensor of images [B, C, H, W], got {seen}")
    for name in names:
        if name not in AUGMENTATIONS:
            raise ValueError(unknown("augmentation", name, AUGMENTATIONS))
        chance = torch.Generator().manual_seed(derive(seed, name, step))
        inputs = AUGMENTATIONS[name](inputs, chance, crop)
    return inputs


def padding(side: int, crop: float) -> int:
    """Pixels of zeros on either end of a side before a crop: its share, halves rounded up, and at least one.

    An eighth is the 4 pixels of 32 of He et al. 2016, sec. 4.2.
    """
    return max(1, floor(side * crop + 0.5))


def _pad_crop(images: Tensor, chance: torch.Generator, crop: float) -> Tensor:
    batch, _, height, width = images.shape
    high, wide = padding(height, crop), padding(width, crop)
    top, left = (
        torch.randint(0, 2 * pixels + 1, (batch,), generator=chance).to(images.device) for pixels in (high, wide)
    )
    # every crop there is, as a view [B, C, 2 high + 1, 2 wide + 1, H, W]
    windows = F.pad(images, (wide, wide, high, high)).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(batch, device=images.device), :, top, left]


def _flip(images: Tensor, chance: torch.Generator, crop: float) -> Tensor:
    flipped = torch.rand(len(images), generator=chance).to(images.device) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator, float], Tensor]] = {
    "pad-crop": _pad_crop,
    "flip": _flip,
}
"""Name -> (images [B, C, H, W], CPU generator, `Recipe.crop`) -> images of the same shape. A flip is left to right."""
