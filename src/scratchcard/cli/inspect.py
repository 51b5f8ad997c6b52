"""`scratchcard inspect TASK`: what would be cut and what not, and why; what it costs; one batch through it."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.table import Table

from scratchcard.cli.study import DataOptions, Settings, TaskName, study_of
from scratchcard.networks.cost import cost
from scratchcard.study.budget import in_words
from scratchcard.training.evaluate import evaluate
from scratchcard.training.loop import placed


def inspect(task: TaskName, set_: Settings = None, data: DataOptions = None) -> None:
    """Show the weights of a task's network, which of them can be pruned, and what the network costs."""
    study = study_of(task, set_, data)
    study.check()
    console = Console()
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
        console.print(
            f"{prunable:,} of {total:,} weights can be pruned; density is counted over all {total:,}", highlight=False
        )
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
    limit = study.recipe.batch_size
    loss, metric = evaluate(
        placed(model, study.recipe), study.task, study.task.data.validation, study.recipe, limit=limit
    )
    console.print(
        f"untrained, on the first validation examples: loss {loss:.4g}, {study.task.measured_by.name} {metric:.4g}",
        highlight=False,
    )
