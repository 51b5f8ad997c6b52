"""How a command ends: whatever happens, people read one sentence, and scripts an exit code.

0: done; 1: runs failed; 2: it could not be done; 130: stopped by Ctrl-C. SCRATCHCARD_TRACEBACK=1 shows where an error
came from.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import typer

from scratchcard.cli.terminal import say, tell

TRACEBACK = "SCRATCHCARD_TRACEBACK"
_OURS = Path(__file__).resolve().parents[1]
_INSTALLED = {Path(folder).resolve() for folder in (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix)}
"""Folders of the language and of installed packages: whoever called into them is who made the mistake."""
_USAGE: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""What typer raises about options; newer ones have click within them, so that it has no other name."""


def ended(command: Callable[[], Any]) -> int:
    """Run a command to its end, whatever that is, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # a terminal that lacks a character is no reason to stop
    try:
        with warnings.catch_warnings():
            # what scratchcard itself has to say is said, whatever is done with the warnings of others
            warnings.filterwarnings("always", category=UserWarning, module=r"scratchcard\b")
            warnings.showwarning = _Warned()
            code = command() or 0
    except KeyboardInterrupt:
        code = 130
    except _USAGE as error:
        return _misused(error)
    except BaseException as error:  # SystemExit too: no code of a user's file ends a study as if it had succeeded
        if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
            raise  # whoever reads the output has enough
        if os.environ.get(TRACEBACK):
            traceback.print_exception(error)
        tell(sentence(error))
        return 2
    if code == 130:
        say("\nscratchcard: stopped; finished runs are safe and the same command continues", err=True)
    return code


def sentence(error: BaseException) -> str:
    """An error in one sentence: what happened, and what to do."""
    said = " ".join(str(error).split())
    if (place := _in_their_code(error)) is not None:
        what = f"{type(error).__name__}: {said}" if said else type(error).__name__
        return f"your code raised {what} ({place}); mend it there, {TRACEBACK}=1 shows the way to it"
    if isinstance(error, ValueError):
        return said or "something was given that cannot be used"
    known = (words(error, said) for kind, words in _WORDS.items() if isinstance(error, kind))
    return next(known, None) or (
        f"this is a mistake of scratchcard, nothing that is finished is lost ({type(error).__name__}: {said}); run "
        f"the command with {TRACEBACK}=1 before it and report what is shown"
    )


def _file(error: BaseException, said: str) -> str:
    what = getattr(error, "filename", None) or "a file or a stream"
    why = getattr(error, "strerror", None) or said or type(error).__name__
    return f"{what} cannot be read or written: {why}; give another place, or free some space"


def _memory(error: BaseException, said: str) -> str:
    return f"memory ran out ({said or type(error).__name__}); use fewer --workers, smaller batches or a smaller network"


_WORDS: dict[type[BaseException], Callable[[BaseException, str], str]] = {
    OSError: _file,
    MemoryError: _memory,
    RecursionError: lambda _, said: f"something is nested too deeply ({said}); use a network of fewer nested modules",
    OverflowError: lambda _, said: f"a number is too large to compute with ({said}); give a smaller one",
    typer.Abort: lambda _, said: "input was asked for, and there is none; leave it out of the task's code",
    # torch has no type of its own for it on every device
    RuntimeError: lambda error, said: _memory(error, said) if "allocate" in said else "",
    Warning: lambda error, said: f"{said} ({type(error).__name__}, which PYTHONWARNINGS makes an error)",
    SystemExit: lambda _, said: f"the program was ended from within, with {said or 'nothing'}; leave that out",
}
"""What happens to everybody, in words."""


def _in_their_code(error: BaseException) -> str | None:
    """File and line of a user's code that raised an error, by itself or in a library it called; None: not theirs."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(_OURS):
            return None
        if file.is_file() and not any(file.is_relative_to(folder) for folder in _INSTALLED):
            return f"{file.name}, line {frame.lineno}"
    return None


def _misused(error: Any) -> int:
    """Options that cannot be understood, as one sentence; a command without any, as its help."""
    said = error.format_message().strip()
    if "\n" in said or not said:
        error.show()
        return 2
    path = getattr(getattr(error, "ctx", None), "command_path", "") or "scratchcard"
    tell(f"{said.rstrip('.')}; see {path.replace('python -m ', '')} --help")
    return 2


class _Warned:
    """Shows a warning as one line, each of them once."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = str(message)
        if text not in self._shown:
            self._shown.add(text)
            ours = Path(filename).is_relative_to(_OURS)
            tell(text if ours else f"{text} ({category.__name__}, {Path(filename).name}, line {lineno})")
