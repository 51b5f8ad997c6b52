"""What is left to do of a study, and what of it can be done now.

A chain waits for its seed's dense training, a control for its ticket. What another process or machine is at is passed
over, and looked at again a little later.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

PAUSE = 1.0
"""Seconds until what another process was at is looked at again."""

Job = TypeVar("Job", bound=Hashable)


class Agenda(Generic[Job]):
    """The jobs of a study, each given out as soon as it can be done."""

    def __init__(self, first: Mapping[Job, Sequence[Job]], controls: Mapping[str, Sequence[Job]]) -> None:
        """What there is to do.

        Args:
            first: jobs that wait for nothing, and the jobs that wait for each.
            controls: id of a ticket -> the jobs that wait for it.
        """
        self._after = dict(first)
        self._controls = dict(controls)
        self._soon: deque[Job] = deque()
        self._ready = deque(first)
        self._elsewhere: deque[tuple[float, Job]] = deque()
        self._out = 0

    def found(self, tickets: Collection[str]) -> None:
        """These tickets are in the store now."""
        for ticket in sorted(self._controls.keys() & set(tickets)):
            self._soon.extend(self._controls.pop(ticket))

    def take(self) -> Job | None:
        """A job to do now; None where there is none at the moment."""
        if self._soon or self._ready:
            job = (self._soon or self._ready).popleft()
        elif self._elsewhere and self._elsewhere[0][0] <= time.monotonic():
            job = self._elsewhere.popleft()[1]
        else:
            return None
        self._out += 1
        return job

    def ended(self, job: Job) -> None:
        """A job that was taken has been done, by whomever: what waited for it is ready."""
        self._out -= 1
        self._ready.extend(self._after.pop(job, ()))

    def is_elsewhere(self, job: Job) -> None:
        """A job that was taken is being done by another process: it is given out again after a pause."""
        self._out -= 1
        self._elsewhere.append((time.monotonic() + PAUSE, job))

    @property
    def waits(self) -> int:
        """How many jobs others are at, where nothing else is left to do."""
        return 0 if self._soon or self._ready or self._out else len(self._elsewhere)

    @property
    def over(self) -> bool:
        """Whether nothing will ever be ready any more; controls of tickets that were not found stay undone."""
        return not (self._soon or self._ready or self._out or self._elsewhere)
