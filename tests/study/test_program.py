"""load.py: it runs on inputs that it makes up, or says in a sentence why not; no text in it is run."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scratchcard.study.card import Asked
from scratchcard.study.portable import Portable, write_portable
from scratchcard.study.program import Inputs, Like, Told, program_of
from scratchcard.training.data import Data
from tiny_study import tiny

Capture = pytest.CaptureFixture[str]


def task_of(inputs: Any) -> Any:
    split = (inputs, torch.arange(20) % 2)
    return tiny(data=Data.from_tensors("own", split, split, split))


def written(module: nn.Module, inputs: Any, folder: Path, **told: Any) -> Portable:
    """Both files and load.py."""
    made = write_portable(module.eval(), task_of(inputs), [8, 4, 2, 1], folder)
    about = told.get("about", ["a network", "of a test"])
    program = program_of(Told(about, Inputs.of(module, made.batch), made.examples, made.without_program), Asked())
    (folder / "load.py").write_text(program, encoding="utf-8")
    return made


def loaded(folder: Path) -> dict[str, Any]:
    return runpy.run_path(str(folder / "load.py"), run_name="load")


def run(folder: Path, *words: str) -> int:
    """The exit code of `python load.py WORDS...`."""
    held, sys.argv = sys.argv, ["load.py", *words]
    try:
        runpy.run_path(str(folder / "load.py"), run_name="__main__")
    except SystemExit as left:
        return int(left.code or 0)
    finally:
        sys.argv = held
    return 0


@pytest.fixture(autouse=True)
def _without_onnx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes long, and is written by the same function."""
    if "heavy" not in request.keywords:
        monkeypatch.setitem(sys.modules, "onnx", None)


class Words(nn.Module):
    """Its table ends at the largest word that is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(7, 4), nn.Linear(4, 2)

    def forward(self, words: Tensor, *, weights: Tensor, **others: Tensor) -> dict[str, Tensor]:
        seen = (self.table(words) * weights.unsqueeze(2)).sum(1)
        return {"logits": self.layer(seen).masked_fill(others["hidden"].unsqueeze(1), 0)}


def test_inputs_that_are_made_up_are_of_the_right_types_and_within_what_was_seen(
    tmp_path: Path, capsys: Capture
) -> None:
    inputs = {
        "words": torch.arange(60).view(20, 3) % 5 + 2,
        "weights": torch.linspace(-2, 3, 60).view(20, 3),
        "hidden": torch.zeros(20, dtype=torch.bool),
    }
    made = written(Words(), inputs, tmp_path)
    assert (made.examples, made.without_program) == (None, "")
    names = loaded(tmp_path)
    positional, named = names["made_up"](200)
    assert positional == ()
    assert {name: (one.dtype, tuple(one.shape)) for name, one in named.items()} == {
        "words": (torch.int64, (200, 3)),
        "weights": (torch.float32, (200, 3)),
        "hidden": (torch.bool, (200,)),
    }
    assert sorted(set(named["words"].flatten().tolist())) == [2, 3, 4, 5, 6]
    assert float(named["weights"].min()) >= -2
    assert not named["hidden"].any(), "none was seen"
    outputs = names["model"](**named)
    assert outputs["logits"].shape == (200, 2)
    assert not outputs["logits"].requires_grad
    assert run(tmp_path, "5") == 0
    said = capsys.readouterr().out
    assert said.startswith("a network\nof a test\n")
    assert "outputs: logits: float32 [5, 2]" in said
    assert re.search(r"[\d.]+ ms for 5 examples \(median of \d+ runs, CPU", said)


def test_of_the_users_data_only_the_smallest_and_the_largest_number_is_told(tmp_path: Path) -> None:
    inputs = torch.rand(20, 4) * 3 + torch.pi
    made = written(nn.Linear(4, 2), inputs, tmp_path)
    told = (tmp_path / "load.py").read_text() + (tmp_path / "model.pt2").read_bytes().decode("latin-1")
    ends = {made.batch.min().item(), made.batch.max().item()}  # pyright: ignore[reportAttributeAccessIssue]
    assert {number for number in inputs.flatten().tolist() if repr(number) in told} == ends
    assert made.batch[0].numpy().tobytes().decode("latin-1") not in told  # pyright: ignore[reportIndexIssue, reportArgumentType, reportCallIssue]


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (torch.tensor([[1.0, torch.nan, -torch.inf], [0.5, 2.0, 0.0]]), "Like(torch.float32, (3,), 0.0, 2.0)"),
        (torch.full((2, 3), torch.nan), "Like(torch.float32, (3,), 0, 0)"),
        (torch.tensor([True, True]), "Like(torch.bool, (), 1, 1)"),
        (torch.arange(6, dtype=torch.uint8).view(3, 2), "Like(torch.uint8, (3, 2), 0, 5, shared=True)"),
        (torch.tensor(7), "Like(torch.int64, (), 7, 7, shared=True)"),
        (torch.ones(2, 2, dtype=torch.bfloat16), "Like(torch.bfloat16, (2,), 1.0, 1.0)"),
        (torch.tensor([1 + 2j, 0]), "Like(torch.complex64, (), 0.0, 2.0)"),
    ],
)
def test_an_input_is_told_as_a_literal(tensor: Tensor, told: str) -> None:
    assert repr(Like.of(tensor, 2)) == told


class Few(nn.Module):
    """Takes two or four examples."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape({8: 2, 16: 4}[x.numel()], -1) * 2


def test_a_network_of_few_numbers_of_examples_takes_the_largest(tmp_path: Path, capsys: Capture) -> None:
    made = written(Few(), torch.rand(20, 4), tmp_path)
    assert made.examples == 4
    assert any(
        note.startswith("model.pt2 and model.onnx take 4 examples at a time and no other") for note in made.notes
    )
    assert run(tmp_path) == 0
    assert "inputs, made up: float32 [4, 4]" in capsys.readouterr().out
    assert run(tmp_path, "5") == 2
    assert "takes 4 examples at a time and no other number, not 5" in capsys.readouterr().err


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


def test_what_cannot_be_run_says_so_in_a_sentence_and_exits_with_2(tmp_path: Path, capsys: Capture) -> None:
    made = written(Branching(), torch.rand(20, 4), tmp_path)
    assert "cannot be exported" in made.without_program
    assert "model.pt2" not in made.files
    assert made.notes[0].startswith("There is no model.pt2: this Branching cannot be exported")
    assert run(tmp_path) == 2
    said = capsys.readouterr()
    assert said.err.startswith("load.py: it cannot be run with torch alone: this Branching cannot be exported")
    assert len(said.err.splitlines()) == 1
    with pytest.raises(ImportError, match="cannot be run with torch alone: this Branching"):
        loaded(tmp_path)


def test_a_damaged_file_and_words_that_mean_nothing_are_one_sentence(tmp_path: Path, capsys: Capture) -> None:
    written(nn.Linear(4, 2), torch.rand(20, 4), tmp_path)
    for words in (["0"], ["x"], ["3", "4"], ["-1"], ["\N{SUPERSCRIPT TWO}"]):
        assert run(tmp_path, *words) == 2
        assert capsys.readouterr().err == (
            "load.py: the one thing that can be given is a number of examples, e.g. python load.py 8\n"
        )
    whole = (tmp_path / "model.pt2").read_bytes()
    (tmp_path / "model.pt2").write_bytes(whole[: len(whole) // 2])
    assert run(tmp_path) == 2
    said = capsys.readouterr().err
    assert said.startswith("load.py: model.pt2 cannot be loaded (")
    assert f"made with torch {torch.__version__}" in said
    assert len(said.splitlines()) == 1
    with pytest.raises(ImportError, match=r"model\.pt2 cannot be loaded"):
        loaded(tmp_path)


EVIL = '"""\n\'\'\'\nPath("PWNED").touch()\n\\\u2028$why {0} \x1b[2J'


def test_no_text_in_it_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = Inputs((), {"x": {EVIL: torch.ones(2)}}, ())
    for without in ("", EVIL):
        program = program_of(Told([EVIL], inputs, 3, without), Asked(EVIL, {EVIL: EVIL}))
        assert not set(program) & set("\x1b\u2028")
        (tmp_path / "load.py").write_text(program)
        assert run(tmp_path) == 2
    assert not Path("PWNED").exists()


@pytest.mark.heavy
def test_where_onnx_runtime_lacks_a_type_the_onnx_file_is_in_float32_and_says_so(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    module = nn.Sequential(nn.Conv1d(3, 4, 2), nn.Flatten()).double()
    made = written(module, torch.rand(20, 3, 5), tmp_path)
    assert made.without_onnx == ""
    assert [note for note in made.notes if note.startswith("model.onnx is in float32, which the network is not, since")]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == "tensor(float)"
    positional, _ = loaded(tmp_path)["made_up"]()
    assert positional[0].dtype == torch.float64
    assert next(module.parameters()).dtype == torch.float64
