"""`scratchcard export STORE ID --to DIR`: the trained network of a run, small, with a card and an example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scratchcard.evidence.verdict import judge
from scratchcard.study.handover import can_be_handed_over, find_run, hand_over
from scratchcard.study.named import named_study
from scratchcard.study.store import Store


def export(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of finished runs.")],
    run: Annotated[str, typer.Argument(metavar="ID", help="The run, by the beginning of its id; see --list.")] = "",
    to: Annotated[Path, typer.Option("--to", help="A new or empty folder.")] = Path("exported"),
    task: Annotated[
        str | None, typer.Option(help="The task, as given to study; default: the one in the study's command.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only list the runs that can be handed over.")] = False,
) -> None:
    """Write a run's network: safetensors and JSON, ONNX, a model card, and ten lines that load it."""
    opened = Store(store, create=False)
    if listed or not run:
        for rows in opened.studies():
            for row in rows:
                if can_be_handed_over(row) and row.end is not None:
                    arm = "" if row.arm in ("dense", "ticket") else f" {row.arm}"
                    typer.echo(
                        f"{row.id}  {row.method}{arm}, level {row.level}, density {100 * row.density:.3g} %, "
                        f"seed {row.seed}: {rows.study.metric} {row.end.test_metric:.4g}"
                    )
        return
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ValueError(f"{to} holds something already; give a new or empty folder with --to")
    _, rows = find_run(opened, run)
    made = hand_over(opened, run, to, None if task is None else named_study(task, {}), str(judge(rows)))
    for name, size in made.files.items():
        typer.echo(f"{to / name}: {size:,} bytes")
