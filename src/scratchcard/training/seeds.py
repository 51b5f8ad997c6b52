"""Every source of chance is a function of named causes, so that any part of a study can be replayed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(*causes: int | str) -> int:
    """A seed in [0, 2^63) that depends on all causes and their order: `derive(seed, "fresh-init", level)`."""
    return int.from_bytes(hashlib.sha256(repr(causes).encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block under a torch seed and give the global random state back untouched."""
    with torch.random.fork_rng():
        # torch.manual_seed would also write a stack trace for each kind of device that is not there: 0.4 ms a call
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)
        yield
