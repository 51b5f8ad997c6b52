"""Pages of results say what their committed rows say; a page whose rows were not kept says that they were not."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evidence.make_rows import make_rows
from evidence.small_study import DENSE, study
from scratchcard.evidence.rows_file import read_rows, write_rows
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows
from scratchcard.study.store import Store

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
pages: Any = importlib.import_module("pages")
results_index: Any = importlib.import_module("results_index")
rethinking: Any = importlib.import_module("rethinking_cifar")
lenet: Any = importlib.import_module("mnist_lenet")
controls: Any = importlib.import_module("mnist_controls")
lottery: Any = importlib.import_module("lottery")
connectivity: Any = importlib.import_module("connectivity")

PAGES = results_index.PAGES
GONE, DECLARED = [page for page in PAGES if page.gone], [page for page in PAGES if not page.gone]
KEPT = [page for page in DECLARED if page.kept]
NAMES = (
    r"VGG-1[169](-quarter)?|(Pre)?ResNet-\d+|DenseNet-40|CIFAR-10|LeNet-300-100|Conv-2|MobileNetV2|L[12]\b"
    r"|identity version 1|et al\. \d{4}|section \d|\w+\.(py|svg)"
)
"""Digits that are no numbers: names, and where something stands in a paper."""


def prose(text: str) -> str:
    """A page without its tables, its code, its figures' files and the verdicts quoted in full."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not line.startswith("|")]
    return re.sub(r"\]\([^)]*\)|`[^`]*`", "", "\n".join(lines))


def nameless(text: str) -> str:
    return re.sub(NAMES, "", text, flags=re.IGNORECASE)


def named(page: Any) -> str:
    return page.name


@pytest.mark.parametrize("page", DECLARED, ids=named)
def test_a_page_that_declares_rows_has_them(page: Any) -> None:
    missing = [file.name for file in page.files if not file.exists()]
    assert not missing, f"run what {page.command} says in its first lines, then `{page.command} WHERE`"


@pytest.mark.parametrize("page", KEPT, ids=named)
def test_a_page_built_again_from_its_rows_is_the_one_on_disk(page: Any) -> None:
    assert page.path.read_text() == page.text(), f"write it again: {page.command}"
    assert pages.BANNER not in page.path.read_text()


@pytest.mark.parametrize(
    ("page", "file"),
    [(page, file) for page in KEPT for file in page.files],
    ids=lambda given: given.name,
)
def test_committed_rows_are_small_and_can_be_judged(page: Any, file: Path, tmp_path: Path) -> None:
    assert file.stat().st_size < 300_000
    if page.read is read_rows:
        rows = read_rows(file)
        assert judge(rows).sentence
        assert write_rows(rows, tmp_path / "again").read_bytes() == file.read_bytes()


def test_every_committed_file_of_rows_belongs_to_a_page() -> None:
    assert set(pages.ROWS.glob("*")) <= {file for page in PAGES for file in page.files}


def test_both_tables_are_what_the_pages_say() -> None:
    answers = results_index.answered()
    assert (pages.RESULTS / "README.md").read_text() == results_index.index(answers), "run results_index.py"
    readme = results_index.README.read_text()
    assert readme == results_index.in_readme(readme, answers), "run benchmarks/results_index.py"
    assert results_index.BEGIN in readme
    section = readme.partition("## Results\n")[2].partition("\n## ")[0]
    typed = section.partition(results_index.BEGIN)[0] + section.partition(results_index.END)[2]
    assert not re.search(r"\d", nameless(prose(typed)))


def test_every_page_is_in_the_tables() -> None:
    assert {page.path for page in PAGES} == set(pages.RESULTS.glob("*.md")) - {pages.RESULTS / "README.md"}


@pytest.mark.parametrize("page", GONE, ids=named)
def test_a_page_without_rows_says_so_and_claims_nothing_in_numbers(page: Any) -> None:
    title, banner, *_ = page.path.read_text().split("\n\n")
    assert title.startswith("# ")
    assert banner == pages.BANNER
    for text in (prose(page.path.read_text()), page.gone):
        assert not re.search(r"\byes\b", text, re.IGNORECASE)
        assert not re.findall(r".*\d.*", nameless(text))


def test_what_is_said_of_inherited_weights_is_what_the_page_s_own_verdicts_claim() -> None:
    text = rethinking.PAGE.path.read_text()
    said, found, fired = {}, {}, {}
    for network in rethinking.NETWORKS:
        part = text.split(f"## {network}\n")[1].split("\n## ")[0]
        blocks = part.split("```\n")[1].split("\n\n")[1:-1]
        said[network] = [(re.findall(r"the (\S+) ticket at density", block)[0], block) for block in blocks]
        found[network] = [
            SimpleNamespace(method=method, arm=arm, claim=claim)
            for method, block in said[network]
            for arm, claim in re.findall(r"ticket vs (\S+): .*: (\w+)$", block, re.MULTILINE)
        ]
        fired[network] = [int(epoch) * rethinking.PER_EPOCH for epoch in re.findall(r"\| (\d+) of \d+ \|", part)]
    assert len([c for comparisons in found.values() for c in comparisons]) == 22 + 17

    def plain(words: str) -> str:  # without an arm's description, whose words may change
        return re.sub(r"(- Against `\S+`)( \([^)]*\))?", r"\1", words)

    written = rethinking.head(said, found, rethinking.early_sentence(fired))
    for paragraph in map(plain, written):
        assert paragraph in plain(text)


# pages whose rows are not there yet: that they can be written at all, from made-up rows


def longer(rows: Rows, more: dict[str, float]) -> Rows:
    """The rows with dense networks that were trained longer, and are better by so much."""
    primary = rows.study.methods["imp"].primary
    added = [
        row.model_copy(
            update={"id": row.id + arm, "arm": arm, "method": "imp", "level": primary}
            | {
                name: point.model_copy(update={"test_metric": point.test_metric + gain})
                for name, point in (("end", row.end), ("early_stop", row.early_stop))
                if point
            }
        )
        for row in rows
        if row.arm == "dense"
        for arm, gain in more.items()
    ]
    spec = rows.study.model_copy(
        update={"arms": [*rows.study.arms, *more], "recipe": {**rows.study.recipe, "eval_every": 100}}
    )
    return Rows([*rows, *added], spec)


def test_the_page_of_lenet_reads_both_measures_and_what_longer_training_gives() -> None:
    rows = longer(
        make_rows(accidents=False, controls=["fresh-init"], draws=2),
        {"dense-for-the-search": 0.001, "dense-times-3": 0},
    )
    text = lenet.write(rows)
    for measure in ("end", "early_stop"):
        assert str(judge(pages.read_at(rows, measure))) in text
    assert str(judge(pages.read_at(rows, "early_stop"))) != str(judge(rows))
    gain = next(c for c in judge(rows).methods[0].comparisons if c.arm == "dense")
    assert gain.claim == "better"
    assert f"gains +0.10 pp [+0.10, +0.10] over the plain dense training: {10 / gain.mean / 100:.0f} % of" in text
    assert "gains +0.00 pp [+0.00, +0.00] over the plain dense training, which is not shown to be a gain: 0 %" in text
    assert "38 %" in text
    assert "2.51 times" in text
    assert "of dense networks trained longer" in lenet.answer(rows)

    even = longer(make_rows(accidents=False, seeds=2, controls=["fresh-init"], draws=1), {"dense-times-3": 0.01})
    assert "a gain of the ticket over dense is not shown, so no share of it is given" in lenet.write(even)
    assert not re.search("beats|yes", lenet.answer(even))


def test_a_page_s_command_collects_rows_from_a_store_and_writes_the_page_again_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = longer(make_rows(task="mnist", seeds=2, draws=1, controls=["fresh-init"]), {"dense-times-3": 0.001})
    store = Store(tmp_path / "runs")
    for row in rows:
        store.write_row(row)
    store.write_study("1", rows.study, [row.id for row in rows])
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    monkeypatch.setattr(pages, "ROWS", tmp_path / "rows")
    page = replace(lenet.PAGE, figures=lambda *_: {"figure.svg": b"drawn"})

    def written(*words: str) -> dict[str, bytes]:
        monkeypatch.setattr(sys, "argv", ["mnist_lenet.py", *words])
        pages.main(page, lenet.collect)
        return {path.name: path.read_bytes() for folder in ("", "rows") for path in (tmp_path / folder).glob("*.*")}

    first = written(str(tmp_path / "runs"))
    assert set(first) == {"mnist-lenet.md", "figure.svg", "mnist-lenet.jsonl.gz"}
    assert first["mnist-lenet.md"].decode() == lenet.write(rows)
    assert written() == first
    assert page.answered() == lenet.answer(rows)
    (tmp_path / "rows" / "mnist-lenet.jsonl.gz").unlink()
    with pytest.raises(SystemExit, match=r"cannot be read: No such file"):
        written()


def test_the_page_of_controls_says_what_stands_as_in_the_paper() -> None:
    few = ["fresh-init", "own-init-resample", "random-mask-layerwise", "random-mask-global"]
    rows = make_rows(accidents=False, seeds=3, draws=1, controls=few)
    text = controls.write(rows, make_rows(accidents=False, seeds=3, draws=1, controls=[*few, "noise-1"]))
    assert text.count(" holds |") + text.count("NOT SHOWN") == 16
    assert f"{text.count(' holds |')} of 16 of these comparisons stand so here" in text
    assert str(judge(rows)) in text


def test_the_page_of_inherited_weights_is_written_from_claims() -> None:
    both = []
    for _ in rethinking.NETWORKS:
        asked = {"accidents": False, "seeds": 3, "levels": 1, "draws": 1, "structured": True}
        both.append(make_rows(**asked, method=("slimming", "early-bird"), controls=["scratch-e", "uniform-width"]))
        both.append(make_rows(**asked, method=("early-bird", "early-bird-drawn-at-end"), controls=[]))
    text = rethinking.write(*both)
    verdict = judge(both[0])
    for method in verdict.methods:
        for c in method.comparisons:
            line = next(line for line in text.splitlines() if line.startswith(f"- Against `{c.arm}`"))
            assert c.claim in line
            others = "all others are *undecided*" in line
            assert f"{method.method} (" in line or (others and c.claim == "undecided")
    assert str(verdict) in text
    assert rethinking.answer(*both) in text


def test_bullets_name_what_is_decided_and_leave_the_rest_undecided() -> None:
    def told(*claims: tuple[str, str, str]) -> list[str]:
        found = [SimpleNamespace(method=method, arm=arm, claim=claim) for method, arm, claim in claims]
        return pages.bullets({"one": found, "two": found[:1]})

    assert told(("imp", "dense", "better"), ("snip", "dense", "undecided"), ("snip", "mine", "undecided")) == [
        "- Against `dense`: the ticket is *better* in imp (one and two); all others are *undecided*.",
        "- Against `mine` (mine): *undecided* in snip (one).",
    ]


def test_the_page_of_the_lottery_says_no_more_than_its_intervals() -> None:
    def at(rate: float, own: list[float]) -> Rows:
        metrics = {DENSE: [0.5, 0.51, 0.52], ("imp", 1, "ticket"): own, ("imp", 1, "fresh-init"): [0.5, 0.51, 0.52]}
        return study(metrics, recipe={"lr": rate})

    large, small = at(0.1, [0.6, 0.61, 0.62]), at(0.01, [0.4, 0.51, 0.7])
    text = lottery.write(large, small)
    assert "+10.00 pp [+10.00, +10.00] | 3 | better |" in text
    assert text.count("| not shown |") == 1
    assert "learning rate 0.01: original minus fresh +2.67 percentage points" in lottery.said(large, small)


def test_the_page_of_connectivity_gives_each_step_as_it_was_measured() -> None:
    def walked(*middles: float) -> dict[str, Any]:
        paths = [
            {"seed": seed, "step": step, "values": [0.9, 0.9 - dip - seed / 100, 0.9], "losses": [1, 2, 1]}
            for step, dip in enumerate(middles)
            for seed in range(2)
        ]
        about = {"task": "net", "data": "some", "metric": "accuracy", "statistics": "interpolated", "command": ""}
        known = {"higher_is_better": True, "metric_is_fraction": True, "steps": 100, "machine": {"torch": "2"}}
        return {**about, **known, "paths": paths}

    text = connectivity.write([walked(0.0), walked(0.2, 0.0), walked(0.3, 0.2)])
    assert "| 0 | 20.50 % [20.00, 21.00] | 2 | no |" in text
    assert "| 1 | 0.50 % [0.00, 1.00] | 2 | yes |" in text
    assert "Rewind to step 1" in text
    assert "Not stable at any step tried" in text


def test_pages_of_measured_speed_are_written_from_their_records() -> None:
    compaction, small_steps, overhead = map(importlib.import_module, ("compaction", "small_steps", "overhead"))
    one = {"network": "VGG-19", "pixels": 32, "cut": 0.5, "how": "plain", "parameters": 0.25, "peak": 0.5}
    sizes = [
        {"batch": 32, "runs": 5, "analysis": [3.7, 3.9], "torch": "2"},
        {**one, "macs": 4.0, "eager": 3.3, "runtime": 3.8, "error": 6e-16},
    ]
    assert "| VGG-19 | 32 | 50 % | plain | 0.250 | 0.500 | 4.0 | 3.3 | 3.8 | 0.95 | 6e-16 |" in compaction.write(sizes)
    assert "3.3 to 3.3 times as fast in PyTorch" in compaction.answer(sizes)

    turns = {"network": "VGG-19", "dense": [0.5, 0.5, 0.5], "half": [0.1, 0.2, 0.15], "macs": 0.25}
    steps = [{"batch": 32, "turns": 3, "torch": "2"}, {"penalty": 5e-5, "step": 0.5, "scales": 16}, turns]
    assert "| VGG-19 | 500 | 150 | 0.300 [0.300, 0.300] | 0.250 | 1.20 |" in small_steps.write(steps)
    assert "VGG-19 1.20" in small_steps.answer(steps)

    loop = {"compared": "LeNet", "ratios": [1.0, 1.2, 1.3], "blocks": 2, "steps": 3, "step": 1e-3, "wanted": 1.1}
    two = [{"workers": n, "runs": 5, "seconds": 9 / n, "pace": 2 / n} for n in (1, 2)]
    text = overhead.write([{"batch": 60, "torch": "2"}, loop, *two])
    assert "| LeNet | 1.200 (1.000 to 1.300, 3 pairs) | 1,000 | 1.1 | MISSED |" in text
    assert "2.00 times the work of one done (2.00 times once started), wanted at least 1.8: holds" in text


def test_the_page_of_scores_claims_what_all_intervals_together_show() -> None:
    scores: Any = importlib.import_module("scores_on_the_teacher")
    how = {"score": "x", "scope": "global", "iterations": 1, "examples": 512, "mode": None, "temperature": None}
    asked = {
        "seeds": 3, "student": {"hidden": 24, "initialised": "torch"}, "loss": "mse", "recipe": {}, "torch": "2",
        "teacher": {"relevant": 4, "inputs": 16, "hidden": 8},
        "methods": {"random-at-init": how, "snip": how | {"mode": "inference"}},
    }  # fmt: skip
    losses = {"random-at-init": (1.0, 1.0), "snip": (0.5, 1.0)}
    records = [
        {"method": method, "level": level, "density": 0.5**level, "seed": seed, "loss": loss[level - 1] + seed / 1000,
         "shuffled": 1 + seed / 2000, "useful": 0.25}
        for method, loss in losses.items()
        for level in (1, 2)
        for seed in range(3)
    ]  # fmt: skip
    assert scores.answer([asked, *records]) == "Against chance: snip: better at 50.0 %, else not shown."
    text = scores.write([asked, *records])
    assert (
        "`random-at-init`: against its own mask with the places shuffled no difference is shown at any density" in text
    )
    assert "for all 6 comparisons together" in text
    assert "| `snip` | global | 1 | 512 | inference |  |" in text
