import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from make_rows import EVERY_CONTROL, MACHINE, make_rows

from scratchcard.evidence.price import flops_text
from scratchcard.evidence.report import PAGE, report
from scratchcard.evidence.summary import density_text, metric_cell, summarise
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows

ROWS = make_rows(anatomy=True)
NASTY = '</script><img src=x onerror="alert(1)">\'"&'


class Page(HTMLParser):
    """What a browser would make of the page: text, tags, and the specifications of its figures."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.words, self.specs, self.inside = [], [], {}, None
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = dict(attrs).get("id", dict(attrs).get("type", tag))

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside = None

    def handle_data(self, data):
        if self.inside is None:
            self.words.append(data)
        elif self.inside not in ("script", "style"):
            self.specs[self.inside] = json.loads(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return Page(report(ROWS, tmp_path_factory.mktemp("report") / "report.html"))


def test_the_page_opens_with_the_verdict_and_prints_each_leg(page):
    verdict = judge(ROWS)
    lead, _, rest = verdict.sentence.partition(": ")
    assert page.text.index(lead) < page.text.index(rest[1:]) < page.text.index("The price")
    for method in verdict.methods:
        assert method.why in page.text
        assert all(leg.text in page.text and leg.name in page.text for leg in method.legs)
        assert all(comparison.arm in page.text for comparison in method.comparisons)


def test_every_number_of_the_tables_is_on_the_page(page):
    for line in summarise(ROWS):
        assert metric_cell(line.end, ROWS.study) in page.text
        assert metric_cell(line.early_stop, ROWS.study) in page.text


def test_the_price_is_shown_standalone_and_marginal(page):
    ticket = next(row for row in ROWS if (row.level, row.arm) == (7, "ticket"))
    assert flops_text(ticket.search_flops) in page.text
    assert flops_text(ticket.train_flops) in page.text
    assert flops_text(ticket.search_flops + ticket.train_flops) in page.text
    assert f"{ticket.nonzero:,}" in page.text


def test_every_figure_has_the_table_behind_it(page):
    plots = [attrs["data-spec"] for tag, attrs in page.tags if attrs.get("class") == "plot"]
    assert plots == list(page.specs)
    names = [name.removeprefix("figure-1-") for name in page.specs]
    assert names == ["differences", "arms", "metric", "early-stop", "curves-metric", "curves-loss", "layers",
                     "initial-weights", "movement", "connections-in", "connections-out"]  # fmt: skip
    assert page.text.count("The table behind this figure") == len(names)
    titles = [attrs["aria-labelledby"] for tag, attrs in page.tags if tag == "figure"]
    assert titles == [f"{spec}-title" for spec in page.specs]
    assert all(spec["description"] for spec in page.specs.values())


def test_figures_show_the_means_of_the_table(page):
    values = page.specs["figure-1-metric"]["data"]["values"]
    shown = {(entry["level"], entry["line"]): entry["mean"] for entry in values}
    assert shown == {(line.level, line.arm): pytest.approx(100 * line.end.mean) for line in summarise(ROWS)}


def test_the_interval_of_every_comparison_is_drawn(page):
    values = page.specs["figure-1-differences"]["data"]["values"]
    drawn = {entry["arm"]: (entry["mean"], entry["low"], entry["high"]) for entry in values}
    (verdict,) = judge(ROWS).methods
    assert drawn == {c.arm: pytest.approx((100 * c.mean, 100 * c.low, 100 * c.high)) for c in verdict.comparisons}


def test_hollow_marks_are_exactly_the_arms_with_a_censored_run(page):
    values = page.specs["figure-1-early-stop"]["data"]["values"]
    hollow = {(entry["level"], entry["line"]) for entry in values if not entry["whole"]}
    assert hollow == {(line.level, line.arm) for line in summarise(ROWS) if line.censored}
    assert hollow


def test_lost_runs_are_named_with_their_reason(page):
    assert "diverged: The training loss was not finite at step 1200." in page.text
    assert "failed: RuntimeError: the worker was killed." in page.text


def test_nothing_is_loaded_from_anywhere(page):
    assert not [attrs for tag, attrs in page.tags if tag in ("link", "img", "iframe") or "src" in attrs]
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_what_was_not_measured_is_said(page, tmp_path):
    assert "dense kernels save no time" in page.text
    assert "every run was made on a CPU" in page.text
    rows = make_rows(seeds=2, levels=2, arms=["dense", "ticket", "fresh-init"])
    few = Page(report(rows, tmp_path / "few.html"))
    assert "runs of 2 seed(s)" in few.text
    absent = "random-mask-layerwise, random-mask-global, dense-for-the-search"
    assert f"Controls that were not planned: {absent}." in few.text
    rows = make_rows(seeds=3, levels=2, machine={**MACHINE, "device": "cuda: H200"})
    part = Page(report(Rows(list(rows)[:-4], rows.study), tmp_path / "part.html"))
    assert "4 of 39 planned runs" in part.text
    assert "on a CPU" not in part.text


def test_the_page_says_how_to_reproduce_it(page):
    for text in ("scratchcard study digits --seeds 5", "learning_rate = 0.0012", "0.50 pp", "2.13.0",
                 "primary level 7 (density 21.0 %)", ROWS.study.data, ROWS.study.task_digest):  # fmt: skip
        assert text in page.text


def test_mixed_versions_devices_and_threads_are_warned_of_and_equal_ones_are_not(page, tmp_path):
    assert "Runs differ in" not in page.text
    one, other = (make_rows(levels=2, machine={**MACHINE, "threads": n}) for n in "12")
    mixed = Page(report(Rows([*list(one)[:10], *list(other)[10:]], one.study), tmp_path / "mixed.html"))
    assert "Runs differ in threads: 1 (10 runs), 2 (55 runs)." in mixed.text
    assert "Runs differ in torch" not in mixed.text


def test_names_given_by_a_user_cannot_break_out(tmp_path):
    names = {"task": NASTY, "method": NASTY, "metric": NASTY, "loss": NASTY, "data": NASTY, "command": NASTY}
    names |= {"controls": [NASTY], "shapes": {NASTY: (4, 4)}, "machine": {NASTY: NASTY}}
    few = {"levels": 2, "seeds": 2, "accidents": False, "anatomy": True}
    page = Page(report(make_rows(**few, **names), tmp_path / "nasty.html"))
    plain_names = {"controls": ["other"], "shapes": {"w": (4, 4)}, "machine": {"a": "b"}}
    plain = Page(report(make_rows(**few, **plain_names), tmp_path / "plain.html"))
    assert "img" not in {tag for tag, _ in page.tags}
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert page.source.count("<img") == plain.source.count("<img")
    assert page.text.count(NASTY) > 9
    for field in ("line", "layer"):
        drawn = [entry.get(field) for spec in page.specs.values() for entry in spec["data"]["values"]]
        assert NASTY in drawn, field
    assert "\\u003c/script" in page.source
    assert page.source.count("</script") == plain.source.count("</script")
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]


@pytest.mark.parametrize("measure", ["end", "early_stop"])
@pytest.mark.parametrize("higher", [True, False])
def test_one_seed_and_two_levels_are_enough(tmp_path, measure, higher):
    rows = make_rows(
        seeds=1, levels=2, accidents=False, measure=measure, higher_is_better=higher, margin_kind="relative"
    )
    page = Page(report(rows, tmp_path / "small.html"))
    assert len(page.specs) == 7
    assert "nan" not in page.text.lower().split()


def test_a_study_that_has_only_begun_is_reported(tmp_path):
    rows = make_rows(levels=3)
    begun = Page(report(Rows([rows[0]], rows.study), tmp_path / "begun.html"))
    assert "planned runs, which have no row yet" in begun.text
    without_dense = Rows([row for row in rows if row.arm != "dense"], rows.study)
    assert len(Page(report(without_dense, tmp_path / "tickets.html")).specs) >= 5


def test_runs_without_a_validation_curve_are_reported(tmp_path):
    rows = make_rows(levels=2, accidents=False)
    bare = Rows([row.model_copy(update={"curve": None, "early_stop": None}) for row in rows], rows.study)
    names = [name.removeprefix("figure-1-") for name in Page(report(bare, tmp_path / "bare.html")).specs]
    assert names == ["differences", "arms", "metric", "layers"]


def test_two_methods_have_a_section_each_after_one_about_both(tmp_path):
    rows = make_rows(levels=3, method=["imp", "snip"])
    both = Page(report(rows, tmp_path / "both.html"))
    assert [name.rpartition("-")[0] for name in both.specs][:2] == ["overview", "figure-1"]
    assert len(both.specs) == 1 + 2 * 7
    values = both.specs["overview-methods"]["data"]["values"]
    shown = {(entry["line"], entry["level"]): entry["mean"] for entry in values}
    lines = [line for line in summarise(rows) if line.arm in ("dense", "ticket")]
    assert shown == {(line.method, line.level): pytest.approx(100 * line.end.mean) for line in lines}
    for method in judge(rows).methods:
        assert method.sentence in both.text
        assert {entry["level"] for entry in values if entry["large"]} == {method.level}


def test_many_controls_are_drawn_family_by_family_and_none_is_lost(tmp_path):
    rows = make_rows(levels=4, controls=EVERY_CONTROL, control_levels=[2])
    page = Page(report(rows, tmp_path / "many.html"))
    panels = {name: spec for name, spec in page.specs.items() if name.startswith("figure-1-metric-")}
    families = ["weights", "noise", "signs", "mask", "network"]
    assert list(panels) == [f"figure-1-metric-{family}" for family in families]
    drawn = [{entry["line"] for entry in spec["data"]["values"]} for spec in panels.values()]
    assert all(arms > {"dense", "ticket"} and len(arms) <= 6 for arms in drawn)
    assert sorted(arm for arms in drawn for arm in arms - {"dense", "ticket"}) == sorted(EVERY_CONTROL)
    assert "besides the primary level they were planned at 2" in page.text
    assert "planned runs, which have no row yet" not in page.text
    for arm in EVERY_CONTROL:
        assert f"<dt>{arm}</dt>" in page.source


def test_a_control_left_out_is_named_with_the_reason(tmp_path):
    rows = make_rows(levels=2, method=["imp", "random"])
    plans = {
        name: plan.model_copy(update={"left_out": {"inverted-scores": "it has no scores"}})
        for name, plan in rows.study.methods.items()
    }
    study = rows.study.model_copy(update={"methods": plans})
    page = Page(report(Rows(list(rows), study), tmp_path / "left_out.html"))
    assert page.text.count("The control inverted-scores of imp, random: it has no scores.") == 1


def test_a_study_of_before_anatomy_and_planned_runs_is_reported_as_it_was(tmp_path):
    rows = make_rows(levels=3)
    old = Rows(list(rows)[:-4], rows.study.model_copy(update={"planned": None}))
    page = Page(report(old, tmp_path / "old.html"))
    assert "4 of 95 planned runs" in page.text
    assert not {"initial-weights", "movement"} & {name.removeprefix("figure-1-") for name in page.specs}


DEEP = {f"blocks.{at}.attention.projection.weight": (32, 32) for at in range(110)}


@pytest.mark.parametrize(
    ("given", "megabytes"),
    [({"controls": EVERY_CONTROL[:6]}, 1.6), ({"shapes": DEEP}, 2.0)],
    ids=["eight arms", "110 layers"],
)
def test_the_page_stays_small(tmp_path, given, megabytes):
    page = report(make_rows(anatomy=True, **given), tmp_path / "large.html")
    assert page.stat().st_size < 1e6 * megabytes


def test_the_page_is_light_or_dark_as_asked_and_the_two_have_the_same_colours_by_name(page):
    assert ("meta", {"name": "color-scheme", "content": "light dark"}) in page.tags
    assert "@media print" in page.source
    for name, (light, dark) in PAGE.items():
        assert f"--{name}: light-dark({light}, {dark});" in page.source


def test_a_study_without_a_finished_run_is_refused_with_what_to_do(tmp_path):
    rows = make_rows(levels=2)
    lost = Rows([row for row in rows if row.status != "done"], rows.study)
    for nothing in (Rows([], rows.study), lost):
        with pytest.raises(ValueError, match=r"has no finished run .* recorded as `scratchcard study digits"):
            report(nothing, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_the_report_never_imports_torch():
    code = "import sys, scratchcard.evidence.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_operations_are_printed_with_an_si_prefix():
    assert [flops_text(n) for n in (0, 383e9, 999.6e9, 2.684e12)] == [
        "0 FLOP", "383 GFLOP", "1 TFLOP", "2.68 TFLOP",
    ]  # fmt: skip
    assert density_text(1.0) == "100 %"
