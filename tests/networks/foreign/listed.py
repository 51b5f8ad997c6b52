"""The fixed list: all model types of `transformers` that build small, and all hand-made kinds; and what runs one apart.

Each network is measured in a process of its own, forked from one that has loaded the libraries: one that needs too much
time or memory ends alone, and what it had told until then is its row.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foreign import attention, heads, maps, sequence, tables, vision  # noqa: F401 - they fill KINDS
from foreign.kinds import KINDS, Kind
from foreign.small_configs import built, candidates

TYPES = Path(__file__).parent / "transformer_types.json"
MEMORY = 10 << 30
Note = Callable[[dict[str, Any]], None]


def known_types() -> dict[str, dict[str, str]]:
    """The list of types: those in the zoo with the kind of their inputs, and those that are not, with the reason."""
    return json.loads(TYPES.read_text(encoding="utf-8"))


def networks() -> dict[str, Kind]:
    """Every network of the zoo by name: `transformers/TYPE` or `hand-made/KIND`."""
    found = {f"hand-made/{name}": kind for name, kind in KINDS.items()}
    return {**found, **{f"transformers/{name}": _of_type(name, kind) for name, kind in known_types()["in"].items()}}


def _of_type(name: str, inputs: str) -> Kind:
    return Kind(lambda: built(name), lambda batch: candidates(built(name), batch)[inputs])


def apart(work: Callable[[Note], dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What some work gives in a process of its own.

    Args:
        work: gives a row that JSON can hold; it may tell what it has so far.
        seconds: after which it is ended.

    Returns:
        The row; of work that did not end what it told last, with "ended" saying why.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        os.close(reading)
        _child(work, writing)
    os.close(writing)
    told, limit = b"", time.monotonic() + seconds
    while (left := limit - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0]:
            piece = os.read(reading, 1 << 16)
            if not piece:
                break
            told += piece
    else:
        os.kill(process, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(process, 0)
    lines = told.decode().splitlines()
    row = json.loads(lines[-1]) if lines else {}
    if os.waitstatus_to_exitcode(status):
        row["ended"] = f"after {seconds:g} s" if left <= 0 else f"by exit code {os.waitstatus_to_exitcode(status)}"
    return row


def _child(work: Callable[[Note], dict[str, Any]], writing: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1), os.dup2(silence, 2)

    def note(row: dict[str, Any]) -> None:
        os.write(writing, json.dumps(row).encode() + b"\n")

    try:
        note(work(note))
    except BaseException:  # the network of a stranger, or a mistake of this harness: it is said in the row
        note({"failed": traceback.format_exc()[-800:]})
        os._exit(1)
    os._exit(0)
