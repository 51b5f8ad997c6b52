"""A store keeps what was written, says when it was damaged, and is never half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scratchcard.methods.imp import IMP
from scratchcard.row import Artefact, Row
from scratchcard.study.store import Damaged, Store, StoreError
from scratchcard.study.study import read
from tiny_study import plain, started, tiny_study


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The store of a finished study."""
    folder = tmp_path / "runs"
    started(tiny_study(folder, arms=["fresh-init"]))
    return folder


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
    facts, read_back = store.ticket("a")
    assert facts == {"seed": 1}
    assert torch.equal(read_back["w"], torch.from_numpy(mask))


@given(values=st.lists(st.floats(width=32), min_size=0, max_size=5))
def test_a_snapshot_is_read_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    state = {"w": torch.tensor(values), "n": torch.tensor(3)}
    found = store.tensors(store.write_snapshot("a", 7, state))
    assert found["w"].numpy().tobytes() == state["w"].numpy().tobytes()
    assert torch.equal(found["n"], state["n"])


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    spoilt = {
        "truncated": content[:middle],
        "emptied": b"",
        "one bit flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "binary": bytes(range(256)),
        "a number": b"5",
        "a list": b"[1]",
        "null": b"null",
    }[how]
    path.write_bytes(spoilt)


JSON = ["truncated", "emptied", "binary", "a number", "a list", "null"]


def of(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


@pytest.mark.parametrize("how", JSON)
@pytest.mark.parametrize("pattern", ["rows/*.json", "studies/*.json", "store.json"])
def test_a_damaged_record_is_named_in_one_sentence(finished: Path, pattern: str, how: str) -> None:
    path = of(finished, pattern)
    spoil(path, how)
    with pytest.raises(Damaged, match=path.name) as told:
        read(finished)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("how", JSON)
def test_a_damaged_ticket_is_named_in_one_sentence(finished: Path, how: str) -> None:
    path = of(finished, "tickets/*.json")
    spoil(path, how)
    with pytest.raises(Damaged, match=path.name) as told:
        Store(finished).ticket(path.stem)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("missing", ["prunable", "start", "start_step", "search_flops", "mask_digest"])
def test_a_ticket_without_one_of_its_facts_is_damaged(finished: Path, missing: str) -> None:
    path = of(finished, "tickets/*.json")
    facts = json.loads(path.read_text())
    del facts[missing]
    path.write_text(json.dumps(facts))
    study = tiny_study(finished, arms=["fresh-init", "random-mask-layerwise"])
    try:
        study.run(workers=1, progress=False)
    except Damaged:
        return
    assert Store(finished).ticket(path.stem)[0].keys() >= {missing}, "it was neither refused nor repaired"


@pytest.mark.parametrize("how", ["truncated", "emptied", "one bit flipped"])
@pytest.mark.parametrize("pattern", ["tickets/*.safetensors", "snapshots/*/*.safetensors"])
def test_a_damaged_tensor_file_is_refused_with_what_to_do(finished: Path, pattern: str, how: str) -> None:
    spoil(of(finished, pattern), how)
    before = {name: content for name, content in everything(finished).items() if name.startswith("rows")}
    with pytest.raises(Damaged, match=r"other bytes than were written .* delete rows/"):
        tiny_study(finished, methods=[IMP(rounds=2)]).run(workers=1, progress=False)
    assert before.items() <= everything(finished).items(), "finished rows are untouched"


def test_following_the_advice_repairs_the_store(finished: Path) -> None:
    whole = plain(tiny_study(finished, arms=["fresh-init"]).rows())
    snapshot = of(finished, "snapshots/*/*.safetensors")
    spoil(snapshot, "truncated")
    run = snapshot.parent.name
    for kind in ("rows", "tickets"):
        (finished / kind / f"{run}.json").unlink(missing_ok=True)
    started(tiny_study(finished, arms=["fresh-init"]))
    assert plain(tiny_study(finished, arms=["fresh-init"]).rows()) == whole


@pytest.mark.parametrize("file", ["../outside", "/etc/hostname", "snapshots/../../outside", "x", "", "a\0b"])
def test_a_file_that_a_row_names_never_leads_out_of_the_store(finished: Path, file: str) -> None:
    (finished.parent / "outside").write_text("secret")
    with pytest.raises(Damaged):
        Store(finished).tensors(Artefact(file=file, sha256="0"))


def test_a_row_that_was_made_to_name_a_file_outside_stops_the_study_in_a_sentence(finished: Path) -> None:
    path = next(path for path in (finished / "rows").iterdir() if '"arm": "dense"' in path.read_text())
    row = json.loads(path.read_text())
    for artefact in row["artefacts"].values():
        artefact["file"] = "../../etc/passwd"
    path.write_text(json.dumps(row))
    with pytest.raises(Damaged, match="outside of itself"):
        tiny_study(finished, methods=[IMP(rounds=2)]).run(workers=1, progress=False)


def test_a_row_under_another_runs_name_is_damaged(finished: Path) -> None:
    one, other = sorted((finished / "rows").iterdir())[:2]
    one.write_bytes(other.read_bytes())
    with pytest.raises(Damaged, match="another run"):
        read(finished)


@pytest.mark.parametrize("content", ['{"format": 2}', '{"format": "2"}', '{"format": null}', '{"format": 0}', "{}"])
def test_a_store_of_another_version_is_refused(finished: Path, content: str) -> None:
    (finished / "store.json").write_text(content)
    before = everything(finished)
    with pytest.raises(StoreError, match="format"):
        Store(finished)
    assert everything(finished) == before


def test_a_row_of_a_newer_version_or_with_unknown_fields_is_refused(finished: Path) -> None:
    path = of(finished, "rows/*.json")
    row = json.loads(path.read_text())
    for change in ({"format": 2}, {"surprise": 1}, {"density": 2.0}):
        path.write_text(json.dumps(row | change))
        with pytest.raises(Damaged):
            read(finished)


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


def test_leftovers_of_a_killed_writer_are_cleared_and_never_read(finished: Path) -> None:
    before = everything(finished)
    gone = subprocess.Popen(["true"])
    gone.wait()
    for folder in ("rows", "tickets", "snapshots/x", "."):
        (finished / folder).mkdir(exist_ok=True)
        (finished / folder / f".a.json.{gone.pid}.part").write_text("half")
    assert len(read(finished)[0]) == 5
    started(tiny_study(finished, arms=["fresh-init"]))
    assert everything(finished).keys() == before.keys()


def test_a_second_study_that_begins_leaves_what_the_first_is_writing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fsync = os.fsync

    def meanwhile(handle: int) -> None:
        fsync(handle)
        Store(tmp_path).clear_leftovers()

    with mock.patch("os.fsync", meanwhile):
        store.write_snapshot("a", 0, {"w": torch.zeros(1)})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("where", ["builtins.open", "os.fsync", "os.replace"])
@pytest.mark.parametrize("after", [0, 4, 9])
def test_a_disk_that_fails_at_any_write_costs_one_sentence_and_no_row(
    tmp_path: Path, number: int, where: str, after: int
) -> None:
    started(tiny_study(tmp_path, arms=[]))
    before = everything(tmp_path)
    real, left = {"builtins.open": open, "os.fsync": os.fsync, "os.replace": os.replace}[where], [after]

    def failing(*arguments: Any, **options: Any) -> Any:
        if where == "builtins.open" and "w" not in str(arguments[1:]):
            return real(*arguments, **options)
        left[0] -= 1
        if left[0] < 0:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    study = tiny_study(tmp_path, methods=[IMP(rounds=2)])
    with mock.patch(where, failing), pytest.raises(StoreError) as told:
        study.run(workers=1, progress=False)
    assert len(str(told.value).splitlines()) == 1
    assert "cannot be written" in str(told.value)
    now = everything(tmp_path)
    assert {name for name in before if name.startswith("rows/")} <= now.keys()
    assert not [name for name in now if name.endswith(".part")], "nothing half-written is left"
    for name in now:
        if name.startswith("rows/"):
            Row.model_validate_json(now[name])
    started(study)
    assert len(study.rows()) == 1 + 2 + 10 + 1


def test_a_tickets_tensors_keep_their_order_since_random_masks_are_drawn_in_it(tmp_path: Path) -> None:
    names = [f"layer {at}" for at in (3, 1, 4, 5, 9, 2, 6)]
    store, mask = Store(tmp_path), {name: torch.ones(3, dtype=torch.bool) for name in names}
    store.write_ticket("run", {}, {**mask, "weights of layer 3": torch.ones(3)})
    for _ in range(5):
        _, read_again = store.ticket("run")
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
    with pytest.raises(StoreError, match="the disk is full: free some space"):
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


def test_several_studies_share_a_store_and_the_latest_comes_first(tmp_path: Path) -> None:
    started(tiny_study(tmp_path, arms=[], name="first"))
    started(tiny_study(tmp_path, arms=[], name="second"))
    for age, path in enumerate(sorted((tmp_path / "studies").iterdir(), key=lambda path: "second" in path.read_text())):
        os.utime(path, (1000 + age, 1000 + age))
    assert [rows.study.name for rows in read(tmp_path)] == ["second", "first"]
    assert plain(read(tmp_path)[0]) == plain(read(tmp_path)[1])
