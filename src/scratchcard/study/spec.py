"""The identity of a run: a digest of its causes, every field, typed and versioned - never of its results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from scratchcard.methods.ticket import Arm, Method, Ticket
from scratchcard.networks.forward import read_state
from scratchcard.row import VERSION
from scratchcard.study.source import source_digest
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task


class Cause(NamedTuple):
    """A method or control: what it is called, and all of its fields as canonical text."""

    label: str
    fields: str


@dataclass(frozen=True)
class RunSpec:
    """Everything that caused a run, as plain data."""

    task: str
    """`task_digest` of the task."""
    recipe: str
    """The recipe as canonical text."""
    method: Cause | None
    """None for the dense network."""
    seed: int
    level: int
    arm: Cause | None
    """None for the ticket itself, and for the dense network."""
    replicate: int

    @property
    def id(self) -> str:
        """24 hexadecimal digits: equal for equal causes, on any machine."""
        causes = json.dumps({"version": VERSION, "run": dataclasses.asdict(self)}, sort_keys=True)
        return hashlib.sha256(causes.encode()).hexdigest()[:24]

    @property
    def ticket(self) -> RunSpec:
        """The run of the ticket that this run is a control of (itself when it is none)."""
        return dataclasses.replace(self, arm=None, replicate=0)

    @property
    def label(self) -> str:
        """What the run is called: "dense", "imp: ticket", "imp: fresh-init"."""
        if self.method is None:
            return "dense"
        return f"{self.method.label}: {self.arm.label if self.arm is not None else 'ticket'}"


@dataclass(frozen=True)
class Causes:
    """What the runs of one study have in common, read from the code once: worker processes do not see the code."""

    task: str
    recipe: str
    methods: dict[str, Cause]
    arms: dict[str, Cause]
    data: str
    """Digest of the data, which is part of the task's."""

    @classmethod
    def of(cls, task: Task, recipe: Recipe, methods: Sequence[Method], arms: Sequence[Arm]) -> Causes:
        """Read them from the objects."""
        data = task.data.digest()
        return cls(
            task_digest(task, data),
            _text(recipe),
            {method.label: Cause(method.label, _text(method)) for method in methods},
            {arm.label: Cause(arm.label, _text(arm)) for arm in (*arms, *(a for m in methods for a in m.own_arms(1)))},
            data,
        )

    def spec(self, method: str | None, seed: int, level: int, arm: str | None, replicate: int) -> RunSpec:
        """The spec of one run, method and control given by their labels."""
        return RunSpec(
            self.task,
            self.recipe,
            None if method is None else self.methods[method],
            seed,
            level,
            None if arm is None else self.arms[arm],
            replicate,
        )

    def spec_of(self, ticket: Ticket) -> RunSpec:
        """The spec of training this ticket."""
        method = None if ticket.method is None else ticket.method.label
        arm = None if ticket.arm is None else ticket.arm.label
        return self.spec(method, ticket.seed, ticket.level, arm, ticket.replicate)


def canonical(value: Any) -> Any:
    """The value as JSON data that keeps types apart: 1, 1.0, True and "1" are four different causes.

    Fields of a dataclass marked {"identity": False} are left out, and so are those marked "added" (later than runs that
    should keep their identity) at their default; code is given by its source digest.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if _is_cause(field, getattr(value, field.name))]
        ours = type(value).__module__.startswith("scratchcard.")
        return {
            "type": type(value).__qualname__ if ours else source_digest(type(value)),
            **{field.name: canonical(getattr(value, field.name)) for field in fields},
        }
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [canonical(part) for part in value]
    if isinstance(value, Mapping):
        return {"mapping": sorted(([canonical(key), canonical(part)] for key, part in value.items()), key=json.dumps)}
    return {"source": source_digest(value)}


def _is_cause(field: dataclasses.Field[Any], value: Any) -> bool:
    marked = field.metadata.get("identity", True)
    return value != field.default if marked == "added" else bool(marked)


def task_digest(task: Task, data: str | None = None) -> str:
    """Digest of the task's code, of the names and shapes of its network's state, and of its data; not of its name.

    Args:
        task: whose network is made once, to see its state.
        data: the digest of other data, for what it would be with these; None: of the task's own.
    """
    state = read_state(task.fresh(0))
    causes = {
        "code": source_digest(task.model, task.loss, task.metric, task.loop),
        "state": [[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in sorted(state.items())],
        "data": task.data.digest() if data is None else data,
        "start": source_digest(task.start),
    }
    return hashlib.sha256(json.dumps(causes, sort_keys=True).encode()).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(canonical(value), sort_keys=True)
