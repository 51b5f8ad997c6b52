"""What a search could not find is a row, and no row depends on how many levels were asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from problems import corners, digits
from scratchcard.earlier import as_today
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.imp import IMP
from scratchcard.methods.soft_filters import SoftFilterPruning
from scratchcard.row import Origin, Rows
from scratchcard.study import jobs
from scratchcard.study.execute import Stopped
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.training.recipe import Recipe

RECIPE = Recipe(steps=20, batch_size=20, lr=0.01, eval_every=20)
EARLY = EarlyBird(rate=0.3, every=1, epsilon=0.25, patience=2)


def of(rows, level=None):
    return [row for row in rows if row.arm == "ticket" and level in (None, row.level)]


def ending(monkeypatch, when):
    """Searches that diverge where `when` says so of their ticket and step."""
    whole = jobs.search

    def search(trainings, ticket, stops):
        for snapshot in whole(trainings, ticket, stops):
            if when(ticket, snapshot.step):
                raise Stopped("diverged", f"by step {snapshot.step} its loss was nan", "the search")
            yield snapshot

    monkeypatch.setattr(jobs, "search", search)


def test_an_early_bird_that_had_settled_is_there_whatever_ends_the_search_for_the_others(tmp_path, monkeypatch):
    recipe = replace(RECIPE, steps=12, lr=0.05, eval_every=12)
    method = EarlyBird(rate=0.2, every=1, epsilon=0.05, patience=2)

    def ran(rounds, store):
        asked = [replace(method, rounds=rounds)]
        study = Study(corners(), recipe, asked, [], seeds=[3], store=tmp_path / store, primary=0.9)
        return of(study.run(workers=1, progress=False))

    first, second = (row.search.emergence.emerged for row in ran(2, "whole"))
    assert first < second, "the levels of this search settle at different steps"
    ending(monkeypatch, lambda ticket, step: step > first)
    (alone,), (found, lost) = ran(1, "one"), ran(2, "two")
    assert alone.status == found.status == "done"
    assert (alone.id, alone.snapshots, alone.mask_digest) == (found.id, found.snapshots, found.mask_digest)
    assert (lost.status, lost.found, lost.layers, lost.train_flops) == ("diverged", False, {}, 0.0)
    assert lost.message == f"by step {first + 1} its loss was nan"
    assert [row.status for row in ran(1, "two")] == ["done"], "a level fewer, in the same store"


def test_a_search_that_diverges_takes_no_level_with_it_that_has_a_search_of_its_own(tmp_path, monkeypatch):
    ending(monkeypatch, lambda ticket, step: ticket.level == 2)
    study = Study(corners(), RECIPE, [SoftFilterPruning(rate=0.3, rounds=3)], [], seeds=1, store=tmp_path)
    assert [(row.level, row.status, row.found) for row in of(study.run(workers=1, progress=False))] == [
        (1, "done", True),
        (2, "diverged", False),
        (3, "done", True),
    ]


def test_a_study_whose_search_diverged_is_complete_and_one_whose_search_crashed_is_tried_again(tmp_path, monkeypatch):
    searched = []
    ending(monkeypatch, lambda ticket, step: not searched.append(step))
    study = Study(corners(), RECIPE, [EARLY], ["scratch-e"], seeds=1, store=tmp_path, primary=0.9)
    rows = study.run(workers=1, progress=False)
    assert [row.status for row in of(rows)] == ["diverged"]
    assert not study.plan().missing, "what depends on a ticket that cannot be found will never run"
    study.run(workers=1, progress=False)
    assert len(searched) == 1
    (lost,) = of(rows)
    store = Store(tmp_path)
    store.write_row(lost.model_copy(update={"status": "failed", "message": "RuntimeError: no memory"}))
    monkeypatch.undo()
    again = study.run(workers=1, progress=False)
    assert [row.status for row in of(again)] == ["done"]
    assert {row.arm for row in again} == {"dense", "ticket", "scratch-e"}


def test_a_training_that_crashes_is_not_run_twice_by_one_command(tmp_path):
    calls = []

    def loss(outputs, targets):
        calls.append(len(targets))
        if len(calls) > 8:
            raise RuntimeError("an accident")
        return (outputs - outputs).sum() + outputs.square().mean()

    study = Study(replace(digits(), loss=loss), RECIPE, [IMP(rounds=2)], [], seeds=1, store=tmp_path)
    rows = study.run(workers=1, progress=False)
    assert {row.status for row in rows} == {"failed"}
    assert [row.found for row in rows] == [True, False, False]


@pytest.mark.parametrize(
    ("fields", "widths", "arm", "wanted"),
    [
        ({"between": "rewind", "rewind": 7}, {}, "fresh-init", "fresh-init-same-steps"),
        ({"between": "rewind", "rewind": 7}, {}, "noise-1", "noise-1"),
        ({"between": "rewind", "rewind": 0}, {}, "fresh-init", "fresh-init"),
        ({"between": "fine-tune", "rewind": 0}, {}, "uniform-width", "uniform-width-same-steps"),
        ({"between": "rewind", "rewind": 7}, {"0": (2, 4)}, "fresh-init", "fresh-init-same-steps"),
        ({"between": "rewind", "rewind": 7}, {"0": (2, 4)}, "uniform-width", "uniform-width"),
        ({"fine_tune_lr": None}, {"0": (2, 4)}, "uniform-width", "uniform-width"),
    ],
)
def test_controls_of_an_earlier_version_are_called_what_they_were(fields, widths, arm, wanted, tmp_path):
    study = Study(digits(), Recipe(steps=2, eval_every=2), [IMP(rounds=1)], ["fresh-init"], seeds=1, store=tmp_path)
    rows = study.run(workers=1, progress=False)
    plan = rows.study.methods["imp"].model_copy(update={"origin": None, "fields": fields})
    declared = rows.study.model_copy(
        update={"version": 1, "methods": {"imp": plan}, "arms": ["dense", "ticket", arm], "replicates": {arm: 3}}
    )
    old = [
        row.model_copy(update={"version": 1, "arm": arm if row.arm == "fresh-init" else row.arm, "widths": widths})
        for row in rows
    ]
    read = as_today(Rows(old, declared))
    assert {row.arm for row in read} == {"dense", "ticket", wanted}
    assert read.study.arms == ["dense", "ticket", wanted]
    assert read.study.methods["imp"].origin is not None
    trained = Origin(weights="trained")
    assert (read.study.methods["imp"].origin == trained) == (
        fields.get("between") == "fine-tune" or "fine_tune_lr" in fields
    )
    assert as_today(rows) is rows
