"""What the loop, the masks and the workers cost, as a page: `loop_overhead.py` and `workers.py` measure it.

python benchmarks/overhead.py measure
python benchmarks/overhead.py

The first command measures, wants an otherwise idle machine of two cores, and writes docs/results/rows, then the page;
the second writes the page again.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import loop_overhead
import torch
import workers
from pages import main, records_page, table

WANTED = 1.8
"""Times the work of one that two workers are to get done."""


def collect(_: str) -> list[list[dict[str, Any]]]:
    asked = {"batch": loop_overhead.BATCH, "torch": torch.__version__}
    return [[asked, *loop_overhead.measure(), *workers.measure()]]


def loops(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if "compared" in record]


def gain(records: Sequence[dict[str, Any]], what: str) -> float:
    """Seconds of one worker over those of two."""
    one, two = (record for record in records if "workers" in record)
    return one[what] / two[what]


def line(record: dict[str, Any]) -> list[str]:
    found = statistics.median(record["ratios"])
    spread = f"{found:.3f} ({min(record['ratios']):.3f} to {max(record['ratios']):.3f}, {len(record['ratios'])} pairs)"
    took = f"{1e6 * record['step']:,.0f}"
    return [record["compared"], spread, took, f"{record['wanted']}", "holds" if found <= record["wanted"] else "MISSED"]


def write(records: Sequence[dict[str, Any]]) -> str:
    """The page in Markdown."""
    asked, total, pace = records[0], gain(records, "seconds"), gain(records, "pace")
    ran = [
        [str(r["workers"]), str(r["runs"]), f"{r['seconds']:.1f}", f"{r['pace']:.2f}"] for r in records if "runs" in r
    ]
    parts = [
        "# What the loop, the masks and the workers cost",
        f"CPU seconds of one thread, Adam (fused), batch {asked['batch']}: second loop over first. Where in memory a "
        "network lies makes a few per cent, so each figure is the median over pairs of networks built anew; the range "
        "over pairs is printed.",
        table(["", "times", "us a step of the first", "wanted, at most", ""], map(line, loops(records))),
        "The same study in an empty store, by one worker process and by two; starting them is counted.",
        table(["workers", "runs", "seconds", "seconds a run, once started"], ran),
        f"Two workers get {total:.2f} times the work of one done ({pace:.2f} times once started), wanted at least "
        f"{WANTED}: {'holds' if total >= WANTED else 'MISSED'}.",
        f"```\n{PAGE.command} measure\n{PAGE.command}\n```",
        f"torch {asked['torch']}. Not measured on a GPU.",
    ]
    return "\n\n".join(parts) + "\n"


def answer(records: Sequence[dict[str, Any]]) -> str:
    """Each figure in short."""
    told = [f"{record['compared']} {statistics.median(record['ratios']):.2f}" for record in loops(records)]
    return f"Times the seconds: {'; '.join(told)}; two workers do {gain(records, 'seconds'):.2f} times the work of one."


PAGE = records_page(
    name="overhead",
    question="What do the loop, masks and workers cost?",
    command="python benchmarks/overhead.py",
    rows=["overhead"],
    write=write,
    answer=answer,
    gone="The loop costs about as much as a bare one and masks little more, both as wanted; two workers of short "
    "trainings get somewhat less done than was wanted.",
)

if __name__ == "__main__":
    main(PAGE, collect)
