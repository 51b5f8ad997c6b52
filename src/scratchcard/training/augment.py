"""Augmentation of image batches: every draw is a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from scratchcard.training.seeds import derive
from scratchcard.types import Tensors
from scratchcard.words import unknown

PADDING = 4
"""Pixels of zeros on every side before a crop (He et al. 2016, sec. 4.2)."""


def augment(inputs: Tensors, names: tuple[str, ...], seed: int, step: int) -> Tensor:
    """A batch of images, each augmented by a draw of its own that is a function of (seed, step).

    Args:
        inputs: images [B, C, H, W].
        names: keys of `AUGMENTATIONS`, applied in this order; the draws of one do not depend on the others.
        seed: the run's seed.
        step: the optimizer step the batch is for.

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
        inputs = AUGMENTATIONS[name](inputs, chance)
    return inputs


def _pad_crop(images: Tensor, chance: torch.Generator) -> Tensor:
    batch, _, height, width = images.shape
    top, left = torch.randint(0, 2 * PADDING + 1, (2, batch), generator=chance).to(images.device)
    # every crop there is, as a view [B, C, 9, 9, H, W]
    windows = F.pad(images, (PADDING,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(batch, device=images.device), :, top, left]


def _flip(images: Tensor, chance: torch.Generator) -> Tensor:
    flipped = torch.rand(len(images), generator=chance).to(images.device) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "pad-crop": _pad_crop,
    "flip": _flip,
}
"""Name -> (images [B, C, H, W], CPU generator) -> images of the same shape. A flip is left to right."""
