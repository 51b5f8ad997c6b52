"""Seconds of computation: of this process's processor, so that other programs do not count; of the wall on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def clock(device: str) -> Callable[[], float]:
    """What to read twice to know how long something took on a device.

    On a CPU it counts seconds of all threads of this process; processes that load data are left out. On any other
    device it is the wall's, to be read when the device has finished.
    """
    return time.process_time if torch.device(device).type == "cpu" else time.perf_counter
