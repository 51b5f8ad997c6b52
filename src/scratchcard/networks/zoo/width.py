"""How many channels a layer has when its network is made narrower or wider."""

from __future__ import annotations

import math


def scaled(channels: int, width: float) -> int:
    """`width` times the channels, rounded, at least one.

    Raises:
        ValueError: the factor is not a positive number, or there is not even one channel.
    """
    if channels < 1:
        raise ValueError(f"a layer needs at least one channel, got {channels}")
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"width={width} is a factor on the channels of every layer; it must be a positive number")
    return max(1, round(width * channels))
