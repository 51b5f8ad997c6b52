"""What a mask says about itself and about another one: counts, density, distance, nesting, digest."""

from __future__ import annotations

import hashlib

import torch

from scratchcard.types import WeightMask


def counts(mask: WeightMask) -> dict[str, tuple[int, int]]:
    """Kept and all entries of every tensor, exactly: name -> (kept, all)."""
    return {name: (int(kept.sum()), kept.numel()) for name, kept in mask.items()}


def density(mask: WeightMask) -> float:
    """Kept / all weights, in [0, 1]: the paper's Pm = ||m||_0 / |theta| (Frankle & Carbin 2019, section 1)."""
    per_layer = counts(mask).values()
    return sum(kept for kept, _ in per_layer) / sum(total for _, total in per_layer)


def distance(a: WeightMask, b: WeightMask) -> float:
    """Share of positions where two masks of the same network differ (raw Hamming distance, in [0, 1]).

    Raises:
        ValueError: the masks do not cover the same names and shapes.
    """
    _same_shape(a, b)
    return sum(int((a[name] ^ b[name]).sum()) for name in a) / sum(kept.numel() for kept in a.values())


def nested(inner: WeightMask, outer: WeightMask) -> bool:
    """True when nothing that `outer` cut was revived in `inner`.

    Raises:
        ValueError: the masks do not cover the same names and shapes.
    """
    _same_shape(inner, outer)
    return not any(bool((inner[name] & ~outer[name]).any()) for name in inner)


def digest(mask: WeightMask) -> str:
    """SHA-256 over names, shapes and entries: equal for equal masks, whatever the order of names."""
    sha = hashlib.sha256()
    for name in sorted(mask):
        sha.update(f"{name}{tuple(mask[name].shape)}".encode())
        sha.update(mask[name].to(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _same_shape(a: WeightMask, b: WeightMask) -> None:
    shapes_a, shapes_b = ({name: tuple(kept.shape) for name, kept in mask.items()} for mask in (a, b))
    differing = sorted(name for name in shapes_a.keys() | shapes_b.keys() if shapes_a.get(name) != shapes_b.get(name))
    if differing:
        raise ValueError(
            "two masks of one network were needed, but they differ in name or shape at: "
            + ", ".join(f"{name} {shapes_a.get(name)} / {shapes_b.get(name)}" for name in differing)
        )
