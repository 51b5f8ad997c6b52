"""`scratchcard export`: a run's network in a folder, which another process loads and finds to be what was trained."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import scratchcard as sc
from scratchcard.networks.forward import read_state, with_state
from scratchcard.networks.gate import Gate
from scratchcard.study.store import Store
from tiny_study import TASK_FILE, command, write_task
from torch_alone import with_torch_alone

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


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every gate that a small network goes through, whether it proves all that it can."""
    found: list[bool] = []

    class Watched(Gate):
        def __init__(self, *given: Any, full: bool, **named: Any) -> None:
            found.append(full)
            super().__init__(*given, full=full, **named)

    monkeypatch.setattr("scratchcard.networks.compact.Gate", Watched)
    return found


def listed(folder: Path, capsys: Capture) -> dict[str, str]:
    said = command(capsys, "export", folder / "runs", "--list")
    assert said.code == 0, said.err
    lines = [line.partition(": ")[0].partition(" ") for line in said.out.splitlines() if " seed " in line]
    return {what: run for run, _, what in lines}


@pytest.mark.parametrize(
    "which", ["imp-channels ticket, level 2, seed 0", "imp ticket, level 6, seed 0", "dense, seed 0"]
)
def test_what_is_handed_over_is_what_was_trained(
    studied: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    proofs: list[bool],
    which: str,
) -> None:
    run = listed(studied, capsys)[which]
    to = tmp_path / "out"
    said = command(capsys, "export", studied / "runs", run[:10], "--to", to, "--task", studied / "tiny.py")
    assert said.code == 0, said.err
    files = {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()}
    assert {"README.md", "load.py", "model/manifest.json", "model.onnx", "model.pt2"} <= files
    card = (to / "README.md").read_text()
    for name in files - {"README.md"}:
        assert f"| {name} | {(to / name).stat().st_size:,} |" in card
    assert f"{to / 'README.md'}: {(to / 'README.md').stat().st_size:,} bytes" in said.out.splitlines()
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
    program = torch.export.load(to / "model.pt2").module()
    torch.testing.assert_close(program(inputs), small(inputs), rtol=1e-5, atol=1e-6)
    assert proofs
    assert all(proofs)


def test_a_folder_that_was_moved_runs_with_torch_alone(studied: Path, tmp_path: Path, capsys: Capture) -> None:
    shutil.copytree(studied, tmp_path / "work")
    run = listed(tmp_path / "work", capsys)["imp-channels ticket, level 2, seed 0"]
    words = ["--to", tmp_path / "work" / "out", "--task", tmp_path / "work" / "tiny.py"]
    assert command(capsys, "export", tmp_path / "work" / "runs", run, *words).code == 0
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "work" / "out").rename(tmp_path / "far" / "away" / "net")
    shutil.rmtree(tmp_path / "work")  # task file, data and store
    done = with_torch_alone(tmp_path / "packages", "load.py", 5, cwd=tmp_path / "far" / "away" / "net")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "tiny: imp-channels ticket, level 2, seed 0"
    assert lines[1].startswith("Test accuracy at the end of training: ")
    assert lines[2:4] == ["inputs, made up: float32 [5, 4]", "outputs: float32 [5, 2]"]
    assert " ms for 5 examples (median of " in lines[4]


@pytest.mark.heavy
def test_packages_that_torch_does_not_need_are_really_not_there(tmp_path: Path) -> None:
    asked = "import sys, torch; print([m for m in ('scratchcard', 'numpy', 'safetensors', 'onnx') if find(m)])"
    code = f"from importlib.util import find_spec as find; {asked}"
    done = with_torch_alone(tmp_path / "packages", "-W", "ignore", "-c", code, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


NORMALISED = TASK_FILE.replace(
    "nn.Linear(4, HIDDEN), nn.ReLU()", "nn.Linear(4, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU()"
)


def test_tickets_that_inherit_are_found_controlled_and_handed_over_from_the_command_line(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, proofs: list[bool]
) -> None:
    methods = "[sc.EarlyBird(every=1, patience=2, epsilon=0.3), sc.Slimming(), sc.FilterPruning()]"
    monkeypatch.setitem(sys.modules, "onnx", None)  # saves time
    path = write_task(tmp_path, NORMALISED.replace("[sc.IMP(rounds=2)]", methods))
    monkeypatch.setattr(sys, "argv", ["scratchcard", "study", str(path)])
    words = ["--workers", 1, "--seeds", 1, "--controls", "rethinking", "--store", tmp_path / "runs"]
    said = command(capsys, "study", path, *words, "--report", tmp_path / "report.html")
    assert said.code == 0, said.err
    for which, steps in (
        ("early-bird ticket, level 1, seed 0", 12),
        ("slimming ticket, level 1, seed 0", 3),
        ("slimming scratch-e, level 1, seed 0", 12),
        ("l1-filters scratch-e, level 1, seed 0", 12),
        ("slimming uniform-width, level 1, seed 0", 12),
    ):
        run, to = listed(tmp_path, capsys)[which], tmp_path / which.replace(" ", "-")
        proofs.clear()
        said = command(capsys, "export", tmp_path / "runs", run, "--to", to, "--task", path)
        assert said.code == 0, said.err
        assert proofs[-1], "what the search itself compacts is compared on its own weights, what is handed over is not"
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
    run = listed(studied, capsys)["imp-channels ticket, level 1, seed 0"]
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
