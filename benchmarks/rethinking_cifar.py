"""Is a pruned network worth its inherited weights? Slimming, filters, early-bird and their controls on small CIFAR-10.

python benchmarks/rethinking_cifar.py runs/rethinking-cifar docs/results

CIFAR-10 averaged to 16 pixels, 9,000 training images, 40 epochs; VGG-16 of a quarter of the width and ResNet-20. About
four CPU hours; safe to stop and to start again. Run it with one argument (the store) to train, with both to write.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from scratchcard.evidence.draw import draw
from scratchcard.evidence.report import report
from scratchcard.evidence.verdict import judge
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.slimming import Slimming
from scratchcard.networks.zoo import resnet_20, vgg_16
from scratchcard.row import Rows
from scratchcard.study.study import Study, cores
from scratchcard.training.recipe import Recipe
from scratchcard.training.sources import load_data
from scratchcard.training.task import Task

EPOCHS, PER_EPOCH, SEEDS = 40, 70, 3
NETWORKS = {"vgg-16-quarter": partial(vgg_16, width=0.25), "resnet-20": resnet_20}
RECIPE = Recipe(
    optimizer="sgd",
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    batch_size=128,
    steps=EPOCHS * PER_EPOCH,
    schedule="step",
    milestones=(EPOCHS * PER_EPOCH // 2, EPOCHS * PER_EPOCH * 3 // 4),
    augment=("pad-crop", "flip"),
    eval_every=10 * PER_EPOCH,
    channels_last=True,
)
METHODS = (
    Slimming(fine_tune_lr=1e-3),
    FilterPruning("l1", fine_tune_lr=1e-3),
    FilterPruning("random", fine_tune_lr=1e-3),
    EarlyBird(),
)
LATE = (EarlyBird(draw="end"),)
ARMS = ("scratch-e", "scratch-b", "uniform-width")


def studies(network: str, store: Path) -> tuple[Study, Study]:
    """One network's studies: half of the channels, fine-tuned, from scratch, uniform; and how early a bird was drawn."""
    # a tenth is validation data
    task = Task(network, NETWORKS[network], load_data("cifar10", size=16, n=10_000))
    first = Study(task, RECIPE, METHODS, ARMS, seeds=SEEDS, primary=0.3, store=store, name=f"rethinking, {network}")
    return first, replace(first, methods=(EarlyBird(), *LATE), arms=(), name=f"how early, {network}")


def lines(rows: Rows) -> list[str]:
    """Accuracy of every method and arm, in Markdown."""
    told = [
        "| method | arm | parameters | MACs (M) | test accuracy, % | n | training, FLOPs x dense |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    dense = [row for row in rows if row.arm == "dense" and row.status == "done"]
    cost = sum(row.train_flops for row in dense) / len(dense)
    groups = dict.fromkeys((row.method, row.arm) for row in rows)
    for method, arm in groups:
        own = [row for row in rows if (row.method, row.arm) == (method, arm) and row.end is not None]
        values = [100 * row.end.test_metric for row in own if row.end]
        mean = sum(values) / len(values)
        spread = (sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)) ** 0.5
        told.append(
            f"| {method} | {arm} | {sum(row.parameters for row in own) / len(own):,.0f} | "
            f"{sum(row.macs or 0 for row in own) / len(own) / 1e6:.2f} | {mean:.2f} ± {spread:.2f} | {len(values)} | "
            f"{sum(row.train_flops for row in own) / len(own) / cost:.2f} |"
        )
    return told


def main() -> None:
    store = Path(sys.argv[1])
    results = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    parts = []
    for network in NETWORKS:
        made, late = studies(network, store)
        if results is None:
            made.run(workers=cores())
            late.run(workers=cores())
        rows, at_end = made.rows(), late.rows()
        print(judge(rows), file=sys.stderr, flush=True)
        if results is None:
            continue
        parts += [f"## {network}", "", *lines(rows), "", str(judge(rows)), ""]
        report(rows, store / f"{network}.html")
        draw(rows, store / f"{network}-figures")
    if results is not None:
        (results / "rethinking-cifar.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
