"""The command line does what it says: plan, run, resume, report, inspect."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scratchcard.study.place import place
from scratchcard.study.study import read
from tiny_study import TASK_FILE, Said, command, write_task

Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, folder: Path, *words: object, text: str = TASK_FILE) -> Said:
    """A study of the tiny task file by one worker, one seed unless told otherwise."""
    path = write_task(folder, text)
    told = [] if "--seeds" in words else ["--seeds", 1]
    places = ["--store", folder / "runs", "--report", folder / "report.html"]
    return command(capsys, "study", path, "--workers", 1, *told, *places, *words)


def test_a_study_prints_its_verdict_and_writes_the_report(tmp_path: Path, capsys: Capture) -> None:
    said = run(capsys, tmp_path)
    assert said.code == 0, said.err
    assert "tiny: " in said.out
    assert f"report: {tmp_path / 'report.html'}" in said.out
    assert "14 of 14 runs done" in said.err
    assert "tiny" in (tmp_path / "report.html").read_text()
    (rows,) = read(tmp_path / "runs")
    assert len(rows) == 14
    assert rows.study.command.startswith("scratchcard study ")
    assert "--seeds 1" in rows.study.command


def test_the_same_command_again_trains_nothing_and_says_the_same(tmp_path: Path, capsys: Capture) -> None:
    first = run(capsys, tmp_path)
    rows = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "rows").iterdir()}
    assert run(capsys, tmp_path).out == first.out
    assert rows == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "rows").iterdir()}


def test_a_dry_run_tells_the_price_and_writes_nothing(tmp_path: Path, capsys: Capture) -> None:
    said = run(capsys, tmp_path, "--dry-run", "--seeds", 2)
    assert said.code == 0, said.err
    assert "tiny: 54 train, 6 validation" in said.out or "tiny: 60 train, 30 validation" in said.out
    assert "2 x dense" in said.out
    assert "12 x imp: fresh-init" in said.out
    assert "28 trainings, 0 of them in the store, 28 to run" in said.out
    assert "price: " in said.out
    assert "of it imp: dense-for-the-search: " in said.out
    assert "FLOPs" in said.out
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"tiny.py"}


def test_a_dry_run_of_a_started_study_counts_what_is_there(tmp_path: Path, capsys: Capture) -> None:
    run(capsys, tmp_path, "--controls", "none")
    assert "3 of them in the store, 11 to run" in run(capsys, tmp_path, "--dry-run").out


@pytest.mark.parametrize(
    ("words", "runs", "seeds"),
    [
        (["--controls", "none", "--rounds", 1], 2, [0]),
        (["--controls", "none", "--rounds", 3], 4, [0]),
        (["--controls", "random-mask-global, fresh-init", "--rounds", 1], 1 + 1 + 1 + 3, [0]),
        (["--controls", "none", "--rounds", 1, "--seeds", "0,2"], 4, [0, 2]),
        (["--controls", "paper", "--rounds", 1], 1 + 1 + 3 + 1 + 1 + 3 + 4, [0]),
        # all but uniform-width, as this factory takes no width, and -same-steps, as nothing is rewound
        (["--controls", "all", "--rounds", 1], 1 + 1 + 3 + 1 + 1 + 3 + 3 + 4 + 3 + 2 + 4 + 1 + 2, [0]),
        (["--controls", "fresh-init", "--rounds", 3, "--control-levels", "1"], 1 + 3 + 2 * 3, [0]),
        (["--controls", "fresh-init", "--rounds", 3, "--control-levels", "primary"], 1 + 3 + 3, [0]),
        (["--controls", "none", "--methods", "imp,snip,synflow", "--rounds", 1], 4, [0]),
        (["--controls", "none", "--methods", "imp-continued", "--rounds", 2], 1 + 2 + 2, [0]),
    ],
)
def test_options_say_what_is_run(
    tmp_path: Path, capsys: Capture, words: list[object], runs: int, seeds: list[int]
) -> None:
    assert run(capsys, tmp_path, *words).code == 0
    (rows,) = read(tmp_path / "runs")
    assert len(rows) == runs
    assert sorted({row.seed for row in rows}) == rows.study.seeds == seeds


def test_methods_that_cut_whole_units_are_asked_for_by_label_with_their_controls(
    tmp_path: Path, capsys: Capture
) -> None:
    text = TASK_FILE.replace("nn.ReLU()", "nn.BatchNorm1d(HIDDEN), nn.ReLU()")
    text = text.replace("IMP(rounds=2)", "IMP(rounds=15, rate=0.5)")  # more rounds than an early bird would take
    words = ["--methods", "slimming,early-bird,l1-filters", "--controls", "rethinking", "--rounds", 1]
    said = run(capsys, tmp_path, *words, "--set", "steps=36", text=text)
    assert said.code == 0, said.err
    (rows,) = read(tmp_path / "runs")
    assert {row.status for row in rows} == {"done"}
    arms = ["fine-tune-full-schedule", "scratch-b", "scratch-e", "ticket"]
    for method in ("early-bird", "l1-filters", "slimming"):
        own = {"slimming": ["search", "uniform-width"], "early-bird": ["uniform-width"]}.get(method, [])
        assert sorted(row.arm for row in rows if row.method == method) == sorted([*arms, *own])
    assert (tmp_path / "report.html").exists()


def test_set_changes_the_recipe(tmp_path: Path, capsys: Capture) -> None:
    settings = ["lr=0.05", "milestones=4,8", "schedule=step", "optimizer=sgd", "momentum=0.9", "nesterov=true"]
    words = [word for setting in settings for word in ("--set", setting)]
    assert run(capsys, tmp_path, "--controls", "none", *words).code == 0
    recipe = read(tmp_path / "runs")[0].study.recipe
    assert (recipe["lr"], recipe["milestones"], recipe["schedule"]) == (0.05, [4, 8], "step")
    assert (recipe["optimizer"], recipe["momentum"], recipe["nesterov"]) == ("sgd", 0.9, True)
    assert recipe["steps"] == 12, "what was not set is as the task file says"


def test_margin_primary_and_measure_are_declared(tmp_path: Path, capsys: Capture) -> None:
    words = ["--margin", 0.02, "--primary", 0.8, "--measure", "early_stop", "--controls", "none"]
    assert run(capsys, tmp_path, *words).code == 0
    declared = read(tmp_path / "runs")[0].study
    assert (declared.margin, declared.measure) == (0.02, "early_stop")
    assert declared.methods["imp"].primary == 1


def test_a_diverging_study_ends_with_a_verdict_and_exit_code_0(tmp_path: Path, capsys: Capture) -> None:
    text = TASK_FILE.replace(
        "    return nn.functional.cross_entropy(outputs, targets)",
        "    broken = len(outputs) == 10 and outputs[0, 0].item() > outputs[0, 1].item() + 0.5\n"
        "    return nn.functional.cross_entropy(outputs, targets) * (float('nan') if broken else 1.0)",
    )
    said = run(capsys, tmp_path, "--seeds", 4, "--controls", "none", "--set", "steps=4", text=text)
    assert said.code == 0, said.err
    rows = read(tmp_path / "runs")[0]
    assert {row.status for row in rows if row.arm == "dense"} == {"done", "diverged"}
    assert "diverged" in said.err
    assert "Traceback" not in said.err
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("cut", "failed", "told"),
    [
        # of 36 weights 18 are cut at level 1, 27 at level 2
        (18, ["ticket 1", "ticket 2"], "1 run failed; the same command tries again"),
        (27, ["scratch-e 2", "ticket 2"], "2 runs failed; the same command tries again"),
    ],
)
def test_a_study_with_a_run_that_failed_prints_its_verdict_and_ends_with_exit_code_1(
    tmp_path: Path, capsys: Capture, cut: int, failed: list[str], told: str
) -> None:
    text = TASK_FILE.replace("IMP(rounds=2)", "IMP(rounds=2, rate=0.5)").replace(
        """    return nn.Sequential(nn.Linear(4, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))
""",
        """    net = nn.Sequential(nn.Linear(4, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))
    net.register_forward_pre_hook(accident)
    return net


def accident(net, inputs):
    if net.training and sum(int((p == 0).sum()) for p in net.parameters() if p.dim() == 2) == CUT:
        raise RuntimeError("an accident")
""".replace("CUT", str(cut)),
    )
    words = ["--controls", "scratch-e", "--control-levels", "2"]
    said = run(capsys, tmp_path, *words, text=text)
    assert said.code == 1, said.err
    assert said.out.startswith("tiny: ")
    assert said.err.strip().endswith(told)
    assert "RuntimeError: an accident" in said.err
    (rows,) = read(tmp_path / "runs")
    assert sorted(f"{row.arm} {row.level}" for row in rows if row.status == "failed") == failed
    assert "report: " in said.out
    assert (tmp_path / "report.html").exists()


def test_a_study_of_which_nothing_could_be_trained_says_so_and_keeps_the_rows(tmp_path: Path, capsys: Capture) -> None:
    said = run(capsys, tmp_path, "--set", "optimizer=sgd", "--set", "lr=1e30")
    assert said.code == 0, said.err
    assert "tiny: " in said.out
    assert "report: " not in said.out
    assert not (tmp_path / "report.html").exists(), "of nothing"
    assert "the dense training of seed 0 diverged" in said.err
    assert "Traceback" not in said.err
    assert {row.status for row in read(tmp_path / "runs")[0]} == {"diverged"}


def test_report_needs_no_task_file(tmp_path: Path, capsys: Capture) -> None:
    studied = run(capsys, tmp_path)
    (tmp_path / "tiny.py").unlink()
    (tmp_path / "report.html").unlink()
    said = command(capsys, "report", tmp_path / "runs", "--report", tmp_path / "again.html", "--markdown")
    assert said.code == 0, said.err
    assert said.out.startswith(studied.out.partition("\n\nreport:")[0])
    assert "| " in said.out
    assert (tmp_path / "again.html").exists()


def test_report_finds_a_study_by_its_name(tmp_path: Path, capsys: Capture) -> None:
    run(capsys, tmp_path, "--controls", "none")
    run(capsys, tmp_path, "--controls", "none", text=TASK_FILE.replace('sc.Task("tiny"', 'sc.Task("other"'))
    for name in ("tiny", "other"):
        said = command(capsys, "report", tmp_path / "runs", "--study", name, "--report", tmp_path / "r.html")
        assert said.out.startswith(f"{name}: ")
    said = command(capsys, "report", tmp_path / "runs", "--study", "tini", "--report", tmp_path / "r.html")
    assert said.is_one_sentence("unknown study 'tini'", "did you mean 'tiny'")


def test_inspect_shows_weights_reasons_and_cost(tmp_path: Path, capsys: Capture) -> None:
    text = TASK_FILE.replace("[sc.IMP(rounds=2)]", '[sc.IMP(rate={"linear": 0.2})]')
    said = command(capsys, "inspect", write_task(tmp_path, text))
    assert said.code == 0, said.err
    assert "0.weight" in said.out
    assert "6 x 4" in said.out
    assert "2.weight" in said.out
    assert "no:" in said.out, "why the last layer is kept"
    assert "24 of 36 weights can be pruned" in said.out
    assert "44 parameters" in said.out
    assert "36 MACs forward" in said.out
    assert "units that can be removed, by site" in said.out
    assert "kept whole: 2 (an output of the network)" in said.out
    assert "95.4 % of all parameters lie in these units" in said.out
    assert "168 FLOPs forward and backward" in said.out
    assert "accuracy" in said.out


@pytest.mark.parametrize(("names", "left"), [("only=0.weight,2", 36), ("keep=2", 24), ("only=0", 24)])
def test_methods_keep_and_cut_what_is_named_on_the_command_line(
    tmp_path: Path, capsys: Capture, names: str, left: int
) -> None:
    said = command(capsys, "inspect", write_task(tmp_path), "--set", names, "--set", "lr=0.1")
    assert said.code == 0, said.err
    assert f"{left} of 36 weights can be pruned" in said.out


def test_so_do_methods_of_units(tmp_path: Path, capsys: Capture) -> None:
    path = write_task(tmp_path, TASK_FILE.replace("[sc.IMP(rounds=2)]", "[sc.IMP(units='channels')]"))
    said = command(capsys, "inspect", path, "--set", "only=linear")
    assert said.code == 0, said.err
    assert "goes with units of 0" in " ".join(said.out.replace("│", " ").split())
    assert "weights go with units; density is counted over all 36" in said.out
    said = command(capsys, "inspect", path, "--set", "keep=linear")
    assert said.is_one_sentence("no unit that it could cut", "keep=('linear',) leaves none of 0")


def test_what_is_named_holds_for_methods_that_are_asked_for_by_label(tmp_path: Path, capsys: Capture) -> None:
    labels = ["--methods", "snip,l1-filters,slimming", "--controls", "none"]
    assert run(capsys, tmp_path, *labels, "--set", "only=0", "--rounds", "1").code == 0
    assert set(read(tmp_path / "runs")[0].study.methods) == {"snip-only-0", "l1-filters-only-0", "slimming-only-0"}


def test_methods_named_have_the_rounds_and_rates_of_the_study(tmp_path: Path, capsys: Capture) -> None:
    text = TASK_FILE.replace("[sc.IMP(rounds=2)]", '[sc.IMP(rounds=2, rate={"linear": 0.5, "output": 0.25})]')
    assert run(capsys, tmp_path, "--methods", "snip,imp-one-shot", "--controls", "none", text=text).code == 0
    methods = read(tmp_path / "runs")[0].study.methods
    assert set(methods) == {"snip", "imp-one-shot"}
    assert [plan.densities for plan in methods.values()] == [[1.0, 21 / 36, 13 / 36]] * 2


def test_inspect_says_from_which_step_to_rewind(tmp_path: Path, capsys: Capture) -> None:
    words = ["--rewind", "--seeds", 2, "--workers", 1, "--store", tmp_path / "runs"]
    path = write_task(tmp_path)
    said = command(capsys, "inspect", path, *words, "--figure", tmp_path / "rewind.html")
    assert said.code == 0, said.err
    assert "step 0: instability" in said.out
    assert any(word in said.out for word in ("Stable at init", "Rewind to step", "Not stable at any"))
    assert "from which step to rewind" in (tmp_path / "rewind.html").read_text()
    said = command(capsys, "inspect", path, *words, "--steps", "0,6", "--figure", tmp_path / "rewind.svg")
    assert said.code == 0, said.err
    assert "step 6: instability" in said.out
    assert {file.name for file in tmp_path.glob("*.svg")} == {"rewind-lines.svg", "rewind-instability.svg"}
    priced = command(capsys, "inspect", path, "--rewind", "--store", tmp_path / "other", "--dry-run")
    assert "whole trainings" in priced.out
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--steps", "0,12"], "from 0 to 11; got [12]"),
        (["--steps", "early"], "--steps takes a list"),
        (["--seeds", "0"], "at least one seed"),
        (["--figure", "rewind.jpg"], "unknown kind of figure '.jpg'"),
        (["--figure", "/nowhere/rewind.svg"], "/nowhere"),
    ],
)
def test_a_rewind_that_cannot_be_measured(tmp_path: Path, capsys: Capture, words: list[str], told: str) -> None:
    store = ["--store", tmp_path / "runs"]
    said = command(capsys, "inspect", write_task(tmp_path), "--rewind", *store, *words)
    assert said.code == 2
    assert told in said.err


def test_a_study_or_task_of_another_name_or_of_a_module_is_found(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        TASK_FILE.replace("task = sc.Task(", "mine = sc.Task(") + "study = sc.Study(mine, recipe, methods, seeds=3)\n"
    )
    path = write_task(tmp_path, text)
    for name in (path, f"{path}:mine", f"{path}:study"):
        said = command(capsys, "study", name, "--dry-run", "--store", tmp_path / "runs")
        assert said.code == 0, said.err
    monkeypatch.chdir(tmp_path)
    assert "42 trainings" in command(capsys, "study", "tiny:study", "--dry-run", "--store", tmp_path / "runs").out


def test_a_task_file_may_import_its_neighbours_also_in_worker_processes(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "layers.py").write_text("from torch import nn\nclass Layer(nn.ReLU):\n    pass\n")
    text = TASK_FILE.replace("nn.ReLU()", "Layer()")
    path = write_task(tmp_path, text.replace("import torch\nfrom", "import torch\nfrom layers import Layer\nfrom"))
    words = ["--workers", 2, "--seeds", 1, "--rounds", 1, "--controls", "none", "--store", tmp_path / "runs"]
    said = command(capsys, "study", path, *words, "--report", tmp_path / "report.html")
    assert said.code == 0, said.err
    assert {row.status for row in read(tmp_path / "runs")[0]} == {"done"}


def test_half_written_files_of_a_killed_study_are_cleared_by_the_next(tmp_path: Path, capsys: Capture) -> None:
    run(capsys, tmp_path, "--controls", "none")
    gone = subprocess.Popen(["true"])
    gone.wait()
    mine = tmp_path / "runs" / "rows" / f".x.json.{place()}.{gone.pid}.abcdef.part"
    elsewhere = mine.with_name(f".x.json.0a0a0a0a.{gone.pid}.abcdef.part")  # of another machine, which may be writing
    for part in (mine, elsewhere):
        part.write_text("half")
    run(capsys, tmp_path, "--controls", "none")
    assert not mine.exists()
    assert elsewhere.exists()


def test_help_names_the_verbs(capsys: Capture) -> None:
    said = command(capsys, "--help")
    assert said.code == 0
    assert all(verb in said.out for verb in ("study", "report", "inspect"))
