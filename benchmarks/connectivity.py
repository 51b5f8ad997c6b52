"""From which step on are these networks linearly connected? LeNet on MNIST, and a narrow ResNet-20 on small CIFAR-10.

python benchmarks/connectivity.py runs/connectivity
python benchmarks/connectivity.py

The first command trains (safe to stop and start again) and writes what was measured into docs/results/rows, then the
page; the second writes the page and its figures again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pages import how_many, main, records_page, sentence, table

from scratchcard.evidence.connectivity import advice, by_step, said
from scratchcard.networks.zoo import resnet_20
from scratchcard.row import Connectivity
from scratchcard.study.connectivity import Stability
from scratchcard.study.study import cores
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task

SEEDS = 3


def lenet(store: Path) -> Stability:
    """LeNet-300-100 on MNIST, under the recipe of the built-in study."""
    from scratchcard.study.builtin import mnist  # here and below: loading data brings scikit-learn

    study = mnist()
    return Stability(study.task, study.recipe, steps=[0], seeds=SEEDS, store=store)


def resnet(store: Path) -> Stability:
    """ResNet-20 of half the width on CIFAR-10 at 16 pixels, 9,000 images; 1,200 steps instead of 63,000."""
    from scratchcard.training.sources import load_data

    task = Task("resnet-20", partial(resnet_20, width=0.5), load_data("cifar10", size=16, n=9000))
    recipe = Recipe(
        optimizer="sgd",
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        batch_size=128,
        steps=1200,
        schedule="step",
        milestones=(600, 900),
        augment=("pad-crop", "flip"),
        eval_every=600,
    )
    return Stability(task, recipe, steps=[0, 60, 200, 400, 600], seeds=SEEDS, store=store)


def measured(stability: Stability) -> Connectivity:
    """All of its steps."""
    found = None
    for found in stability.walk(workers=cores()):
        print(by_step(found)[-1].step, said(by_step(found)[-1], found), file=sys.stderr, flush=True)
    assert found is not None, "there is at least one step to try"
    return found


def collect(store: str) -> list[list[dict[str, Any]]]:
    folder = Path(store)
    ways = (lenet(folder), resnet(folder), replace(resnet(folder), statistics="re-estimated"))
    return [[json.loads(measured(way).model_dump_json()) for way in ways]]


def lines(found: Connectivity) -> str:
    """Instability at every step, in Markdown."""
    threshold = f"mean below {100 * found.threshold:g} %"
    return table(
        ["step", "instability", "n", threshold],
        [[f"{at.step:,}", said(at, found), str(len(at.each)), "yes" if at.stable else "no"] for at in by_step(found)],
    )


def below(found: Connectivity) -> str:
    """How many of the single runs lie below the threshold where their mean does, in words."""
    each = [value < found.threshold for at in by_step(found) if at.stable for value in at.each]
    return f"At steps whose mean lies below the threshold, {how_many(sum(each), len(each))} of the single runs do so."


def write(records: Sequence[dict[str, Any]]) -> str:
    """The page in Markdown."""
    simple, deep, again = (Connectivity.model_validate(record) for record in records)
    parts = [
        "# From which step to rewind",
        "Two trainings part at a step, under two data orders; the straight line between their ends is evaluated at "
        f"{len(deep.paths[0].values)} points. Instability is the worst error on it minus the mean error of its ends "
        "(Frankle et al. 2020). The error is that of the **validation** split. Mean, and in brackets the smallest and "
        f"largest over {len(by_step(deep)[0].each)} initialisations; no claim is tested.",
        "## LeNet-300-100 on MNIST",
        f"{simple.data}; {simple.steps:,} steps. {advice(simple)}",
        lines(simple),
        below(simple),
        "![Error between the ends](connectivity-lenet-lines.svg)",
        "## ResNet-20 of half the width on small CIFAR-10",
        f"{deep.data}; {deep.steps:,} steps. {advice(deep)}",
        lines(deep),
        below(deep),
        "![Instability against the step](connectivity-resnet-20-instability.svg)",
        "![Error between the ends](connectivity-resnet-20-lines.svg)",
        "Between the ends the statistics of batch normalisation were interpolated, as the weights were. Estimated anew "
        "from training batches at every point instead:",
        lines(again),
        f"{advice(again)} {below(again)}",
        "## How it was made",
        f"```\n{PAGE.command} runs/connectivity\n{PAGE.command}\n```",
        f"{', '.join(f'{name} {value}' for name, value in deep.machine.items())}.",
    ]
    return "\n\n".join(parts) + "\n"


def answer(records: Sequence[dict[str, Any]]) -> str:
    """What each network's lines advise."""
    found = [Connectivity.model_validate(record) for record in records]
    return " ".join(f"{sentence(one.task)} ({one.statistics}): {advice(one)}" for one in found)


def figures(records: Sequence[dict[str, Any]]) -> dict[str, bytes]:
    from scratchcard.evidence.plate import plate  # here, since loading what draws takes a second

    with TemporaryDirectory() as folder:
        for name, record in zip(("connectivity-lenet", "connectivity-resnet-20"), records, strict=False):
            plate(Connectivity.model_validate(record), Path(folder) / f"{name}.svg")
        return {
            path.name: path.read_bytes()
            for path in Path(folder).iterdir()
            if path.name != "connectivity-lenet-instability.svg"
        }


PAGE = records_page(
    name="connectivity",
    question="From which step have tickets to be rewound?",
    command="python benchmarks/connectivity.py",
    rows=["connectivity"],
    write=write,
    answer=answer,
    figures=figures,
    gone="By their means the LeNet needs no rewinding, and a narrow ResNet-20 is to be rewound to an early step, which "
    "is earlier still where batch statistics are measured anew; few initialisations, and no claim was tested.",
)

if __name__ == "__main__":
    main(PAGE, collect)
