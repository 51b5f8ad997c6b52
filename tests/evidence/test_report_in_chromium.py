import os
import re
from functools import cache
from pathlib import Path

import pytest
from chromium import CHROMIUM, browse, chromium
from make_rows import EVERY_CONTROL, OF_UNITS, make_rows
from test_figures import as_loss, far_apart, with_longer
from test_structured_figures import masked_beside

from scratchcard.evidence.figures.chart import sized
from scratchcard.evidence.figures.gallery import figures_of_method
from scratchcard.evidence.figures.looks import DARK
from scratchcard.evidence.report import report
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows

NASTY = '</script><img src=x onerror="alert(1)"><svg onload="alert(2)">'


@cache
def few():
    return make_rows(levels=3, accidents=False)


def begun():
    return Rows(few()[:4], few().study)


def hostile():
    return make_rows(
        seeds=1, levels=2, task=NASTY, metric=NASTY, data="x" * 300, method=["m" * 80, NASTY], anatomy=True,
        shapes={NASTY: (9, 9), "l" * 90: (9, 9)}, controls=[NASTY, "'] + alert(3) + ['"],
    )  # fmt: skip


@cache
def many():
    return make_rows(levels=7, seeds=2, controls=EVERY_CONTROL, control_levels=[3, 7], anatomy=True)


@cache
def small():
    return make_rows(
        levels=3, seeds=2, method=["slimming", "early-bird", "early-bird-drawn-at-end"], controls=OF_UNITS,
        control_levels=[3], structured=True, shapes={f"features.{at}.weight": (64, 576) for at in range(9)},
    )  # fmt: skip


@cache
def one_level():
    return with_longer(as_loss(far_apart(make_rows(levels=1, seeds=2))))


def mixed():
    return with_longer(masked_beside(small()))


AXE = Path(os.environ.get("SCRATCHCARD_AXE", Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"))

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium to see the report drawn"),
]

MEASURE = """
page.querySelectorAll("details").forEach((table) => { table.open = true; });
const edges = (part) => part.getBoundingClientRect();
return {
  figures: page.querySelectorAll(".plot").length,
  drawn: page.querySelectorAll(".plot svg.marks").length,
  marks: page.querySelectorAll(".plot svg.marks path").length,
  named: page.querySelectorAll(".plot[role='graphics-document'][aria-label]").length,
  tables: page.querySelectorAll("figure table").length,
  clipped: [...page.querySelectorAll(".plot svg text:not([opacity='0'])")].filter((part) => {
    const outer = edges(part.closest("svg")), inner = edges(part);
    return inner.top < outer.top - 1 || inner.left < outer.left - 1 || inner.right > outer.right + 1;
  }).length,
  scripts: page.querySelectorAll("img, [onerror], [onload]").length,
  needed: page.documentElement.scrollWidth,
  given: inside.innerWidth,
};"""


@pytest.mark.parametrize("width", [390, 768, 1400])
@pytest.mark.parametrize(
    "rows",
    [lambda: make_rows(anatomy=True), begun, hostile, many, small, one_level, mixed],
    ids=["full", "begun", "small, with hostile names", "every control", "whole units cut", "one level", "masked too"],
)
def test_every_figure_is_drawn_without_errors_and_nothing_scrolls_sideways(tmp_path, rows, width):
    seen, console = browse(tmp_path, rows(), width, MEASURE)
    assert console == []
    assert seen["figures"] == seen["drawn"] == seen["named"] == seen["tables"] >= 4
    assert seen["marks"] > 40
    assert seen["clipped"] == seen["scripts"] == 0
    assert seen["given"] == width
    assert seen["needed"] <= width


@pytest.mark.parametrize("rows", [many, small, one_level], ids=["every control", "whole units cut", "one level"])
def test_every_colour_of_a_figure_turns_with_the_page_and_print_stays_light(tmp_path, rows):
    script = """
    const colours = () => [...page.querySelectorAll(".plot svg.marks *")].flatMap(
      (part) => ["fill", "stroke"].filter((name) => part.hasAttribute(name)).map(
        (name) => [part.getAttribute(name), inside.getComputedStyle(part)[name]]));
    const lit = colours();
    page.getElementById("theme").click();
    return { light: [...new Set(lit.map(String))], dark: [...new Set(colours().map(String))],
             said: page.getElementById("theme").textContent };"""
    seen, _ = browse(tmp_path, rows(), 1400, script)

    def of(pairs):
        named = (pair.split(",", 1) for pair in pairs)
        return {
            given: "#" + "".join(f"{int(n):02x}" for n in re.findall(r"\d+", shown))
            for given, shown in named
            if given not in ("none", "transparent")
        }

    assert of(seen["light"]).keys() <= DARK.keys(), "a colour that does not turn dark"
    assert of(seen["light"]) == {light: light for light in of(seen["light"])}
    assert of(seen["dark"]) == {light: DARK[light] for light in of(seen["light"])}
    assert seen["said"] == "Light page"


def test_another_size_is_chosen_with_one_list_and_stays_chosen_when_the_page_changes_its_width(tmp_path):
    script = """
    const figure = page.querySelector("[data-name=tradeoff]");
    const wait = (ms) => new Promise((resume) => setTimeout(resume, ms));
    const labels = () => [...figure.querySelectorAll(".role-axis-label text")].map((part) => part.textContent);
    const titled = (words) => [...figure.querySelectorAll("svg text")].some((part) => part.textContent === words);
    const before = { labels: labels(), titled: titled("parameters (log scale)") };
    const list = figure.querySelector("select");
    list.value = [...list.options].find((option) => option.text === "latency, ms").value;
    list.dispatchEvent(new Event("change", { bubbles: true }));
    list.dispatchEvent(new Event("input", { bubbles: true }));
    await wait(300);
    const after = { labels: labels(), titled: titled("latency, ms (log scale)") };
    document.querySelector("iframe").style.width = "600px";
    await wait(4000);
    return { options: [...list.options].map((option) => option.text), before, after,
             kept: titled("latency, ms (log scale)"), lists: page.querySelectorAll("select").length };"""
    seen, console = browse(tmp_path, small(), 1400, script)
    assert console == []
    assert seen["options"] == ["parameters", "multiply-accumulates", "latency, ms"]
    assert seen["before"]["titled"]
    assert seen["after"]["titled"]
    assert seen["before"]["labels"] != seen["after"]["labels"]
    assert seen["kept"]
    assert seen["lists"] == 1


def test_print_is_light_also_from_a_dark_screen(tmp_path):
    page = report(few(), tmp_path / "report.html").as_uri()
    for scheme in "01":
        words = [f"--blink-settings=preferredColorScheme={scheme}", "--no-pdf-header-footer"]
        chromium(tmp_path, *words, f"--print-to-pdf={tmp_path / scheme}", "--virtual-time-budget=20000", page)
    dark, light = ((tmp_path / scheme).read_bytes() for scheme in "01")
    stamp = re.compile(rb"/(CreationDate|ModDate) \(.*?\)|/ID \[.*?\]", re.DOTALL)
    assert stamp.sub(b"", dark) == stamp.sub(b"", light)


def test_the_page_gives_figures_the_widths_that_files_have(tmp_path):
    (said,) = judge(many()).methods
    specs = {f.name: f.spec for f in figures_of_method(many(), said) if f.name in ("movement", "metric-mask")}
    widths = [300, 354, 500, 672, 704, 1076]
    script = f"""
    const spec = (name) => JSON.parse(page.getElementById("figure-1-" + name).textContent);
    return {list(specs)}.map((name) => {widths}.map((width) => inside.sized(spec(name), width)));"""
    seen, _ = browse(tmp_path, many(), 1400, script)
    assert seen == [[sized(spec, width) for width in widths] for spec in specs.values()]


@pytest.mark.skipif(
    not AXE.exists(), reason="no axe-core here: npm install --no-save axe-core, or SCRATCHCARD_AXE=path/to/axe.min.js"
)
@pytest.mark.parametrize("width", [390, 1400])
def test_axe_finds_nothing_serious_in_light_and_dark(tmp_path, width):
    (tmp_path / "axe.js").write_bytes(AXE.read_bytes())
    script = """
    inside.eval(await (await fetch("axe.js")).text());
    page.querySelectorAll("details").forEach((table) => { table.open = true; });
    const found = [];
    for (const scheme of ["light", "dark"]) {
      page.documentElement.style.colorScheme = scheme;
      await new Promise((resume) => setTimeout(resume, 100));
      const said = await inside.axe.run(page, { resultTypes: ["violations"] });
      found.push({ scheme, passes: said.passes.length, violations: said.violations.map(
        (broken) => [broken.impact, broken.id, broken.nodes.length, broken.nodes[0].html.slice(0, 200)]) });
    }
    return found;"""
    two = make_rows(levels=3, seeds=2, anatomy=True, method=["imp", "snip"], controls=EVERY_CONTROL[:6])
    seen, _ = browse(tmp_path, two, width, script)
    assert [scheme["scheme"] for scheme in seen] == ["light", "dark"]
    for scheme in seen:
        assert scheme["passes"] > 20
        assert [broken for broken in scheme["violations"] if broken[0] in ("serious", "critical")] == []
