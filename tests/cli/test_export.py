"""`scratchcard export`: a run's network in a folder, which another process loads and finds to be what was trained."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import scratchcard as sc
from scratchcard.networks.forward import read_state, with_state
from scratchcard.study.store import Store
from tiny_study import TASK_FILE, command, write_task

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task file and a store: tickets of whole units, and of single weights at 1 % or so."""
    folder = tmp_path_factory.mktemp("studied")
    text = TASK_FILE.replace(
        "[sc.IMP(rounds=2)]", '[sc.IMP(rounds=2, rate=0.4, units="channels"), sc.IMP(rounds=6, rate=0.4)]'
    )
    study = replace(sc.named_study(str(write_task(folder, text))), seeds=1, arms=[], store=folder / "runs")
    study.run(workers=1, progress=False)
    del sys.modules["tiny"]
    sys.path.remove(str(folder.resolve()))
    return folder


def listed(folder: Path, capsys: Capture) -> dict[str, str]:
    said = command(capsys, "export", folder / "runs", "--list")
    assert said.code == 0, said.err
    return {" ".join(line.split()[1:4]).rstrip(","): line.split()[0] for line in said.out.splitlines()}


@pytest.mark.parametrize("which", ["imp-channels, level 2", "imp, level 6", "dense, level 0"])
def test_what_is_handed_over_is_what_was_trained(
    studied: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    run = listed(studied, capsys)[which]
    to = tmp_path / "out"
    said = command(capsys, "export", studied / "runs", run[:10], "--to", to, "--task", studied / "tiny.py")
    assert said.code == 0, said.err
    files = {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()}
    assert {"README.md", "load.py", "model/manifest.json", "model.onnx"} <= files
    card = (to / "README.md").read_text()
    row = Store(studied / "runs").row(run)
    assert row is not None
    assert row.end is not None
    assert f"{100 * row.end.test_metric:.2f} %" in card
    assert "latency" in card
    assert "Kept whole" in card
    monkeypatch.setattr(sys, "path", [*sys.path])
    study = sc.named_study(str(studied / "tiny.py"))
    del sys.modules["tiny"]  # another test's file of this name is another module
    small = sc.load(to / "model", model=study.task.model).module
    inputs = study.task.example_inputs(20)
    state = Store(studied / "runs").tensors(row.artefacts[f"step-{study.recipe.steps}"])
    if which.startswith("imp-channels"):
        assert all(torch.equal(value, state[name]) for name, value in read_state(small).items())
    else:
        wanted = with_state(study.task.fresh(0), state).eval()
        torch.testing.assert_close(small(inputs), wanted(inputs), rtol=1e-5, atol=1e-6)
    parameters = sum(p.numel() for p in small.parameters())
    assert parameters <= row.parameters
    if not which.startswith("imp-channels"):  # the program is the same one
        return
    done = subprocess.run(
        [sys.executable, str(to / "load.py")], capture_output=True, text=True, cwd=studied, check=True
    )
    assert "tensor" in done.stdout


NORMALISED = TASK_FILE.replace(
    "nn.Linear(4, HIDDEN), nn.ReLU()", "nn.Linear(4, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU()"
)


def test_tickets_that_inherit_are_found_controlled_and_handed_over_from_the_command_line(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = "[sc.EarlyBird(every=1, patience=2, epsilon=0.3), sc.Slimming(), sc.FilterPruning()]"
    path = write_task(tmp_path, NORMALISED.replace("[sc.IMP(rounds=2)]", methods))
    monkeypatch.setattr(sys, "argv", ["scratchcard", "study", str(path)])
    words = ["--workers", 1, "--seeds", 1, "--controls", "rethinking", "--store", tmp_path / "runs"]
    said = command(capsys, "study", path, *words, "--report", tmp_path / "report.html")
    assert said.code == 0, said.err
    for which, steps in (
        ("early-bird, level 1", 12),
        ("slimming, level 1", 3),
        ("slimming scratch-e, level", 12),
        ("l1-filters scratch-e, level", 12),
        ("slimming uniform-width, level", 12),
    ):
        run, to = listed(tmp_path, capsys)[which], tmp_path / which.replace(" ", "-")
        said = command(capsys, "export", tmp_path / "runs", run, "--to", to, "--task", path)
        assert said.code == 0, said.err
        row = Store(tmp_path / "runs").row(run)
        assert row is not None
        study = sc.named_study(str(path))
        del sys.modules["tiny"]
        small = sc.load(to / "model", model=study.task.model).module
        state = Store(tmp_path / "runs").tensors(row.artefacts[f"step-{steps}"])
        assert state.keys() == read_state(small).keys()
        assert all(torch.equal(value, state[name]) for name, value in read_state(small).items())
        assert sum(p.numel() for p in small.parameters()) == row.parameters


def test_what_cannot_be_handed_over_is_one_sentence(studied: Path, capsys: Capture) -> None:
    run = listed(studied, capsys)["imp-channels, level 1"]
    (studied / "full").mkdir()
    (studied / "full" / "mine.txt").write_text("mine")
    changed = (studied / "tiny.py").read_text().replace("nn.Linear(4, 6)", "nn.Linear(4, 7)")
    (studied / "changed.py").write_text(changed)
    task = ["--task", studied / "tiny.py"]
    for words, told in (
        ([run, "--to", studied / "full", *task], "holds something already"),
        (["zzz", "--to", studied / "a", *task], "begins with 'zzz' was needed, the store has none"),
        ([run[:0] + "", "--to", studied / "a", *task], None),
        ([run, "--to", studied / "a", "--task", studied / "changed.py"], "is not what it was"),
    ):
        said = command(capsys, "export", studied / "runs", *words)
        assert said.code == (0 if told is None else 2), said.err
        assert told is None or told in said.err
    assert (studied / "full" / "mine.txt").read_text() == "mine"
    assert not (studied / "a").exists()
