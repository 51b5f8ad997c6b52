"""The verbs are found without importing them, and what help says of one is what it says itself."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from scratchcard import cli
from scratchcard.cli import VERBS
from tiny_study import command

Capture = pytest.CaptureFixture[str]


def test_every_verb_is_a_file_whose_first_line_is_what_help_says() -> None:
    for name, line in VERBS.items():
        said = getattr(import_module(f"scratchcard.cli.{name}"), name).__doc__
        assert said.splitlines()[0] == line
    typed = {path.stem for path in Path(cli.__file__).parent.glob("[!_]*.py")} - {"ends", "terminal", "rewind"}
    assert typed == VERBS.keys()


def test_help_names_every_verb_and_waits_for_nothing() -> None:
    code = "import sys; sys.argv = ['scratchcard', '--help']\nfrom scratchcard import cli\ntry: cli.main()\n"
    code += "finally: print(sorted({'torch', 'numpy', 'scipy', 'altair', 'sklearn'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f" {name} " in done.stdout for name in VERBS)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_verb_that_is_mistyped_is_told_the_nearest(capsys: Capture) -> None:
    assert command(capsys, "studdy", "digits").is_one_sentence("unknown command 'studdy'", "did you mean 'study'")
    assert command(capsys, "study", "--help").code == 0
