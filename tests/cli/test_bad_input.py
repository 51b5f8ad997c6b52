"""Whatever is wrong with what a person gives, they read one clear sentence, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from scratchcard.evidence.report import report
from scratchcard.methods.imp import IMP
from scratchcard.study.named import named_study
from tiny_study import TASK_FILE, command, write_task

Capture = pytest.CaptureFixture[str]


def edited(old: str, new: str) -> str:
    assert old in TASK_FILE, old
    return TASK_FILE.replace(old, new)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task file, the store of its finished study, and its report."""
    folder = tmp_path_factory.mktemp("studied")
    study = replace(named_study(str(write_task(folder))), seeds=1, arms=[], store=folder / "runs")
    study = replace(study, methods=[IMP(rounds=1)], command="scratchcard study tiny.py")
    report(study.run(workers=1, progress=False), folder / "r.html")
    del sys.modules["tiny"]
    sys.path.remove(str(folder.resolve()))
    return folder


@pytest.fixture
def finished(tmp_path: Path, studied: Path) -> Path:
    """A finished study: nothing of it may be lost."""
    shutil.copytree(studied, tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--seeds", "0"], ["one or more different seeds"]),
        (["--seeds=-1"], ["one or more"]),
        (["--seeds=0,-1"], ["0 or higher"]),
        (["--seeds", "1,1"], ["different seeds", "[1, 1]"]),
        (["--seeds", "three"], ["--seeds", "'three'"]),
        (["--seeds", "1,"], ["--seeds"]),
        (["--workers", "0"], ["at least one worker"]),
        (["--rounds", "0"], ["at least one round"]),
        (["--controls", "fresh_init"], ["unknown control 'fresh_init'", "did you mean 'fresh-init'"]),
        (["--controls", "fresh-init,fresh-init"], ["label of its own"]),
        (["--controls", "uniform-width"], ["uniform-width", "`width`", "leave it out"]),
        (["--control-levels", "first"], ["--control-levels", "'first'"]),
        (["--control-levels", "0"], ["control_levels", "1 or higher"]),
        (["--methods", "snipp"], ["unknown method 'snipp'", "did you mean 'snip'"]),
        (["--methods", "imp,imp"], ["label of its own"]),
        (["--methods", "imp-only-conv"], ["unknown site, layer, weight or kind 'conv'"]),
        (["--margin", "0"], ["margin"]),
        (["--margin", "1.5"], ["margin"]),
        (["--primary", "0"], ["density"]),
        (["--primary", "1.01"], ["density"]),
        (["--measure", "early-stop"], ["did you mean 'early_stop'"]),
        (["--set", "learning_rate=1"], ["unknown field 'learning_rate'", "lr"]),
        (["--set", "keep=outptu"], ["unknown site, layer, weight or kind 'outptu'", "'output'", "2.weight"]),
        (["--set", "step=1"], ["did you mean 'steps'"]),
        (["--set", "lr"], ["FIELD=VALUE"]),
        (["--set", "lr=fast"], ["lr", "'fast'"]),
        (["--set", "lr=-1"], ["lr=-1.0", "positive"]),
        (["--set", "lr=nan"], ["lr=nan", "positive"]),
        (["--set", "steps=1.5"], ["steps", "'1.5'"]),
        (["--set", "optimizer=adan"], ["unknown optimizer 'adan'", "did you mean 'adam'"]),
        (["--set", "schedule=cosin"], ["schedule", "cosin", "cosine"]),
        (["--set", "milestones=3"], ["milestones", "step schedule"]),
        (["--set", "milestones=a"], ["milestones"]),
        (["--set", "augment=flop"], ["unknown augmentation 'flop'", "did you mean 'flip'"]),
        (["--set", "precision=float16"], ["precision", "float16", "float32"]),
        (["--set", "device=banana"], ["banana"]),
        (["--set", "device=cuda:77"], ["cuda"]),
        (["--report", "/nowhere/report.html"], ["/nowhere"]),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_an_option_that_means_nothing(finished: Path, capsys: Capture, words: list[str], told: list[str]) -> None:
    before = everything(finished)
    common = ["--workers", 1, "--store", finished, "--report", finished.parent / "r.html", "--rounds", 1]
    assert command(capsys, "study", finished.parent / "tiny.py", *common, *words).is_one_sentence(*told)
    assert everything(finished) == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("task = (", ["SyntaxError", "line 1"]),
        ("x = 1\n\ntask = sc.Task('tiny')\n", ["NameError", "'sc'", "line 3"]),
        ("import not_a_module\n", ["ModuleNotFoundError", "not_a_module", "line 1"]),
        ("raise SystemExit(0)", ["SystemExit"]),
        ("x = 1", ["no study or task"]),
        ("task = 3", ["is a int", "sc.Task"]),
        (edited("task = sc.Task", "mine = sc.Task"), ["no study or task", "it has mine", ":mine"]),
        (edited("loss=loss", "loss='cross_entropi'"), ["unknown loss 'cross_entropi'", "'cross_entropy'"]),
        (edited("loss=loss", "metric='acuracy'"), ["unknown metric 'acuracy'", "did you mean 'accuracy'"]),
        (edited("lr=0.01", "schedule='cosin'"), ["unknown schedule 'cosin'", "did you mean 'cosine'"]),
        (edited("lr=0.01", "optimizer='sdg'"), ["unknown optimizer 'sdg'", "did you mean 'sgd'"]),
        (edited("lr=0.01", "rate=0.01"), ["TypeError", "rate", "line"]),
        (edited("rounds=2", "rate=1.0"), ["fraction between 0 and 1", "rate=1.0"]),
        (edited("rounds=2", "rate={'linear': 0}"), ["fraction between 0 and 1"]),
        (edited("rounds=2", "rewind=12"), ["before the end of training at 12"]),
        (edited("rounds=2", "rewind=-1"), ["rewind=-1"]),
        (edited("rounds=2", "rounds=0"), ["at least one round"]),
        (edited("rounds=2", "scope='globl'"), ["did you mean 'global'"]),
        (edited("rounds=2", "keep=('outptu',)"), ["outptu", "2.weight"]),
        (edited("[sc.IMP(rounds=2)]", "sc.IMP(rounds=2)"), ["methods"]),
        (edited("sc.Recipe(steps=12, batch_size=10, eval_every=6, lr=0.01)", "{'lr': 0.1}"), ["recipe"]),
        (edited("HIDDEN, 2)", "HIDDEN, 1)"), ["does not fit the model", "outputs [8, 1]"]),
        (edited("nn.Linear(4", "nn.Linear(5"), ["fails on a batch [8, 4]"]),
        (edited("return nn.Sequential(", "return ("), ["must return a torch.nn.Module, not tuple"]),
        (edited("return nn.Sequential(", "raise KeyError('weights.pt')\n    return ("), ["KeyError", "weights.pt"]),
        (edited("def network():", "def network(width):"), ["width"]),
        (edited('"tiny", network', '"tiny", network()'), ["must be a factory", "Sequential"]),
        (edited("examples(60)", "examples(0)"), ["no examples"]),
        (edited("examples(60), examples(30)", "examples(60), examples(0)"), ["no examples"]),
        (edited("    return inputs,", "    inputs[3, 1] = float('nan')\n    return inputs,"), ["NaN", "index 3"]),
        (edited("return nn.functional.cross_entropy(outputs, targets)", "return outputs.sum(1)"), ["scalar tensor"]),
        (edited("return nn.functional.cross_entropy(outputs, targets)", "pass"), ["scalar tensor"]),
        (
            edited("return nn.Sequential(", "return nn.Flatten() or ("),
            ["weights"],
        ),
    ],
    ids=lambda text: "" if isinstance(text, list) else None,
)
def test_a_task_file_that_is_wrong(tmp_path: Path, capsys: Capture, text: str, told: list[str]) -> None:
    folder = tmp_path / "runs"
    words = ["--workers", 1, "--store", folder, "--report", tmp_path / "r.html"]
    assert command(capsys, "study", write_task(tmp_path, text), *words).is_one_sentence(*told)
    assert not folder.exists(), "nothing is begun"


@pytest.mark.parametrize("verb", ["study", "inspect"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digit", ["unknown task 'digit'", "did you mean 'digits'"]),
        ("quite-another", ["unknown task", "digits", "path/to/file.py"]),
        ("missing.py", ["no task file missing.py"]),
        ("missing.py:task", ["no task file missing.py"]),
        ("no.such.package:task", ["no.such.package", "cannot be imported"]),
        ("tiny.py:tsak", ["tsak", "task"]),
        ("tiny.py:HIDDEN", ["HIDDEN", "int"]),
        ("math:pi", ["float"]),
        (":task", ["cannot be imported"]),
        ("", ["unknown task"]),
        (".", ["unknown task"]),
    ],
)
def test_a_task_that_is_not_there(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, verb: str, name: str, told: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path)
    assert command(capsys, verb, name).is_one_sentence(*told)
    assert not (tmp_path / "runs").exists()


def test_an_error_in_a_second_file_is_told_with_where(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "layers.py").write_text("\n\nclass Layer(Missing): pass\n")
    said = command(capsys, "inspect", write_task(tmp_path, "import layers\n" + TASK_FILE))
    assert said.is_one_sentence("NameError", "'Missing'", "line")


@pytest.mark.parametrize("verb", ["study", "report"])
@pytest.mark.parametrize("what", ["a file", "a folder with other things", "a newer store", "a spoilt manifest"])
def test_a_store_that_is_none(tmp_path: Path, capsys: Capture, verb: str, what: str) -> None:
    store = tmp_path / "runs"
    if what == "a file":
        store.write_text("important")
    else:
        store.mkdir()
        name, content = {
            "a folder with other things": ("thesis.tex", "important"),
            "a newer store": ("store.json", '{"format": 2}'),
            "a spoilt manifest": ("store.json", "{"),
        }[what]
        (store / name).write_text(content)
    before = everything(tmp_path)
    words = ["study", write_task(tmp_path), "--workers", 1, "--store"] if verb == "study" else ["report"]
    assert command(capsys, *words, store, "--report", tmp_path / "r.html").is_one_sentence("runs")
    assert before.items() <= everything(tmp_path).items()
    assert store.is_file() or len(list(store.iterdir())) == 1


def test_a_store_that_is_missing_or_empty_cannot_be_reported(tmp_path: Path, capsys: Capture) -> None:
    assert command(capsys, "report", tmp_path / "missing").is_one_sentence("missing", "not a store")
    (tmp_path / "store.json").write_text('{"format": 1}')
    assert command(capsys, "report", tmp_path).is_one_sentence("no study in it yet")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_is_full_or_read_only(finished: Path, capsys: Capture, number: int) -> None:
    before = everything(finished)
    with mock.patch("os.fsync", side_effect=OSError(number, os.strerror(number))):
        said = command(capsys, "study", finished.parent / "tiny.py", "--workers", 1, "--store", finished)
    assert said.is_one_sentence("full" if number == errno.ENOSPC else "read-only", "the same command continues")
    assert everything(finished) == before


def test_a_report_that_cannot_be_written(finished: Path, capsys: Capture) -> None:
    before = everything(finished)
    for place in (finished, finished.parent / "missing" / "r.html", finished.parent / "tiny.py" / "r.html"):
        assert command(capsys, "report", finished, "--report", place).is_one_sentence(str(place))
    assert everything(finished) == before


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9] + b"?")


def outside(path: Path) -> None:
    row = json.loads(path.read_text())
    for artefact in row["artefacts"].values():
        artefact["file"] = "../tiny.py"
    path.write_text(json.dumps(row))


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("rows/*.json", outside),
        ("store.json", damage),
        ("tickets/*.safetensors", damage),
    ],
)
def test_what_is_spoilt_is_said_set_aside_and_done_again(
    finished: Path, capsys: Capture, kind: str, spoil: Callable[[Path], None]
) -> None:
    for path in finished.glob(kind):
        spoil(path)
    spoilt = [path.name for path in finished.glob(kind)]
    others = {path: content for path, content in everything(finished).items() if Path(path).name not in spoilt}
    words = ["--workers", 1, "--seeds", 1, "--rounds", 2, "--controls", "none", "--store", finished]
    report = finished.parent / "again.html"
    said = command(capsys, "study", finished.parent / "tiny.py", *words, "--report", report)
    assert said.code == 0, said.err
    assert "damaged" in said.err, said.err
    assert "Traceback" not in said.err
    now = everything(finished)
    assert {path for path in others if "/rows/" in path} <= now.keys(), "no row is lost"
    assert len(list((finished / "rows").glob("*.json"))) == 3


@pytest.mark.parametrize("when", ["at once", "in training"])
def test_a_dry_run_of_a_model_that_raises(tmp_path: Path, capsys: Capture, when: str) -> None:
    count = 0 if when == "at once" else 5
    text = TASK_FILE.replace(
        "def loss(outputs, targets):\n",
        f"left = [{count}]\n\n\ndef loss(outputs, targets):\n    left[0] -= 1\n    if left[0] < 0:\n"
        "        raise RuntimeError('no more')\n",
    )
    words = ["study", write_task(tmp_path, text), "--dry-run", "--store", tmp_path / "runs"]
    assert command(capsys, *words).is_one_sentence("no more")


def test_a_real_process_ends_with_one_sentence_and_code_2(tmp_path: Path) -> None:
    write_task(tmp_path, edited("loss=loss", "loss='mea'"))
    words = [sys.executable, "-m", "scratchcard", "study", "tiny.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("scratchcard: the task file tiny.py cannot be run: ValueError: unknown loss 'mea'")
    assert len(done.stderr.strip().splitlines()) == 1
