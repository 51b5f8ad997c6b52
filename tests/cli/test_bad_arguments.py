"""Four hundred options, tasks and arguments that mean nothing: one sentence and exit code 2 each, and nothing begun."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from scratchcard import cli
from tiny_study import TASK_FILE, command, write_task

Capture = pytest.CaptureFixture[str]

ODD = [
    "",
    "x",
    "-1",
    "nan",
    "inf",
    "None",
    "[]",
    "0x10",
    "\x1b[2J",
    "\u202e1",
    "\udcff",
    "9" * 400,
]
"""No whole number and no share, but for -1."""
STUDY = {
    "--seeds": [*ODD, "0", "1.5", "1,", ",", "1,1", "0,-1", "1,x", "1e3", "1000000000", str(2**63) + ",1", "9" * 5000],
    "--rounds": [*ODD, "0", "1.5", "1001", "1000000", "1e3", "1,2"],
    "--workers": [*ODD, "0", "1.5", "1025", "1000000", "1e1"],
    "--margin": [*ODD, "0", "1", "1.5", "-0.5", "1e999"],
    "--primary": [*ODD, "0", "1.01", "-0.2", "2"],
    "--measure": [*ODD, "End", "early-stop", "last"],
    "--methods": [*ODD, ",", "impp", "imp,imp", "imp;snip", "Imp", "imp-only-conv", "dense"],
    "--controls": [*ODD, "freshinit", "fresh-init,fresh-init", "None", "all,none", "dense", "ticket"],
    "--control-levels": [*ODD, "0", "1.5", "one", "1,0", "1;2"],
    "--report": ["", ".", "/nowhere/r.html", "/dev/null/r.html", "tiny.py/r.html"],
}
"""Option of `study` -> values that it cannot have."""
SETTINGS = {
    "steps": ["", "0", "-1", "1.5", "x", "nan", "1e99", "10**9", "9" * 30, "2000000000"],
    "lr": ["", "0", "-1", "x", "nan", "inf", "1e999", "0,1", "True"],
    "optimizer": ["", "adan", "SGD", "3", "torch.optim.SGD"],
    "momentum": ["", "-0.1", "1", "0.9", "nan", "x"],
    "nesterov": ["", "2", "perhaps", "true"],
    "weight_decay": ["", "-1", "nan", "inf", "x"],
    "batch_size": ["", "0", "-5", "1.5", "x", "9" * 30],
    "schedule": ["", "cosin", "3", "step"],
    "milestones": ["0", "-1", "5", "x", "5,4", "5,5", "1.5"],
    "gamma": ["", "0", "-1", "nan", "inf"],
    "warmup": ["", "-1", "13", "x", "1.5"],
    "augment": ["flop", "pad_crop", "3"],
    "crop": ["", "0", "0.6", "-0.1", "nan", "x"],
    "precision": ["", "float16", "8", "half"],
    "eval_every": ["", "0", "-1", "x", "1.5"],
    "eval_batch_size": ["", "0", "-1", "x", "9" * 30],
    "device": ["banana", "cuda:77", "cpu:x"],
    "scale_l1": ["", "-1", "nan", "x"],
    "channels_last": ["", "2", "perhaps"],
    "step": ["1"],
    "Lr": ["1"],
    "": ["1"],
    "__class__": ["1"],
    "\x1b[31mlr": ["1"],
}
"""Field of the recipe -> values that it cannot have."""
DATA = [
    "validation",
    "=",
    "n=5",
    "validation=x",
    "validation=nan",
    "split_seed=1.5",
    "split_seed=" + "9" * 30,
    "size=\x1b[2J",
]
TASKS = [
    "",
    " ",
    ".",
    "..",
    "/",
    "digit",
    "Digits",
    "missing.py",
    "missing.py:task",
    "tiny.py:tsak",
    "tiny.py:HIDDEN",
]
TASKS += [
    "tiny.py:network",
    "tiny.py:task.name",
    "no.such:task",
    ":task",
    ":",
    "math:pi",
    "math:",
    "os",
    "tiny",
    "\x1b[2J.py",
]
TASKS += ["\u202e.py:task", "\udcff", "a" * 300 + ".py", "this:that", "antigravity.nothing:x", "-"]
OTHERS = [
    ["lottery", "tiny.py", "--rates", "0.1"],
    ["lottery", "tiny.py", "--rates", "0.1,0.1"],
    ["lottery", "tiny.py", "--rates", "fast"],
    ["lottery", "tiny.py", "--rates", "0.1,nan"],
    ["lottery", "tiny.py", "--rates", "0.1,-1"],
    ["lottery", "tiny.py", "--rounds", "0"],
    ["lottery", "tiny.py", "--rounds", "1000000"],
    ["lottery", "tiny.py", "--rate", "0"],
    ["lottery", "tiny.py", "--rate", "1"],
    ["lottery", "tiny.py", "--rate", "nan"],
    ["lottery", "tiny.py", "--workers", "0"],
    ["lottery", "tiny.py", "--workers", "0", "--dry-run"],
    ["lottery", "tiny.py", "--workers", "1000000"],
    ["lottery", "tiny.py", "--seeds", "1000000000"],
    ["lottery", "tiny.py", "--figure", "lottery.jpg"],
    ["lottery", "tiny.py", "--figure", "/nowhere/lottery.svg"],
    ["inspect", "tiny.py", "--rewind", "--steps", "12"],
    ["inspect", "tiny.py", "--rewind", "--steps", "-1"],
    ["inspect", "tiny.py", "--rewind", "--steps", "x"],
    ["inspect", "tiny.py", "--rewind", "--seeds", "0"],
    ["inspect", "tiny.py", "--rewind", "--seeds", "1000000000"],
    ["inspect", "tiny.py", "--rewind", "--workers", "0", "--dry-run"],
    ["inspect", "tiny.py", "--rewind", "--workers", "1000000"],
    ["inspect", "tiny.py", "--rewind", "--figure", "rewind"],
    ["inspect", "tiny.py", "--set", "lr"],
    ["report", "missing"],
    ["report", "tiny.py"],
    ["report", "."],
    ["report", ""],
    ["report", "missing.jsonl.gz"],
    ["report", "empty", "--report", "/nowhere/r.html"],
    ["report", "empty"],
    ["report", "empty", "--figures", "jpg"],
    ["report", "empty", "--study", "\x1b[2J"],
    ["report", "\x1b[2J"],
    ["export", "missing", "abc"],
    ["export", "empty", "abc"],
    ["export", "empty", "\x1b[2J"],
    ["export", "empty", "../../etc/passwd"],
    ["export", "empty", "abc", "--data", "size=1"],
    ["export", "tiny.py", "abc"],
    ["export", "tiny.py", "--list"],
    ["study"],
    ["study", "tiny.py", "--bogus"],
    ["study", "tiny.py", "digits"],
    ["study", "tiny.py", "--seeds"],
    ["study", "tiny.py", "--store", "tiny.py"],
    ["study", "tiny.py", "--store", "."],
    ["study", "tiny.py", "--set", "lr=0.1", "--set", "lr=0.2"],
    ["study", "tiny.py", "--data", "n=5"],
    ["study", "tiny.py", "--seeds", "1000", "--rounds", "900"],
    ["stduy", "tiny.py"],
    ["--bogus"],
    ["\x1b[2J"],
]
RECIPE = "sc.Recipe(steps=12, batch_size=10, eval_every=6, lr=0.01)"
METHOD = "sc.IMP(rounds=2)"
OBJECTS = (
    [
        (RECIPE, f"sc.Recipe({words})")
        for words in (
            "lr='0.1'",
            "steps=1.5",
            "steps=True",
            "steps=None",
            "augment='flip'",
            "milestones=5",
            "optimizer=3",
            "nesterov=1",
            "device=0",
            "gamma=[]",
            "steps=10**12",
            "schedule={}",
            "batch_size='a'",
            "precision=1",
        )
    ]
    + [
        (METHOD, f"sc.{words}")
        for words in (
            "IMP(rounds='2')",
            "IMP(rounds=2.0)",
            "IMP(rounds=10**9)",
            "IMP(rate='x')",
            "IMP(rate=None)",
            "IMP(keep='a')",
            "IMP(rate={'conv': []})",
            "IMP(rewind='a')",
            "IMP(scope=3)",
            "IMP(criterion=None)",
            "IMP(between=1)",
            "IMP(one_shot=3)",
            "AtInit()",
            "AtInit('snip', examples=-1)",
            "AtInit('snip', rounds=None)",
            "AtInit(3)",
            "Slimming(rate=[])",
            "IMP",
            "EarlyBird(epsilon='a')",
            "FilterPruning(rate='x')",
            "FilterPruning('l3')",
            "SoftFilterPruning(every='x')",
            "Task",
        )
    ]
    + [
        ("methods = [sc.IMP(rounds=2)]", f"study = sc.Study(task, recipe, {words})")
        for words in (
            "methods='imp'",
            "methods=['imp']",
            "methods=[3]",
            "methods=None",
            "methods=[]",
            "arms=3",
            "arms=[3]",
            "arms=[sc.FreshInit]",
            "arms=[sc.FreshInit(replicates=0)]",
            "arms=[sc.FreshInit(replicates='3')]",
            "seeds=True",
            "seeds=1.5",
            "seeds=None",
            "seeds=[1.5]",
            "seeds=['1']",
            "seeds=[2**70]",
            "seeds=10**10",
            "seeds=[True, 2]",
            "margin='0.1'",
            "margin=True",
            "primary='x'",
            "primary=None",
            "measure=3",
            "control_levels=3",
            "control_levels='1'",
            "control_levels=['1']",
            "store=3",
            "name=3",
            "command=3",
            "arms=[sc.FreshInit(replicates=10**9)]",
            "arms='al'",
        )
    ]
)
"""What stands in the task file -> what stands there instead."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task file and an empty store."""
    made = tmp_path_factory.mktemp("bad")
    write_task(made)
    (made / "empty").mkdir()
    (made / "empty" / "store.json").write_text('{"format": 1}')
    return made


def arguments() -> Iterator[list[str]]:
    study = ["study", "tiny.py"]
    yield from ([*study, f"{option}={value}"] for option, values in STUDY.items() for value in values)
    yield from ([*study, "--set", f"{name}={value}"] for name, values in SETTINGS.items() for value in values)
    yield from (["study", "digits", "--data", text] for text in DATA)
    yield from ([verb, "--dry-run", "--", name] for verb in ("study", "lottery") for name in TASKS)
    yield from OTHERS


def refused(folder: Path, capsys: Capture, words: list[str]) -> None:
    before = sorted(folder.rglob("*"))
    said = command(capsys, *words)
    assert said.is_one_sentence()
    assert "mistake of scratchcard" not in said.err, said.err
    assert said.err.strip().isprintable(), "nothing that commands a terminal"
    assert len(said.err) < 5000
    assert sorted(folder.rglob("*")) == before, "nothing is begun"


@pytest.mark.parametrize("words", list(arguments()), ids=lambda words: ascii(" ".join(words)[:60])[1:-1])
def test_arguments_that_mean_nothing(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(folder)
    refused(folder, capsys, words)


@pytest.mark.parametrize(("old", "new"), OBJECTS, ids=[new for _, new in OBJECTS])
def test_objects_that_mean_nothing(tmp_path: Path, capsys: Capture, old: str, new: str) -> None:
    assert old in TASK_FILE
    path = write_task(tmp_path, TASK_FILE.replace(old, new))
    refused(
        tmp_path, capsys, ["study", str(path), "--store", str(tmp_path / "runs"), "--report", str(tmp_path / "r.html")]
    )


def test_there_are_four_hundred() -> None:
    assert len(list(arguments())) + len(OBJECTS) >= 400


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("OSError(28, 'No space left on device', '/full/report.html')", ["/full/report.html", "No space left", "free"]),
        ("PermissionError(13, 'Permission denied')", ["Permission denied", "another place"]),
        ("OverflowError('int too large')", ["too large", "smaller"]),
        ("RecursionError('maximum recursion depth')", ["nested too deeply"]),
        ("MemoryError()", ["memory ran out", "--workers"]),
        ("RuntimeError('DefaultCPUAllocator: cannot allocate memory')", ["memory ran out"]),
        ("SystemExit(0)", ["ended from within"]),
        ("EOFError()", ["input was asked for"]),
        ("KeyError('x')", ["mistake of scratchcard", "KeyError", "SCRATCHCARD_TRACEBACK=1"]),
        ("AssertionError('impossible')", ["mistake of scratchcard", "impossible"]),
        ("ValueError('two\\nlines \\x1b[2J')", [r"two lines \x1b[2J"]),
        ("UnicodeEncodeError('ascii', '\\udcff', 0, 1, 'no')", ["ascii"]),
    ],
)
def test_whatever_happens_within_is_one_sentence(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, raised: str, told: list[str]
) -> None:
    monkeypatch.delenv("SCRATCHCARD_TRACEBACK", raising=False)
    # raised in our own file, as far as its frame says
    code = compile(f"def read(folder):\n    raise {raised}\n", str(Path(cli.__file__).with_name("report.py")), "exec")
    ours: dict[str, object] = {}
    exec(code, ours)
    monkeypatch.setattr(import_module("scratchcard.cli.report"), "read", ours["read"])
    assert command(capsys, "report", "runs").is_one_sentence(*told)
    if "KeyError" in raised:
        monkeypatch.setenv("SCRATCHCARD_TRACEBACK", "1")
        assert "Traceback" in command(capsys, "report", "runs").err


def test_ctrl_c_has_a_code_of_its_own(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(folder: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("scratchcard.cli.report"), "read", stopped)
    said = command(capsys, "report", "runs")
    assert said.code == 130
    assert "the same command continues" in said.err


@pytest.mark.parametrize(
    "raised", ["RuntimeError('my own')", "SystemExit(0)", "OSError('my own')", "KeyError('my own')"]
)
def test_what_a_users_code_raises_is_theirs(tmp_path: Path, capsys: Capture, raised: str) -> None:
    text = TASK_FILE.replace(
        "    return nn.Sequential(nn",
        f"    calls.append(1)\n    if len(calls) > 3:\n        raise {raised}\n    return nn.Sequential(nn",
    )
    path = write_task(tmp_path, text.replace("HIDDEN = 6", "HIDDEN = 6\ncalls = []"))
    said = command(capsys, "inspect", path)
    assert said.is_one_sentence()
    assert "mistake of scratchcard" not in said.err
    assert raised.partition("(")[0] in said.err


def test_a_warning_is_one_line_and_told_once(tmp_path: Path, capsys: Capture, recwarn: pytest.WarningsRecorder) -> None:
    text = "import warnings\nwarnings.simplefilter('always')\nfor _ in range(3): warnings.warn('odd\\n\\x1b[2J')\n"
    said = command(capsys, "inspect", write_task(tmp_path, text + TASK_FILE))
    assert said.code == 0, said.err
    assert said.err.count("odd") == 1
    assert r"scratchcard: odd \x1b[2J (UserWarning, tiny.py, line 3)" in said.err
