"""`scratchcard inspect` of a model that was brought trained: it says so, and what its validation split may be worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_study import TASK_FILE, command, write_task

CARVED = 'sc.Data.from_tensors("tiny", examples(60), examples(30), 20)'
GIVEN = 'sc.Data.from_tensors("tiny", examples(60), examples(30), examples(30))'


@pytest.mark.parametrize(
    ("start", "data", "state", "carved"),
    [
        ("network()", GIVEN, "trained, as it was brought, on the first validation examples: loss", False),
        ("network()", CARVED, "trained, as it was brought, on the first validation examples: loss", True),
        ("None", CARVED, "untrained, on the first validation examples: loss", False),
    ],
)
def test_a_model_that_was_brought_is_called_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], start: str, data: str, state: str, carved: bool
) -> None:
    assert GIVEN in TASK_FILE
    text = TASK_FILE.replace(GIVEN, data).replace("loss=loss)", f"loss=loss, start={start})")
    said = command(capsys, "inspect", write_task(tmp_path, text))
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert any(line.startswith(state) for line in lines), said.out
    assert ("carved from training examples" in " ".join(lines)) == carved
