import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from make_rows import MACHINE, make_rows

from scratchcard.evidence.report import flops_text, report
from scratchcard.evidence.summary import density_text, metric_cell, summarise
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows

ROWS = make_rows()
NASTY = '</script><img src=x onerror="alert(1)">\'"&'


class Page(HTMLParser):
    """What a browser would make of the page: text, tags, and the specifications of its figures."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.words, self.specs, self.inside = [], [], [], None
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = dict(attrs).get("type", tag)

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside = None

    def handle_data(self, data):
        if self.inside is None:
            self.words.append(data)
        elif self.inside == "application/json":
            self.specs.append(json.loads(data))


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
    plots = [attrs for tag, attrs in page.tags if attrs.get("class") == "plot"]
    assert len(plots) == len(page.specs) == 5
    assert page.text.count("The table behind this figure") == 5


def test_figures_show_the_means_of_the_table(page):
    values = page.specs[1]["data"]["values"]
    shown = {(entry["level"], entry["arm"]): entry["mean"] for entry in values}
    assert shown == {(line.level, line.arm): pytest.approx(100 * line.end.mean) for line in summarise(ROWS)}


def test_the_interval_of_every_comparison_is_drawn(page):
    drawn = {entry["arm"]: (entry["mean"], entry["low"], entry["high"]) for entry in page.specs[0]["data"]["values"]}
    (verdict,) = judge(ROWS).methods
    assert drawn == {c.arm: pytest.approx((100 * c.mean, 100 * c.low, 100 * c.high)) for c in verdict.comparisons}


def test_hollow_marks_are_exactly_the_arms_with_a_censored_run(page):
    values = page.specs[2]["data"]["values"]
    hollow = {(entry["level"], entry["arm"]) for entry in values if not entry["whole"]}
    assert hollow == {(line.level, line.arm) for line in summarise(ROWS) if line.censored}
    assert hollow


def test_lost_runs_are_named_with_their_reason(page):
    assert "diverged: The training loss was not finite at step 1200." in page.text
    assert "failed: RuntimeError: the worker was killed." in page.text


def test_nothing_is_loaded_from_anywhere(page):
    assert not [attrs for tag, attrs in page.tags if tag in ("link", "img", "iframe") or "src" in attrs]
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert len(page.source) < 2_000_000


def test_what_was_not_measured_is_said(page, tmp_path):
    assert "dense kernels save no time" in page.text
    assert "every run was made on a CPU" in page.text
    rows = make_rows(seeds=2, levels=2, arms=["dense", "ticket", "fresh-init"])
    few = Page(report(rows, tmp_path / "few.html"))
    assert "runs of 2 seed(s)" in few.text
    assert "Controls that were not planned: random-mask-layerwise, random-mask-global." in few.text
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
    rows = make_rows(task=NASTY, method=NASTY, metric=NASTY, loss=NASTY, data=NASTY, command=NASTY, levels=2, seeds=2)
    page = Page(report(rows, tmp_path / "nasty.html"))
    plain = Page(report(make_rows(levels=2, seeds=2), tmp_path / "plain.html"))
    assert "img" not in {tag for tag, _ in page.tags}
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert page.source.count("<img") == plain.source.count("<img")
    assert page.text.count(NASTY) > 5
    titles = json.dumps(page.specs)
    assert json.dumps(NASTY)[1:-1] in titles
    assert "\\u003c/script" in page.source
    assert page.source.count("</script") == plain.source.count("</script")


@pytest.mark.parametrize("measure", ["end", "early_stop"])
@pytest.mark.parametrize("higher", [True, False])
def test_one_seed_and_two_levels_are_enough(tmp_path, measure, higher):
    rows = make_rows(
        seeds=1, levels=2, accidents=False, measure=measure, higher_is_better=higher, margin_kind="relative"
    )
    page = Page(report(rows, tmp_path / "small.html"))
    assert len(page.specs) == 5
    assert "nan" not in page.text.lower().split()


def test_a_study_that_has_only_begun_is_reported(tmp_path):
    rows = make_rows(levels=3)
    begun = Page(report(Rows([rows[0]], rows.study), tmp_path / "begun.html"))
    assert "planned runs, which have no row yet" in begun.text
    without_dense = Rows([row for row in rows if row.arm != "dense"], rows.study)
    assert len(Page(report(without_dense, tmp_path / "tickets.html")).specs) >= 4


def test_runs_without_a_validation_curve_are_reported(tmp_path):
    rows = make_rows(levels=2, accidents=False)
    bare = Rows([row.model_copy(update={"curve": None, "early_stop": None}) for row in rows], rows.study)
    assert len(Page(report(bare, tmp_path / "bare.html")).specs) == 2


def test_two_methods_have_a_section_each(tmp_path):
    one, other = make_rows(levels=2), make_rows(levels=3, method="snip")
    study = one.study.model_copy(update={"methods": {**one.study.methods, **other.study.methods}})
    both = Page(report(Rows([*one, *(row for row in other if row.level)], study), tmp_path / "both.html"))
    assert len(both.specs) == 10
    for method in judge(Rows([*one, *(row for row in other if row.level)], study)).methods:
        assert method.sentence in both.text


def test_a_study_without_a_finished_run_is_refused_with_what_to_do(tmp_path):
    rows = make_rows(levels=2)
    lost = Rows([row for row in rows if row.status != "done"], rows.study)
    for nothing in (Rows([], rows.study), lost):
        with pytest.raises(ValueError, match=r"has no finished run .* run `scratchcard study digits"):
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
