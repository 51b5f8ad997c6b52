"""What a study declared before its runs, and what was recorded with them, in words."""

from __future__ import annotations

import json
from typing import Any

from scratchcard.evidence.summary import density_text, difference_text
from scratchcard.row import Rows, StudySpec


def declared(study: StudySpec) -> dict[str, str]:
    """What was fixed before the runs, by name."""
    absolute = difference_text(study.margin, study).lstrip("+")
    relative = f"{100 * study.margin:g} % of the dense mean"
    levels = study.control_levels
    return {
        "task": study.task,
        "data": study.data,
        "metric": f"{study.metric}, {'higher' if study.higher_is_better else 'lower'} is better",
        "compared at": "the last step" if study.measure == "end" else "the early-stop step",
        "loss": study.loss,
        "seeds": ", ".join(map(str, study.seeds)),
        "arms": ", ".join(
            f"{arm} ({study.replicates[arm]} draws)" if study.replicates.get(arm, 1) > 1 else arm for arm in study.arms
        ),
        **({} if levels is None else {"levels of the controls": ", ".join(["the primary one", *map(str, levels)])}),
        "margin for matching": absolute if study.margin_kind == "absolute" else relative,
        "margin for training time": f"{100 * study.time_margin:g} % more steps than the dense network",
        "alpha": f"{study.alpha:g}, over all primary comparisons together",
        **{
            f"method {name}": f"{_fields(plan.fields)}; primary level {plan.primary} "
            f"(density {density_text(plan.densities[plan.primary])}) of {len(plan.densities) - 1}"
            for name, plan in study.methods.items()
        },
        "recipe": _fields(study.recipe),
        "task digest": study.task_digest,
    }


def machine(rows: Rows) -> dict[str, str]:
    """Versions, device and threads of the runs, by name; several where runs differ."""
    keys = sorted({key for row in rows for key in row.machine})
    return {key: ", ".join(sorted({row.machine.get(key, "unknown") for row in rows})) for key in keys}


def _fields(fields: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value if isinstance(value, str) else json.dumps(value, default=str)}"
        for name, value in fields.items()
    )
