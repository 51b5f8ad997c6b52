"""What exists is never trained again, and what changed is never mistaken for what exists."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scratchcard.methods.arms import FreshInit, RandomMask
from scratchcard.methods.imp import IMP
from scratchcard.study.named import named_study
from scratchcard.study.store import Store, StoreError
from scratchcard.study.study import Study
from tiny_study import RECIPE, TASK_FILE, plain, started, tiny, tiny_study, write_task

SHORT = dataclasses.replace(RECIPE, steps=2)


def test_fifteen_rounds_with_three_fresh_starts_train_16_and_45_times_per_seed(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, recipe=SHORT, methods=[IMP(rounds=15)], arms=[FreshInit(3)], seeds=[3])
    assert started(study) == 16 + 45
    rows = study.rows()
    assert [row.arm for row in rows].count("fresh-init") == 45
    assert [row.arm for row in rows].count("ticket") == 15
    assert started(tiny_study(tmp_path, recipe=SHORT, methods=[IMP(rounds=15)], arms=[FreshInit(3)], seeds=[3])) == 0


def test_more_rounds_draws_and_seeds_reuse_the_trainings_of_fewer(tmp_path: Path) -> None:
    def study(rounds: int, draws: int, seeds: int) -> Study:
        methods, arms = [IMP(rounds=rounds)], [FreshInit(draws)]
        return tiny_study(tmp_path, recipe=SHORT, methods=methods, arms=arms, seeds=seeds)

    assert started(study(2, 1, 1)) == 1 + 2 + 2
    assert started(study(4, 1, 1)) == 2 + 2
    assert started(study(4, 2, 1)) == 4
    assert started(study(4, 2, 2)) == 1 + 4 + 8
    assert started(study(3, 1, 2)) == 0


def test_a_second_study_with_other_controls_reuses_dense_and_tickets(tmp_path: Path) -> None:
    methods = [IMP(rounds=2)]
    assert started(tiny_study(tmp_path, recipe=SHORT, methods=methods, arms=[FreshInit(1)])) == 1 + 2 + 2
    assert started(tiny_study(tmp_path, recipe=SHORT, methods=methods, arms=[RandomMask("layer")])) == 2
    assert started(tiny_study(tmp_path, recipe=SHORT, methods=methods, arms=[])) == 0
    assert started(tiny_study(tmp_path, tiny(name="renamed"), recipe=SHORT, methods=methods, arms=[])) == 0


def test_a_second_method_reuses_the_dense_trainings(tmp_path: Path) -> None:
    assert started(tiny_study(tmp_path, methods=[IMP(rounds=1)], arms=[])) == 2
    assert started(tiny_study(tmp_path, methods=[IMP(rounds=1), IMP(rounds=1, scope="global")], arms=[])) == 1


def test_a_method_that_rewinds_replays_the_dense_training_once_and_finds_it_the_same(tmp_path: Path) -> None:
    started(tiny_study(tmp_path, arms=[]))
    before = tiny_study(tmp_path, arms=[]).rows()[0]
    assert started(tiny_study(tmp_path, methods=[IMP(rounds=1, rewind=2)], arms=[])) == 2
    after = tiny_study(tmp_path, arms=[]).rows()[0]
    assert before.snapshots.items() <= after.snapshots.items()
    (then,), (now,) = plain([before]), plain([after])
    artefacts = {name: vars(found) for name, found in after.artefacts.items()}
    assert now == {**then, "snapshots": after.snapshots, "artefacts": artefacts}


def test_a_tickets_row_records_where_it_began_and_ended(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, methods=[IMP(rounds=1, rewind=2)], arms=[])
    started(study)
    dense, ticket = study.rows()
    assert {2, RECIPE.steps} <= dense.snapshots.keys()
    assert ticket.snapshots.keys() == {2, RECIPE.steps}
    assert ticket.artefacts.keys() == {f"step-{RECIPE.steps}"}


def forget_snapshots(folder: Path, digests: dict[int, str] | None = None) -> None:
    """Take the artefacts out of the dense run's row; with `digests`, change what was recorded too."""
    store = Store(folder)
    (dense,) = (row for run in store.row_ids() if (row := store.row(run)) is not None and row.arm == "dense")
    store.write_row(dense.model_copy(update={"artefacts": {}, "snapshots": {**dense.snapshots, **(digests or {})}}))


def test_a_missing_snapshot_is_replayed(tmp_path: Path) -> None:
    started(tiny_study(tmp_path, arms=[]))
    forget_snapshots(tmp_path)
    assert started(tiny_study(tmp_path, methods=[IMP(rounds=2)], arms=[])) == 1 + 1


def test_a_replay_that_comes_out_differently_is_refused(tmp_path: Path) -> None:
    started(tiny_study(tmp_path, arms=[]))
    forget_snapshots(tmp_path, {RECIPE.steps: "0" * 64})
    before = {path: path.read_text() for path in tmp_path.rglob("*.json")}
    with pytest.raises(StoreError, match="replayed and came out differently at step 4"):
        tiny_study(tmp_path, methods=[IMP(rounds=2)], arms=[]).run(workers=1, progress=False)
    assert before == {path: path.read_text() for path in before}, "what was recorded is left as it was"
    assert Store(tmp_path).row_ids()


Ids = Callable[..., list[str]]


@pytest.fixture
def ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ids:
    """The ids of a task file's runs, or (with a store) how many trainings it starts."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def read(text: str = TASK_FILE, layers: str = "", store: Path | None = None) -> list[str]:
        folder, modules, path = tmp_path / "code", set(sys.modules), list(sys.path)
        folder.mkdir(exist_ok=True)
        (folder / "layers.py").write_text(layers)
        try:
            study = named_study(str(write_task(folder, text)))
            if store is not None:
                return ["started"] * started(dataclasses.replace(study, store=store, seeds=1, arms=[]))
            return [spec.id for spec in study._specs()]
        finally:
            sys.path[:] = path
            for name in {"tiny", "layers"} & sys.modules.keys() - modules:
                del sys.modules[name]

    return read


def edited(old: str, new: str) -> str:
    assert TASK_FILE.count(old) == 1, old
    return TASK_FILE.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("nn.ReLU()", "nn.Tanh()"),
        ("HIDDEN = 6", "HIDDEN = 7"),
        ("inputs[:, 0] > 0", "inputs[:, 1] > 0"),
        ("cross_entropy(outputs, targets)", "cross_entropy(2 * outputs, targets)"),
        ("lr=0.01", "lr=0.02"),
    ],
)
def test_an_edit_of_what_is_trained_changes_every_identity(ids: Ids, old: str, new: str) -> None:
    assert not set(ids()) & set(ids(edited(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return 1", "return 2"),
        ('"""The network."""', '"""The network: four inputs, two classes."""'),
        ('"""A task of someone\'s own."""', "# a task"),
        ("HIDDEN = 6", "HIDDEN = 6  # units"),
        ('sc.Task("tiny"', 'sc.Task("renamed"'),
        ("import torch\nfrom", "import math\nimport torch\nfrom"),
    ],
)
def test_an_edit_of_anything_else_changes_no_identity(ids: Ids, old: str, new: str) -> None:
    assert ids() == ids(edited(old, new))


def test_trainings_are_reused_or_not_with_the_identity(ids: Ids, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert len(ids(store=store)) == 3
    assert len(ids(edited("return 1", "return 2"), store=store)) == 0
    assert len(ids(edited("nn.ReLU()", "nn.Tanh()"), store=store)) == 3
    assert len(ids(store=store)) == 0


def test_an_edit_in_a_second_file_changes_every_identity(ids: Ids) -> None:
    text = edited("nn.ReLU()", "Layer()").replace("import torch\nfrom", "import torch\nfrom layers import Layer\nfrom")
    layer = "from torch import nn\nclass Layer(nn.Module):\n    def forward(self, x):\n        return x.relu()\n"
    before = ids(text, layer)
    assert before == ids(text, layer + "# that is all\n")
    assert not set(before) & set(ids(text, layer.replace("relu", "tanh")))
