"""A file or a folder appears under its name whole or not at all: written to another name beside it, then renamed.

Killed in between, what was there before is still there, and what is left of the attempt has a name of its own that
blocks nobody.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

_FORGOTTEN = 24 * 3600
"""Seconds without a change after which an unfinished folder is taken for what a killed program left."""


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name in the same folder to write to; it becomes `path` when the block ends well and is removed when not.

    A link is followed, and what is no file (/dev/stdout, a pipe) is written to as it is.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path = path.resolve() if path.is_symlink() else path
    # the ending stays, as some writers go by it
    part = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(6)}.part{path.suffix}")
    try:
        yield part
        with open(part, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_whole(folder: Path) -> Iterator[Path]:
    """An empty folder beside to write to; it becomes `folder` when the block ends well and is removed when not.

    Args:
        folder: a new or empty one; folders that it lies in are made.

    Raises:
        ValueError: it is a file, or holds something, or it is the folder that this program runs in.
    """
    check_new(folder)
    final = folder.resolve()
    final.parent.mkdir(parents=True, exist_ok=True)
    _clear(final)
    part = final.with_name(f".{final.name[:100]}.{secrets.token_hex(6)}.part")
    part.mkdir()
    try:
        yield part
        if final.is_dir():  # empty; not every system renames onto a folder
            final.rmdir()
        os.rename(part, final)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def why_not_written(error: OSError, elsewhere: str) -> str:
    """What an error of the system means for who wants to write, and what to do; `elsewhere` is how to go elsewhere."""
    reasons = {
        errno.ENOSPC: "the disk is full; free some space",
        errno.EDQUOT: "the disk quota is used up; free some space",
        errno.EROFS: f"the disk is read-only; {elsewhere}",
        errno.EACCES: f"it may not be written to; change its permissions or {elsewhere}",
    }
    where = f" ({error.filename})" if error.filename else ""
    return reasons.get(error.errno or 0, f"{error.strerror or error}{where}; {elsewhere}")


def check_new(folder: Path) -> None:
    """Refuse a folder in which something could be lost.

    Raises:
        ValueError: it is a file, or holds something, or it is the folder that this program runs in.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already; give a new or empty folder")
    if folder.resolve() == Path.cwd():
        raise ValueError(f"{folder} is the folder you are in, which cannot be replaced; give the name of a new one")


def _clear(final: Path) -> None:
    """Remove what programs left that were killed while they wrote this folder."""
    for left in final.parent.glob(f".{_literal(final.name[:100])}.{'[0-9a-f]' * 12}.part"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _FORGOTTEN:
                shutil.rmtree(left)


def _literal(name: str) -> str:
    return "".join(f"[{one}]" if one in "*?[" else one for one in name)
