"""Live progress: runs done and the time left, on the terminal; a plain line now and then where there is none."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from scratchcard.study.budget import clock
from scratchcard.words import printable


class Progress:
    """How many of a study's runs are done, and when the rest will be."""

    def __init__(self, total: int, show: bool = True, console: Console | None = None, every: float = 30.0) -> None:
        """`total` runs; `every` so many seconds a line is printed where there is no terminal."""
        self._total, self._show = total, show
        self._console = console or Console(stderr=True)
        self._live = show and self._console.is_terminal
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[left]}"),
            console=self._console,
            disable=not self._live,
            transient=False,
        )
        self._task = self._bar.add_task("training", total=total, left="")
        self._first: int | None = None
        self._began = self._printed = time.monotonic()
        self._every = every
        self._done = -1
        self._causes = Counter[str]()

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        for cause, runs in self._causes.items():
            if runs > 1:
                others = f"{runs - 1} more run{'s' if runs > 2 else ''} ended the same way"
                self._console.print(printable(f"{others}: {cause}"), highlight=False, markup=False)

    def at(self, done: int) -> None:
        """So many runs are done now."""
        now = time.monotonic()
        if self._first is None:
            self._first = done
        left = self.left(done, now)
        self._bar.update(self._task, completed=done, left=left)
        if (
            self._show
            and not self._live
            and done != self._done
            and (now - self._printed >= self._every or done == self._total)
        ):
            self._console.print(f"{done} of {self._total} runs done {left}", highlight=False)
            self._printed = now
        self._done = done

    def left(self, done: int, now: float) -> str:
        """The time left, from the speed so far."""
        new = done - (self._first or 0)
        if done >= self._total:
            return f"after {clock(now - self._began)}"
        return (
            f"about {clock((now - self._began) / new * (self._total - done))} left"
            if new > 0
            else "estimating the time left"
        )

    def note(self, text: str) -> None:
        """Say something without breaking the bar; of runs that end for the same cause the first alone, then how many.

        Args:
            text: sentences, one a line: what happened, or which run ended how, a colon and the cause.
        """
        for line in text.splitlines() if self._show else ():
            cause = line.partition(": ")[2] or line
            self._causes[cause] += 1
            if self._causes[cause] == 1:
                self._console.print(printable(line), highlight=False, markup=False)
