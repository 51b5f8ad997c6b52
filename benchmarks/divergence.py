"""How often a verdict's sentence is false where tickets diverge by chance and nothing else sets them apart.

python benchmarks/divergence.py [studies]

Every arm has the same true metric; a ticket diverges with a given probability. "Better", "at a price", "no smaller
match" and what is said of any control's difference are then false; and "better", "matching" or "winning" must never be
said of tickets of which one has diverged.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np

from scratchcard.evidence import verdict
from scratchcard.evidence.verdict import Outcome, judge
from scratchcard.row import VERSION, MethodPlan, Origin, Point, Row, Rows, StudySpec

ARMS = ("dense", "ticket", "fresh-init", "random-mask-layerwise", "dense-for-the-search")
FALSE = {Outcome.BETTER_AND_SMALLER, Outcome.SMALLER_AT_A_PRICE, Outcome.NO_SMALLER_MATCH}
GOOD = {Outcome.BETTER_AND_SMALLER, Outcome.MATCHING_AND_SMALLER, Outcome.EXPLAINED_BY_A_CONTROL}
MARGIN = 0.005


def simulated(random: np.random.Generator, seeds: int, chance: float, sd: float) -> Rows:
    """One study: no arm differs from another, tickets diverge with a probability.

    Args:
        random: where chance comes from.
        seeds: how many.
        chance: that a ticket diverges.
        sd: standard deviation of a run around the common metric, in margins.
    """
    study = StudySpec(
        version=VERSION,
        name="simulated",
        task="simulated",
        task_digest="0",
        data="none",
        metric="accuracy",
        higher_is_better=True,
        metric_is_fraction=True,
        loss="none",
        recipe={},
        methods={"imp": MethodPlan(fields={}, densities=[1.0, 0.5], primary=1, origin=Origin(weights="initial"))},
        arms=list(ARMS),
        replicates={},
        seeds=list(range(seeds)),
        margin=MARGIN,
        margin_kind="absolute",
        command="",
    )
    values = 0.9 + sd * MARGIN * random.standard_normal((len(ARMS), seeds))
    lost = random.random(seeds) < chance
    rows = [
        run(arm, seed, None if arm == "ticket" and lost[seed] else float(values[at, seed]))
        for at, arm in enumerate(ARMS)
        for seed in range(seeds)
    ]
    return Rows(rows, study)


def run(arm: str, seed: int, metric: float | None) -> Row:
    """A run that ended with this metric; None: that diverged."""
    point = None if metric is None else Point(step=100, validation_loss=1, test_metric=metric)
    dense = arm == "dense"
    return Row(
        version=VERSION,
        id=f"{arm}-{seed}",
        task="simulated",
        task_digest="0",
        recipe={},
        method="dense" if dense else "imp",
        method_fields={},
        seed=seed,
        level=0 if dense else 1,
        arm=arm,
        status="diverged" if metric is None else "done",
        density=1.0 if dense else 0.5,
        layers={},
        parameters=1000,
        nonzero=1000 if dense else 500,
        mask_digest="",
        early_stop=point,
        end=point,
        train_flops=1,
        search_flops=0,
        seconds=1,
        snapshots={},
        machine={},
    )


def rates(studies: int, seeds: int, chance: float, sd: float) -> dict[str, float]:
    """Shares of studies: with a false sentence, with a diverged ticket, and of these those that were praised."""
    random = np.random.default_rng([seeds, round(100 * chance), round(100 * sd)])
    counted: Counter[str] = Counter()
    for _ in range(studies):
        rows = simulated(random, seeds, chance, sd)
        (said,) = judge(rows).methods
        diverged = any(row.status == "diverged" for row in rows)
        claimed = any(comparison.claim in ("better", "worse") for comparison in said.comparisons)
        counted["false"] += said.outcome in FALSE or claimed
        counted["diverged"] += diverged
        counted["praised"] += diverged and (said.outcome in GOOD or said.winning_ticket)
        counted[said.outcome.name] += 1
    return {name: number / studies for name, number in counted.items()}


def main(studies: int) -> None:
    # how many seeds would decide is no part of what is asked here, and nine tenths of the time
    verdict.seeds_needed = lambda *_, **__: None
    print(f"{studies:,} studies a line, worst of runs of 0.2, 1 and 3 margins around one truth; per cent of studies.\n")
    print("| ticket diverges | seeds | a false sentence | a ticket diverged | of these called good | worst at |")
    print("|---|---|---|---|---|---|")
    for chance in (0.0, 0.1, 0.5):
        for seeds in (3, 5, 10):
            found = {sd: rates(studies, seeds, chance, sd) for sd in (0.2, 1.0, 3.0)}
            worst = max(found, key=lambda sd: found[sd]["false"])
            praised = max(one["praised"] for one in found.values())
            cells = [100 * chance, seeds, 100 * found[worst]["false"], 100 * found[worst]["diverged"], 100 * praised]
            print("|", " | ".join(f"{cell:.3g}" for cell in cells), f"| {worst:g} margins |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
