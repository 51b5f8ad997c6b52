"""Studies of an earlier version, read as what they mean today: origins filled in, controls called what they were."""

from __future__ import annotations

from scratchcard.row import VERSION, MethodPlan, Origin, Row, Rows

_KEPT_STEPS = (
    "fresh-init",
    "random-mask-layerwise",
    "random-mask-global",
    "own-init-resample",
    "own-init-shuffle",
    "sign-redrawn",
    "sign-constant",
    "random-sign-constant",
    "uniform-width",
)
"""Controls that, in version 1, were trained for the steps and at the rates of a rewound or fine-tuned weight ticket."""


def as_today(rows: Rows) -> Rows:
    """The same rows; those of an earlier version under today's names.

    Args:
        rows: of one study, of any version.
    """
    study = rows.study
    if study.version >= VERSION:
        return rows
    methods = {
        name: plan.model_copy(update={"origin": plan.origin or _origin(plan, study.dense_given)})
        for name, plan in study.methods.items()
    }
    renamed = {row.arm: _name(row, methods) for row in rows if _name(row, methods) != row.arm}
    kept = {row.arm for row in rows if row.arm in renamed and _name(row, methods) == row.arm}
    arms = [name for arm in study.arms for name in _names(arm, renamed, kept)]
    draws = {name: n for arm, n in study.replicates.items() for name in _names(arm, renamed, kept)}
    declared = study.model_copy(update={"methods": methods, "arms": arms, "replicates": draws})
    today = [row.model_copy(update={"arm": _name(row, methods)}) for row in rows]
    return Rows(today, declared, rows.store, rows.asked_by)


def _names(arm: str, renamed: dict[str, str], kept: set[str]) -> list[str]:
    if arm not in renamed:
        return [arm]
    return [arm, renamed[arm]] if arm in kept else [renamed[arm]]


def _name(row: Row, methods: dict[str, MethodPlan]) -> str:
    """What a control of version 1 would be called today."""
    plan = methods.get(row.method)
    if row.version >= VERSION or plan is None or plan.origin is None or row.arm not in _KEPT_STEPS:
        return row.arm
    # narrow networks of units had the whole recipe then, too, and of trained ones so had all that is fresh
    of_units = bool(row.widths)
    rewound = plan.origin.weights == "rewound" and not (of_units and row.arm == "uniform-width")
    same = rewound or (plan.origin.trained and not of_units)
    return f"{row.arm}-same-steps" if same else row.arm


def _origin(plan: MethodPlan, given: bool) -> Origin:
    """Which weights a method's tickets started from, as its hyper-parameters say."""
    fields = plan.fields
    if fields.get("between") in ("lr-rewind", "fine-tune"):
        return Origin(weights="trained")
    if "between" not in fields and ("fine_tune_lr" in fields or "patience" in fields):
        return Origin(weights="trained", resumes="patience" in fields)
    if given:
        return Origin(weights="given")
    return Origin(weights="rewound", step=fields["rewind"]) if fields.get("rewind") else Origin(weights="initial")
