"""A store keeps what was written, says when it was damaged, and is never half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scratchcard.methods.imp import IMP
from scratchcard.row import Artefact, Frozen
from scratchcard.study import disk
from scratchcard.study.disk import write_whole
from scratchcard.study.place import place
from scratchcard.study.sealed import seal, unseal
from scratchcard.study.store import Damaged, Gone, Store, StoreError
from scratchcard.study.study import read
from tiny_study import plain, started, tiny_study

ARMS = ["fresh-init"]


class Seeded(Frozen):
    """The facts of a ticket, where only one matters."""

    seed: int = 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a finished study; never to be touched."""
    folder = tmp_path_factory.mktemp("whole") / "runs"
    started(tiny_study(folder, arms=ARMS))
    return folder


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> Path:
    """The store of a finished study, to be spoilt."""
    return Path(shutil.copytree(whole, tmp_path / "runs"))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_no_pickle_and_nothing_half_written_is_in_a_store(finished: Path) -> None:
    kinds = {path.suffix for path in finished.rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors"}
    assert not list(finished.rglob(".*"))


@given(mask=arrays.arrays(bool, arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=7)))
def test_a_ticket_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, mask: Any) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    store.write_ticket("a", {"seed": 1}, {"w": torch.from_numpy(mask)})
    facts, read_back = store.ticket("a", Seeded)
    assert facts == Seeded(seed=1)
    assert torch.equal(read_back["w"], torch.from_numpy(mask))


@given(values=st.lists(st.floats(width=32), min_size=0, max_size=5))
def test_a_snapshot_is_read_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    state = {"w": torch.tensor(values), "n": torch.tensor(3)}
    found = store.tensors(store.write_snapshot("a", 7, state))
    assert found["w"].numpy().tobytes() == state["w"].numpy().tobytes()
    assert torch.equal(found["n"], state["n"])


def of(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def reworded(change: Callable[[dict[str, Any]], Any], sealed: bool = False) -> Callable[[Path], None]:
    """What a record says, changed by hand; `sealed`: with the digest of what it says then."""

    def edit(path: Path) -> None:
        values = json.loads(path.read_text())
        change(values)
        if sealed:
            values.pop("digest")
        path.write_bytes(seal(json.dumps(values)) if sealed else json.dumps(values).encode())

    return edit


def spoil(how: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        content = path.read_bytes()
        middle = len(content) // 2
        spoilt = {
            "truncated": content[:middle],
            "emptied": b"",
            "one bit flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "binary": bytes(range(256)),
            "a number": b"5",
            "a list": b"[1]",
            "nested": b"[" * 100_000,
        }
        path.write_bytes(spoilt[how])

    return edit


SPOILT = {how: spoil(how) for how in ("truncated", "emptied", "binary", "a number", "a list", "nested")}
ROW = SPOILT | {
    "a digit of the result": reworded(lambda row: row.update(train_flops=row["train_flops"] + 1)),
    "a field more": reworded(lambda row: row.update(surprise=1)),
    "a field less": reworded(lambda row: row.pop("trained_steps")),
    "its digest gone": reworded(lambda row: row.pop("digest")),
    "another run's": lambda path: path.write_bytes(next(p for p in path.parent.iterdir() if p != path).read_bytes()),
}


@pytest.mark.parametrize("how", ROW)
def test_a_damaged_row_is_set_aside_with_a_sentence_and_its_run_done_again(
    finished: Path, whole: Path, how: str
) -> None:
    path = of(finished, "rows/*.json")
    ROW[how](path)
    damaged = path.read_bytes()
    with pytest.warns(UserWarning, match=f"{path.name} is not as it was written .* set aside in .*damaged") as told:
        assert len(read(finished)[0]) == len(read(whole)[0]) - 1
    assert len(told) == 1
    assert not path.exists()
    assert [kept.read_bytes() for kept in (finished / "damaged" / "rows").iterdir()] == [damaged]
    assert started(tiny_study(finished, arms=ARMS)) == 1
    assert plain(read(finished)[0]) == plain(read(whole)[0])


TICKET = SPOILT | {
    "what its training changes": reworded(lambda facts: facts.update(changes={"lr": 0.5})),
    "a fact less": reworded(lambda facts: facts.pop("prunable")),
    "a fact less, and the digest of the rest": reworded(lambda facts: facts.pop("digest") and facts.pop("start")),
    "its mask cut short": lambda path: spoil("truncated")(path.with_suffix(".safetensors")),
    "a bit of its mask": lambda path: spoil("one bit flipped")(path.with_suffix(".safetensors")),
    "its mask gone": lambda path: path.with_suffix(".safetensors").unlink(),
}


@pytest.mark.parametrize("how", TICKET)
def test_a_damaged_ticket_is_found_again_where_a_control_needs_it(finished: Path, whole: Path, how: str) -> None:
    path = of(finished, "tickets/*.json")
    TICKET[how](path)
    of_controls = [run for run in Store(finished).row_ids() if Store(finished).row(run).arm == "fresh-init"]  # pyright: ignore
    for run in of_controls:
        (finished / "rows" / f"{run}.json").unlink()
    with pytest.warns(UserWarning, match=f"{path.stem}.* again"):
        assert started(tiny_study(finished, arms=ARMS)) == len(of_controls)
    assert plain(read(finished)[0]) == plain(read(whole)[0])
    assert {name for name in everything(finished) if "damaged" not in name} == everything(whole).keys()


def test_a_ticket_that_was_set_aside_is_found_again_though_nothing_needs_it(finished: Path, whole: Path) -> None:
    path = of(finished, "tickets/*.json")
    spoil("emptied")(path)
    with pytest.raises(Damaged, match=r"set aside .* the study's command does its run again"):
        Store(finished).ticket(path.stem, Seeded)
    with pytest.raises(Gone, match="not there"):
        Store(finished).ticket(path.stem, Seeded)
    assert len(tiny_study(finished, arms=ARMS).plan().missing) == 1
    assert started(tiny_study(finished, arms=ARMS)) == 0
    assert path.read_bytes() == (whole / path.relative_to(finished)).read_bytes()


@pytest.mark.parametrize("how", ["truncated", "emptied", "one bit flipped"])
def test_a_damaged_snapshot_is_trained_again_bit_for_bit(finished: Path, whole: Path, how: str) -> None:
    for path in finished.glob("snapshots/*/*.safetensors"):
        spoil(how)(path)
    study = tiny_study(finished, methods=[IMP(rounds=2)], arms=ARMS)
    with pytest.warns(UserWarning, match=r"other bytes than were written.* set aside"):
        assert started(study) == 2 + 4, "dense network and first ticket again, and all of the second round"
    for path in whole.glob("snapshots/*/*.safetensors"):
        assert (finished / path.relative_to(whole)).read_bytes() == path.read_bytes()
    # the rows say by how many rounds the method was asked this time; all that was measured is the same
    again = {row["id"]: row for row in plain(read(finished)[0])}
    assert all(row == {**again[row["id"]], "method_fields": row["method_fields"]} for row in plain(read(whole)[0]))


@pytest.mark.parametrize("how", [*SPOILT, "a digit", "another study's"])
def test_a_damaged_declaration_is_set_aside_and_declared_again(finished: Path, whole: Path, how: str) -> None:
    path = of(finished, "studies/*.json")
    if how == "another study's":
        path = path.rename(path.with_name("other.json"))
    else:
        (SPOILT | {"a digit": reworded(lambda study: study["spec"].update(margin=0.4))})[how](path)
    with pytest.warns(UserWarning, match=f"{path.name} is not as it was written"):
        assert read(finished) == []
    assert started(tiny_study(finished, arms=ARMS)) == 0
    assert [rows.study for rows in read(finished)] == [rows.study for rows in read(whole)]


@pytest.mark.parametrize(
    "how", [*SPOILT, '{"format": "1"}', '{"format": null}', '{"format": 0}', "{}", "a bit", "a bit of a name"]
)
def test_a_damaged_beginning_of_a_store_is_written_again(finished: Path, whole: Path, how: str) -> None:
    path = finished / "store.json"
    content = path.read_bytes()
    if how in SPOILT:
        SPOILT[how](path)
    else:
        bits = {"a bit": (b'"format": 1', b'"format": 3'), "a bit of a name": (b'"digest"', b'"dkgest"')}
        path.write_bytes(content.replace(*bits[how]) if how in bits else how.encode())
    with pytest.warns(UserWarning, match="store.json is not as it was written .* written again"):
        assert plain(read(finished)[0]) == plain(read(whole)[0])
    assert path.read_bytes() == content


NEWER = {
    "rows/*.json": lambda row: row.update(surprise=1),
    "studies/*.json": lambda study: study["spec"].update(surprise=1),
    "tickets/*.json": lambda facts: facts.update(surprise=1),
}


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("pattern", [*NEWER, "store.json"])
def test_what_a_newer_scratchcard_wrote_is_left_alone_and_said(finished: Path, pattern: str, sealed: bool) -> None:
    """A field that is not known under the right digest, or a later format."""
    if sealed and pattern in NEWER:
        change = NEWER[pattern]
    else:
        change = lambda record: (record.update(format=2), sealed or record.pop("digest"))  # noqa: E731
    reworded(change, sealed)(of(finished, pattern))
    before = everything(finished)
    study = tiny_study(finished, arms=["random-mask-layerwise"])
    with pytest.raises(StoreError, match=r"written by a newer scratchcard .*; install it"):
        [study.run(workers=1, progress=False), read(finished)]
    assert before.items() <= everything(finished).items()


def test_a_row_of_the_first_version_has_no_digest(finished: Path) -> None:
    path = of(finished, "rows/*.json")
    reworded(lambda row: (row.pop("digest"), row.pop("version"), row.pop("found")))(path)
    assert Store(finished).older() == 1
    assert path.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ENOMEM])
@pytest.mark.parametrize("pattern", ["rows/*.json", "tickets/*.json", "tickets/*.safetensors", "studies/*.json"])
def test_what_the_system_does_not_give_is_not_damaged(finished: Path, number: int, pattern: str) -> None:
    path, real = of(finished, pattern), Path.read_bytes

    def failing(asked: Path) -> bytes:
        if asked == path:
            raise OSError(number, os.strerror(number))
        return real(asked)

    before = everything(finished)
    with (
        mock.patch.object(Path, "read_bytes", failing),
        pytest.raises(StoreError, match=f"the system says: {os.strerror(number)}; nothing was changed") as told,
    ):
        tiny_study(finished, arms=["random-mask-layerwise"]).run(workers=1, progress=False)
    assert not isinstance(told.value, Damaged)
    assert before.items() <= everything(finished).items()


def test_a_stale_handle_of_a_share_is_asked_for_again(finished: Path) -> None:
    real, asked = Path.read_bytes, []

    def stale(path: Path) -> bytes:
        asked.append(path)
        if asked.count(path) == 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(path)

    with mock.patch.object(Path, "read_bytes", stale):
        assert len(read(finished)[0]) == 5


def test_a_good_row_that_another_process_has_just_written_again_is_not_set_aside(finished: Path) -> None:
    path = of(finished, "rows/*.json")
    good = path.read_bytes()
    spoil("truncated")(path)
    move = shutil.move

    def late(source: Path, target: Path) -> None:
        if "damaged" not in str(source):
            path.write_bytes(good)
        move(source, target)

    with mock.patch("shutil.move", late), pytest.warns(UserWarning, match="set aside"):
        Store(finished).row(path.stem)
    assert path.read_bytes() == good


@pytest.mark.parametrize("file", ["../outside", "/etc/hostname", "snapshots/../../outside", "", "a\0b"])
def test_a_file_that_a_row_names_never_leads_out_of_the_store(finished: Path, file: str) -> None:
    (finished.parent / "outside").write_text("secret")
    with pytest.raises(StoreError, match="outside of itself"):
        Store(finished).tensors(Artefact(file=file, sha256="0"))


@pytest.mark.parametrize("kind", ["rows", "tickets", "snapshots", "studies"])
def test_a_folder_of_the_store_may_lie_elsewhere_by_a_link(finished: Path, whole: Path, kind: str) -> None:
    shutil.move(finished / kind, finished.parent / "big")
    (finished / kind).symlink_to("../big")
    assert started(tiny_study(finished, arms=ARMS)) == 0
    assert started(tiny_study(finished, methods=[IMP(rounds=2)], arms=[])) == 1
    spoil("emptied")(of(finished, "rows/*.json"))
    with pytest.warns(UserWarning, match="set aside"):
        assert started(tiny_study(finished, arms=ARMS)) <= 1
    assert {row["id"] for row in plain(read(whole)[0])} <= Store(finished).row_ids()


BEGUN = {
    "killed while it was begun": (".store.json.99999.part", b'{"form'),
    "killed, with letters": (f".store.json.{place()}.99999.0a1b2c3d.part", b""),
}


@pytest.mark.parametrize("how", BEGUN)
def test_a_store_that_was_killed_while_it_was_begun_is_begun_again(tmp_path: Path, how: str) -> None:
    name, content = BEGUN[how]
    (tmp_path / name).write_bytes(content)
    Store(tmp_path)
    assert Store(tmp_path, create=False).row_ids() == set()


def test_a_store_that_another_process_begins_at_the_same_moment_is_its_store_too(tmp_path: Path) -> None:
    real = os.listdir

    def meanwhile(path: Any) -> list[str]:
        with mock.patch("os.listdir", real):
            Store(tmp_path).write_study("one", tiny_study(tmp_path).spec, [])
        return real(path)

    with mock.patch("os.listdir", meanwhile):
        store = Store(tmp_path)
    assert len(store.studies()) == 1


def test_a_folder_with_other_things_a_file_and_a_missing_folder_are_no_stores(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("important")
    (tmp_path / "file").write_text("important")
    with pytest.raises(StoreError, match="holds other things"):
        Store(tmp_path / "full")
    with pytest.raises(StoreError, match="another folder"):
        Store(tmp_path / "file")
    for name in ("full", "file", "missing"):
        with pytest.raises(StoreError, match="not a store"):
            read(tmp_path / name)
    assert (tmp_path / "file").read_text() == (tmp_path / "full" / "thesis.tex").read_text() == "important"
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("kind", ["rows", "tickets", "store.json"])
def test_a_folder_where_a_file_should_be_is_one_sentence(finished: Path, kind: str) -> None:
    path = finished / kind if kind.endswith("json") else of(finished, f"{kind}/*.json")
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError):
        tiny_study(finished, arms=["fresh-init", "random-mask-layerwise"]).run(workers=1, progress=False)


def test_leftovers_of_killed_writers_are_cleared_and_never_read(finished: Path) -> None:
    before = everything(finished)
    gone = subprocess.Popen(["true"])
    gone.wait()
    for folder in ("rows", "tickets", "snapshots/x", "."):
        (finished / folder).mkdir(exist_ok=True)
        (finished / folder / f".a.json.{place()}.{gone.pid}.0a1b2c3d.part").write_text("half")
        old = finished / folder / ".b.json.1.part"
        old.write_text("half, of some version or machine")
        os.utime(old, (time.time() - 90_000,) * 2)
    assert len(read(finished)[0]) == 5
    Store(finished).clear_leftovers()
    assert everything(finished).keys() == before.keys()


@pytest.mark.parametrize("name", ["{here}.{me}", "{here}.1", "elsewhere.{gone}", "{gone}"])
def test_what_a_living_writer_or_one_elsewhere_may_be_writing_is_left(tmp_path: Path, name: str) -> None:
    """Process ids of another machine, or of another container, say nothing here."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    words = {"here": place(), "me": os.getpid(), "gone": gone.pid}
    part = tmp_path / f".a.json.{name.format(**words)}.0a1b2c3d.part"
    part.write_text("half")
    Store(tmp_path).clear_leftovers()
    assert part.exists()


def test_a_writer_whose_file_was_taken_for_a_leftover_writes_it_again(tmp_path: Path) -> None:
    real, taken = os.fsync, []

    def cleared(handle: int) -> None:
        real(handle)
        if len(taken) < 2:
            (part,) = tmp_path.glob(".*.part")
            taken.append(part.name)
            part.unlink()

    with mock.patch("os.fsync", cleared):
        write_whole(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert len(set(taken)) == 2


def test_a_second_study_that_begins_leaves_what_the_first_is_writing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fsync = os.fsync

    def meanwhile(handle: int) -> None:
        fsync(handle)
        Store(tmp_path).clear_leftovers()

    with mock.patch("os.fsync", meanwhile):
        store.write_snapshot("a", 0, {"w": torch.zeros(1)})


FULL = errno.ENOSPC


@pytest.mark.parametrize(
    ("where", "number", "after"),
    [
        *(("os.replace", number, 3) for number in (errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO)),
        *((where, FULL, after) for where in ("builtins.open", "os.fsync", "os.replace") for after in (0, 3, 5)),
    ],
)
def test_a_disk_that_fails_at_any_write_costs_one_sentence_and_no_row(
    finished: Path, where: str, number: int, after: int
) -> None:
    before = everything(finished)
    real, left = {"builtins.open": open, "os.fsync": os.fsync, "os.replace": os.replace}[where], [after]

    def failing(*arguments: Any, **options: Any) -> Any:
        if where == "builtins.open" and "w" not in str(arguments[1:]):
            return real(*arguments, **options)
        left[0] -= 1
        if left[0] < 0:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    study = tiny_study(finished, methods=[IMP(rounds=3)], arms=[])
    with mock.patch(where, failing), pytest.raises(StoreError) as told:
        study.run(workers=1, progress=False)
    assert len(str(told.value).splitlines()) == 1
    assert "cannot be written" in str(told.value)
    now = everything(finished)
    assert before.items() <= now.items()
    assert not [name for name in now if name.endswith(".part")], "nothing half-written is left"
    assert all(unseal(content).sealed for name, content in now.items() if name.startswith("rows/"))
    started(study)
    assert len(study.rows()) == 1 + 3


def test_a_tickets_tensors_keep_their_order_since_random_masks_are_drawn_in_it(tmp_path: Path) -> None:
    names = [f"layer {at}" for at in (3, 1, 4, 5, 9, 2, 6)]
    store, mask = Store(tmp_path), {name: torch.ones(3, dtype=torch.bool) for name in names}
    store.write_ticket("run", {}, {**mask, "weights of layer 3": torch.ones(3)})
    for _ in range(5):
        _, read_again = store.ticket("run", Seeded)
        assert list(read_again) == [*names, "weights of layer 3"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 1 MB, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk, and only where the system allows it")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_real_full_disk_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    folder = small_disk / "runs"
    started(tiny_study(folder))
    before = everything(folder)
    with contextlib.suppress(OSError):
        (small_disk / "ballast").write_bytes(bytes(2**20))
    with pytest.raises(StoreError, match="the disk is full; free some space"):
        tiny_study(folder, seeds=2).run(workers=1, progress=False)
    assert before.items() <= everything(folder).items()
    (small_disk / "ballast").unlink()
    started(tiny_study(folder, seeds=2))
    started(tiny_study(tmp_path / "elsewhere", seeds=2))
    one, other = (tiny_study(where, seeds=2).rows() for where in (folder, tmp_path / "elsewhere"))
    assert plain(one) == plain(other)


def test_a_real_read_only_disk_is_one_sentence_and_can_still_be_read(small_disk: Path) -> None:
    folder = small_disk / "runs"
    started(tiny_study(folder, arms=[]))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="the disk is read-only"):
        tiny_study(folder, methods=[IMP(rounds=2)]).run(workers=1, progress=False)
    with pytest.raises(StoreError, match="the disk is read-only"):
        Store(small_disk / "new")
    assert len(read(folder)[0]) == 2


def test_the_study_that_was_declared_last_comes_first_whatever_the_clocks_say(tmp_path: Path) -> None:
    first, second = (tiny_study(tmp_path, arms=[], name=name) for name in ("first", "second"))
    started(first)
    started(second)
    for path in (tmp_path / "studies").iterdir():
        os.utime(path, (1000, 1000) if "second" in path.read_text() else None)
    assert [rows.study.name for rows in read(tmp_path)] == ["second", "first"]
    assert plain(read(tmp_path)[0]) == plain(read(tmp_path)[1])
    started(first)
    assert [rows.study.name for rows in read(tmp_path)] == ["first", "second"]
    before = everything(tmp_path)
    started(first)
    assert everything(tmp_path) == before, "nothing is written where nothing has changed"


def test_no_sentence_advises_to_delete_anything() -> None:
    for path in Path(disk.__file__).parent.glob("*.py"):
        assert "delete" not in path.read_text(), path
