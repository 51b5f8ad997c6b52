"""A report as Chromium shows it: drawn in a frame of some width, then measured by a script."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from scratchcard.evidence.report import report
from scratchcard.row import Rows

CHROMIUM = shutil.which("chromium")
FRAME = """<!doctype html><body style="margin:0">
<iframe src="report.html" style="width:%dpx;height:900px;border:0"></iframe><pre></pre>
<script>
const frame = document.querySelector("iframe");
frame.onload = async () => {
  const page = frame.contentDocument, inside = frame.contentWindow;
  const drawn = () => page.querySelectorAll(".plot svg.marks").length;
  while (drawn() < page.querySelectorAll(".plot").length) await new Promise((resume) => setTimeout(resume, 50));
  await new Promise((resume) => setTimeout(resume, 300));
  const measure = async () => { %s };
  document.querySelector("pre").textContent = JSON.stringify(await measure());
};
</script>"""
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--hide-scrollbars",
         "--enable-logging=stderr", "--v=0", "--window-size=1500,1000"]  # fmt: skip


def browse(folder: Path, rows: Rows, width: int, script: str) -> tuple[Any, list[str]]:
    """What a script returns about the page (`page`, `inside`: its document and window), and what the console says."""
    report(rows, folder / "report.html")
    (folder / "frame.html").write_text(FRAME % (width, script), encoding="utf-8")
    done = chromium(folder, "--virtual-time-budget=60000", "--dump-dom", (folder / "frame.html").as_uri())
    found = re.search(r"<pre>([\[{].*?)</pre>", done.stdout, re.DOTALL)
    assert found, f"the page was never measured: {done.stderr[-2000:]}"
    text = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(text), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def chromium(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the browser with a profile of its own."""
    profile = f"--user-data-dir={folder / 'profile'}"
    return subprocess.run([str(CHROMIUM), *FLAGS, profile, *words], capture_output=True, text=True, timeout=170)
