"""A factory that gives the same weights under every seed has no fresh ones: it is said, and nothing asks for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from scratchcard.methods.at_init import AtInit
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.imp import IMP
from tiny_study import network, tiny, tiny_study

ONE = network()
FRESH = ["fresh-init", "random-mask-layerwise", "random-mask-global"]


def seeds_itself() -> nn.Module:
    torch.manual_seed(7)
    return network()


def one_object() -> nn.Module:
    return ONE


@pytest.mark.parametrize("factory", [seeds_itself, one_object])
def test_what_would_need_fresh_weights_is_left_out_with_the_reason_and_everything_else_runs(
    tmp_path: Path, factory: type
) -> None:
    methods = [IMP(rounds=1), AtInit("magnitude", rounds=1), FilterPruning()]
    asked = [*FRESH, "scratch-e", "sign-redrawn", "sign-constant", "shuffled-mask", "dense-for-the-search"]
    study = tiny_study(tmp_path, tiny(model=factory), methods=methods, arms=asked, seeds=2)
    without = {*FRESH, "scratch-e", "sign-redrawn"}
    for plan in study.spec.methods.values():
        assert without <= plan.left_out.keys()
        assert {plan.left_out[label] for label in without} == {
            "the model factory gives the same weights under every seed, so that fresh ones would be no others"
        }
    with pytest.warns(UserWarning, match="gives the same weights under every seed"):
        rows = study.run(workers=1, progress=False)
    assert {row.status for row in rows} == {"done"}
    kept = {"dense", "ticket", "sign-constant", "shuffled-mask", "dense-for-the-search"}
    assert {row.arm for row in rows} == kept
    assert len({row.snapshots[0] for row in rows if row.arm == "dense"}) == 1, "of both seeds"
    assert len(rows) == study.spec.planned


def test_a_study_says_so_before_anything_is_trained_and_so_does_its_plan(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    study = tiny_study(folder, tiny(model=seeds_itself))
    (sentence,) = study.notes()
    assert sentence.startswith("The model factory of task 'tiny' gives the same weights under every seed ")
    assert sentence.endswith(f"these controls are left out: {', '.join(sorted(FRESH))}.")
    assert study.spec.one_draw
    plan = study.plan()
    assert list(plan.notes) == [sentence]
    assert plan.describe(1).splitlines()[0] == sentence
    assert {spec.label for spec in plan.runs} == {"dense", "imp: ticket", "imp: dense-for-the-search"}
    assert not folder.exists()


def test_a_control_that_was_asked_for_is_left_out_and_not_refused(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, tiny(model=seeds_itself), arms=["fresh-init"])
    assert [spec.label for spec in study.plan().runs] == ["dense", "imp: ticket"]
    assert study.spec.arms == ["dense", "ticket", "fresh-init"], "declared all the same"


def test_of_any_other_factory_nothing_is_said(tmp_path: Path) -> None:
    study = tiny_study(tmp_path)
    assert not study.spec.one_draw
    assert study.notes() == study.plan().notes == []
    assert not set(FRESH) & study.spec.methods["imp"].left_out.keys()


def test_controls_that_are_left_out_for_other_reasons_are_not_said_to_be_left_out_for_this_one(tmp_path: Path) -> None:
    methods = [IMP(rounds=1), AtInit("magnitude", rounds=1), FilterPruning()]
    study = tiny_study(tmp_path, tiny(model=seeds_itself), methods=methods, arms=["fresh-init", "shuffled-mask"])
    left_out = {label: set(plan.left_out) - {"fresh-init"} for label, plan in study.spec.methods.items()}
    assert left_out == {
        "imp": set(),
        "magnitude-at-init": {"dense-for-the-search"},
        "l1-filters": {"shuffled-mask", "uniform-width"},
    }
    assert study.notes()[0].endswith("these controls are left out: fresh-init.")
