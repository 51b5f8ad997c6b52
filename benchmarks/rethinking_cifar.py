"""Is a pruned network worth its inherited weights? Slimming, filters, early-bird and their controls on small CIFAR-10.

python benchmarks/rethinking_cifar.py runs/rethinking-cifar docs/results

CIFAR-10 averaged to 16 pixels, 9,000 training images, 40 epochs; VGG-16 of a quarter of the width and ResNet-20. About
six CPU hours; safe to stop and to start again. Run it with one argument (the store) to train, with both to write.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copy

from scratchcard.evidence.comparison import effect_text
from scratchcard.evidence.draw import draw
from scratchcard.evidence.report import report
from scratchcard.evidence.statistics import t_interval
from scratchcard.evidence.verdict import Verdict, judge
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.slimming import Slimming
from scratchcard.networks.zoo import resnet_20, vgg_16
from scratchcard.row import Rows, StudySpec
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
MORE = {"vgg-16-quarter": ("fine-tune-full-schedule", "re-init")}
"""Controls of the quicker network alone."""
FIGURES = {
    "tradeoff.svg": "Accuracy against size. Large and filled: tickets; hollow: their controls; bars: 95 % intervals.",
    "widths.svg": "Units kept per site, mean over seeds with extremes; dashed: the uniform width of as many MACs.",
    "early-bird_masks.svg": "Distances between the masks of the search that stopped (first seed); solid: the draw.",
    "early-bird_emergence.svg": "Distance of each mask from the one before, every seed, until its search stopped.",
    "early-bird-drawn-at-end_masks.svg": "The same in the search that went on to the end: masks drift on until the "
    "rate drops (dashed).",
}


def studies(network: str, store: Path) -> tuple[Study, Study]:
    """One network's studies: half of the channels, fine-tuned, from scratch, uniform; and how early it can be drawn."""
    # a tenth is validation data
    task = Task(network, NETWORKS[network], load_data("cifar10", size=16, n=10_000))
    first = Study(
        task,
        RECIPE,
        METHODS,
        (*ARMS, *MORE.get(network, ())),
        seeds=SEEDS,
        primary=0.3,
        store=store,
        name=f"rethinking, {network}",
    )
    return first, replace(first, methods=(EarlyBird(), *LATE), arms=(), name=f"how early, {network}")


def lines(rows: Rows) -> list[str]:
    """Accuracy of every method and arm, in Markdown."""
    told = [
        "| method | arm | parameters | MACs (M) | test accuracy, % | n | training, FLOPs x dense | with the search |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
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
            f"{sum(row.train_flops for row in own) / len(own) / cost:.2f} | "
            f"{sum(row.train_flops + row.search_flops for row in own) / len(own) / cost:.2f} |"
        )
    return told


def differences(verdict: Verdict, study: StudySpec) -> list[str]:
    """Every ticket against every other arm, in Markdown: the difference, its own interval and the claim."""
    arms = list(dict.fromkeys(c.arm for method in verdict.methods for c in method.comparisons))
    told = [f"| ticket minus | {' | '.join(method.method for method in verdict.methods)} |"]
    told.append(f"| --- |{' --- |' * len(verdict.methods)}")
    for arm in arms:
        cells = []
        for method in verdict.methods:
            found = next((c for c in method.comparisons if c.arm == arm), None)
            cells.append(f"{effect_text(found, study)}: {found.claim}" if found else "")
        told.append(f"| {arm} | {' | '.join(cells)} |")
    return told


def early(rows: Rows) -> list[str]:
    """When the early-bird tickets were drawn, what they cost, and how they stand beside those drawn at the end."""
    dense = {row.seed: row.train_flops for row in rows if row.arm == "dense"}
    early_birds = {row.seed: row for row in rows if (row.method, row.arm) == (EarlyBird().label, "ticket")}
    at_end = {row.seed: row for row in rows if (row.method, row.arm) == (LATE[0].label, "ticket")}
    told = [f"Wanted: the consecutive reading fires by epoch {EPOCHS // 4}.", ""]
    told += ["| seed | consecutive reading fired at epoch | window reading | search + retraining, FLOPs x dense once |"]
    told.append("| --- | --- | --- | --- |")
    for seed, row in early_birds.items():
        found = row.search.emergence
        assert found is not None, "an early-bird ticket says when it was drawn"
        epochs = [None if at is None else at / PER_EPOCH for at in (found.emerged, found.other_reading)]
        said = ["not by then" if epoch is None else f"{epoch:g}" for epoch in epochs]
        cost = (row.search_flops + row.train_flops) / dense[seed]
        told.append(f"| {seed} | {said[0]} of {EPOCHS} | {said[1]} | {cost:.2f} |")
    pairs = [
        100 * (early_birds[seed].end.test_metric - late.end.test_metric)  # pyright: ignore[reportOptionalMemberAccess]
        for seed, late in at_end.items()
        if seed in early_birds and late.status == early_birds[seed].status == "done"
    ]
    if len(pairs) > 1:
        low, high = t_interval(pairs)
        mean = sum(pairs) / len(pairs)
        told += [
            "",
            "Accuracy of the early-bird ticket minus that of the ticket drawn at the end of the same search, whose",
            "weights have had the whole search, and which is then trained for the same steps at the same rates again:",
        ]
        told += [f"{mean:+.2f} pp [{float(low):+.2f}, {float(high):+.2f}], n = {len(pairs)} (95 % t)."]
    whole = {row.seed: row.search.emergence for row in at_end.values()}
    window = {
        seed: None if found is None or found.other_reading is None else found.other_reading / PER_EPOCH
        for seed, found in whole.items()
    }
    if window:
        said = ", ".join("never" if epoch is None else f"{epoch:g}" for epoch in window.values())
        told += [
            "",
            f"In the searches that went on to the end the window reading fired at epoch {said} "
            f"(seeds {', '.join(map(str, window))}).",
        ]
    return told


HEAD = f"""# Is a pruned network worth its inherited weights?

With 3 seeds and one Holm family per network most claims stay undecided; the means say this. The two last controls of
VGG-16, `fine-tune-full-schedule` and `re-init`, were added when its other runs had been seen; they widened its family,
and slimming over uniform widths, "better" before, became undecided.

- **At the small constant rate it does not show**: fresh weights in the same widths, trained for as many epochs, reach
  what slimming's fine-tuned ones do (62.3 and 62.3 % in VGG-16, 62.2 and 62.3 % in ResNet-20), and more than those of
  filters.
- **Under the whole schedule, yes** (VGG-16): the same inherited weights gain 3.9 to 15 pp and are 3.1 to 4.8 pp above
  fresh ones. The conclusion flips with the rate of fine-tuning, as Wang et al. 2023 found.
- **For as much computation as the dense training, fresh weights do as well or better**: 66.0 against 66.2 %
  (slimming), 62.2 against 59.9 % (L1), 65.0 against 63.4 % (early-bird), without the dense training before it. In
  ResNet-20 a quarter of the operations, trained four times as long, stands 3.5 pp above dense.
- **An early bird's weights matter**: 6.8 pp [2.9, 10.7] over fresh ones under the same rest of the schedule.
- **Widths found against uniform ones**, fresh weights in both: slimming's +2.4 pp in VGG-16 and -0.1 in ResNet-20,
  early-bird's +0.8 and +0.9.
- **Masks drift on until the rate drops.** At a rate of 0.1 each epoch changes about a tenth of the mask, which is
  epsilon itself: in VGG-16 the paper's reading fires at epochs 8, 10 and 12, in ResNet-20 only after the drop, at 23 to
  25. Another penalty does not help ResNet-20 (`early_bird_strength.py`, first seed, 14 epochs): at 1e-5, 1e-3 and 1e-2
  it does not fire; VGG-16 fires at epoch 8 at 1e-5, and not at 1e-3 or 1e-2.

CIFAR-10 averaged to 16 pixels, 9,000 training images, {EPOCHS} epochs, batch 128, learning rate 0.1 divided by 10 at a
half and three quarters, flips and crops; half of the units cut, of all sites together (slimming, early-bird) or in
each (filters), which leaves different numbers of operations: methods are compared with their own controls, not with one
another. `ticket` of slimming and filter pruning: inherited weights fine-tuned for 10 epochs at 0.001;
`fine-tune-full-schedule`: the same weights trained by the whole recipe. `ticket` of early-bird: trained on under the
schedule from the epoch of its draw; `re-init`: fresh weights, trained in exactly that way. The penalty is 1e-4 in both
networks (the papers have 1e-5 for some ResNets), and nothing was tuned. Scaling factors start at 0.5 in every search;
elsewhere they start as the factory has them: at 0.5 in VGG-16 too, at 1 in ResNet-20.
Mean ± sample standard deviation over seeds; test accuracy at the end of training, which chose nothing.

```
python benchmarks/rethinking_cifar.py runs/rethinking-cifar
python benchmarks/rethinking_cifar.py runs/rethinking-cifar docs/results
```

Two worker processes of one thread, torch 2.13.0 on a CPU. Not measured on a GPU, nor at full width.
"""


def main() -> None:
    store = Path(sys.argv[1])
    results = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    parts = [HEAD]
    for network in NETWORKS:
        made, late = studies(network, store)
        if results is None:
            made.run(workers=cores())
            late.run(workers=cores())
            continue
        rows, beside = made.rows(), late.rows()
        if not any(row.arm == "ticket" for row in rows):
            continue
        complete = len(rows) == made.spec.planned
        parts += [
            f"## {network}",
            "",
            *([] if complete else [f"{len(rows)} of {made.spec.planned} runs finished.", ""]),
        ]
        parts += [
            *lines(rows),
            "",
            "Intervals are of one comparison each; the claims behind them are corrected for all of them (Holm), so an",
            "interval without 0 can be undecided.",
            "",
            *differences(judge(rows), made.spec),
            "",
            "### How early",
            "",
            *early(beside),
            "",
        ]
        report(rows, store / f"{network}.html")
        # latencies of these rows were measured while another training ran on the machine's other core
        untimed = Rows([row.model_copy(update={"latency": None}) for row in rows], rows.study)
        drawn = {path.name: path for path in draw(untimed, store / f"{network}-figures")}
        drawn |= {
            path.name: path for path in draw(beside, store / f"{network}-late-figures") if "drawn-at-end" in path.name
        }
        for name, caption in FIGURES.items():
            copy(drawn[name], results / f"rethinking-{network}-{name}")
            parts += [f"![{caption}](rethinking-{network}-{name})", "", caption, ""]
        parts += [
            "<details><summary>The verdict in full</summary>",
            "",
            "```",
            str(judge(rows)),
            "```",
            "",
            "</details>",
        ]
        parts += [""]
    if results is not None:
        (results / "rethinking-cifar.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
