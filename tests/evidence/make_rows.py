"""Rows as a study on LeNet-300-100 would leave them: seeds x levels x arms, drawn from a seeded generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratchcard.row import Artefact, Curve, MethodPlan, Point, Row, Rows, StudySpec

STEPS, EVERY, WEIGHTS, PARAMETERS = 4000, 100, 266_200, 266_610
FLOPS = 6.0 * WEIGHTS * 60 * STEPS
CONTROLS = ["fresh-init", "random-mask-layerwise", "random-mask-global"]
RECIPE = {"optimizer": "adam", "learning_rate": 0.0012, "batch_size": 60, "steps": STEPS, "augment": None}
MACHINE = {"scratchcard": "0.1.0", "torch": "2.13.0", "python": "3.11.7", "device": "cpu", "threads": "1"}


def make_rows(
    *,
    seeds: int = 5,
    levels: int = 15,
    task: str = "digits",
    accidents: bool = True,
    draws: int = 3,
    method: str = "imp",
    machine: dict[str, str] = MACHINE,
    **spec: Any,
) -> Rows:
    """Rows of one method on one task.

    Args:
        seeds: Number of seeds.
        levels: Number of pruning rounds; round n keeps 0.8 ** n of the weights.
        task: The user's name of the task, and of the study.
        accidents: Whether one run has diverged and one has failed.
        draws: Replicates of the fresh-init arm.
        method: Label of the method.
        machine: What every row says about its machine.
        **spec: Fields of the StudySpec to be set otherwise.
    """
    densities = [0.8**n for n in range(levels + 1)]
    draws_of = {arm: draws if arm == "fresh-init" else 1 for arm in CONTROLS}
    study = StudySpec(
        **{
            "name": task,
            "task": task,
            "task_digest": "1f" * 32,
            "data": "digits: 1,297 train, 250 validation, 250 test, split seed 0",
            "metric": "accuracy",
            "higher_is_better": True,
            "metric_is_fraction": True,
            "loss": "cross-entropy",
            "recipe": RECIPE,
            "methods": {method: MethodPlan(fields={"rate": 0.2}, densities=densities, primary=min(7, levels))},
            "arms": ["dense", "ticket", *CONTROLS],
            "replicates": draws_of,
            "seeds": list(range(seeds)),
            "margin": 0.005,
            "margin_kind": "absolute",
            "command": "scratchcard study digits --seeds 5",
            **spec,
        }
    )
    rows = []
    for seed in range(seeds):
        rows.append(_run(study, machine, seed, 0, "dense", 0, "dense"))
        for level in range(1, levels + 1):
            for arm in study.arms[1:]:
                for replicate in range(draws_of.get(arm, 1)):
                    rows.append(_run(study, machine, seed, level, arm, replicate, method))
    if accidents:
        for number, status, message in [
            (len(rows) // 2, "diverged", "The training loss was not finite at step 1200."),
            (len(rows) - 1, "failed", "RuntimeError: the worker was killed."),
        ]:
            broken = {"status": status, "message": message, "curve": None, "early_stop": None, "end": None}
            rows[number] = rows[number].model_copy(update=broken)
    return Rows(rows, study)


def _run(study: StudySpec, machine: dict[str, str], seed: int, level: int, arm: str, draw: int, method: str) -> Row:
    density = 0.8**level
    pruned = math.log(density) / math.log(0.8)
    by_seed = np.random.default_rng([7, seed]).normal(0, 0.0012)
    random = np.random.default_rng([seed, level, study.arms.index(arm), draw])
    gain, stop = {
        "dense": (0.0, 2100.0),
        "ticket": (
            0.0045 * math.exp(-((pruned - 7) ** 2) / 18) - 0.0009 * max(0.0, pruned - 11) ** 2,
            2100 - 130 * pruned + 16 * pruned**2 * (pruned > 6),
        ),
        "fresh-init": (-0.0011 * pruned - 0.0001 * pruned**2, 2100 + 95 * pruned),
        "random-mask-layerwise": (-0.0014 * pruned - 0.00013 * pruned**2, 2100 + 110 * pruned),
        "random-mask-global": (-0.0015 * pruned - 0.00022 * pruned**2, 2100 + 135 * pruned),
    }[arm]
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
    kept = round(WEIGHTS * density)
    return Row(
        id=f"{seed:02x}{level:02x}{study.arms.index(arm):02x}{draw:02x}" + "0" * 56,
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
        density=kept / WEIGHTS,
        layers={
            "fc1.weight": (round(235_200 * density), 235_200),
            "fc2.weight": (round(30_000 * density), 30_000),
            "fc3.weight": (round(1_000 * density), 1_000),
        },
        parameters=PARAMETERS,
        nonzero=PARAMETERS - WEIGHTS + kept,
        mask_digest="ab" * 32,
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
        train_flops=FLOPS,
        search_flops=FLOPS * level,
        seconds=11.0 + float(random.uniform(0, 2)),
        snapshots={0: "cd" * 32, STEPS: "ef" * 32},
        artefacts={"end": Artefact(file="end.safetensors", sha256="ef" * 32)},
        machine=machine,
    )
