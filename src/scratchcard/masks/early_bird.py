"""When has a mask settled? The early-bird detector: masks drawn while training, and how far apart they lie.

You et al. 2020, Drawing Early-Bird Tickets, section 3: a mask is drawn after every epoch, without cutting anything, and
once it hardly changes any more the ticket is there. Ours: both readings of "hardly changes" (the paper's and that of
its released code) by name, and densities at which even random masks would pass are refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from scratchcard.masks.compare import distance
from scratchcard.types import UnitMask, WeightMask
from scratchcard.words import unknown

READINGS = ("consecutive", "window")
_AT_ONCE = 1 << 24
"""Entries unpacked at a time for the matrix; below 2^24 a float32 still counts exactly."""


class EarlyBirdDetector:
    """Tells from which mask on a network's mask no longer changes, in anyone's own training loop.

    Works on any masks: channels, weights, edges of a graph. Call `update` once per epoch (or every n steps):

        detector = EarlyBirdDetector()
        for epoch in range(epochs):
            train_one_epoch(model)
            if detector.update(draw_mask(model)):
                break

    Raw Hamming distance cannot tell a settled mask from a random one where nearly all or nearly nothing is cut: two
    random masks of density 0.95 differ in 0.095 of their entries, which is below 0.1. Such masks are refused, unless
    `normalised` divides each distance by that of random masks first (0: the same mask, 1: no more alike than chance).
    """

    def __init__(
        self, epsilon: float = 0.1, patience: int = 5, reading: str = "consecutive", normalised: bool = False
    ) -> None:
        """Nothing seen yet.

        Args:
            epsilon: the distance that counts as settled, in (0, 1).
            patience: "consecutive" looks at so many distances, "window" at so many masks.
            reading: "consecutive" is the paper's, max(queue) < epsilon over a queue of the last `patience` distances
                between a mask and the one before; it never fires before `patience` + 1 masks. "window" is the
                released code's: the newest mask against each of the `patience` - 1 older ones in a queue of `patience`
                masks, all <= epsilon; it never fires before the queue is full. A mask that drifts slowly settles by
                the first and not by the second.
            normalised: compare distance / `random_distance` with epsilon, instead of the distance itself.

        Raises:
            ValueError: a number out of range, or an unknown reading.
        """
        if reading not in READINGS:
            raise ValueError(unknown("reading", reading, READINGS))
        fewest = 1 if reading == "consecutive" else 2
        if not (0 < epsilon < 1 and patience >= fewest):
            raise ValueError(
                f"the {reading} reading needs 0 < epsilon < 1 and patience >= {fewest}, got {epsilon=}, {patience=}"
            )
        self.epsilon, self.patience, self.reading = epsilon, patience, reading
        self.distances: list[float] = []
        """Raw Hamming distance of every mask from the one before: one fewer than masks."""
        self.normalised: list[float] = []
        """The same, each divided by the expected distance of two random masks of these densities."""
        self.log: list[Tensor] = []
        """Every mask seen, eight entries per byte (uint8), all tensors in the order of the first mask's names."""
        self.epoch: int | None = None
        """How many masks had been seen when it fired; None before. One per epoch: the epochs trained by then."""
        self._by_normalised = normalised
        self._older: deque[UnitMask | WeightMask] = deque(maxlen=patience - 1 if reading == "window" else 1)
        self._shapes: dict[str, torch.Size] = {}

    def update(self, mask: UnitMask | WeightMask) -> bool:
        """Look at the next mask; True from the one on at which the mask has settled.

        Args:
            mask: name -> boolean tensor of any shape, True = kept; kept as a copy.

        Raises:
            ValueError: entries that are not boolean; a mask without entries; names or shapes other than before; or a
                density at which random masks would pass.
        """
        wrong = [f"{name} is {kept.dtype}" for name, kept in mask.items() if kept.dtype != torch.bool]
        if wrong or not any(kept.numel() for kept in mask.values()):
            raise ValueError(
                f"a mask of boolean tensors was needed, True = kept, but {', '.join(wrong) or 'it has no entries'}"
            )
        newest = {name: kept.detach().to("cpu", copy=True) for name, kept in mask.items()}
        apart = [distance(newest, older) for older in self._older]  # also refuses other names and shapes
        self._refuse_vacuous(newest)
        self._shapes = self._shapes or {name: kept.shape for name, kept in newest.items()}
        if apart:
            self.distances.append(apart[-1])
            self.normalised.append(apart[-1] / random_distance(newest, self._older[-1]))
        if self.epoch is None and self._settled(newest, apart):
            self.epoch = len(self.log) + 1
        self._older.append(newest)
        flat = torch.cat([newest[name].flatten() for name in self._shapes])
        self.log.append(torch.from_numpy(np.packbits(flat.numpy())))
        return self.epoch is not None

    def mask(self, number: int) -> UnitMask | WeightMask:
        """A mask seen, unpacked from the log: `mask(detector.epoch)` is the early-bird ticket's.

        Args:
            number: 1 for the first.

        Raises:
            ValueError: so many have not been seen.
        """
        if not 1 <= number <= len(self.log):
            raise ValueError(f"mask {number} was asked for, but those seen are numbered 1 to {len(self.log)}")
        sizes = [shape.numel() for shape in self._shapes.values()]
        bits = torch.from_numpy(np.unpackbits(self.log[number - 1].numpy(), count=sum(sizes))).bool()
        parts = bits.split(sizes)
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def matrix(self) -> Tensor:
        """Raw distances of all masks seen from one another, float64 [N, N] (the mask-distance figure of You et al.)."""
        number, entries = len(self.log), sum(shape.numel() for shape in self._shapes.values())
        if not number:
            return torch.zeros(0, 0, dtype=torch.float64)
        together = torch.zeros(number, number, dtype=torch.float64)
        for part in torch.stack(self.log).split(max(1, _AT_ONCE // (8 * number)), dim=1):
            bits = torch.from_numpy(np.unpackbits(part.contiguous().numpy(), axis=1)).float()
            together += (bits @ bits.T).double()
        kept = together.diagonal()
        return (kept[:, None] + kept[None, :] - 2 * together) / entries

    def _settled(self, newest: UnitMask | WeightMask, apart: list[float]) -> bool:
        if self.reading == "consecutive":
            lately = (self.normalised if self._by_normalised else self.distances)[-self.patience :]
            return len(lately) == self.patience and max(lately) < self.epsilon
        if self._by_normalised:
            apart = [far / random_distance(newest, older) for far, older in zip(apart, self._older, strict=True)]
        return len(apart) == self.patience - 1 and max(apart) <= self.epsilon

    def _refuse_vacuous(self, mask: UnitMask | WeightMask) -> None:
        at_random = random_distance(mask)
        share = _share_cut(mask)
        if at_random == 0:
            raise ValueError(
                f"a mask that cuts {share:.0%} is the same as any other: its distance says nothing; cut a part"
            )
        if not self._by_normalised and at_random <= self.epsilon:
            raise ValueError(
                f"two random masks that cut {share:.4g} of the entries differ in {at_random:.4g} of them, which "
                f"already is within epsilon={self.epsilon:g}, so any mask would pass; choose an epsilon below "
                f"{at_random:.4g}, or normalised=True to compare distances with those of random masks"
            )


def random_distance(
    mask: UnitMask | WeightMask | Mapping[str, tuple[int, int]],
    other: UnitMask | WeightMask | Mapping[str, tuple[int, int]] | None = None,
) -> float:
    """Expected distance of two random masks of this density, in [0, 0.5]: 2p(1 - p), with p the share cut of the whole.

    Args:
        mask: a mask, or its counts {name: (kept, all)}.
        other: the second mask, where its density is another one: p(1 - r) + r(1 - p), in [0, 1].
    """
    p = _share_cut(mask)
    r = p if other is None else _share_cut(other)
    return p * (1 - r) + r * (1 - p)


def kept_overlap(a: UnitMask | WeightMask, b: UnitMask | WeightMask) -> float:
    """Entries that both masks keep / entries that either keeps, in [0, 1]; 1 where neither keeps any.

    Raises:
        ValueError: the masks do not cover the same names and shapes.
    """
    differing = round(distance(a, b) * sum(kept.numel() for kept in a.values()))
    kept = sum(int(part.sum()) for mask in (a, b) for part in mask.values())
    return (kept - differing) / (kept + differing) if kept else 1.0


def _share_cut(mask: UnitMask | WeightMask | Mapping[str, tuple[int, int]]) -> float:
    pairs = [of if isinstance(of, tuple) else (int(of.sum()), of.numel()) for of in mask.values()]
    everything = sum(size for _, size in pairs)
    return (everything - sum(kept for kept, _ in pairs)) / everything
