import json
import re
import shutil
import subprocess

import pytest
from make_rows import make_rows

from scratchcard.evidence.report import report
from scratchcard.row import Rows

CHROMIUM = shutil.which("chromium")
FEW = make_rows(levels=3, accidents=False)
NASTY = '</script><img src=x onerror="alert(1)"><svg onload="alert(2)">'
FRAME = """<!doctype html><body style="margin:0">
<iframe src="report.html" style="width:%dpx;height:900px;border:0"></iframe><pre></pre>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => setTimeout(() => {
  const page = frame.contentDocument, inside = page.documentElement;
  page.querySelectorAll("figure > details, section > details").forEach((table) => { table.open = true; });
  document.querySelector("pre").textContent = JSON.stringify({
    figures: page.querySelectorAll(".plot").length,
    drawn: page.querySelectorAll(".plot svg.marks").length,
    marks: page.querySelectorAll(".plot svg.marks path").length,
    clipped: ["legend", "axis-label", "axis-title"].flatMap(
      (role) => [...page.querySelectorAll(".plot svg .role-" + role)]
    ).filter((part) => {
      const outer = part.closest("svg").getBoundingClientRect(), inner = part.getBoundingClientRect();
      return inner.top < outer.top - 1 || inner.left < outer.left - 1 || inner.right > outer.right + 1;
    }).length,
    needed: inside.scrollWidth,
    given: frame.contentWindow.innerWidth,
  });
}, 3000);
</script>"""

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium to see the report drawn"),
]


def browse(folder, rows, width):
    """What Chromium measures in a frame of that width, and what it says on its console."""
    report(rows, folder / "report.html")
    (folder / "frame.html").write_text(FRAME % width, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--hide-scrollbars",
             f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--v=0", "--window-size=1500,1000",
             "--virtual-time-budget=9000", "--dump-dom"]  # fmt: skip
    page = (folder / "frame.html").as_uri()
    done = subprocess.run([str(CHROMIUM), *flags, page], capture_output=True, text=True, timeout=120)
    found = re.search(r"<pre>(\{.*?\})</pre>", done.stdout)
    assert found, f"the page was never measured: {done.stderr[-2000:]}"
    return json.loads(found[1]), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [390, 768, 1400])
@pytest.mark.parametrize(
    "rows",
    [
        make_rows(),
        Rows(FEW[:4], FEW.study),
        make_rows(seeds=1, levels=2, task=NASTY, metric=NASTY, data="x" * 300, method="m" * 80),
    ],
    ids=["full", "begun", "small, with hostile names"],
)
def test_every_figure_is_drawn_without_errors_and_nothing_scrolls_sideways(tmp_path, rows, width):
    seen, console = browse(tmp_path, rows, width)
    assert console == []
    assert seen["figures"] == seen["drawn"] >= 4
    assert seen["marks"] > 40
    assert seen["clipped"] == 0
    assert seen["given"] == width
    assert seen["needed"] <= width
