"""Processes and machines that share a store train nothing twice, wait for nobody who is gone, and never for each other.

Other machines and containers are played by processes, or by claims, that say they are elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from scratchcard.methods.arms import FreshInit
from scratchcard.study import agenda, claims, place, workers
from scratchcard.study.agenda import Agenda
from scratchcard.study.claims import Claims
from scratchcard.study.jobs import Chain
from scratchcard.study.store import Store
from scratchcard.study.study import Study, read
from tiny_study import plain, started, tiny_study


def elsewhere() -> AbstractContextManager[object]:
    """As a process of another machine."""
    return mock.patch.object(place, "host", return_value="another machine")


@pytest.fixture
def clock() -> Iterator[list[float]]:
    """The monotonic clock of this process, to be put forward by hand."""
    now = [1000.0]
    with mock.patch("time.monotonic", side_effect=lambda: now[0]):
        yield now


def test_a_claim_is_held_by_one_and_free_when_given_up(tmp_path: Path) -> None:
    one, other = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    with one.of("a") as mine, other.of("a") as others, other.of("b") as another:
        assert (mine, others, another) == (True, False, True)
    with other.of("a") as others:
        assert others
    assert not list((tmp_path / "claims").iterdir())


@pytest.mark.parametrize("asked_about", [True, False])
def test_the_claim_of_a_process_that_ended_here_is_free_at_once(tmp_path: Path, asked_about: bool) -> None:
    gone = subprocess.Popen(["true"])
    if asked_about:
        gone.wait()
    else:  # it keeps its id until then
        os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
    with ExitStack() as killed:
        with mock.patch("os.getpid", return_value=gone.pid):
            killed.enter_context(Claims(tmp_path).of("a"))
        with Claims(tmp_path).of("a") as mine:
            assert mine
        with elsewhere(), Claims(tmp_path).of("a") as theirs:
            assert theirs, "it was given up"
    gone.wait()


def test_the_same_process_id_in_another_container_is_another_process(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with ExitStack() as living:
        with (
            mock.patch("os.getpid", return_value=gone.pid),
            mock.patch.object(place, "_namespace", return_value="pid:[7]"),
        ):
            living.enter_context(Claims(tmp_path).of("a"))
        with Claims(tmp_path).of("a") as mine:
            assert not mine
        Claims(tmp_path).clear()
        assert list(tmp_path.iterdir())


@pytest.mark.parametrize("beats", [True, False])
@pytest.mark.parametrize("content", [None, b"", b"half of a cla"])
def test_a_claim_of_elsewhere_is_free_once_it_has_not_beaten_for_a_while(
    tmp_path: Path, clock: list[float], beats: bool, content: bytes | None
) -> None:
    """Times of files play no part: they are set back here, as by a clock that was."""
    with ExitStack() as other:
        with elsewhere():
            other.enter_context(Claims(tmp_path).of("a"))
        (path,) = tmp_path.iterdir()
        if content is not None:
            path.write_bytes(content)
        here, free = Claims(tmp_path), []
        for _ in range(4):
            with here.of("a") as mine:
                free.append(mine)
            clock[0] += claims.WINDOW / 2
            if beats and path.exists():
                path.write_bytes(path.read_bytes() + b" ")
            if path.exists():
                os.utime(path, (0, 0))
        assert free == ([False] * 4 if beats else [False, False, True, True])


def test_a_held_claim_beats_and_one_that_was_taken_over_is_left_to_its_new_holder(tmp_path: Path) -> None:
    beaten = threading.Event()

    def sleep(_: float) -> None:
        if not beaten.wait(0.01) and path.exists() and path.read_bytes().endswith(b"   "):
            beaten.set()

    path = tmp_path / "a.json"
    with mock.patch("scratchcard.study.claims.time.sleep", sleep), Claims(tmp_path).of("a") as mine:
        assert mine
        assert beaten.wait(20), "three beats"
        path.unlink()
        path.write_bytes(b"somebody else's")
    assert path.read_bytes() == b"somebody else's"


def test_a_disk_that_knows_no_claims_is_worked_on_without(tmp_path: Path) -> None:
    with mock.patch("os.open", side_effect=OSError(95, "Operation not supported")):
        with Claims(tmp_path).of("a") as one, Claims(tmp_path).of("a") as other:
            assert (one, other) == (True, True)
        with mock.patch("os.open", side_effect=FileNotFoundError), Claims(tmp_path / "x").of("a") as third:
            assert third


def test_what_is_elsewhere_is_passed_over_and_given_out_again_after_a_pause(clock: list[float]) -> None:
    jobs = Agenda({"dense 0": ["chain 0"], "dense 1": ["chain 1"]}, {"ticket": ["control"]})
    assert [jobs.take(), jobs.take(), jobs.take()] == ["dense 0", "dense 1", None]
    jobs.is_elsewhere("dense 0")
    jobs.ended("dense 1")
    assert jobs.waits == 0
    assert [jobs.take(), jobs.take()] == ["chain 1", None]
    jobs.found(["ticket", "another"])
    assert [jobs.take(), jobs.take()] == ["control", None]
    jobs.ended("chain 1")
    jobs.ended("control")
    assert (jobs.waits, jobs.over) == (1, False)
    clock[0] += agenda.PAUSE
    assert jobs.take() == "dense 0"
    jobs.ended("dense 0")
    assert jobs.take() == "chain 0"
    jobs.ended("chain 0")
    assert jobs.over


def test_two_commands_that_share_a_store_train_nothing_twice(tmp_path: Path) -> None:
    """The first finds a dense training claimed, does all else, and waits; meanwhile the other does the rest."""

    def study(folder: Path) -> Study:
        return tiny_study(folder, arms=[FreshInit(1)], seeds=2)

    expected = started(study(tmp_path / "alone"))
    shared = study(tmp_path / "shared")
    claimed, by_the_other = ExitStack(), []
    last_dense = [spec for spec in shared._specs() if spec.method is None][-1]

    def waiting(_: float) -> None:
        claimed.close()
        if not by_the_other:
            by_the_other.append(0)
            by_the_other[0] = started(study(tmp_path / "shared"))

    Store(tmp_path / "shared")
    with elsewhere():
        claimed.enter_context(Claims(tmp_path / "shared" / "claims").of(last_dense.id))
    with mock.patch.object(workers, "time", SimpleNamespace(sleep=waiting)), mock.patch.object(agenda, "PAUSE", 0.5):
        by_this = started(shared)
    assert by_this == expected, "the mock counts what is trained within its block, by whomever"
    assert by_the_other == [expected // 2]
    assert plain(read(tmp_path / "shared")[0]) == plain(read(tmp_path / "alone")[0])
    assert not list((tmp_path / "shared" / "claims").iterdir())


def test_what_a_killed_command_was_at_is_taken_over(tmp_path: Path) -> None:
    """It had claimed the chain, and one on another machine a control; neither comes again."""
    study = tiny_study(tmp_path, arms=["fresh-init"])
    store = Store(tmp_path)
    gone = subprocess.Popen(["true"])
    gone.wait()
    dense, chain = study._specs()[0].id, study._specs()[1]
    held = Claims(tmp_path / "claims")
    with ExitStack() as claimed:
        with mock.patch("os.getpid", return_value=gone.pid):
            claimed.enter_context(held.of(Chain((chain,)).claim))
        with elsewhere():
            claimed.enter_context(held.of(dense))
        with mock.patch.object(claims, "WINDOW", 0.2), mock.patch.object(agenda, "PAUSE", 0.05):
            assert started(study) == 1 + 1 + 3
    assert store.row_ids() == {spec.id for spec in study._specs()}
