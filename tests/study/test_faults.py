"""Whatever is done to a study or its store, no row is lost, doubled or wrong; the page of it does more of the same."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
faults: Any = importlib.import_module("faults")


@pytest.mark.heavy
def test_no_row_is_lost_doubled_or_wrong_whatever_happens(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed: {seed}")
    for record in faults.everything(tmp_path, share=0.2, seed=seed):
        found = {name: record[name] for name in ("lost", "doubled", "wrong", "twice")}
        assert not any(found.values()), (record["what"], found)
