"""The identity of a run: a digest of its causes, every field, typed and versioned - never of its results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scratchcard.methods.ticket import Arm, Method, Ticket
from scratchcard.networks.forward import read_state
from scratchcard.study.source import source_digest
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task

VERSION = 1
"""Raised when the meaning of a cause changes, so that rows of the old meaning are not taken for the new one."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that caused a run."""

    task: str
    """`task_digest` of the task."""
    recipe: Recipe
    method: Method | None
    seed: int
    level: int
    arm: Arm | None
    replicate: int

    @classmethod
    def of(cls, ticket: Ticket, recipe: Recipe, task: str) -> RunSpec:
        """The spec of training this ticket by this recipe on the task of this digest."""
        return cls(task, recipe, ticket.method, ticket.seed, ticket.level, ticket.arm, ticket.replicate)

    @property
    def id(self) -> str:
        """24 hexadecimal digits: equal for equal causes, on any machine."""
        causes = json.dumps({"version": VERSION, "run": canonical(self)}, sort_keys=True)
        return hashlib.sha256(causes.encode()).hexdigest()[:24]


def canonical(value: Any) -> Any:
    """The value as JSON data that keeps types apart: 1, 1.0, True and "1" are four different causes.

    Fields of a dataclass marked {"identity": False} are left out; code is given by its source digest.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if field.metadata.get("identity", True)]
        return {"type": type(value).__qualname__, **{field.name: canonical(getattr(value, field.name)) for field in fields}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [canonical(part) for part in value]
    if isinstance(value, Mapping):
        return {"mapping": sorted(([canonical(key), canonical(part)] for key, part in value.items()), key=json.dumps)}
    return {"source": source_digest(value)}


def task_digest(task: Task) -> str:
    """Digest of the task's code, of the names and shapes of its network's state, and of its data; not of its name."""
    state = read_state(task.fresh(0))
    causes = {
        "code": source_digest(task.model, task.loss, task.metric, task.loop),
        "state": [[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in sorted(state.items())],
        "data": task.data.digest(),
        "start": source_digest(task.start),
    }
    return hashlib.sha256(json.dumps(causes, sort_keys=True).encode()).hexdigest()
