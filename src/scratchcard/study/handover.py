"""A run's network as a folder that a stranger can use: the small model in several forms, a card, and a program."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path

import torch

from scratchcard.atomic import check_new, folder_whole
from scratchcard.methods.arms import ARMS
from scratchcard.networks.compact import Compacted, compact
from scratchcard.networks.dead import dead_units
from scratchcard.networks.forward import with_state
from scratchcard.networks.latency import latencies
from scratchcard.networks.saved import save
from scratchcard.networks.units import SmallUnits
from scratchcard.row import Row, Rows
from scratchcard.study.builtin import BUILT_IN
from scratchcard.study.card import Asked, Carded, about, card_of
from scratchcard.study.execute import Trainings
from scratchcard.study.portable import EXAMPLES, write_portable
from scratchcard.study.program import Inputs, Told, program_of
from scratchcard.study.spec import task_digest
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.study.tickets import kept
from scratchcard.training.task import Task
from scratchcard.words import one_line


@dataclass(frozen=True)
class HandedOver:
    """What lies in the folder now."""

    folder: Path
    files: dict[str, int]
    """File -> bytes."""
    small: Compacted
    row: Row
    notes: list[str]
    """What has to be known before the files are used, and which are not there and why, in sentences."""


def find_run(store: Store, run: str) -> tuple[Row, Rows]:
    """The row of a run, by the beginning of its id, and the latest study that it belongs to.

    Raises:
        ValueError: no run, or several, begin so; the run is not of a ticket or has no trained weights.
    """
    fitting = sorted(name for name in store.row_ids() if name.startswith(run))
    if len(fitting) != 1:
        told = "none" if not fitting else f"{len(fitting)}, e.g. {', '.join(fitting[:3])}"
        raise ValueError(f"one run whose id begins with {run!r} was needed, the store has {told}; give more of the id")
    row = store.row(fitting[0])
    assert row is not None, "a row that is listed is there"
    if not can_be_handed_over(row):
        raise ValueError(
            f"run {row.id} is {row.arm}, {row.status}; dense networks, tickets, and small networks of known controls "
            "that are done can be handed over"
        )
    rows = next((rows for rows in store.studies() if any(own.id == row.id for own in rows)), None)
    if rows is None:
        raise ValueError(f"run {row.id} belongs to no study that is declared in the store; run the study again")
    return row, rows


def can_be_handed_over(row: Row) -> bool:
    """Whether a run has a network of its own: the dense one, a ticket, or a control trained in its small form."""
    small_control = bool(row.widths) and row.arm in ARMS
    return row.status == "done" and row.end is not None and (row.arm in ("ticket", "dense") or small_control)


def asked_in(command: str) -> Asked:
    """The task that a recorded command names, with the options of its data, where it is a built-in one.

    Whoever sent the store wrote the command: a file or module that it names is theirs, and importing it runs it.

    Raises:
        ValueError: the command was not typed on the command line, or names a file or a module.
    """
    try:
        words = shlex.split(command)
    except ValueError:  # a quotation without an end
        words = []
    task = words[2] if words[:1] == ["scratchcard"] and words[1:2] in (["study"], ["lottery"]) and words[2:] else ""
    if task in BUILT_IN:
        pairs = [after for word, after in pairwise(words) if word == "--data"]
        pairs += [word.removeprefix("--data=") for word in words if word.startswith("--data=")]
        return Asked(task, {name: value for name, _, value in (pair.partition("=") for pair in pairs)})
    if not task or task.startswith("-"):
        raise ValueError(
            f"the store does not say which task its study was of (it recorded {command[:200]!r}); give the task with "
            "--task, or in Python with study="
        )
    raise ValueError(
        f"the study recorded its task as {task[:200]!r}, which is code, and none is run because a store names it; "
        "if you trust it, give it with --task, or in Python with study="
    )


def export(
    rows: Rows | str | Path,
    run: str | Row,
    folder: str | Path,
    study: Study | Task | None = None,
    verdict: object = "",
) -> HandedOver:
    """Write the trained network of a run into a folder that a stranger can use: `python load.py` needs torch alone.

    Args:
        rows: what `Study.run` or `read` gave, or the folder of a store.
        run: the beginning of its id, or its row.
        folder: a new or empty one; it appears when all is written.
        study: the study or its task; None: the study that gave the rows, or a built-in one that the store names.
        verdict: what `judge` says of the rows, for the card.

    Raises:
        ValueError: there is no such run, it has no network of its own, its task is not known or has changed since, or
            the folder cannot be written.
    """
    store, asked_by = (rows.store, rows.asked_by) if isinstance(rows, Rows) else (rows, None)
    if not store:
        raise ValueError("these rows came from no store, so their weights are not there; give the folder of the store")
    opened, study = Store(store, create=False), study or asked_by
    run = run.id if isinstance(run, Row) else run
    asked = Asked() if study is not None else asked_in(find_run(opened, run)[1].study.command)
    known = Study(study) if isinstance(study, Task) else study or asked.study()
    return hand_over(opened, run, Path(folder), known, str(verdict), asked)


def hand_over(
    store: Store, run: str, folder: Path, study: Study, verdict: str = "", asked: Asked | None = None
) -> HandedOver:
    """Write the trained network of a run: safetensors, .pt2 and ONNX where they can be, a card, and load.py.

    Killed at any moment, there is no half folder of that name.

    Args:
        store: where the run is.
        run: the beginning of its id.
        folder: a new or empty one.
        study: the study's task.
        verdict: what the study says, for the card.
        asked: how the task was named, for load.py.

    Raises:
        ValueError: as `find_run`, `compact` and `save`; the task has changed since; the folder cannot be written.
    """
    check_new(folder)
    row, rows = find_run(store, run)
    task = study.task
    if task_digest(task) != row.task_digest:
        raise ValueError(
            f"task {task.name!r} is not what it was when run {row.id} was made (code or data have changed); "
            "give the task as it was with --task"
        )
    end = row.artefacts.get(f"step-{row.recipe.get('steps')}")
    if end is None:
        raise ValueError(f"run {row.id} kept no trained weights; run the study again in a new store")
    state, dense = store.tensors(end), task.fresh(0)
    try:
        small = _small(store, row, rows, study, state)
    except (LookupError, RuntimeError, TypeError) as error:  # digests keep no attacker out
        raise ValueError(
            f"what the store holds of run {row.id} does not fit its task ({type(error).__name__}: {error}); take the "
            "store from its source again"
        ) from error
    inputs = task.example_inputs(EXAMPLES)
    before, after = latencies([dense, small.module], inputs)
    try:
        with folder_whole(folder) as part:
            files = {f"model/{name}": size for name, size in save(small, part / "model").bytes.items()}
            sizes = [int(row.recipe.get("batch_size", EXAMPLES)), EXAMPLES, 4, 2, 1]
            made = write_portable(small.module, task, sizes, part)
            taken = Inputs.of(small.module, made.batch)
            told = Told(about(row, rows), taken, made.examples, made.without_program)
            program = program_of(told, asked or Asked())
            files = {"load.py": len(program.encode()), **made.files, **files}
            carded = Carded(
                row, rows, small, dense, inputs, (before, after), files, taken.call, taken.lines(), made.notes, verdict
            )
            card = card_of(carded)
            for name, text in (("load.py", program), ("README.md", card)):
                (part / name).write_text(text, encoding="utf-8")
            files["README.md"] = len(card.encode())
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written: {error.strerror or error}; give another place, or free some space"
        ) from error
    return HandedOver(folder, files, small, row, [one_line(note) for note in made.notes])


def _small(store: Store, row: Row, rows: Rows, study: Study, state: dict[str, torch.Tensor]) -> Compacted:
    """The trained network, physically small where units were cut, or are not read any more."""
    task = study.task
    trainings = Trainings(task, study.recipe, store, study.causes)
    inputs = task.example_inputs()
    if row.arm != "dense":
        its = (row.method, row.seed, row.level, "ticket")
        of = next((own for own in rows if (own.method, own.seed, own.level, own.arm) == its), None)
        if of is None:
            raise LookupError(f"the ticket that {row.arm} {row.replicate} is a control of is not there")
        # its mask and weights are in the store; the method that found it plays no part here
        ticket = kept(store, of.id, study.methods[0], task, lambda: trainings.sites)
        if row.arm != "ticket":
            draws = islice(ARMS[row.arm](ticket, study.recipe, row.seed, task), max(0, row.replicate), None)
            ticket = next(draws, None)
            if ticket is None:
                raise LookupError(f"{row.arm} has no draw {row.replicate}")
        if isinstance(ticket.subnetwork, SmallUnits):
            made = compact(task.fresh(0), ticket.subnetwork.mask, inputs, trainings.sites)
            return replace(made, module=with_state(made.module, state).eval())
    model = with_state(task.fresh(0), state)
    try:
        sites = trainings.sites
    except ValueError as error:  # a network that cannot be read is handed over whole
        return Compacted(model.eval(), {}, {}, {"the whole network": str(error)}, 0.0)
    dead = dead_units(model, sites, inputs)
    made = compact(with_state(model, {**state, **dead.folded}), dead.mask, inputs, sites)
    kept_whole = {**made.kept_whole, **{f"{site} (dead units)": why for site, why in dead.kept.items()}}
    return replace(made, kept_whole=kept_whole, error=max(made.error, dead.error))
