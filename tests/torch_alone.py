"""A Python that has torch, with what torch itself needs, and nothing else that is installed here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def with_torch_alone(folder: Path, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python WORDS...` that sees the packages of torch only.

    Args:
        folder: where links to them are made.
        words: the command.
        cwd: where it runs.
    """
    _link(folder, "torch", set())
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-S", "-s", *map(str, words)]  # -S: without site-packages
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def _link(folder: Path, name: str, seen: set[str]) -> None:
    """A package and what it requires."""
    try:
        found = distribution(name)
    except PackageNotFoundError:  # of another system
        return
    seen.add(name)
    folder.mkdir(exist_ok=True)
    for part in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
        if not (folder / part).exists():
            (folder / part).symlink_to(Path(str(found.locate_file(part))))
    for required in found.requires or []:
        needed = re.match(r"[\w.-]+", required)
        if needed and "extra ==" not in required and needed.group() not in seen:
            _link(folder, needed.group(), seen)
