"""Runs heavy tests and writes their receipt, docs/heavy.md: a line for each file, from what pytest reports.

python benchmarks/heavy.py                     all of them
python benchmarks/heavy.py tests/study ...     those of these files or folders; the other lines stay as they are
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import torch

ROOT = Path(__file__).resolve().parents[1]
RECEIPT = ROOT / "docs" / "heavy.md"
HEADER = """\
# Heavy tests: when they last ran, and what came of it

`make test` leaves out what takes many minutes, a browser or a killed process too many. Each line is written by
`python benchmarks/heavy.py FILE` when its tests have ended; a test that is skipped lacks something named in its reason.

| tests | passed | failed | skipped | minutes | commit | day | on |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def ran(paths: list[str]) -> dict[str, str]:
    """The line of each file whose heavy tests were run."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "told.xml")
        words = ["-m", "heavy", "-o", "junit_family=xunit1", f"--junitxml={told}", *paths]
        subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, check=False)
        cases = list(ElementTree.parse(told).iter("testcase"))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: Counter[str] = Counter()
    for case in cases:
        file = case.attrib["file"]
        kinds = {part.tag for part in case}
        counts[file]["failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"] += 1
        seconds[file] += float(case.attrib["time"])
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True).stdout
    where = f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    return {
        file: f"| {file} | {found['passed']} | {found['failed']} | {found['skipped']} | {seconds[file] / 60:.1f} | "
        f"{commit.strip()}{' and changes' if changed else ''} | {datetime.now(UTC):%Y-%m-%d} | {where} |"
        for file, found in counts.items()
    }


def main() -> None:
    """Run, and write the receipt."""
    lines = {}
    if RECEIPT.exists():
        lines = {found[1]: found[0] for found in re.finditer(r"^\| (tests/\S+) \|.*$", RECEIPT.read_text(), re.M)}
    lines |= ran(sys.argv[1:])
    RECEIPT.write_text(HEADER + "".join(f"{lines[file]}\n" for file in sorted(lines)))
    print(RECEIPT.read_text())


if __name__ == "__main__":
    main()
