"""The study of LeNet-300-100 on MNIST as a page: what the paper reports, at both of its measures, and longer training.

scratchcard study mnist --controls fresh-init,dense-for-the-search,dense-times-3 --control-levels 4,7,9,12,15 \
    --seeds 3 --store runs/mnist
python benchmarks/mnist_lenet.py runs/mnist
python benchmarks/mnist_lenet.py

The second command collects the rows into docs/results/rows and writes the page and its figures; the third writes them
again from those rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

import numpy as np
from pages import Page, against, listed, made_by, main, picture, price, read_at, setting, table, verdict

from scratchcard.evidence.arms import control
from scratchcard.evidence.comparison import Comparison, compare, differences, effect_text, metric
from scratchcard.evidence.statistics import t_interval
from scratchcard.evidence.summary import density_text, difference_text, markdown
from scratchcard.evidence.verdict import judge
from scratchcard.row import Row, Rows

METHOD = "imp"
AT = {"21.1 %": 7, "13.5 %": 9, "3.6 %": 15}
"""Weights left (Pm), as the paper names its levels -> the pruning round."""
MEASURES = {"end": "the end of training", "early_stop": "the early-stop step"}
LONGER = ("dense-for-the-search", "dense-times-3")
"""Controls that train the dense network longer."""
COMMAND = "python benchmarks/mnist_lenet.py"


def at(found: list[Comparison], level: int, arm: str) -> Comparison:
    """Ticket minus an arm at a level."""
    return next(c for c in found if (c.level, c.arm) == (level, arm))


def interval_says(low: float, high: float, bound: float = 0.0) -> str:
    """Whether a 95 % interval lies above a bound."""
    return "holds" if low > bound else "MISSED" if high < bound else "not shown"


def wanted(rows: Rows, found: list[Comparison]) -> Iterator[list[str]]:
    """What was wanted, what was measured, and whether its interval shows it."""
    study = rows.study

    def told(c: Comparison) -> str:
        return f"{effect_text(c, study)}, n = {c.n}"

    for left in ("13.5 %", "3.6 %"):
        dense = at(found, AT[left], "dense")
        yield [f"at Pm {left} ticket above dense", told(dense), interval_says(dense.low, dense.high)]
    fresh = at(found, AT["13.5 %"], "fresh-init")
    enough = interval_says(fresh.low, fresh.high) if fresh.mean >= 0.007 else "MISSED"
    yield ["at Pm 13.5 % ticket above fresh init, by 0.7 pp or more in the mean", told(fresh), enough]


def log_step(row: Row) -> float | None:
    return None if row.early_stop is None else math.log(max(row.early_stop.step, 1))


def sooner(rows: Rows, level: int, arm: str) -> tuple[float, float, float, int, str]:
    """Early-stop step of an arm over the ticket's: mean of ratios within seeds, 95 % t interval, n, censored runs."""
    logs, _ = differences(rows, METHOD, level, arm, log_step)
    other = [
        row.early_stop
        for row in rows
        if row.arm == arm and row.early_stop and (arm == "dense" or (row.method, row.level) == (METHOD, level))
    ]
    # steps are seen only where a run was evaluated
    grain = rows.study.recipe["eval_every"] / fmean(point.step for point in other)
    low, high = t_interval(-logs, rows.study.alpha, grain)
    late = sum(point.censored for point in other)
    censored = f"; {late} of {len(other)} runs of {arm} censored, so at least that" if late else ""
    return math.exp(float(np.mean(-logs))), math.exp(float(low)), math.exp(float(high)), len(logs), censored


def as_in_the_paper(rows: Rows) -> Iterator[list[str]]:
    """The paper's figures at early stopping, this study's, and whether its interval has the paper's figure within."""
    found = compare(read_at(rows, "early_stop"))

    def line(what: str, paper: str, value: float, low: float, high: float, told: str, nothing: float = 0) -> list[str]:
        there = "within the interval" if low <= value <= high else "outside the interval"
        return [what, paper, told, interval_says(low, high, nothing), there]

    *times, n, late = sooner(rows, AT["21.1 %"], "dense")
    mean, low, high = (1 - 1 / ratio for ratio in times)
    told = f"{100 * mean:.0f} % [{100 * low:.0f}, {100 * high:.0f}], n = {n}{late}"
    yield line("at Pm 21.1 % early stop earlier than dense", "38 %", 0.38, low, high, told)

    dense = at(found, AT["13.5 %"], "dense")
    told = f"{effect_text(dense, rows.study)}, n = {dense.n}"
    yield line("at Pm 13.5 % accuracy above dense", "+0.3 pp", 0.003, dense.low, dense.high, told)

    mean, low, high, n, late = sooner(rows, AT["21.1 %"], "fresh-init")
    told = f"{mean:.2f} times [{low:.2f}, {high:.2f}], n = {n}{late}"
    yield line("at Pm 21.1 % faster than fresh init", "2.51 times", 2.51, low, high, told, 1)

    fresh = at(found, AT["21.1 %"], "fresh-init")
    told = f"{effect_text(fresh, rows.study)}, n = {fresh.n}"
    yield line("at Pm 21.1 % accuracy above fresh init", "+0.5 pp", 0.005, fresh.low, fresh.high, told)


def longer(rows: Rows) -> list[str]:
    """How much of the ticket's gain over the dense network training that one longer gives too, a sentence for each."""
    study, primary = rows.study, rows.study.methods[METHOD].primary
    found = [c for c in compare(rows) if c.primary]
    gain = next(c for c in found if c.arm == "dense")
    over_dense, _ = differences(rows, METHOD, primary, "dense", metric(study))
    told = []
    for arm in (c.arm for c in found if c.arm in LONGER):
        over_longer, _ = differences(rows, METHOD, primary, arm, metric(study))
        if len(over_longer) != len(over_dense) or len(over_dense) < 2:
            told.append(f"{control(arm).what} has not finished in every seed, so no share is given.")
            continue
        own = over_dense - over_longer  # the longer dense training over the plain one, seed by seed
        low, high = t_interval(own, study.alpha, study.resolution)
        mean = float(own.mean())
        span = f"{difference_text(mean, study)} [{100 * float(low):+.2f}, {100 * float(high):+.2f}]"
        first = f"{control(arm).what} gains {span} over the plain dense training"
        if gain.claim != "better":
            told.append(f"{first}; a gain of the ticket over dense is not shown, so no share of it is given.")
            continue
        shown = "" if float(low) > 0 else ", which is not shown to be a gain" if float(high) >= 0 else ", a loss"
        share = f"{100 * mean / gain.mean:.0f} % of the ticket's gain of {effect_text(gain, study)}"
        told.append(f"{first}{shown}: {share}.")
    return told


def write(rows: Rows) -> str:
    """The page in Markdown."""
    both = {measure: read_at(rows, measure) for measure in MEASURES}
    primary = rows.study.methods[METHOD].primary
    parts = [
        "# LeNet-300-100 on MNIST",
        judge(both["end"]).sentence.replace(": ", " at the end of training: ", 1),
        judge(both["early_stop"]).sentence.replace(": ", " at the early-stop step, the paper's measure: ", 1),
        "Test data chose nothing: the early-stop step is that of the lowest validation loss. Differences are paired by "
        "seed, draws of one seed averaged first, with two-sided 95 % t intervals; only the verdicts' claims are "
        "corrected for how many there are.",
        setting(rows),
    ]
    for measure, what in MEASURES.items():
        lines = list(wanted(both[measure], compare(both[measure])))
        parts += [f"## Wanted, at {what}", table(["wanted", "measured", ""], lines)]
    parts += [
        "## Against the paper",
        "Frankle & Carbin 2019 (Figure 3 and section 2) read everything at early stopping, as here; they train longer.",
        table(["", "paper", "here", "direction", "the paper's figure"], list(as_in_the_paper(rows))),
        "## Does training the dense network longer give the same?",
    ]
    compared = [c for c in compare(both["end"]) if c.primary and c.arm in ("dense", *LONGER)]
    early = {c.arm: c for c in compare(both["early_stop"]) if c.primary}
    lines = [
        [*line, effect_text(early[c.arm], rows.study), early[c.arm].claim]
        for c, line in zip(compared, against(compared, rows.study), strict=True)
    ]
    header = ["ticket minus", "at the end", "seeds", "shown", "at the early-stop step", "shown"]
    density = density_text(rows.study.methods[METHOD].densities[primary])
    parts += [f"At the primary level, {density} of the weights left.", table(header, lines)]
    for measure, what in MEASURES.items():
        parts += [f"At {what}: {said}" for said in longer(both[measure])]
    for measure, what in MEASURES.items():
        parts += [f"## The verdict at {what}", verdict(both[measure])]
    parts += [
        "## Accuracy against density",
        "Tickets and their controls, mean and range of the runs: at the end of training, then at the early-stop step.",
        "![Test accuracy at the end of training against the share of weights left](mnist-lenet.svg)",
        "![Test accuracy at the early-stop step against the share of weights left](mnist-lenet-early-stop.svg)",
        "## Every level",
        markdown(rows).rstrip(),
        "## How it was made",
        made_by(COMMAND, rows),
        price(rows),
    ]
    return "\n\n".join(parts) + "\n"


def answer(rows: Rows) -> str:
    """The verdict's sentence, and what longer training gives."""
    found = [c for c in compare(rows) if c.primary and c.arm in LONGER]
    claims = (("better",), ("equivalent", "worse"), ("undecided",))
    beaten, matched, open_ = ([f"`{c.arm}`" for c in found if c.claim in one] for one in claims)
    told = [f"the ticket beats {listed(beaten)}"] if beaten else []
    told += [f"{listed(matched)} do{'es' if len(matched) == 1 else ''} as well or better"] if matched else []
    told += [f"against {listed(open_)} it is undecided"] if open_ else []
    said = judge(rows).sentence
    return f"{said.removesuffix('.')}; of dense networks trained longer, {', '.join(told)}." if told else said


def figures(rows: Rows) -> dict[str, bytes]:
    return {
        "mnist-lenet.svg": picture(read_at(rows, "end"), METHOD, "metric"),
        "mnist-lenet-early-stop.svg": picture(read_at(rows, "early_stop"), METHOD, "metric"),
    }


def collect(store: str) -> list[Rows]:
    """The study's rows, from its store."""
    from scratchcard.study.study import read  # only a store needs it, and it brings torch

    studies = [rows for rows in read(store) if rows.study.task == "mnist"]
    return [max(studies, key=lambda rows: len({*LONGER} & {*rows.study.arms}))]


PAGE = Page(
    name="mnist-lenet",
    question="Does LeNet-300-100 on MNIST have winning tickets?",
    command=COMMAND,
    rows=["mnist-lenet"],
    write=write,
    answer=answer,
    figures=figures,
)

if __name__ == "__main__":
    main(PAGE, collect)
