"""What the numbers do not say: lost runs, mixed machines and what was not measured, read from the rows."""

from __future__ import annotations

from collections import Counter

from scratchcard.evidence.summary import finished
from scratchcard.evidence.tradeoff import units_were_cut
from scratchcard.row import LONGER, Row, Rows, StudySpec

FEW_SEEDS = 3
CONTROLS = ("fresh-init", "random-mask-layerwise", "random-mask-global")
OF_TRAINED = ("scratch-e", "scratch-b")
OF_UNITS = (*OF_TRAINED, "uniform-width")
"""Controls without which a smaller network, trained from inherited weights, is not known to be worth its search."""


def run_name(row: Row) -> str:
    """A run in words, with the beginning of its identity."""
    place = [row.method, f"level {row.level}", row.arm] if row.level else [row.arm]
    draw = [f"draw {row.replicate}"] if row.replicate else []
    return ", ".join([*place, *draw, f"seed {row.seed}"]) + f" ({row.id[:12]})"


def lost(rows: Rows) -> list[str]:
    """One sentence per run that diverged or failed, by name."""
    return [
        f"{run_name(row)} {row.status if row.found else f'never found, its search {row.status}'}"
        + (f": {row.message.rstrip('.')}" if row.message else "")
        + "."
        for row in rows
        if row.status != "done"
    ]


def mixed(rows: Rows) -> list[str]:
    """One sentence per version, device or thread count in which the rows differ; empty when they agree."""
    sentences = []
    for key in sorted({key for row in rows for key in row.machine}):
        counts = Counter(row.machine.get(key, "unknown") for row in rows)
        if len(counts) > 1:
            parts = ", ".join(f"{value} ({count} runs)" for value, count in sorted(counts.items()))
            sentences.append(f"Runs differ in {key}: {parts}. Differences between them are not the method's.")
    return sentences


def not_measured(rows: Rows) -> list[str]:
    """Sentences about what a reader might believe was measured and was not.

    Args:
        rows: The rows of one study.

    Returns:
        First what is particular to these rows, then what holds for every study.
    """
    study, done = rows.study, finished(rows)
    sentences = []
    seeds = len({row.seed for row in done})
    if seeds < FEW_SEEDS:
        sentences.append(f"Spread over seeds: runs of {seeds} seed(s) say next to nothing about it.")
    planned = _planned(study) if study.planned is None else study.planned
    if len(rows) < planned:
        sentences.append(f"{planned - len(rows)} of {planned} planned runs, which have no row yet.")
    run = {row.arm for row in rows}
    everywhere = set.intersection(*(set(plan.left_out) for plan in study.methods.values())) if study.methods else set()
    if idle := [arm for arm in study.arms if arm not in {*run, *everywhere}]:
        sentences.append(f"Arms that were planned and have no run: {', '.join(idle)}.")
    wanted = dict.fromkeys(arm for name in study.methods for arm in _wanted(rows, name))
    if absent := [arm for arm in wanted if arm not in {*study.arms, *everywhere}]:
        sentences.append(f"Controls that were not planned: {', '.join(absent)}.")
    if study.control_levels is not None and {*study.arms} - {"dense", "ticket"}:
        levels = ", ".join(map(str, study.control_levels)) or "no other"
        sentences.append(f"Controls at every level: besides the primary level they were planned at {levels}.")
    if longer := [arm for arm in study.arms if arm.startswith("dense-") and arm in run]:
        sentences.append(f"{', '.join(longer)} at other levels: run at the primary one alone.")
    for arm, why in dict.fromkeys((arm, why) for plan in study.methods.values() for arm, why in plan.left_out.items()):
        methods = ", ".join(name for name, plan in study.methods.items() if plan.left_out.get(arm) == why)
        sentences.append(f"The control {arm} of {methods}: {why}.")
    if study.dense_given:
        sentences.append(
            "The training of the dense network: it was given trained; its cost and early stop are unknown."
        )
    sizes = {row.arm: row.parameters for row in done}
    if sizes.get("ticket") == sizes.get("dense"):
        sentences.append(
            "Speed: these masks are unstructured. Every tensor keeps its size, dense kernels save no time "
            "on zeros; only the number of nonzero weights is smaller."
        )
    elif any(row.latency for row in done):
        sentences.append(
            "Speed elsewhere: latencies are of the runs' machine, beside whatever ran on it; other batches, threads, "
            "devices and compilers were not timed."
        )
    else:
        sentences.append("Speed: no latency or throughput of the small network was timed.")
    if units_were_cut(rows):
        sentences.append("Energy: no meter was read, and none of these numbers is one of energy.")
    if all(row.machine.get("device", "").startswith("cpu") for row in done):
        sentences.append("A GPU: every run was made on a CPU, and seconds are CPU seconds.")
    read, other = ("last", "early-stop") if study.measure == "end" else ("early-stop", "last")
    return [
        *sentences,
        f"Differences at the {other} step: the comparisons read the {read} step, as declared before the "
        "runs; the tables have both.",
        "Savings in training: FLOPs are forward and backward passes with masked weights counted as dense; "
        "the optimizer's arithmetic, evaluation and data loading are not counted.",
        f"Other data sets, models and recipes: all of this is one task ({study.data}) under one recipe.",
    ]


def _wanted(rows: Rows, method: str) -> tuple[str, ...]:
    """The controls without which it is not known why a method's tickets do as they do."""
    origin = rows.study.methods[method].origin
    trained = origin is not None and origin.trained
    of_units = OF_UNITS if units_were_cut(rows, method) else ()
    return (*(of_units or (OF_TRAINED if trained else CONTROLS)), LONGER)


def _planned(study: StudySpec) -> int:
    """How many runs were planned by a study of before their number was recorded: every arm at every level."""
    return len(study.seeds) * ("dense" in study.arms) + sum(
        len(study.seeds) * (len(plan.densities) - 1) * study.replicates.get(arm, 1)
        for plan in study.methods.values()
        for arm in study.arms
        if arm != "dense"
    )
