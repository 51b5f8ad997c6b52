"""What the README and the examples show is run: it works as printed."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest

import scratchcard as sc
from scratchcard.study.named import named_study
from tiny_study import command

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    fenced = README.split("```")[1::2]
    return [body for first, _, body in (block.partition("\n") for block in fenced) if first == language]


@pytest.fixture
def my_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the README's `my_task.py` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_task.py").write_text(blocks("python")[0])
    return tmp_path


def test_every_command_of_the_readme_works_as_printed(my_task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.partition("#")[0] for block in blocks("") for line in block.splitlines()]
    commands = [shlex.split(line) for line in lines if line.startswith("scratchcard ")]
    assert [words[1] for words in commands] == [
        "inspect",
        "study",
        "study",
        "report",
        "study",
        "inspect",
        "study",
        "lottery",
        "export",
        "export",
    ]
    listed = ""
    for words in commands:
        shorter = ["--rounds", 1, "--workers", 1] if words[1] == "study" and "--dry-run" not in words else []
        shorter = ["--workers", 1, "--steps", "0"] if "--rewind" in words else shorter
        shorter = ["--rounds", 1, "--workers", 1, "--seeds", 2] if words[1] == "lottery" else shorter
        if "ID" in words:  # the beginning of one that was just listed
            words[words.index("ID")] = listed.splitlines()[1].split()[0][:12]  # below the study's heading
        said = command(capsys, *words[1:], *shorter)
        assert said.code == 0, said.err
        listed = said.out
    assert (my_task / "report.html").exists()
    assert (my_task / "my_small_model" / "model" / "manifest.json").exists()


def test_the_python_of_the_readme_works_as_printed(my_task: Path) -> None:
    given, again, detecting, shrinking = blocks("python")
    names: dict[str, object] = {"__name__": "mine"}
    exec(given.replace("rounds=6", "rounds=1"), names)
    exec(again.replace("workers=2", "workers=1, progress=False").replace("print(", "str("), names)
    exec(detecting, names)
    assert names["detector"].epoch == 6, "five distances of 0, after six masks"  # pyright: ignore[reportAttributeAccessIssue]
    exec(shrinking, names)
    assert names["again"][0].out_features == 32  # pyright: ignore[reportIndexIssue]
    assert {name: len(site) for name, site in sc.find_sites(names["network"], names["batch"]).sites.items()} == {
        "0": 64,
        "2": 64,
    }
    assert (my_task / "report.html").exists()


def test_the_example_is_a_study_that_runs(tmp_path: Path) -> None:
    study = named_study(str(ROOT / "examples" / "my_task.py"))
    short = replace(study, methods=[sc.IMP(rounds=1)], seeds=1, arms=["fresh-init"], store=tmp_path / "runs")
    assert len(replace(short, recipe=replace(study.recipe, steps=40)).run(workers=1, progress=False)) == 5


def test_every_option_of_a_recipe_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    said = command(capsys, "study", "--help")
    for field in fields(sc.Recipe):
        assert field.name in re.sub(r"[\s│]+", "", said.out), field.name


def test_files_that_the_documents_name_exist() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name} names {target}"
