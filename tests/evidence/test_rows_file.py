"""A committed file of rows says what its store said, has the same bytes each time, and tells what is wrong with it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from make_rows import make_rows
from small_study import DENSE, study

from scratchcard.evidence.report import report
from scratchcard.evidence.rows_file import leaned, read_rows, write_rows
from scratchcard.evidence.summary import markdown
from scratchcard.evidence.verdict import judge
from scratchcard.row import FORMAT, Artefact, Rows
from tiny_study import command, tiny_study

ROWS = make_rows(seeds=2, levels=3, anatomy=True)
SMALL = study({DENSE: [0.9, 0.91, 0.92], ("imp", 1, "ticket"): [0.91, 0.93, None]})


def packed(folder: Path, *lines: str) -> Path:
    """A file of these lines, whatever they are."""
    path = folder / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return path


def unpacked(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


@pytest.mark.parametrize("rows", [ROWS, SMALL, make_rows(structured=True, method=("slimming", "early-bird"), levels=1)])
def test_rows_come_back_as_they_were(rows: Rows, tmp_path: Path) -> None:
    again = read_rows(write_rows(rows, tmp_path / "rows.jsonl.gz"))
    assert again.study == rows.study
    assert list(again) == list(rows), "in the same order"
    assert str(judge(again)) == str(judge(rows))
    assert markdown(again) == markdown(rows)


def test_a_study_that_was_run_comes_back_as_its_store_has_it(tmp_path: Path) -> None:
    rows = tiny_study(tmp_path / "runs", arms=["fresh-init"]).run(workers=1, progress=False)
    again = read_rows(write_rows(rows, tmp_path / "rows.jsonl.gz"))
    assert list(again) == list(rows)
    assert again.study == rows.study


def test_a_lean_file_gives_the_same_verdict_and_the_same_report(tmp_path: Path) -> None:
    stored = [
        row.model_copy(
            update={"snapshots": {0: "1" * 64}, "artefacts": {"mask": Artefact(file="tickets/1", sha256="2" * 64)}}
        )
        for row in ROWS
    ]
    rows = Rows(stored, ROWS.study)
    again = read_rows(write_rows(rows, tmp_path / "lean.jsonl.gz", lean=True))
    assert list(again) == [leaned(row) for row in rows] != list(rows)
    assert not any(row.snapshots or row.artefacts for row in again)
    assert {row.arm for row in again if row.curve} == {"dense", "ticket"}
    assert str(judge(again)) == str(judge(rows))
    pages = [report(found, tmp_path / "report.html").read_text() for found in (rows, again)]
    assert pages[0] == pages[1]


def test_hundreds_of_runs_fit_into_three_hundred_kilobytes(tmp_path: Path) -> None:
    rows = make_rows(anatomy=True)
    assert len(rows) >= 450
    assert len(next(row.curve.steps for row in rows if row.curve)) >= 40
    assert write_rows(rows, tmp_path / "rows.jsonl.gz", lean=True).stat().st_size < 300_000


def test_the_same_rows_give_the_same_bytes_whenever_and_wherever_they_are_written(tmp_path: Path) -> None:
    first = write_rows(SMALL, tmp_path / "one.jsonl.gz").read_bytes()
    with mock.patch.object(time, "time", return_value=2_000_000_000.0):
        again = write_rows(read_rows(tmp_path / "one.jsonl.gz"), tmp_path / "deeper" / "another.gz").read_bytes()
    assert again == first
    assert b"one.jsonl" not in first


def test_defaults_are_left_out_but_the_format_is_not(tmp_path: Path) -> None:
    head, *runs = unpacked(write_rows(SMALL, tmp_path / "rows.jsonl.gz"))
    assert json.loads(head)["format"] == FORMAT
    assert "alpha" not in json.loads(head)
    assert not any({"format", "replicate", "anatomy"} & json.loads(run).keys() for run in runs)


def test_files_that_are_none_are_told_in_one_sentence_each(tmp_path: Path) -> None:
    whole = write_rows(SMALL, tmp_path / "whole.jsonl.gz")
    head, *runs = unpacked(whole)
    missing, plain, cut, changed = (tmp_path / name for name in ("missing", "plain", "cut", "changed"))
    plain.write_text("{}\n")
    cut.write_bytes(whole.read_bytes()[:-20])
    spoilt = bytearray(whole.read_bytes())
    spoilt[len(spoilt) // 2] ^= 0xFF
    changed.write_bytes(bytes(spoilt))

    def said(path: Path) -> str:
        with pytest.raises(ValueError, match=r"; (give|take|install) ") as told:
            read_rows(path)
        message = str(told.value)
        assert str(path) in message
        assert len(message.splitlines()) == 1
        return message

    assert "No such file" in said(missing)
    assert "Is a directory" in said(tmp_path)
    assert "no text packed by gzip" in said(plain)
    assert "ends too early" in said(cut)
    assert "no text packed by gzip, or has changed" in said(changed)
    assert "line 1" in said(packed(tmp_path)), "an empty one"
    assert "line 1 of" in said(packed(tmp_path, *runs)), "the declaration is missing"
    assert "line 1 of" in said(packed(tmp_path, "[1]"))
    assert "line 3 of" in said(packed(tmp_path, head, runs[0], runs[1][:-9]))
    assert "density" in said(packed(tmp_path, head, runs[0].replace('"density":1.0', '"density":2')))
    assert "line 4 of" in said(packed(tmp_path, head, *runs[:2], runs[0])), "the same run twice"
    assert "line 3 of" in said(packed(tmp_path, head, runs[0], head)), "two studies in one file"
    newer = head.replace(f'"format":{FORMAT}', f'"format":{FORMAT + 1}')
    assert f"has format {FORMAT + 1}" in said(packed(tmp_path, newer, "what was added later"))


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "rows.jsonl.gz"):
        with pytest.raises(ValueError, match=r"cannot be written: .*; give another place"):
            write_rows(SMALL, place)


def test_report_takes_a_file_as_it_takes_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tiny_study(tmp_path / "runs", arms=["fresh-init"]).run(workers=1, progress=False)
    file = write_rows(rows, tmp_path / "rows.jsonl.gz", lean=True)
    told = [
        command(capsys, "report", source, "--report", tmp_path / "r.html", "--markdown")
        for source in (tmp_path / "runs", file)
    ]
    assert told[0].code == 0, told[0].err
    assert told[1] == told[0]
    assert str(judge(rows)) in told[1].out

    said = command(capsys, "report", file, "--report", tmp_path / "r.html", "--study", "tinny")
    assert said.is_one_sentence("unknown study 'tinny'", "did you mean 'tiny'?")
    file.write_bytes(file.read_bytes()[:100])
    assert command(capsys, "report", file, "--report", tmp_path / "r.html").is_one_sentence("ends too early")
    said = command(capsys, "report", tmp_path / "none.jsonl.gz", "--report", tmp_path / "r.html")
    assert said.is_one_sentence("none.jsonl.gz cannot be read", "No such file")


def test_reading_rows_does_not_wait_for_torch(tmp_path: Path) -> None:
    path = write_rows(SMALL, tmp_path / "rows.jsonl.gz")
    code = f"import sys, scratchcard as sc; sc.judge(sc.read_rows({str(path)!r})); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
