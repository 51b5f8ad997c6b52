"""A study of one or more methods whose test metrics are written down, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scratchcard.row import VERSION, MethodPlan, Point, Row, Rows, StudySpec

Metrics = Mapping[tuple[str, int, str], Sequence[float | None]]
DENSE = ("dense", 0, "dense")


def study(metrics: Metrics, *, stop: Mapping[str, Sequence[int]] | None = None, **spec: Any) -> Rows:
    """Rows of {(method, level, arm): one metric per seed}; None stands for a run that diverged.

    Level 1 is primary. `stop` gives the early-stop step of an arm's runs (100 where it is silent).
    """
    labels = list(dict.fromkeys(method for method, _, _ in metrics if method != "dense"))
    deepest = max((level for _, level, _ in metrics), default=1)
    plan = MethodPlan(fields={}, densities=[0.5**level for level in range(deepest + 1)], primary=1)
    seeds = max(len(values) for values in metrics.values())
    fields = {
        "version": VERSION,
        "name": "small",
        "task": "small",
        "task_digest": "0",
        "data": "none",
        "metric": "accuracy",
        "higher_is_better": True,
        "metric_is_fraction": True,
        "loss": "cross-entropy",
        "recipe": {},
        "methods": dict.fromkeys(labels, plan),
        "arms": ["dense", "ticket", *sorted({arm for _, _, arm in metrics} - {"dense", "ticket"})],
        "replicates": {},
        "seeds": list(range(seeds)),
        "margin": 0.005,
        "margin_kind": "absolute",
        "command": "",
    }
    rows = [
        run(method, level, arm, seed, value, step=(stop or {}).get(arm, [100] * seeds)[seed])
        for (method, level, arm), values in metrics.items()
        for seed, value in enumerate(values)
    ]
    return Rows(rows, StudySpec(**(fields | spec)))


def run(
    method: str, level: int, arm: str, seed: int, value: float | None, *, step: int = 100, replicate: int = 0
) -> Row:
    """One run that ended with this metric, or diverged; steps from 950 on are censored."""
    done = value is not None
    return Row(
        version=VERSION,
        id=f"{method}-{level}-{arm}-{seed}-{replicate}",
        task="small",
        task_digest="0",
        recipe={},
        method=method,
        method_fields={},
        seed=seed,
        level=level,
        arm=arm,
        replicate=replicate,
        status="done" if done else "diverged",
        message="" if done else "loss was nan at step 7",
        density=0.5**level,
        layers={},
        parameters=1000,
        nonzero=round(1000 * 0.5**level),
        mask_digest="",
        early_stop=Point(step=step, validation_loss=1, test_metric=value, censored=step >= 950) if done else None,
        end=Point(step=1000, validation_loss=1, test_metric=value) if done else None,
        train_flops=1,
        search_flops=0,
        seconds=1,
        snapshots={},
        machine={},
    )
