"""Files and folders appear under their name whole or not at all, and what a kill leaves blocks nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scratchcard.atomic import folder_whole, written_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_keeps_its_old_content_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with written_whole(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.suffix == ".html"
    assert path.read_text() == "new"
    with pytest.raises(TypeError), written_whole(path) as part:
        part.write_text(json.dumps("half") and 3)  # pyright: ignore[reportArgumentType]
    assert path.read_text() == "new"
    assert names(tmp_path) == ["report.html"]


def test_a_link_is_followed_and_a_device_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.html").symlink_to(tmp_path / "real" / "page.html")
    for text in ("one", "two"):
        with written_whole(tmp_path / "link.html") as part:
            part.write_text(text)
        assert (tmp_path / "real" / "page.html").read_text() == text
    assert (tmp_path / "link.html").is_symlink()
    with written_whole(Path(os.devnull)) as part:
        part.write_text("gone")


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "a link to an empty folder"])
def test_a_folder_appears_whole(tmp_path: Path, there: str) -> None:
    folder = tmp_path / "out [1]"
    if there == "an empty folder":
        folder.mkdir()
    if there.startswith("a link"):
        (tmp_path / "other").mkdir()
        folder.symlink_to(tmp_path / "other")
    with pytest.raises(FileExistsError), folder_whole(folder) as part:
        (part / "half").mkdir() or (part / "half").mkdir()
    assert not folder.exists() or names(folder) == []
    with folder_whole(folder) as part:
        (part / "README.md").write_text("whole")
        assert not folder.exists() or names(folder) == []
    assert names(folder) == ["README.md"]
    assert not [name for name in names(tmp_path) if "part" in name]


def test_a_folder_that_holds_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for folder, told in ((tmp_path, "holds something"), (tmp_path / "mine.txt", "holds"), (Path(), "you are in")):
        with pytest.raises(ValueError, match=told), folder_whole(folder):
            pass
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_what_a_killed_writer_left_does_not_block_the_next_and_goes_when_it_is_old(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from scratchcard.atomic import folder_whole\n"
        "with folder_whole(Path(sys.argv[1])) as part:\n"
        "    (part / 'half').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")])
    assert killed.returncode < 0
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out."), "nothing under the final name"
    with folder_whole(tmp_path / "out") as part:
        (part / "README.md").write_text("whole")
    assert names(tmp_path / "out") == ["README.md"]
    assert left.exists(), "it may be another program that still writes"
    os.utime(left, (time.time() - 10**6,) * 2)
    (tmp_path / "out" / "README.md").unlink()
    with folder_whole(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]
