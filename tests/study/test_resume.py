"""Killed at any moment and finished later, a study has the rows of one that was never touched."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scratchcard.row import Rows
from scratchcard.study.study import read
from tiny_study import TASK_FILE, command, plain, write_task

SLOW = TASK_FILE.replace("steps=12", "steps=150")
SEEDS = 2
RUNS = SEEDS * (1 + 2 * 6 + 1)


class Running:
    """`scratchcard study` in a process group of its own."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        words = [sys.executable, "-m", "scratchcard", "study", "tiny.py", "--workers", str(workers)]
        words += ["--seeds", str(SEEDS)]
        words += ["--store", "runs", "--report", "report.html"]
        self.process = subprocess.Popen(
            words,
            cwd=folder,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell that runs the tests in its background has made them deaf to Ctrl-C, and children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def rows(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return sum(name.endswith(".json") for name in os.listdir(self.folder / "runs" / "rows") if name[0] != ".")
        return 0

    def wait_for(self, rows: int) -> None:
        """Until so many rows are there."""
        until = time.monotonic() + 60
        while self.rows() < rows:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until, f"{self.rows()} rows after a minute"
            time.sleep(0.01)

    def members(self) -> list[int]:
        """The living processes of its group, but for zombies."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                facts = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(facts[2]) == self.process.pid and facts[0] not in "ZX":
                    found.append(int(entry.name))
        return found

    def all_gone(self) -> bool:
        """Whether nobody of its group is left, at the latest after some seconds: the last ones go by themselves."""
        until = time.monotonic() + 20
        while self.members() and time.monotonic() < until:
            time.sleep(0.1)
        return not self.members()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@contextlib.contextmanager
def study_process(folder: Path, workers: int = 2) -> Iterator[Running]:
    running = Running(folder, workers)
    try:
        yield running
    finally:
        running.end()


def study_of(folder: Path) -> Rows:
    (rows,) = read(folder / "runs")
    return rows


def finish(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Finish (or run) the study, in this process."""
    words = ["--workers", 1, "--seeds", SEEDS, "--store", folder / "runs", "--report", folder / "report.html"]
    said = command(capsys, "study", folder / "tiny.py", *words)
    assert said.code == 0, said.err


def test_killed_twice_and_stopped_once_a_study_has_the_rows_of_one_that_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All is killed; then the parent alone, and its workers end by themselves; then Ctrl-C, which says what it did.

    Each time the next begins at once: what the killed ones had claimed is free.
    """
    untouched, stopped = tmp_path / "untouched", tmp_path / "stopped"
    for folder in (untouched, stopped):
        folder.mkdir()
        write_task(folder, SLOW)
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the moments: {seed}")
    chance = random.Random(seed)

    def some_rows(running: Running) -> None:
        running.wait_for(running.rows() + chance.randrange(1, 4))
        time.sleep(chance.uniform(0, 0.05))

    with study_process(stopped, workers=1) as running:
        some_rows(running)
    with study_process(stopped) as running:
        some_rows(running)
        assert len(running.members()) >= 3, "a parent and two workers"
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        assert running.all_gone(), "a worker outlived its parent"
    with study_process(stopped) as running:
        some_rows(running)
        os.killpg(running.process.pid, signal.SIGINT)
        before = running.rows()
        out, err = running.process.communicate(timeout=60)
        assert running.process.returncode == 130, err
        assert "finished runs are safe and the same command continues" in err
        assert "Traceback" not in out + err, err
        assert running.all_gone(), "a process outlived the program"
    assert 3 <= before <= running.rows() < RUNS, "stopped while it ran"
    assert all(row.status == "done" for row in study_of(stopped))
    finish(untouched, capsys)
    finish(stopped, capsys)
    assert plain(study_of(untouched)) == plain(study_of(stopped))
    assert len(study_of(stopped)) == RUNS
    assert not list(stopped.rglob(".*.part"))
    assert not list((stopped / "runs" / "claims").iterdir())


@pytest.mark.heavy
def test_killed_twenty_times_at_any_moment_of_its_life(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the first import to the last row; started over from nothing whenever it got to its end."""
    untouched, killed = tmp_path / "untouched", tmp_path / "killed"
    for folder in (untouched, killed):
        folder.mkdir()
        write_task(folder, SLOW)
    finish(untouched, capsys)
    wanted = plain(study_of(untouched))
    began = time.monotonic()
    with study_process(untouched) as running:
        running.process.wait()
    idle = time.monotonic() - began
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the moments: {seed}")
    chance = random.Random(seed)
    moments = []
    for _ in range(20):
        with study_process(killed) as running:
            moments.append(round(chance.uniform(0.3, 1.3) * idle, 2))
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(moments[-1])
        done = {row["id"]: row for row in wanted}
        if (killed / "runs" / "studies").exists():
            for row in plain(study_of(killed)):
                assert row == done[row["id"]], f"after {moments}"
    print(f"killed after {moments} s, {running.rows()} of {RUNS} rows")
    finish(killed, capsys)
    assert plain(study_of(killed)) == wanted
