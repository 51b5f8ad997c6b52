"""Who is at what: a file for each part of a study that a process works on, so that two machines train nothing twice.

    claims/ID.json    who works on it; a byte longer at every beat

A claim that has not grown for a while, by the clock of the one who waits, is nobody's any more; so is one whose process
ended here. Nobody waits for a claim while holding one, so that no two can wait for each other. Claims save work and
are never needed for a right result: whoever cannot make one works without, and two writers write the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from scratchcard.study.place import ended, host, place

BEAT = 5.0
"""Seconds between two beats of a held claim."""

WINDOW = 60.0
"""Seconds without a beat after which a claim is nobody's."""


class Claims:
    """The claims of a store, as one process makes and sees them."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where they lie; it is made when it is needed."""
        self._folder = folder
        self._held: dict[Path, tuple[int, bytes]] = {}
        self._lock = threading.Lock()
        self._beating = False
        self._seen: dict[Path, tuple[bytes, float]] = {}

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[bool]:
        """Hold a claim as long as the block runs; False where somebody else holds it, and then without waiting."""
        path = self._folder / f"{name}.json"
        mine = self._take(path)
        try:
            yield mine
        finally:
            if mine:
                self._give_up(path)

    def clear(self) -> None:
        """Remove the claims of processes that ended here."""
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError):
                if _ended(path.read_bytes()):
                    path.unlink()

    def _take(self, path: Path) -> bool:
        for last in (False, True):
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o666)
            except FileExistsError:
                if last or not self._is_nobodys(path):
                    return False
                with contextlib.suppress(OSError):
                    path.unlink()
            except FileNotFoundError:
                if last:
                    return True
                with contextlib.suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
            except OSError:  # a disk that cannot: better trained twice than not at all
                return True
            else:
                self._hold(path, handle)
                return True
        return False

    def _hold(self, path: Path, handle: int) -> None:
        who = {"host": host(), "place": place(), "process": os.getpid(), "letters": secrets.token_hex(8)}
        content = json.dumps(who).encode()
        with contextlib.suppress(OSError):
            os.write(handle, content)
        with self._lock:
            self._held[path] = (handle, content)
            if not self._beating:
                self._beating = True
                threading.Thread(target=self._beat, daemon=True).start()

    def _give_up(self, path: Path) -> None:
        with self._lock:
            held = self._held.pop(path, None)
            if held is None:  # worked without
                return
            handle, content = held
            with contextlib.suppress(OSError):
                os.close(handle)
            with contextlib.suppress(OSError):
                if path.read_bytes().startswith(content):  # not that of one who thought this process dead
                    path.unlink()

    def _beat(self) -> None:
        """Make every held claim a byte longer now and then: no clock is needed to see that."""
        while True:
            time.sleep(BEAT)
            with self._lock:
                if not self._held:
                    self._beating = False
                    return
                for handle, _ in self._held.values():
                    with contextlib.suppress(OSError):
                        os.write(handle, b" ")
                        os.fsync(handle)  # so that other machines see it

    def _is_nobodys(self, path: Path) -> bool:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return True
        except OSError:
            content = b""
        if _ended(content):
            return True
        before, since = self._seen.get(path, (None, 0.0))
        if content != before:
            self._seen[path] = (content, time.monotonic())
            return False
        return time.monotonic() - since >= WINDOW


def _ended(content: bytes) -> bool:
    """Whether a claim's process ended here."""
    try:
        who = json.loads(content)
        return ended(who["place"], int(who["process"]))
    except (ValueError, KeyError, TypeError):  # killed before it had said who it is
        return False
