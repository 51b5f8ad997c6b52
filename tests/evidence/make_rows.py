"""Rows as a study on LeNet-300-100 would leave them: seeds x levels x arms, drawn from a seeded generator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binom, lognorm, norm

from scratchcard.row import (
    VERSION,
    Anatomy,
    Artefact,
    Connections,
    Curve,
    Emergence,
    Histogram,
    MethodPlan,
    Movement,
    Point,
    Row,
    Rows,
    Search,
    StudySpec,
    Timing,
)

STEPS, EVERY = 4000, 100
LENET = {"fc1.weight": (300, 784), "fc2.weight": (100, 300), "fc3.weight": (10, 100)}
CONTROLS = ["fresh-init", "random-mask-layerwise", "random-mask-global"]
EVERY_CONTROL = [
    "fresh-init", "own-init-resample", "own-init-shuffle", "noise-0.5", "noise-1", "noise-2", "noise-3",
    "sign-redrawn", "sign-constant", "random-sign-constant", "random-mask-layerwise", "random-mask-global",
    "shuffled-mask", "inverted-scores", "uniform-width", "continued",
]  # fmt: skip
OF_UNITS = ["scratch-e", "scratch-b", "uniform-width", "fine-tune-full-schedule", "search"]
EVERY_OF_UNITS = [*OF_UNITS, "scratch-b-strict", "scratch-b-cap-2", "lottery-init", "guided", "transferred"]
RECIPE = {"optimizer": "adam", "learning_rate": 0.0012, "batch_size": 60, "steps": STEPS, "augment": None}
MACHINE = {"scratchcard": "0.1.0", "torch": "2.13.0", "python": "3.11.7", "device": "cpu", "threads": "1"}
LOSS_PER_LEVEL = {
    "dense": 0.0, "fresh-init": 0.0018, "own-init-resample": 0.0014, "own-init-shuffle": 0.0016, "noise-0.5": 0.0001,
    "noise-1": 0.0005, "noise-2": 0.0009, "noise-3": 0.0013, "sign-redrawn": 0.0006, "sign-constant": 0.0007,
    "random-sign-constant": 0.0021, "random-mask-layerwise": 0.0023, "random-mask-global": 0.003,
    "shuffled-mask": 0.0022, "inverted-scores": 0.03, "uniform-width": 0.0025, "continued": 0.0011,
    "fine-tune-full-schedule": -0.0002, "scratch-e": 0.001, "scratch-b": 0.0003, "scratch-b-strict": 0.0002,
    "scratch-b-cap-2": 0.0004, "lottery-init": 0.0012, "guided": 0.0013, "transferred": 0.0016, "search": 0.0001,
}  # fmt: skip
"""What each round costs an arm, in accuracy: the order of the arms is the literature's, the numbers are made up."""


def make_rows(
    *,
    seeds: int = 5,
    levels: int = 15,
    task: str = "digits",
    accidents: bool = True,
    draws: int = 3,
    method: str | Sequence[str] = "imp",
    machine: dict[str, str] = MACHINE,
    controls: Sequence[str] = CONTROLS,
    shapes: Mapping[str, tuple[int, int]] = LENET,
    anatomy: bool = False,
    structured: bool = False,
    **spec: Any,
) -> Rows:
    """Rows of one task.

    Args:
        seeds: Number of seeds.
        levels: Number of pruning rounds; round n keeps 0.8 ** n of the weights.
        task: The user's name of the task, and of the study.
        accidents: Whether one run has diverged and one has failed.
        draws: Replicates of the fresh-init arm.
        method: Labels of the methods.
        machine: What every row says about its machine.
        controls: Arms besides the dense network and the ticket.
        shapes: Layer -> (outputs, inputs).
        anatomy: Whether tickets have theirs.
        structured: Whether whole units are cut, so that networks are physically small and timed; methods whose label
            begins with "early-bird" say how their tickets emerged, only "slimming" has the arm "search",
            once for all levels.
        **spec: Fields of the StudySpec to be set otherwise, `control_levels` among them.
    """
    methods = [method] if isinstance(method, str) else list(method)
    densities = [0.8**n for n in range(levels + 1)]
    draws_of = {arm: draws if arm == "fresh-init" else 1 for arm in controls}
    plan = MethodPlan(fields={"rate": 0.2}, densities=densities, primary=min(7, levels))
    study = StudySpec(
        **{
            "version": VERSION,
            "name": task,
            "task": task,
            "task_digest": "1f" * 32,
            "data": "digits: 1,297 train, 250 validation, 250 test, split seed 0",
            "metric": "accuracy",
            "higher_is_better": True,
            "metric_is_fraction": True,
            "loss": "cross-entropy",
            "recipe": RECIPE,
            "methods": dict.fromkeys(methods, plan),
            "arms": ["dense", "ticket", *controls],
            "replicates": draws_of,
            "seeds": list(range(seeds)),
            "margin": 0.005,
            "margin_kind": "absolute",
            "command": "scratchcard study digits --seeds 5",
            **spec,
        }
    )
    at_levels = range(1, levels + 1) if study.control_levels is None else {*study.control_levels, plan.primary}
    rows = []
    for seed in range(seeds):
        rows.append(_run(study, machine, seed, 0, "dense", 0, "dense", shapes, False))
        for name in methods:
            for level in range(1, levels + 1):
                arms = study.arms[1:] if level in at_levels else ["ticket"]
                arms = [arm for arm in arms if arm != "search"]
                if level == 1 and name == "slimming" and "search" in study.arms:  # its tickets share one search
                    arms.append("search")
                for arm in arms:
                    for replicate in range(draws_of.get(arm, 1)):
                        inside = anatomy and arm == "ticket"
                        rows.append(_run(study, machine, seed, level, arm, replicate, name, shapes, inside))
    if structured:
        rows = [_small(row, shapes) for row in rows]
    study = study.model_copy(update={"planned": len(rows)})
    if accidents:
        for number, status, message in [
            (len(rows) // 2, "diverged", "The training loss was not finite at step 1200."),
            (len(rows) - 1, "failed", "RuntimeError: the worker was killed."),
        ]:
            broken = {"status": status, "message": message, "curve": None, "early_stop": None, "end": None}
            rows[number] = rows[number].model_copy(update=broken)
    return Rows(rows, study)


def _run(
    study: StudySpec,
    machine: dict[str, str],
    seed: int,
    level: int,
    arm: str,
    draw: int,
    method: str,
    shapes: Mapping[str, tuple[int, int]],
    inside: bool,
) -> Row:
    density = 0.8**level
    place = list(study.methods).index(method) if level else 0
    by_seed = np.random.default_rng([7, seed]).normal(0, 0.0012)
    random = np.random.default_rng([seed, level, study.arms.index(arm), draw, place])
    gain, stop = -LOSS_PER_LEVEL.get(arm, 0.002) * level - 0.0001 * level**2, 2100 + 60 * level
    if arm == "ticket":
        gain = 0.0045 * math.exp(-((level - 7) ** 2) / 18) - 0.0009 * max(0, level - 11) ** 2 - 0.0009 * place * level
        stop = 2100 - 130 * level + 16 * level**2 * (level > 6)
    final = 0.972 + by_seed + gain + random.normal(0, 0.0009)
    stop = stop + random.normal(0, 160)
    steps = list(range(0, STEPS + 1, EVERY))
    metric, loss = [], []
    for step in steps:
        learnt = math.exp(-step / (0.14 * stop))
        metric.append(float(final - (final - 0.1) * learnt + random.normal(0, 0.0004) * (1 - learnt)))
        loss.append(
            float(
                2.3 * learnt
                + (1 - final) * 3
                + 0.03 * (math.log((step + 60) / (stop + 60)) ** 2) * (step > stop)
                + 0.04 * (1 - min(step / stop, 1))
                + random.normal(0, 0.0004)
            )
        )
    lowest = int(np.argmin(loss))
    left = {name: _left(density, at / len(shapes)) for at, name in enumerate(shapes)}
    layers = {
        name: (round(outputs * inputs * left[name]), outputs * inputs) for name, (outputs, inputs) in shapes.items()
    }
    kept, weights = (sum(numbers) for numbers in zip(*layers.values(), strict=True))
    parameters = weights + sum(outputs for outputs, _ in shapes.values())
    flops = 6.0 * weights * 60 * STEPS
    return Row(
        version=VERSION,
        id=f"{seed:02x}{level:02x}{study.arms.index(arm):02x}{draw:02x}{place:02x}" + "0" * 54,
        task=study.task,
        task_digest=study.task_digest,
        recipe=study.recipe,
        method=method,
        method_fields={"rate": 0.2} if level else {},
        seed=seed,
        level=level,
        arm=arm,
        replicate=draw,
        status="done",
        density=density,
        layers=layers,
        parameters=parameters,
        nonzero=parameters - weights + kept,
        mask_digest="ab" * 32,
        anatomy={name: _anatomy(*shape, left[name]) for name, shape in shapes.items()} if inside else {},
        curve=Curve(
            steps=steps,
            train_loss=[None, *[value * 0.6 for value in loss[1:]]],
            validation_loss=loss,
            test_metric=metric,
        ),
        early_stop=Point(
            step=steps[lowest],
            validation_loss=loss[lowest],
            test_metric=metric[lowest],
            censored=steps[lowest] >= 0.95 * STEPS,
        ),
        end=Point(step=STEPS, validation_loss=loss[-1], test_metric=metric[-1]),
        train_metric=0.999,
        train_flops=flops,
        search_flops=flops * level,
        seconds=11.0 + float(random.uniform(0, 2)),
        training_seconds=8.0 + float(np.random.default_rng([seed, level]).uniform(0, 2)),
        snapshots={0: "cd" * 32, STEPS: "ef" * 32},
        artefacts={"end": Artefact(file="end.safetensors", sha256="ef" * 32)},
        machine=machine,
    )


def _small(row: Row, shapes: Mapping[str, tuple[int, int]]) -> Row:
    """The same run of a network that is physically small: units cut, operations and latency beside parameters."""
    dense, sites = row.arm in ("dense", "search"), list(shapes)[:-1]
    weights, flops = sum(outputs * inputs for outputs, inputs in shapes.values()), row.train_flops
    share = 1.0 if dense else row.density
    early = row.method.startswith("early-bird")
    widths = {}
    if not dense:
        for at, site in enumerate(sites):
            by_chance = np.random.default_rng([row.seed, row.level, at, len(row.method)]).uniform(0.94, 1)
            of = share**0.5 if row.arm == "uniform-width" else _left(share, at / len(sites)) * by_chance
            widths[site.removesuffix(".weight")] = (max(1, round(shapes[site][0] * of)), shapes[site][0])
    steps = {"ticket": 0.8 if early else 0.25}.get(row.arm, 1.0) * (1 / share if "scratch-b" in row.arm else 1.0)
    search = Search()
    if row.arm == "ticket":
        notes = ["fc1 keeps its least number of units, 1."] if row.seed % 2 else []
        search = Search(
            emergence=emergence(row.seed, row.method, row.level) if early else None,
            notes=[*notes, "The scaling factors of fc2 tie at the threshold."],
            seconds=2.2 if early else 0.0,
        )
    fine = row.arm == "ticket" and not early
    changed = {
        "recipe": {**row.recipe, "steps": STEPS // 4, "learning_rate": 0.0001} if fine else row.recipe,
        "parameters": round(row.parameters * share),
        "nonzero": round(row.parameters * share),
        "density": share,
        "macs": float(round(weights * share**1.3)),
        "widths": widths,
        "latency": Timing(
            median=0.0021 * share**0.4, quartiles=(0.002 * share**0.4, 0.0023 * share**0.4),
            batch=64, threads=1, device="cpu",
        ),
        "train_flops": flops * share**1.3 * steps,
        "search_flops": 0.0 if row.level == 0 or row.arm == "search" else 0.2 * flops if early else flops,
        "seconds": row.seconds * steps * (0.3 + 0.7 * share),
        "training_seconds": (row.training_seconds or 0) * steps * (0.3 + 0.7 * share),
        "search": search,
    }  # fmt: skip
    return row.model_copy(update=changed)


def emergence(seed: int, method: str, level: int, masks: int = 40, every: int = 100) -> Emergence:
    """Masks that settle by the middle of the training and once more when the learning rate drops."""
    random = np.random.default_rng([seed, level])
    steps, settling = [every * (at + 1) for at in range(masks)], 5 + seed
    place = 0.42 * (1 - np.exp(-np.arange(masks) / settling)) + 0.05 * (np.arange(masks) >= masks // 2)
    noise = random.uniform(0, 0.01, (masks, masks))
    distances = np.abs(place[:, None] - place[None]) + (noise + noise.T) / 2
    np.fill_diagonal(distances, 0)
    distances = distances.round(4)
    ends = "end" in method
    near = [distances[at, at - 1] for at in range(1, masks)]
    fired = next((at for at in range(5, masks) if max(near[at - 5 : at]) < 0.03), None)
    other = next((at for at in range(5, masks) if max(distances[at, at - 4 : at]) < 0.06), None)
    last = masks if ends or fired is None else fired + 1
    other = None if other is None or other >= last else other
    return Emergence(
        steps=steps[:last],
        distances=distances[:last, :last].tolist(),
        random=0.42,
        epsilon=0.03,
        patience=5,
        reading="window" if "window" in method else "consecutive",
        emerged=None if fired is None else steps[fired],
        other_reading=None if other is None else steps[other],
        drawn=steps[last - 1],
        drops=[every * (masks // 2 + 1), every * (masks * 3 // 4 + 1)],
        search_steps=every * masks,
    )


def _left(density: float, depth: float) -> float:
    """The density of a layer: the last ones keep more than the first."""
    return density ** (1.1 - 0.6 * depth)


def _anatomy(outputs: int, inputs: int, density: float) -> Anatomy:
    """Survivors of magnitude pruning: what lies in the middle of the initial values is mostly gone."""
    edges, travelled = np.linspace(-4, 4, 41), np.logspace(-3, 2, 26)
    middles = (edges[1:] + edges[:-1]) / 2
    mass = np.diff(norm.cdf(edges)) / (1 + np.exp(-8 * (abs(middles) - norm.isf(density / 2))))
    kept = round(outputs * inputs * density)
    connections = [
        _doubling(binom.rvs(other, density, size=own, random_state=1))
        for own, other in ((outputs, inputs), (inputs, outputs))
    ]
    moved = [
        Histogram(
            edges=travelled.tolist(),
            counts=np.round(number * np.diff(lognorm.cdf(travelled, 1.1, 0, size))).astype(int).tolist(),
        )
        for number, size in ((kept, 1.4), (outputs * inputs - kept, 0.35))
    ]
    return Anatomy(
        sigma=0.04,
        initial=Histogram(edges=edges.tolist(), counts=np.round(kept * mass / mass.sum()).astype(int).tolist()),
        movement=Movement(kept=moved[0], cut=moved[1]),
        connections=Connections(incoming=connections[0], outgoing=connections[1]),
    )


def _doubling(numbers: np.ndarray) -> list[int]:
    places = [0 if n == 0 else 1 if n == 1 else 2 + int(math.log2(n - 1)) for n in numbers]
    return np.bincount(places).tolist()
