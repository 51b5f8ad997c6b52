"""`scratchcard inspect TASK`: what would be cut and what not, and why; what it costs; one batch through it.

With `--rewind` it says instead from which step of its training this network should be rewound.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from scratchcard.cli.rewind import rewind_from
from scratchcard.cli.study import DataOptions, Settings, TaskName, numbers, seeds_of, study_of
from scratchcard.cli.terminal import Terminal
from scratchcard.networks.cost import cost
from scratchcard.networks.site_table import percent
from scratchcard.networks.sites import Site, Sites
from scratchcard.study.budget import in_words
from scratchcard.study.connectivity import Stability
from scratchcard.study.notes import about_task
from scratchcard.study.study import cores
from scratchcard.training.evaluate import evaluate
from scratchcard.training.loop import placed
from scratchcard.training.task import Task


def inspect(
    task: TaskName,
    set_: Settings = None,
    data: DataOptions = None,
    rewind: Annotated[
        bool, typer.Option("--rewind", help="Say from which training step to rewind: trains pairs of networks.")
    ] = False,
    steps: Annotated[
        str | None,
        typer.Option(help="With --rewind: try these steps, e.g. 0,100,500; default: rising ones until one is stable."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="With --rewind: how many, or which.")] = "3",
    store: Annotated[Path, typer.Option(help="With --rewind: folder of finished runs.")] = Path("runs"),
    workers: Annotated[int | None, typer.Option(help="With --rewind: processes; default: as many as cores.")] = None,
    figure: Annotated[
        Path, typer.Option(help="With --rewind: where the figure goes; .html, .svg, .png or .pdf.")
    ] = Path("rewind.html"),
    re_estimate: Annotated[
        bool,
        typer.Option("--re-estimate", help="With --rewind: estimate normalisation statistics anew along the line."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --rewind: only say what it would cost.")] = False,
) -> None:
    """Show the weights of a task's network, which of them can be pruned, and what the network costs.

    With --rewind: from which step of its training on two data orders lead to connected networks.
    """
    study = study_of(task, set_, data)
    if rewind:
        stability = Stability(
            study.task,
            study.recipe,
            None if steps is None else numbers("--steps", steps),
            seeds_of(seeds),
            statistics="re-estimated" if re_estimate else "interpolated",
            store=store,
            command=shlex.join(["scratchcard", *sys.argv[1:]]),
        )
        rewind_from(stability, cores() if workers is None else workers, figure, dry_run)
        return
    study.check()
    console = Terminal()
    console.print(study.task.data.describe(), highlight=False, markup=False)
    for method in study.methods:
        found = method.weights(study.task)
        table = Table(title=f"weights, as {method.label} sees them", title_justify="left")
        for heading in ("weight", "shape", "entries", "kind", "pruned"):
            table.add_column(heading, justify="right" if heading == "entries" else "left", overflow="fold")
        for weight in found:
            shape = " x ".join(map(str, weight.shape))
            table.add_row(
                weight.name,
                shape,
                f"{weight.size:,}",
                weight.kind,
                "yes" if weight.prunable else f"no: {weight.reason}",
            )
        console.print(table)
        prunable = sum(weight.size for weight in found if weight.prunable)
        total = sum(weight.size for weight in found)
        single = method.units == "weights"
        told = f"{prunable:,} of {total:,} weights can be pruned" if single else "weights go with units"
        console.print(f"{told}; density is counted over all {total:,}", highlight=False)
    _units(console, study.task)
    model = study.task.at_start(0)
    price = cost(model, study.task.example_inputs())
    console.print(
        f"{price.parameters:,} parameters; per example {in_words(price.macs, 'MACs')} forward, "
        f"{in_words(price.training_flops, 'FLOPs')} forward and backward",
        highlight=False,
    )
    if price.uncounted:
        console.print(f"not counted: {', '.join(price.uncounted)}", highlight=False)
    torch.set_num_threads(1)
    limit = study.recipe.eval_batch_size
    loss, metric = evaluate(
        placed(model, study.recipe), study.task, study.task.data.validation, study.recipe, limit=limit
    )
    state = "untrained" if study.task.start is None else "trained, as it was brought"
    console.print(
        f"{state}, on the first validation examples: loss {loss:.4g}, {study.task.measured_by.name} {metric:.4g}",
        highlight=False,
        markup=False,
    )
    for sentence in about_task(study.task):
        console.print(sentence, highlight=False, markup=False)


def _units(console: Console, task: Task) -> None:
    """The sites where whole units can be removed, what goes with them, and what is kept whole, and why."""
    try:
        found = task.sites
    except ValueError as error:  # weights can be cut all the same
        console.print(f"no units can be removed: {error}", highlight=False, markup=False)
        return
    console.print("units that can be removed, by site:", highlight=False)
    _table(console, "shared with", [(s.name, len(s), s.layers[1:]) for s in found.sites.values() if _is_own(found, s)])
    console.print(f"{percent(found.share)} of all parameters lie in these units", highlight=False)
    choices, branches = ([name for name in found.sites if name in of] for of in (found.choices, found.branches))
    if choices:
        console.print("channels that single readers of a stream can do without, where named:", highlight=False)
        _table(console, "read by", [(name, len(found[name]), found.choices[name].readers) for name in choices])
    if branches:
        console.print("whole branches, where named:", highlight=False)
        _table(console, "consists of", [(name, 1, found.branches[name].modules) for name in branches])
    if found.frozen:
        console.print("units that take entries from frozen weights, where named:", highlight=False)
        own = {name: weights for name, weights in found.frozen.items() if name not in found.branches}
        _table(console, "takes from", [(name, len(found[name]), weights) for name, weights in own.items()])
    for layer, reason in found.kept.items():
        console.print(f"kept whole: {layer} ({reason})", highlight=False, markup=False)


def _is_own(found: Sites, site: Site) -> bool:
    """Whether a site is of units that go for all who read them."""
    return site.name not in {*found.choices, *found.branches, *found.frozen}


def _table(console: Console, others: str, rows: list[tuple[str, int, tuple[str, ...]]]) -> None:
    """Sites, one per line: how many units each has, and which layers it has to do with."""
    table = Table()
    for heading in ("site", "units", others):
        table.add_column(heading, justify="right" if heading == "units" else "left", overflow="fold")
    for name, units, layers in rows:
        table.add_row(name, f"{units:,}", ", ".join(layers))
    console.print(table)
