"""Runs of an earlier version stay, are read as what they were, and are never taken for runs of today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scratchcard.methods.imp import IMP
from scratchcard.row import VERSION
from scratchcard.study.store import Store
from scratchcard.study.study import Study, read
from tiny_study import started, tiny_study

ARMS = ["fresh-init", "noise-1", "scratch-e"]
LATER = ("version", "found", "trained_steps", "digest")
"""Fields of rows that version 1 did not have."""


def study(folder: Path) -> Study:
    return tiny_study(folder, methods=[IMP(rounds=1, rewind=2)], arms=ARMS)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store as version 1 left it: rows without its later fields, under other ids, and a study without origins."""
    new = tmp_path / "new"
    started(study(new))
    folder = tmp_path / "old"
    store = Store(folder)
    runs = []
    for path in sorted((new / "rows").glob("*.json")):
        row = json.loads(path.read_text())
        row = {name: value for name, value in row.items() if name not in LATER}
        row["id"] = row["id"][::-1]
        runs.append(row["id"])
        (folder / "rows").mkdir(exist_ok=True)
        (folder / "rows" / f"{row['id']}.json").write_text(json.dumps(row))
    spec = study(new).spec
    plan = spec.methods["imp-rewind-2"].model_copy(update={"origin": None, "left_out": {}})
    store.write_study("old", spec.model_copy(update={"version": 1, "methods": {"imp-rewind-2": plan}}), runs)
    path = folder / "studies" / "old.json"
    declared = json.loads(path.read_text())
    for name in ("digest", "id", "declared"):
        del declared[name]
    for name in ("version", "one_draw", "constant", "test_examples"):
        del declared["spec"][name]
    for name in ("origin", "uniform"):
        del declared["spec"]["methods"]["imp-rewind-2"][name]
    path.write_text(json.dumps(declared))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_they_are_counted_and_the_study_says_so_in_one_sentence(old: Path, tmp_path: Path) -> None:
    assert Store(old).older() == 1 + 1 + 3 + 1 + 1
    (sentence,) = study(old).notes(Store(old))
    assert sentence.startswith(f"The store {old} has 7 runs of an earlier version of scratchcard: they stay ")
    assert sentence.endswith("none of them is taken for a run of this study.")
    assert list(study(old).plan().notes) == [sentence]
    for path in sorted((old / "rows").iterdir())[1:]:
        path.unlink()
    assert "has 1 run of an earlier" in study(old).notes(Store(old))[0]
    assert (Store(tmp_path / "new").older(), study(tmp_path / "new").notes(Store(tmp_path / "new"))) == (0, [])


def test_they_are_never_taken_for_a_run_of_a_new_study_and_stay_as_they_are(old: Path) -> None:
    before = contents(old)
    plan = study(old).plan()
    assert (len(plan.runs), len(plan.missing)) == (7, 7)
    with pytest.warns(UserWarning, match="7 runs of an earlier version"):
        assert started(study(old)) == 7
    assert before.items() <= contents(old).items()
    rows = study(old).rows()
    assert {row.version for row in rows} == {VERSION} == {2}
    assert Store(old).older() == 7
    assert len(Store(old).row_ids()) == 14


def test_they_are_read_with_origins_and_their_controls_are_called_what_they_were(old: Path) -> None:
    (rows,) = read(old)
    assert {row.version for row in rows} == {rows.study.version} == {1}
    origin = rows.study.methods["imp-rewind-2"].origin
    assert origin is not None
    assert (origin.weights, origin.step, origin.resumes) == ("rewound", 2, False)
    today = ["fresh-init-same-steps", "noise-1", "scratch-e"]
    assert rows.study.arms == ["dense", "ticket", *today]
    assert list(rows.study.replicates) == today
    assert sorted({row.arm for row in rows}) == sorted(["dense", "ticket", *today])
    assert [row.arm for row in rows].count("fresh-init-same-steps") == 3


def test_a_study_of_today_is_read_as_it_was_declared(tmp_path: Path) -> None:
    started(study(tmp_path))
    (rows,) = read(tmp_path)
    assert rows.study == study(tmp_path).spec
    assert (rows.study.version, {row.version for row in rows}) == (2, {2})
    assert {row.arm for row in rows} == {"dense", "ticket", *ARMS}


def test_two_versions_in_one_store_are_read_each_as_what_it_is(old: Path) -> None:
    with pytest.warns(UserWarning, match="earlier version"):
        study(old).run(workers=1, progress=False)
    by_version = {rows.study.version: {row.arm for row in rows} for rows in read(old)}
    assert "fresh-init" in by_version[2] - by_version[1]
    assert "fresh-init-same-steps" in by_version[1] - by_version[2]
