"""A store from a stranger: its network can be had, none of its code is run, none of its texts commands a terminal."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

import scratchcard as sc
from scratchcard.networks.forward import with_state
from scratchcard.row import Rows
from scratchcard.study import handover, portable
from scratchcard.study.card import names_of
from scratchcard.study.handover import asked_in
from scratchcard.study.named import named_study
from scratchcard.study.progress import Progress
from scratchcard.study.store import Store
from tiny_study import command, tiny, tiny_study

Capture = pytest.CaptureFixture[str]
EVIL = "from pathlib import Path\nPath('PWNED').touch()\n"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """A study whose sender chose its names, and put code beside it."""
    folder = tmp_path_factory.mktemp("sent")
    recorded = "scratchcard study runs/evil.py '\x1b]0;title\x07'"
    found = tiny_study(folder / "runs", tiny(name="gift\x1b[2J\u202e`\n# tiny"), arms=[], command=recorded).run(
        1, False
    )
    (folder / "runs" / "evil.py").write_text(EVIL)
    return found


def test_a_run_is_named_by_all_that_tells_it_from_others(rows: Rows) -> None:
    dense, ticket = rows[0], rows[1]
    controls = [
        ticket.model_copy(update={"arm": "fresh-init", "replicate": draw, "id": f"{draw}"}) for draw in range(3)
    ]
    whole = Rows([*rows, *controls, ticket.model_copy(update={"arm": "scratch-e", "id": "e"})], rows.study)
    names = names_of(whole)
    assert [names[row.id] for row in (dense, ticket, *whole[len(rows) :])] == [
        "dense, seed 0",
        "imp ticket, level 1, seed 0",
        "imp fresh-init, draw 1 of 3, level 1, seed 0",
        "imp fresh-init, draw 2 of 3, level 1, seed 0",
        "imp fresh-init, draw 3 of 3, level 1, seed 0",
        "imp scratch-e, level 1, seed 0",
    ]


@pytest.fixture
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `export` is not installed, which also saves the time that it takes."""
    monkeypatch.setitem(sys.modules, "onnx", None)


@pytest.mark.parametrize(
    ("recorded", "told"),
    [
        ("scratchcard study evil.py", "'evil.py'"),
        ("scratchcard study evil:task --data n=3", "'evil:task'"),
        ("scratchcard lottery ./digits.py", "'./digits.py'"),
        ("scratchcard study digits.py:task", "'digits.py:task'"),
        ("scratchcard study 'digits ' --seeds 1", "'digits '"),
        ("scratchcard study '\x1b[2J.py'", r"'\x1b[2J.py'"),
        ("scratchcard study --seeds 1 evil.py", "does not say which task"),
        ("scratchcard inspect digits", "does not say which task"),
        ("rm -rf / digits", "does not say which task"),
        ("scratchcard study 'evil.py", "does not say which task"),
        ("scratchcard.Study(...).run()", "does not say which task"),
        ("", "does not say which task"),
    ],
)
def test_no_code_is_taken_from_a_recorded_command(recorded: str, told: str) -> None:
    with pytest.raises(ValueError, match="--task") as caught:
        asked_in(recorded)
    assert told in str(caught.value)


def test_a_built_in_task_is_taken_from_it_with_options_that_are_checked() -> None:
    asked = asked_in("scratchcard study teacher --seeds 1 --data inputs=8 --data=train=64")
    assert (asked.task, asked.data) == ("teacher", {"inputs": "8", "train": "64"})
    with pytest.raises(ValueError, match=r"unknown data option.*'path'"):
        named_study("teacher", {"path": "/etc/passwd"})


def test_a_stranger_s_store_runs_nothing_and_commands_no_terminal(
    rows: Rows, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(rows.store).parent)
    listed = command(capsys, "export", "runs", "--list")
    assert listed.code == 0, listed.err
    assert [line.split()[0] for line in listed.out.splitlines()] == ["study", *(row.id for row in rows)]
    said = command(capsys, "export", "runs", rows[0].id, "--to", tmp_path / "out")
    assert said.is_one_sentence("'runs/evil.py'", "--task")
    assert not (tmp_path / "out").exists()
    reported = command(capsys, "report", "runs", "--report", tmp_path / "r.html", "--markdown")
    assert reported.code == 0, reported.err
    assert not Path("PWNED").exists()
    for text in (listed.out, said.err, reported.out):
        assert r"\x1b" in text or text == said.err
        assert not set(text) & set("\x1b\x07\x08\r\u202e")


def test_a_study_run_from_python_is_exported_from_python(rows: Rows, tmp_path: Path, without_onnx: None) -> None:
    ticket = rows[1]
    made = sc.export(rows, ticket.id[:9], tmp_path / "out", verdict=sc.judge(rows))
    state = Store(rows.store).tensors(ticket.artefacts["step-4"])
    task = tiny()
    small = sc.load(tmp_path / "out" / "model", task.model).module
    inputs = task.example_inputs(9)
    torch.testing.assert_close(small(inputs), with_state(task.fresh(0), state).eval()(inputs), rtol=1e-5, atol=1e-6)
    card = (tmp_path / "out" / "README.md").read_text()
    assert not set(card) & set("\x1b\x07\u202e")
    assert card.partition("```")[0].count("\n# ") == 0, "no heading of the store's own"
    assert "There is no ONNX file: ONNX export needs the package 'onnx'" in card
    assert made.notes == [line for line in card.splitlines() if line.startswith("There is no ONNX file: ")]
    assert "evil" not in (tmp_path / "out" / "load.py").read_text()
    with pytest.raises(ValueError, match=r"'runs/evil\.py'"):
        sc.export(sc.read(rows.store)[0], ticket, tmp_path / "again")
    sc.export(rows.store, ticket, tmp_path / "again", study=task)
    with pytest.raises(ValueError, match="came from no store"):
        sc.export(Rows(list(rows), rows.study), ticket, tmp_path / "third")


def test_a_network_that_onnx_refuses_is_handed_over_without_it(
    rows: Rows, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("the operator aten::odd\x1b[2J is not known")

    monkeypatch.setattr(portable, "export_onnx", refuse)
    (tmp_path / "task.py").write_text("from tiny_study import tiny\n\ntask = tiny()\n")
    said = command(capsys, "export", rows.store, rows[0].id, "--to", tmp_path / "out", "--task", tmp_path / "task.py")
    assert said.code == 0, said.err
    assert r"There is no ONNX file: the operator aten::odd\x1b[2J is not known" in said.err
    assert "There is no ONNX file: the operator" in (tmp_path / "out" / "README.md").read_text()
    assert (tmp_path / "out" / "model" / "manifest.json").exists()


def test_a_killed_export_leaves_nothing_of_that_name_and_does_not_block_the_next(
    rows: Rows, tmp_path: Path, without_onnx: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        assert not (tmp_path / "out").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(handover, "card_of", killed)
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed at once, nothing is cleaned up
        with pytest.raises(KeyboardInterrupt):
            sc.export(rows, rows[0], tmp_path / "out")
    assert [path.name[:5] for path in tmp_path.iterdir()] == [".out."]
    sc.export(rows, rows[0], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"README.md", "load.py", "model", "model.pt2"}
    with pytest.raises(ValueError, match="holds something already"):
        sc.export(rows, rows[0], tmp_path / "out")


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("no such step", {"recipe": {}}),
        ("a text for a step", {"recipe": {"steps": "../4"}}),
        ("another network's weights", {"artefacts": "tickets"}),
        ("another task", {"task_digest": "0" * 64}),
    ],
)
def test_a_row_that_does_not_hang_together_is_one_sentence(
    rows: Rows, tmp_path: Path, what: str, change: dict[str, object]
) -> None:
    shutil.copytree(rows.store, tmp_path / "runs")
    store, row = Store(tmp_path / "runs"), rows[1]
    if change.get("artefacts"):
        artefact = store.write_snapshot(row.id, 99, {"0.weight": torch.zeros(2, 2)})
        change = {"artefacts": {"step-4": artefact}}
    store.write_row(row.model_copy(update=change))
    with pytest.raises(ValueError, match=rf"{row.id}|weights are not of this"):
        sc.export(str(store.folder), row.id, tmp_path / "out", study=tiny())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"primary": 99}, "do not fit what it declared"),
        ({"densities": []}, "do not fit what it declared"),
    ],
)
def test_rows_that_do_not_fit_their_study_are_one_sentence(
    rows: Rows, tmp_path: Path, capsys: Capture, changed: dict[str, object], told: str
) -> None:
    shutil.copytree(rows.store, tmp_path / "runs")
    plans = {name: plan.model_copy(update=changed) for name, plan in rows.study.methods.items()}
    declared = rows.study.model_copy(update={"methods": plans})
    Store(tmp_path / "runs").write_study("e" * 24, declared, [row.id for row in rows])
    said = command(capsys, "report", tmp_path / "runs", "--report", tmp_path / "r.html")
    assert said.is_one_sentence(told)
    assert "\x1b" not in said.out + said.err


def test_one_cause_of_many_runs_is_told_once_with_how_many() -> None:
    said = io.StringIO()
    with Progress(30, console=Console(file=said, width=200)) as shown:
        shown.note("the dense training of seed 0 failed: RuntimeError: an accident\x1b[2J")
        shown.note("\n".join(f"ticket 0 of imp level {n} failed: RuntimeError: an accident\x1b[2J" for n in range(20)))
        shown.note("the dense training of seed 1 diverged: at step 3")
        shown.note("")
    assert said.getvalue().splitlines() == [
        r"the dense training of seed 0 failed: RuntimeError: an accident\x1b[2J",
        "the dense training of seed 1 diverged: at step 3",
        r"20 more runs ended the same way: RuntimeError: an accident\x1b[2J",
    ]


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "2", 10**6])
def test_workers_that_mean_nothing_are_refused_before_anything_is_begun(tmp_path: Path, workers: object) -> None:
    with pytest.raises(ValueError, match="worker"):
        tiny_study(tmp_path / "runs").run(workers)  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "runs").exists()
