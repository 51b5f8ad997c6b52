"""Operators that turn places into channels or back: neighbouring channels are one unit, or become many of one."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.fx import Node

from scratchcard.networks.apart import POSITION
from scratchcard.networks.labels import Dims
from scratchcard.networks.walk import Rule, Walk, as_chunks, as_one, free, with_labels


def _shuffled(walk: Walk, node: Node, x: Dims, groups: int) -> Dims:
    """The first of every group, then the second of every group: groups that lose the same ones stay groups."""
    size = len(x[1]) // groups
    as_chunks(walk, x[1], size)
    return with_labels(x, 1, x[1].reshape(groups, size).T.flatten())


def _pixels_from_channels(walk: Walk, node: Node, x: Dims, factor: int) -> Dims:
    """So many neighbouring channels are the pixels of one."""
    return _folded(walk, node, x, factor**2, -3)


def _channels_from_pixels(walk: Walk, node: Node, x: Dims, factor: int) -> Dims:
    return _unfolded(walk, node, x, factor**2, -3)


def _windows(walk: Walk, node: Node, x: Dims, kernel: Any, *_: Any) -> Dims:
    """The entries under a window become neighbouring channels (`nn.Unfold`)."""
    return _unfolded(walk, node, x, int(np.prod(kernel)), -3)


def _from_windows(walk: Walk, node: Node, x: Dims, size: Any, kernel: Any, *_: Any) -> Dims:
    return _folded(walk, node, x, int(np.prod(kernel)), -2)


def _unfolded(walk: Walk, node: Node, x: Dims, times: int, channels: int) -> Dims:
    for labels in x[channels + 1 :]:
        walk.unions.keep(labels, POSITION)
    lead = x[: len(x) + channels]
    return [*lead, np.repeat(x[channels], times), *free(walk.shape(node)[len(lead) + 1 :])]


def _folded(walk: Walk, node: Node, x: Dims, times: int, channels: int) -> Dims:
    for labels in x[channels + 1 :]:
        walk.unions.keep(labels, POSITION)
    blocks_of = x[channels].reshape(-1, times)
    for block in blocks_of:
        as_one(walk, block)
    lead = x[: len(x) + channels]
    return [*lead, blocks_of[:, 0], *free(walk.shape(node)[len(lead) + 1 :])]


def _sliding(walk: Walk, node: Node, x: Dims, dim: int, *_: Any) -> Dims:
    """Windows along a dimension, as a dimension of their own."""
    walk.unions.keep(x[dim], POSITION)
    shape = walk.shape(node)
    return [*with_labels(x, dim, free((shape[dim % len(x)],))[0]), *free(shape[-1:])]


FOLDS: dict[str, Rule] = {
    "channel_shuffle": _shuffled,
    "pixel_shuffle": _pixels_from_channels,
    "pixel_unshuffle": _channels_from_pixels,
    "im2col": _windows,
    "col2im": _from_windows,
    "unfold": _sliding,
}
"""Operator -> rule."""
