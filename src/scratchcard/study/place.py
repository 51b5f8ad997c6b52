"""Where a process id means something: this machine, since it was started, in this namespace of processes."""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from pathlib import Path


def host() -> str:
    """What this machine is called."""
    return socket.gethostname()


def place() -> str:
    """Eight hexadecimal digits: equal where equal process ids are the same process.

    Containers have process ids of their own, and a machine counts anew when it is started again.
    """
    return hashlib.sha256(f"{host()} {_boot()} {_namespace()}".encode()).hexdigest()[:8]


def ended(where: str, process: int) -> bool:
    """Whether a process is certainly no more: it ran here, and does not any longer."""
    return where == place() and not _lives(process)


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not a Linux
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    try:  # one that has ended and that nobody has asked about yet still has its id
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in "ZX"
