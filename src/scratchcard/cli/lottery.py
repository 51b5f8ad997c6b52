"""`scratchcard lottery TASK`: do winning tickets need their initial weights, at a large and at a small rate?"""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from scratchcard.cli.report import check_place
from scratchcard.cli.study import DataOptions, Settings, TaskName, end_of, seeds_of, study_of
from scratchcard.cli.terminal import say
from scratchcard.evidence.figures.lottery import lottery_figure
from scratchcard.evidence.lottery import answer, drawn
from scratchcard.evidence.plate import SUFFIXES, Plate, write_plate
from scratchcard.study.limits import check_workers
from scratchcard.study.lottery import compared, lottery_studies
from scratchcard.study.study import cores
from scratchcard.words import unknown


def lottery(
    task: TaskName,
    rates: Annotated[
        str | None, typer.Option(help="Initial learning rates, e.g. 0.1,0.01; default: the task's, and a tenth of it.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="How many, or which: 5, or 0,1,7.")] = "3",
    rounds: Annotated[int, typer.Option(help="Rounds of pruning single weights.")] = 5,
    rate: Annotated[float, typer.Option(help="Share of the weights left that a round cuts.")] = 0.4,
    set_: Settings = None,
    data: DataOptions = None,
    store: Annotated[Path, typer.Option(help="Folder of finished runs.")] = Path("runs"),
    workers: Annotated[
        int | None, typer.Option(help="Processes of one thread each; default: as many as cores.")
    ] = None,
    figure: Annotated[Path, typer.Option(help="Where the figure goes: .html, .svg, .png or .pdf.")] = Path(
        "lottery.html"
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run and what it would cost.")] = False,
) -> None:
    """Compare tickets' original weights with fresh ones: single weights and filters, large and small rate.

    Safe to stop or kill at any moment: the same command continues.
    """
    check_place(figure)
    if figure.suffix not in SUFFIXES:
        raise ValueError(unknown("kind of figure", figure.suffix or str(figure), SUFFIXES))
    command = shlex.join(["scratchcard", *sys.argv[1:]])
    base = replace(study_of(task, set_, data), seeds=seeds_of(seeds), store=store, command=command)
    studies = lottery_studies(base, _rates(rates, base.recipe.lr), rounds, rate)
    count = check_workers(cores() if workers is None else workers)
    if dry_run:
        for one in studies:
            say(f"{one.name}\n{one.plan().describe(count)}")
        return
    found = list(compared(studies, count))
    result, spec = drawn(found), found[0][1].study
    if not result:
        raise ValueError("no structure has both kinds of weights finished; see the runs' messages in the store")
    said = answer(result, spec)
    say(said)
    machine = next((row.machine for _, rows in found for row in rows), {})
    note = f"{spec.data}. Metric: test {spec.metric}, {spec.recipe['steps']:,} steps. Liu et al. 2019, section 6."
    made = Plate(
        f"{spec.task}: what initial weights are worth", said, note, [lottery_figure(result, spec)], command, machine
    )
    for path in write_plate(made, figure):
        say(f"figure: {path}")
    end_of(*(rows for _, rows in found))


def _rates(text: str | None, own: float) -> list[float]:
    if text is None:
        return [own, own / 10]
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--rates takes a list of numbers such as 0.1,0.01; got {text!r}") from error
