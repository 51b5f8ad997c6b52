"""Is a pruned network worth its inherited weights? Slimming, filters, early-bird and their controls on small CIFAR-10.

python benchmarks/rethinking_cifar.py runs/rethinking-cifar
python benchmarks/rethinking_cifar.py

CIFAR-10 averaged to 16 pixels, 9,000 training images, 40 epochs; VGG-16 of a quarter of the width and ResNet-20. The
first command trains what the store does not have yet (about six CPU hours; safe to stop and to start again), collects
the rows into docs/results/rows and writes the page and its figures; the second writes them again from those rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory

from pages import Page, bullets, how_many, listed, made_by, main, outcomes, price, setting, table

from scratchcard.evidence.comparison import Comparison, effect_text
from scratchcard.evidence.statistics import t_interval
from scratchcard.evidence.verdict import Verdict, judge
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.slimming import Slimming
from scratchcard.networks.zoo import resnet_20, vgg_16
from scratchcard.row import Emergence, Rows, StudySpec
from scratchcard.study.study import Study, cores
from scratchcard.training.recipe import Recipe
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
    "tradeoff.svg": "Accuracy against size. Filled and large: tickets; hollow: controls; bars: intervals over seeds.",
    "widths.svg": "Units kept per site, mean over seeds with extremes; dashed: the uniform width of as many MACs.",
    "early-bird_masks.svg": "Distances between the masks of the search that stopped (first seed); solid: the draw.",
    "early-bird_emergence.svg": "Distance of each mask from the one before, every seed, until its search stopped.",
    "early-bird-drawn-at-end_masks.svg": "The same in the search that went on to the end: masks drift on until the "
    "rate drops (dashed).",
}


def studies(network: str, store: Path) -> tuple[Study, Study]:
    """One network's studies: half of the channels, fine-tuned, from scratch, uniform; and how early it can be drawn."""
    from scratchcard.training.sources import load_data  # here, since it brings scikit-learn

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


def collect(store: str) -> list[Rows]:
    """Both studies of each network, run where they were not yet."""
    found = []
    for network in NETWORKS:
        for study in studies(network, Path(store)):
            found.append(study.run(workers=cores()))
    return found


def lines(rows: Rows) -> str:
    """Accuracy of every method and arm, in Markdown."""
    header = ["method", "arm", "parameters", "MACs (M)", "test accuracy, %", "n", "training, FLOPs x dense"]
    cost = fmean(row.train_flops for row in rows if row.arm == "dense" and row.status == "done")
    told = []
    for method, arm in dict.fromkeys((row.method, row.arm) for row in rows):
        own = [row for row in rows if (row.method, row.arm) == (method, arm) and row.end is not None]
        values = [100 * row.end.test_metric for row in own if row.end]
        spread = f"{stdev(values):.2f}" if len(values) > 1 else "?"
        told.append([
            method, arm, f"{fmean(row.parameters for row in own):,.0f}",
            f"{fmean(row.macs or 0 for row in own) / 1e6:.2f}", f"{fmean(values):.2f} ± {spread}", str(len(values)),
            f"{fmean(row.train_flops for row in own) / cost:.2f}",
            f"{fmean(row.train_flops + row.search_flops for row in own) / cost:.2f}",
        ])  # fmt: skip
    return table([*header, "with the search"], told)


def differences(verdict: Verdict, study: StudySpec) -> str:
    """Every ticket against every other arm, in Markdown: the difference, its own interval and the claim."""
    told = []
    for arm in dict.fromkeys(c.arm for method in verdict.methods for c in method.comparisons):
        found = (next((c for c in method.comparisons if c.arm == arm), None) for method in verdict.methods)
        told.append([arm, *(f"{effect_text(c, study)}: {c.claim}" if c else "" for c in found)])
    return table(["ticket minus", *(method.method for method in verdict.methods)], told)


def emergences(rows: Rows, label: str) -> dict[int, Emergence]:
    """Seed -> how a method's ticket was drawn."""
    own = (row for row in rows if (row.method, row.arm) == (label, "ticket"))
    return {row.seed: row.search.emergence for row in own if row.search.emergence is not None}


def early(rows: Rows) -> list[str]:
    """When the early-bird tickets were drawn, what they cost, and how they stand beside those drawn at the end."""
    dense = {row.seed: row.train_flops for row in rows if row.arm == "dense"}
    early_birds = {row.seed: row for row in rows if (row.method, row.arm) == (EarlyBird().label, "ticket")}
    at_end = {row.seed: row for row in rows if (row.method, row.arm) == (LATE[0].label, "ticket")}
    whole = emergences(rows, LATE[0].label)

    def epoch(step: int | None) -> str:
        return "not by then" if step is None else f"{step / PER_EPOCH:g}"

    told = [
        [str(seed), f"{epoch(found.emerged)} of {EPOCHS}", epoch(found.other_reading),
         epoch(whole[seed].other_reading) if seed in whole else "",
         f"{(early_birds[seed].search_flops + early_birds[seed].train_flops) / dense[seed]:.2f}"]
        for seed, found in emergences(rows, EarlyBird().label).items()
    ]  # fmt: skip
    header = ["seed", "consecutive reading fired at epoch", "window reading", "window reading, had it gone on"]
    parts = [
        f"Wanted: the consecutive reading fires by epoch {EPOCHS // 4}.",
        table([*header, "search + retraining, FLOPs x dense once"], told),
    ]
    pairs = [
        100 * (early_birds[seed].end.test_metric - late.end.test_metric)  # pyright: ignore[reportOptionalMemberAccess]
        for seed, late in at_end.items()
        if seed in early_birds and late.status == early_birds[seed].status == "done"
    ]
    if len(pairs) > 1:
        low, high = (float(end) for end in t_interval(pairs))
        told_pair = f"{fmean(pairs):+.2f} pp [{low:+.2f}, {high:+.2f}]"
        parts += [
            "The ticket drawn at the end of the same search has weights that have had the whole search, and is then "
            "trained for the same steps at the same rates again.",
            table(["early-bird ticket minus", "difference", "n"], [[LATE[0].label, told_pair, str(len(pairs))]]),
        ]
    return parts


CAPTION = (
    "Intervals are of one comparison each; the claims behind them are corrected for all of them (Holm), so an interval "
    "that is all on one side can be undecided."
)


def head(
    said: Mapping[str, Sequence[tuple[str, str]]], found: Mapping[str, Sequence[Comparison]], early_ones: str
) -> list[str]:
    """What the page says at its top: of every comparison what was shown, and no numbers.

    Args:
        said: Network -> (method, its verdict's sentence).
        found: Network -> its primary comparisons.
        early_ones: What is said of the early birds.
    """
    return [
        "# Is a pruned network worth its inherited weights?",
        answered(found),
        f"By method: {outcomes(said)}.",
        "\n".join([*bullets(found), early_ones]),
        "Methods are compared with their own controls, not with one another: cutting half of all sites' units together "
        "(slimming, early-bird) leaves another number of operations than cutting half of each (filters). `ticket` of "
        "slimming and filter pruning: inherited weights, fine-tuned at a small constant rate; "
        "`fine-tune-full-schedule`: the same weights trained by the whole recipe. `ticket` of early-bird: trained on "
        "under the schedule from the epoch of its draw; `re-init`: fresh weights, trained in exactly that way. Nothing "
        "was tuned. Accuracy is that at the end of training on test data, which chose nothing.",
    ]


def answered(found: Mapping[str, Sequence[Comparison]]) -> str:
    """Which controls any method's ticket was shown to differ from, in one sentence without numbers."""
    every = [(network, c) for network, comparisons in found.items() for c in comparisons]
    told = []
    for method in dict.fromkeys(c.method for _, c in every):
        for claim, word in (("better", "better than"), ("equivalent", "equivalent to"), ("worse", "worse than")):
            arms = dict.fromkeys(c.arm for _, c in every if (c.method, c.claim) == (method, claim))
            places = [f"`{arm}` ({listed(n for n, c in every if (c.method, c.arm, c.claim) == (method, arm, claim))})"
                      for arm in arms]  # fmt: skip
            told += [f"the {method} ticket is {word} {listed(places)}"] if places else []
    rest = "every other comparison is undecided" if any(c.claim == "undecided" for _, c in every) else ""
    return f"Shown: {'; '.join([*told, rest] if rest else told)}." if told else "Nothing is shown: all is undecided."


def early_sentence(drawn: Mapping[str, Sequence[int | None]]) -> str:
    """Whether early birds were early, in words: network -> the step at which each search's detector fired."""
    wanted = EPOCHS // 4 * PER_EPOCH
    told = (
        f"by {how_many(sum(step is not None and step <= wanted for step in steps), len(steps))} of the searches in "
        f"{network}"
        for network, steps in drawn.items()
    )
    return f"- How early: the epoch that was wanted for the draw was met {listed(told)}."


def write(*sources: Rows) -> str:
    """The page in Markdown, from both studies of each network."""
    by_network = dict(zip(NETWORKS, zip(sources[::2], sources[1::2], strict=True), strict=True))
    verdicts = {network: judge(rows) for network, (rows, _) in by_network.items()}
    fired = {
        network: [found.emerged for found in emergences(beside, EarlyBird().label).values()]
        for network, (_, beside) in by_network.items()
    }
    parts = head(
        {network: [(m.method, m.sentence) for m in verdict.methods] for network, verdict in verdicts.items()},
        {network: [c for m in verdict.methods for c in m.comparisons] for network, verdict in verdicts.items()},
        early_sentence(fired),
    )
    for network, (rows, beside) in by_network.items():
        complete = len(rows) == rows.study.planned
        parts += [
            f"## {network}",
            *([] if complete else [f"{len(rows)} of {rows.study.planned} runs finished."]),
            "Mean ± sample standard deviation over seeds.",
            lines(rows),
            CAPTION,
            differences(verdicts[network], rows.study),
            "### How early",
            *early(beside),
        ]
        for name, caption in FIGURES.items():
            parts += [f"![{caption}](rethinking-{network}-{name})", caption]
        parts += [
            "<details><summary>The verdict in full</summary>",
            f"```\n{verdicts[network]}\n```",
            "</details>",
            setting(rows),
        ]
    parts += ["## How it was made", made_by(PAGE.command), price(*sources)]
    return "\n\n".join(parts) + "\n"


def answer(*sources: Rows) -> str:
    """What was shown in both networks together."""
    studied = dict(zip(NETWORKS, sources[::2], strict=True))
    verdicts = {network: judge(rows) for network, rows in studied.items()}
    return answered({name: [c for m in verdict.methods for c in m.comparisons] for name, verdict in verdicts.items()})


def figures(*sources: Rows) -> dict[str, bytes]:
    from scratchcard.evidence.draw import draw  # here, since loading what draws takes a second

    found = {}
    for network, rows, beside in zip(NETWORKS, sources[::2], sources[1::2], strict=True):
        # latencies of these rows were measured while another training ran on the machine's other core
        untimed = Rows([row.model_copy(update={"latency": None}) for row in rows], rows.study)
        with TemporaryDirectory() as folder:
            drawn = {path.name: path for path in draw(untimed, Path(folder) / "all")}
            late = draw(beside, Path(folder) / "late")
            drawn |= {path.name: path for path in late if "drawn-at-end" in path.name}
            found |= {f"rethinking-{network}-{name}": drawn[name].read_bytes() for name in FIGURES}
    return found


PAGE = Page(
    name="rethinking-cifar",
    question="Are a pruned network's weights worth inheriting, and are early-bird tickets early (small CIFAR-10)?",
    command="python benchmarks/rethinking_cifar.py",
    rows=[f"rethinking-{network}{part}" for network in NETWORKS for part in ("", "-how-early")],
    write=write,
    answer=answer,
    figures=figures,
    gone="Mostly undecided with so few seeds: shown is that filters cut by their L1 norm and fine-tuned at a small "
    "rate are worse than the dense network and than fresh weights for as much computation; neither for slimming nor "
    "for early birds is it shown that inherited weights matter, and early birds settled early in some searches of the "
    "VGG-16 only.",
)

if __name__ == "__main__":
    main(PAGE, collect)
