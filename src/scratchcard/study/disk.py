"""Files that are whole or not there at all, and what is said when the disk does not do as it is asked."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from scratchcard.atomic import why_not_written
from scratchcard.study.place import ended, place

DAY = 24 * 60 * 60.0


class StoreError(ValueError):
    """The store cannot be read or written as needed; the message says what to do."""


class Damaged(StoreError):
    """Something in a store is not what was written there."""


class Gone(Damaged):
    """Something that a store names is not there."""


def read_whole(path: Path) -> bytes | None:
    """The bytes of a file; None where there is none.

    Raises:
        StoreError: it is there and the system does not give it; nothing is known of what it holds.
    """
    for last in (False, True):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            # a file that another machine has just replaced on a share is "stale" for one who had it open
            if error.errno != errno.ESTALE or last:
                raise unreadable(path, error) from error
    raise AssertionError("the last try returns or raises")


def unreadable(path: Path, error: OSError) -> StoreError:
    """What is to be said when the system does not give a file."""
    return StoreError(
        f"{path} cannot be read, the system says: {error.strerror or error}; nothing was changed, "
        "and the same command continues when it can be read"
    )


def write_whole(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: under a name of its own, to the disk, then renamed.

    Raises:
        OSError: as the system says; nothing half-written is left then.
    """
    for last in (False, False, True):
        # random letters: two writers may well have one process id, on two machines or in two containers
        part = path.with_name(f".{path.name}.{place()}.{os.getpid()}.{secrets.token_hex(4)}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(part, path)
            return
        except FileNotFoundError:  # taken for a leftover by someone whose clock is wrong
            if last:
                raise
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise


def is_leftover(name: str) -> bool:
    """Whether a file is one that `write_whole` is writing, or that a killed one has left."""
    return name.startswith(".") and name.endswith(".part")


def clear_leftovers(folder: Path) -> None:
    """Remove what killed writers left half-written: of processes that ended here, or older than a day.

    Nothing refers to such a file, and a living writer whose file goes writes it again.
    """
    for pattern in (".*.part", "*/.*.part", "snapshots/*/.*.part"):
        for path in folder.glob(pattern):
            # .NAME.PLACE.PROCESS.LETTERS.part; earlier versions left out the place, and are judged by age alone
            parts = path.name.rsplit(".", 4)
            known = len(parts) == 5 and parts[2].isdigit()
            with contextlib.suppress(OSError):
                if (known and ended(parts[1], int(parts[2]))) or _old(path):
                    path.unlink()


def _old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > DAY


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say in one sentence why a store cannot be written.

    Raises:
        StoreError: instead of any OSError inside.
    """
    try:
        yield
    except OSError as error:
        what = why_not_written(error, "choose another folder with --store")
        raise StoreError(
            f"the store {folder} cannot be written: {what}; finished runs are safe, the same command continues"
        ) from error
