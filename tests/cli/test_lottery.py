"""`scratchcard lottery`: original against fresh initial weights, of single weights and of filters, at two rates."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import nn

import scratchcard as sc
from scratchcard.evidence.lottery import answer, drawn
from scratchcard.evidence.statistics import paired
from scratchcard.row import Rows
from scratchcard.study.lottery import lottery_studies
from tiny_study import TASK_FILE, command, write_task

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def compared(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    path = write_task(tmp_path, TASK_FILE)
    monkeypatch.setattr(sys, "argv", ["scratchcard", "lottery", str(path)])
    words = ["--rates", "0.1,0.01", "--seeds", 2, "--rounds", 2, "--rate", 0.5, "--workers", 1]
    said = command(capsys, "lottery", path, *words, "--store", tmp_path / "runs", "--figure", tmp_path / "lottery.html")
    assert said.code == 0, said.err
    return tmp_path, said.out


def of(rows: Rows, method: str, level: int, arm: str, seed: int) -> float:
    return fmean(
        row.end.test_metric
        for row in rows
        if (row.method, row.level, row.arm, row.seed) == (method, level, arm, seed) and row.end is not None
    )


def test_the_differences_are_those_of_the_rows_and_the_page_shows_them(compared: tuple[Path, str]) -> None:
    folder, said = compared
    found = sorted(((rows.study.recipe["lr"], rows) for rows in sc.read(folder / "runs")), reverse=True)
    assert [rate for rate, _ in found] == [0.1, 0.01]
    result = drawn(found)
    assert [(one.structure, one.rate) for one in result] == [
        ("unstructured", 0.1),
        ("unstructured", 0.01),
        ("structured", 0.1),
        ("structured", 0.01),
    ]
    for one, (_, rows) in zip(result, found * 2, strict=True):
        method, level, arms = (
            ("imp-global", 2, ("ticket", "fresh-init"))
            if one.structure == "unstructured"
            else ("l1-filters", 1, ("lottery-init", "another-init"))
        )
        pairs = [[of(rows, method, level, arm, seed) for arm in arms] for seed in (0, 1)]
        assert one.difference.mean == pytest.approx(fmean(own - fresh for own, fresh in pairs))
        assert one.own == pytest.approx([own for own, _ in pairs])
        assert one.difference.n == 2
        differences = [own - fresh for own, fresh in pairs]
        together = paired(differences, rows.study.margin, rows.study.alpha / 4, rows.study.resolution)
        assert (one.difference.low, one.difference.high) == (together.low, together.high), "four comparisons, one 5 %"
    assert answer(result, found[0][1].study) in said
    page = (folder / "lottery.html").read_text()
    assert "original minus fresh" in page
    assert "scratchcard lottery" in page


def test_a_picture_is_written_where_it_was_asked_for(compared: tuple[Path, str], capsys: Capture) -> None:
    folder, _ = compared
    words = [
        "--rates",
        "0.1,0.01",
        "--seeds",
        2,
        "--rounds",
        2,
        "--rate",
        0.5,
        "--workers",
        1,
        "--store",
        folder / "runs",
    ]
    said = command(capsys, "lottery", folder / "tiny.py", *words, "--figure", folder / "lottery.svg")
    assert said.code == 0, said.err
    assert f"figure: {folder / 'lottery.svg'}" in said.out.replace("\n", "")
    assert "<svg" in (folder / "lottery.svg").read_text()


def test_both_rates_train_everything_alike_but_for_the_rate(compared: tuple[Path, str]) -> None:
    folder, _ = compared
    recipes = [dict(rows.study.recipe) for rows in sc.read(folder / "runs")]
    assert {recipe.pop("lr") for recipe in recipes} == {0.1, 0.01}
    assert recipes[0] == recipes[1]
    for rows in sc.read(folder / "runs"):
        for row in rows:
            if row.arm in ("lottery-init", "another-init", "fresh-init") or row.method == "imp-global":
                assert row.recipe["lr"] == rows.study.recipe["lr"]


def test_a_comparison_with_runs_that_failed_is_drawn_and_ends_with_exit_code_1(tmp_path: Path, capsys: Capture) -> None:
    text = TASK_FILE.replace(
        "    return nn.Sequential(nn.Linear(4, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))\n",
        "    net = nn.Sequential(nn.Linear(4, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))\n"
        "    net.register_forward_pre_hook(accident)\n"
        "    return net\n\n\n"
        "def accident(net, inputs):\n"
        "    net.steps = getattr(net, 'steps', 0) + net.training\n"
        "    if net.steps > 3 and len(net[0].weight) == 3:\n"
        "        raise RuntimeError('half of the neurons')\n",
    )
    words = ["--rates", "0.1,0.01", "--seeds", 2, "--rounds", 1, "--workers", 1, "--store", tmp_path / "runs"]
    said = command(capsys, "lottery", write_task(tmp_path, text), *words, "--figure", tmp_path / "lottery.svg")
    assert said.code == 1, said.err
    failed = [row for rows in sc.read(tmp_path / "runs") for row in rows if row.status == "failed"]
    assert {(row.method, row.message) for row in failed} == {("l1-filters", "RuntimeError: half of the neurons")}
    assert said.err.strip().endswith(f"{len(failed)} runs failed; the same command tries again")
    assert "figure: " in said.out
    assert (tmp_path / "lottery.svg").exists()


@pytest.mark.parametrize(
    ("rates", "sentence"),
    [
        ("0.1", "two or more different positive learning rates"),
        ("0.1,0.1", "two or more different positive learning rates"),
        ("0.1,-1", "two or more different positive learning rates"),
        ("fast,slow", "--rates takes a list of numbers"),
    ],
)
def test_rates_that_compare_nothing_are_refused(tmp_path: Path, capsys: Capture, rates: str, sentence: str) -> None:
    said = command(capsys, "lottery", write_task(tmp_path, TASK_FILE), "--rates", rates, "--store", tmp_path / "runs")
    assert said.code == 2
    assert sentence in said.err
    assert not (tmp_path / "runs").exists()


def test_an_optimizer_of_ones_own_sets_its_rate_itself_so_there_is_nothing_to_compare() -> None:
    task = sc.Task("digits", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), sc.load_data("digits"))
    study = sc.Study(task, sc.Recipe(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)))
    with pytest.raises(ValueError, match="optimizer is your own"):
        lottery_studies(study, (0.1, 0.01))
