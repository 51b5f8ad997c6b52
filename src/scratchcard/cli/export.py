"""`scratchcard export STORE ID --to DIR`: the trained network of a run, small, for whoever has torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scratchcard.cli.report import of_one_piece
from scratchcard.cli.study import DataOptions, options_of
from scratchcard.cli.terminal import say
from scratchcard.evidence.verdict import judge
from scratchcard.row import Row
from scratchcard.study.card import names_of
from scratchcard.study.handover import Asked, asked_in, can_be_handed_over, find_run, hand_over
from scratchcard.study.store import Store
from scratchcard.words import one_line


def export(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of finished runs.")],
    run: Annotated[str, typer.Argument(metavar="ID", help="The run, by the beginning of its id; see --list.")] = "",
    to: Annotated[Path, typer.Option("--to", help="A new or empty folder.")] = Path("exported"),
    task: Annotated[
        str | None,
        typer.Option(help="The task, as given to study; default: the study's own where it is a built-in one."),
    ] = None,
    data: DataOptions = None,
    listed: Annotated[bool, typer.Option("--list", help="Only list the runs that can be handed over.")] = False,
) -> None:
    """Write a run's network: safetensors, .pt2, ONNX, a model card, and a load.py that needs torch alone.

    A task file or module is code, and none is run because a store names it: give it with --task.
    """
    opened = Store(store, create=False)
    if listed or not run:
        _list(opened)
        return
    if data and task is None:
        raise ValueError("--data is of the task given with --task; name the task too")
    _, rows = find_run(opened, run)
    asked = asked_in(rows.study.command) if task is None else Asked(task, options_of("--data", data))
    with of_one_piece(rows):
        verdict = str(judge(rows))
    made = hand_over(opened, run, to, asked.study(), verdict, asked)
    for name, size in made.files.items():
        say(f"{to / name}: {size:,} bytes")
    for note in made.notes:
        say(note, err=True)
    if "model.pt2" in made.files:
        say(f"python {to / 'load.py'} runs it, with torch alone; {to / 'README.md'} says what it is")


def _list(store: Store) -> None:
    """Every run that can be handed over, once, under the latest study that it belongs to."""
    told: set[str] = set()
    for rows in store.studies():
        fresh = [row for row in rows if can_be_handed_over(row) and row.id not in told]
        told |= {row.id for row in fresh}
        if fresh:
            say(one_line(f"study {rows.study.name}, recorded as `{rows.study.command}`:"))
        names = names_of(rows) if fresh else {}
        for row in fresh:
            say(one_line(_line(row, names[row.id], rows.study.metric)))


def _line(row: Row, name: str, metric: str) -> str:
    assert row.end is not None, "what can be handed over has an end"
    measured = f"density {100 * row.density:.3g} %, {metric} {row.end.test_metric:.4g}"
    return f"{row.id} {name}: {measured}"
