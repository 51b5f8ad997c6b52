"""A control that cannot learn is no control: whatever the ticket starts from, its usual controls end above chance."""

from __future__ import annotations

from dataclasses import fields, replace
from statistics import fmean

import pytest

from problems import digits, planted
from scratchcard.methods import METHODS
from scratchcard.methods.imp import IMP
from scratchcard.study.study import Study
from scratchcard.training.recipe import Recipe

STEPS = 300
RECIPE = Recipe(
    lr=5e-3, batch_size=50, steps=STEPS, eval_every=STEPS, schedule="step", milestones=(150, 225), gamma=0.1
)
TASKS = {"planted": lambda: planted()[0], "digits": digits}
REWOUND = (IMP(rewind=STEPS // 2), IMP(rewind=STEPS // 2, units="channels"))
EVERY = METHODS | {method.label: method for method in REWOUND}
QUICK = {
    ("planted", f"imp-rewind-{STEPS // 2}"),
    ("planted", "imp-fine-tuned"),
    ("planted", "early-bird"),
}
"""In every run of the tests; the others are heavy."""


def short(method):
    """One level, at half of the weights or units."""
    names = {field.name for field in fields(method)}
    return replace(method, **{name: value for name, value in (("rounds", 1), ("rate", 0.5)) if name in names})


@pytest.mark.parametrize(
    ("name", "label"),
    [
        pytest.param(name, label, marks=() if (name, label) in QUICK else pytest.mark.heavy)
        for name in TASKS
        for label in EVERY
        if (name, label) != ("planted", "imp-only-conv")  # it has none
    ],
)
def test_every_usual_control_of_every_method_ends_above_chance(name, label, tmp_path):
    study = Study(TASKS[name](), RECIPE, [short(EVERY[label])], seeds=1, primary=0.5, store=tmp_path)
    rows = study.run(workers=1, progress=False)
    assert {row.status for row in rows} == {"done"}
    constant = study.spec.constant
    assert constant is not None
    controls = {row.arm: row for row in rows if row.arm not in ("dense", "ticket", "search", "continued")}
    assert "dense-for-the-search" in controls or "dense-for-the-search" in study.spec.methods[label].left_out
    for arm, row in controls.items():
        gain = row.end.test_metric - constant if name == "digits" else 1 - row.end.test_metric / constant
        assert gain > 0.1, (arm, row.end.test_metric, constant)


@pytest.mark.heavy
def test_a_ticket_rewound_to_half_stands_to_fresh_weights_as_it_stands_to_scratch_e(tmp_path):
    method = IMP(rounds=2, rate=0.4, rewind=STEPS // 2)
    study = Study(digits(), RECIPE, [method], ["fresh-init", "scratch-e"], control_levels=(), primary=0.36, seeds=5,
                  store=tmp_path)  # fmt: skip
    rows = study.run(workers=1, progress=False)
    ends = {
        arm: fmean(row.end.test_metric for row in rows if row.arm == arm and row.level == 2)
        for arm in ("fresh-init", "scratch-e")
    }
    assert ends["fresh-init"] == pytest.approx(ends["scratch-e"], abs=0.03)
