"""Is the digits study faster than it was, and the same? Two checkouts, one worker each, in turns.

git worktree add /tmp/before COMMIT
python benchmarks/before_after.py /tmp/before [TURNS]

CPU seconds of whole commands, starting and writing the report included. All metrics, curves, masks and snapshots of the
two are compared bit for bit; identities, which say by which rules a run was made, are not.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

STUDY = ["study", "digits", "--seeds", "2", "--workers", "1"]
SAME = ("density", "layers", "parameters", "nonzero", "mask_digest", "curve", "early_stop", "end", "snapshots")
HERE = Path(__file__).resolve().parents[1]


def ran(checkout: Path) -> tuple[float, dict[str, Any]]:
    """CPU seconds of the study, and what its rows hold, by what they are of."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "scratchcard", *STUDY, "--store", "runs", "--report", "report.html"],
            env=os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"},
            cwd=folder,
            check=True,
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = [json.loads(path.read_text()) for path in sorted(Path(folder, "runs", "rows").glob("*.json"))]
    assert rows, "the study left no rows"
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, {
        " ".join(str(row[name]) for name in ("method", "seed", "level", "arm", "replicate")): {n: row[n] for n in SAME}
        for row in rows
    }


def main() -> None:
    """Print the ratio of each turn, and whether the rows are the same."""
    old, turns = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    ratios = []
    for turn in range(turns):
        order = (old, HERE) if turn % 2 == 0 else (HERE, old)
        found = {checkout: ran(checkout) for checkout in order}
        (took, rows), (takes, now) = found[old], found[HERE]
        differing = [run for run in rows.keys() | now.keys() if rows.get(run) != now.get(run)]
        ratios.append(took / takes)
        print(
            f"turn {turn + 1}: {took:.1f} CPU s before, {takes:.1f} now, {ratios[-1]:.2f} times as fast; "
            f"{len(rows)} rows before, {len(now)} now, {len(differing)} differ {sorted(differing)[:3]}",
            flush=True,
        )
    print(f"median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}, {turns} turns")


if __name__ == "__main__":
    main()
