"""`report --figures` writes every figure beside the report and lists what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_study import command, write_task

Capture = pytest.CaptureFixture[str]


def test_figures_are_written_beside_the_report_and_listed(tmp_path: Path, capsys: Capture) -> None:
    study = ["study", write_task(tmp_path), "--workers", 1, "--seeds", 2, "--controls", "none"]
    command(capsys, *study, "--store", tmp_path / "runs", "--report", tmp_path / "r.html")
    report = ["report", tmp_path / "runs", "--report", tmp_path / "again.html"]
    said = command(capsys, *report, "--figures", "svg")
    assert said.code == 0, said.err
    folder = tmp_path / "again-figures"
    assert f"figures in {folder}:" in said.out
    listed = [line.strip() for line in said.out.splitlines() if line.endswith(".svg")]
    assert sorted(listed) == sorted(path.name for path in folder.iterdir())
    assert {"imp_metric.svg", "imp_arms.svg", "imp_layers.svg", "imp_initial-weights.svg"} <= set(listed)

    (tmp_path / "again.html").unlink()
    said = command(capsys, *report, "--figures", "jpg")
    assert said.is_one_sentence("unknown format of figures 'jpg'", "known: pdf, png, svg")
    assert not (tmp_path / "again.html").exists(), "a mistake is told before anything is written"
