"""A checklist for reporting pruning, each point answered for this study from what it declared and what its rows hold.

The points are those of Blalock et al. 2020 (What is the State of Neural Network Pruning?, section 6 and appendix) in
other words, and some that were asked for since. What only a text can do, such as setting a method among older ones,
is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from scratchcard.evidence.caveats import FEW_SEEDS, mixed
from scratchcard.evidence.comparison import measured
from scratchcard.evidence.summary import density_text, finished
from scratchcard.evidence.tradeoff import timing_conditions, units_were_cut
from scratchcard.row import Row, Rows

Status = Literal["yes", "partly", "no"]
SOURCE = "Blalock et al. 2020, What is the State of Neural Network Pruning?, section 6 and appendix; wording ours"

POINTS = 5
"""Operating points that a trade-off curve needs at least."""
LEAST, MOST = 2.0, 32.0
"""Times smaller, that a curve should reach from and to: they suggest 2, 4, 8, 16 and 32."""
PAIRS = 3
"""Pairs of data set and architecture that a claim about a method should rest on at least."""


@dataclass(frozen=True)
class Point:
    """One point of the checklist."""

    asked: str
    status: Status
    reason: str
    later: bool = False
    """Whether it is no point of the source, but was asked for since."""


def checklist(rows: Rows) -> list[Point]:
    """Every point, those of the source first.

    Args:
        rows: The rows of one study, finished or not.
    """
    return [*_about_the_study(rows), *_about_the_curve(rows), *_baselines(rows), *_asked_since(rows)]


def _about_the_study(rows: Rows) -> Iterator[Point]:
    study, done = rows.study, finished(rows)
    dense = [row for row in done if row.arm == "dense"]
    yield Point(
        f"At least {PAIRS} pairs of data set and architecture, large ones among them",
        "no",
        f"A study is one pair: task {study.task} on {study.data}. What it says holds for that pair.",
    )
    size = f", {dense[0].parameters:,} parameters in the dense network" if dense else ""
    yield Point(
        "Architecture, data and metric stated exactly and in one place",
        "partly",
        f"Under How to reproduce: data, test {study.metric}{size}; the architecture by the digest of its code, task "
        f"{study.task}, and not in words.",
    )
    yield Point(
        "Hyper-parameters and code from which the runs can be made again",
        "yes" if study.command else "partly",
        "The recipe, every method's fields and the command are on this page."
        if study.command
        else "The recipe and every method's fields are on this page, a command to type is not.",
    )
    differ = [sentence.partition(":")[0].removeprefix("Runs differ in ") for sentence in mixed(rows)]
    yield Point(
        "Every method under the same library, data loading and training code",
        "partly" if differ else "yes",
        f"One data pipeline and training loop, but runs differ in {', '.join(differ)}."
        if differ
        else "One data pipeline and training loop for all arms; no versions are mixed.",
    )
    devices = sorted({row.machine["device"] for row in rows if "device" in row.machine})
    yield Point(
        "Hardware described",
        "no" if not devices else "partly" if "cpu" in devices else "yes",
        f"Device of the runs: {', '.join(devices)}"
        + ("; which processor is not recorded." if "cpu" in devices else ".")
        if devices
        else "No run recorded its device.",
    )
    yield Point(
        "Top-1 and top-5 accuracy where there are many classes",
        "partly",
        f"One metric is recorded, test {study.metric}; it is enough where classes are few.",
    )


def _about_the_curve(rows: Rows) -> Iterator[Point]:
    study, done, value = rows.study, finished(rows), measured(rows.study)
    dense = [row for row in done if row.arm == "dense"]
    tickets = [row for row in done if row.arm == "ticket"]
    operations = [row for row in [*dense, *tickets] if row.macs is not None]
    both = _all_or_some(len(operations), len(dense) + len(tickets))
    yield Point(
        "Size and multiply-accumulates of every network, both",
        "no" if not operations and not tickets else "partly" if not operations else both,
        f"Parameters of all {len(dense) + len(tickets)} finished dense networks and tickets, multiply-accumulates of "
        f"{len(operations)}.",
    )
    yield Point(
        "The same numbers for the network before pruning",
        "yes" if dense and value(dense[0]) is not None else "no",
        f"{len(dense)} finished runs of the dense network, under the same recipe and in the same tables."
        if dense
        else "No dense network has finished.",
    )
    levels = {name: sorted({row.level for row in tickets if row.method == name}) for name in study.methods}
    counts = ", ".join(f"{name} {len(at)}" for name, at in levels.items())
    yield Point(
        f"A trade-off curve of at least {POINTS} operating points for every method",
        _all_or_some(sum(len(at) >= POINTS for at in levels.values()), len(levels)),
        f"Levels with finished tickets: {counts}.",
    )
    times = [dense[0].parameters / row.nonzero for row in tickets if dense and row.nonzero]
    low, high = (min(times), max(times)) if times else (0.0, 0.0)
    wide = "yes" if 0 < low <= LEAST and high >= MOST else "partly" if high >= LEAST else "no"
    yield Point(
        f"A range of sizes, extreme ones among them ({LEAST:g} to {MOST:g} times smaller)",
        wide,
        f"Whole networks {low:.3g} to {high:.3g} times smaller." if times else "No ticket beside a dense network.",
    )
    yield Point("The metric itself at every point, not only its change", "yes", "In the table behind every figure.")
    seeds = _seeds(rows)
    fewest = min(seeds.values(), default=0)
    several = "yes" if fewest >= FEW_SEEDS else "partly" if max(seeds.values(), default=0) >= 2 else "no"
    own = ", each with initial weights of its own"
    if study.dense_given or study.one_draw:
        own = f", all from {'the one given dense network' if study.dense_given else 'the same initial weights'}"
    yield Point(
        f"Several runs with separate initialisations (at least {FEW_SEEDS} seeds)",
        "partly" if (study.dense_given or study.one_draw) and several == "yes" else several,
        f"Finished seeds: {', '.join(f'{name} {n}' for name, n in seeds.items())}{own}.",
    )
    yield Point(
        "Means with sample standard deviations, error bars defined",
        several,
        f"Standard deviations and {100 * (1 - study.alpha):g} % t intervals over seeds beside every arm at the primary "
        "level; elsewhere the smallest and the largest run."
        if several != "no"
        else "One seed has no spread.",
    )
    yield Point(
        "Operations counted where efficiency is claimed",
        "yes" if all(row.train_flops for row in tickets) and tickets else "no",
        "Of every training and of the search before it, under The price.",
    )


def _baselines(rows: Rows) -> Iterator[Point]:
    done = finished(rows)
    arms = {row.arm for row in done}
    methods = {row.method for row in done if row.arm == "ticket"}

    random = sorted(name for name in methods if "random" in name)
    everywhere = [name for name in random if "global" in name or "uniform" in name]
    everywhere += [arm for arm in ("random-mask-global",) if arm in arms]
    others = ("random", "small-final", "movement", "increase", "init")
    magnitude = [
        name
        for name in sorted(methods)
        if name.startswith(("imp", "l1-filters", "l2-filters")) and not any(other in name for other in others)
    ]
    yield _present("Random pruning over the whole network", everywhere)
    yield _random_layerwise(rows)
    yield _present("Pruning by magnitude, globally or uniformly", magnitude)
    yield Point(
        "Pruning by magnitude with as many cut in each layer as the method cuts",
        "yes" if methods and set(magnitude) >= methods else "no",
        "Every method of the study is magnitude pruning itself."
        if methods and set(magnitude) >= methods
        else "No arm of this study cuts by magnitude at another method's layer-wise shares.",
    )
    yield Point(
        "Other methods for comparison, run and not quoted",
        "yes" if len(methods) > 1 else "no",
        f"Run here: {', '.join(sorted(methods)) or 'none'}.",
    )


def _random_layerwise(rows: Rows) -> Point:
    """Random pruning at the counts that each method has in every layer: by a control, or where a random method cuts so.

    Random methods are judged by it only where there is no other.
    """
    done = finished(rows)
    tickets = [row for row in done if row.arm == "ticket"]
    random = sorted({row.method for row in tickets if "random" in row.method})
    cuts = {(name, row.seed, _cut(row)) for row in tickets if (name := row.method) in random}
    found: dict[str, list[str]] = {}
    for name, plan in rows.study.methods.items():
        own = [row for row in tickets if (row.method, row.level) == (name, plan.primary)]
        if own and (name not in random or {row.method for row in tickets} <= {*random}):
            arms = {row.arm for row in done if row.method == name}
            found[name] = [other for other in random if all((other, row.seed, _cut(row)) in cuts for row in own)]
            found[name] += [arm for arm in ("random-mask-layerwise", "shuffled-mask") if arm in arms]
    asked = "Random pruning with as many cut in each layer as the method cuts"
    run = list(dict.fromkeys(label for labels in found.values() for label in labels))
    without = [name for name, labels in found.items() if not labels]
    if run and without:
        beside = ", ".join(name for name in found if name not in without)
        return Point(asked, "partly", f"Run here: {', '.join(run)}, for {beside}; not for {', '.join(without)}.")
    if without and random:
        why = f"{', '.join(random)} did not cut as many in each layer, in every seed, as {', '.join(without)}"
        return Point(asked, "no", f"Not run here: {why}.")
    return _present(asked, run)


def _cut(row: Row) -> frozenset[tuple[str, tuple[int, int]]]:
    """Where anything is cut, (kept, all): units of a site where units were cut, else weights of a layer."""
    return frozenset((name, counts) for name, counts in (row.widths or row.layers).items() if counts[0] < counts[1])


def _asked_since(rows: Rows) -> Iterator[Point]:
    study, done = rows.study, finished(rows)
    tickets = [row for row in done if row.arm == "ticket"]
    structured = units_were_cut(rows)
    conditions = timing_conditions(rows)
    timed = sum(row.latency is not None for row in tickets)
    yield Point(
        "Latency measured, with batch, threads and device",
        "no" if not timed else "partly" if timed < len(tickets) or len(conditions) > 1 else "yes",
        f"Of {timed} of {len(tickets)} tickets: {'; '.join(conditions)}; beside whatever else ran on the machine."
        if timed
        else "No network was timed.",
        later=True,
    )
    yield Point(
        "The cost of the search included",
        "partly" if study.dense_given else "yes" if any(row.search_flops for row in tickets) else "no",
        "The training of the given dense network is not known."
        if study.dense_given
        else "Operations of everything trained before a ticket, beside its own.",
        later=True,
    )
    point = "the last step, fixed in advance" if study.measure == "end" else "the step of the lowest validation loss"
    yield Point("Nothing chosen on test data", "yes", f"Comparisons read {point}; test numbers chose nothing.", True)
    yield Point(
        "Differences paired by seed, and tested against a margin declared first",
        "yes" if min(_seeds(rows).values(), default=0) >= 2 else "no",
        "Paired t tests, corrected for all primary comparisons.",
        later=True,
    )
    arms = {row.arm for row in done}
    if structured:
        scratch = [arm for arm in study.arms if arm.startswith("scratch-") and arm in arms]
        budgets = {arm.split("-")[1] for arm in scratch}
        yield Point(
            "The pruned architecture trained from scratch, for equal epochs and for equal computation",
            "yes" if budgets >= {"e", "b"} else "partly" if scratch else "no",
            f"Run here: {', '.join(scratch)}." if scratch else "No scratch arm has finished.",
            later=True,
        )
        yield _present(
            "A network of the same size, uniformly narrower", ["uniform-width"] if "uniform-width" in arms else [], True
        )
        rates = "fine-tune-full-schedule" in arms
        yield Point(
            "Fine-tuning under more than one schedule, since conclusions turn with it",
            "yes" if rates else "no",
            "The method's own fine-tuning, and the whole recipe (fine-tune-full-schedule)."
            if rates
            else "Tickets were trained in one way; fine-tune-full-schedule was not run.",
            later=True,
        )


def _present(asked: str, found: Sequence[str], later: bool = False) -> Point:
    reason = f"Run here: {', '.join(found)}." if found else "Not run here."
    return Point(asked, "yes" if found else "no", reason, later)


def _all_or_some(some: int, every: int) -> Status:
    return "no" if not some else "yes" if some == every else "partly"


def _seeds(rows: Rows) -> dict[str, int]:
    """Finished seeds of the dense network and of each method's tickets at its primary level."""

    def count(of: Sequence[Row]) -> int:
        return len({row.seed for row in of})

    done, study = finished(rows), rows.study
    return {
        "dense": count([row for row in done if row.arm == "dense"]),
        **{
            f"{name} ({density_text(plan.densities[plan.primary])})": count(
                [row for row in done if (row.method, row.level, row.arm) == (name, plan.primary, "ticket")]
            )
            for name, plan in study.methods.items()
        },
    }
