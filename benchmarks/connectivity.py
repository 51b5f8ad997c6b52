"""From which step on are these networks linearly connected? LeNet on MNIST, and a narrow ResNet-20 on small CIFAR-10.

python benchmarks/connectivity.py runs/connectivity docs/results
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from scratchcard.evidence.connectivity import advice, by_step, said
from scratchcard.evidence.plate import plate
from scratchcard.networks.zoo import resnet_20
from scratchcard.row import Connectivity
from scratchcard.study.builtin import mnist
from scratchcard.study.connectivity import Stability
from scratchcard.study.study import cores
from scratchcard.training.recipe import Recipe
from scratchcard.training.sources import load_data
from scratchcard.training.task import Task

SEEDS = 3


def lenet(store: Path) -> Stability:
    """LeNet-300-100 on MNIST, under the recipe of the built-in study."""
    study = mnist()
    return Stability(study.task, study.recipe, steps=[0], seeds=SEEDS, store=store)


def resnet(store: Path) -> Stability:
    """ResNet-20 of half the width on CIFAR-10 at 16 pixels, 9,000 images; 1,200 steps instead of 63,000."""
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


def table(found: Connectivity) -> str:
    """Instability at every step, in Markdown."""
    lines = ["| step | instability | n | stable |", "| --- | --- | --- | --- |"]
    for at in by_step(found):
        lines.append(f"| {at.step:,} | {said(at, found)} | {len(at.each)} | {'yes' if at.stable else 'no'} |")
    return "\n".join(lines)


def main() -> None:
    store, results = Path(sys.argv[1]), Path(sys.argv[2])
    simple = measured(lenet(store))
    deep = measured(resnet(store))
    again = measured(replace(resnet(store), statistics="re-estimated"))
    for name, found in (("connectivity-lenet", simple), ("connectivity-resnet-20", deep)):
        plate(found, results / f"{name}.svg")
    (results / "connectivity.md").write_text(f"""# From which step to rewind

Two trainings part at a step, under two data orders; the straight line between their ends is evaluated at 30 points.
Instability is the worst error on it minus the mean error of its ends; *stable* is below 2 % (Frankle et al. 2020). The
error is that of the **validation** split. Mean, and in brackets the smallest and largest over {SEEDS} initialisations.

## LeNet-300-100 on MNIST

{simple.data}; Adam, {simple.steps:,} steps. {advice(simple)}

{table(simple)}

![Error between the ends](connectivity-lenet-lines.svg)

## ResNet-20 of half the width on CIFAR-10 at 16 pixels

{deep.data}; SGD 0.1 with momentum 0.9, rate divided by 10 at 600 and 900 of {deep.steps:,} steps, batch 128, crops and
flips. {advice(deep)}

{table(deep)}

![Instability against the step](connectivity-resnet-20-instability.svg)

![Error between the ends](connectivity-resnet-20-lines.svg)

Between the ends the statistics of batch normalisation were interpolated, as the weights were. Estimated anew from 50
training batches at every point instead:

{table(again)}

{advice(again)}

## How it was made

```
python benchmarks/connectivity.py runs/connectivity docs/results
```

torch {deep.machine["torch"]}, {deep.machine["device"]}. Not measured on a GPU.
""")


if __name__ == "__main__":
    main()
