"""A ticket of a search that never settled was cut and not trained: verdict and page say so beside its number."""

import html

import pytest
from make_rows import make_rows

from scratchcard.evidence.report import report
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows

ROWS = make_rows(
    levels=2, seeds=3, method=["slimming", "early-bird"], controls=[], structured=True, accidents=False
)  # level 2 is judged


def without_an_early_bird(*places, rows=ROWS):
    """The rows, with no step at which the detector fired in the searches of these (level, seed)."""

    def never(row):
        search = row.search.emergence.model_copy(update={"emerged": None, "drawn": row.search.emergence.search_steps})
        return row.model_copy(update={"search": row.search.model_copy(update={"emergence": search})})

    hit = lambda row: row.search.emergence is not None and (row.level, row.seed) in places  # noqa: E731
    return Rows([never(row) if hit(row) else row for row in rows], rows.study)


def said(rows):
    slimming, early = judge(rows).methods
    assert slimming.caveats == []
    return early


TWO = (
    "In 2 of 3 seeds (0, 2) the masks had not settled by the end of the search: those tickets were cut there and not "
    "trained on, so that their accuracy is that of cutting alone."
)


def test_tickets_that_were_cut_and_never_trained_are_named_right_after_the_verdict():
    early = said(without_an_early_bird((2, 0), (2, 2)))
    assert early.caveats == [TWO]
    assert str(early).split("\n  ")[:3] == [early.sentence, TWO, early.why]
    assert TWO in str(judge(without_an_early_bird((2, 0), (2, 2))))


def test_only_finished_tickets_of_the_judged_level_are_counted():
    assert said(ROWS).caveats == []
    assert said(without_an_early_bird((1, 0), (1, 1), (1, 2))).caveats == []
    lost = {"status": "failed", "end": None, "early_stop": None, "curve": None}
    rows = without_an_early_bird((2, 0), (2, 2))
    rows = Rows([row.model_copy(update=lost) if row.level == 2 and row.seed == 2 else row for row in rows], rows.study)
    (caveat,) = said(rows).caveats
    assert caveat.startswith("In 1 of 2 seeds (0) the masks")
    assert caveat.endswith(
        "that ticket was cut there and not trained on, so that its accuracy is that of cutting alone."
    )


@pytest.mark.parametrize(("places", "times"), [([(2, 0), (2, 2)], 1), ([], 0)])
def test_the_page_says_it_under_the_method_it_is_about(tmp_path, places, times):
    rows = without_an_early_bird(*places)
    page = html.unescape(report(rows, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.count(TWO) == times
    if times:
        own = page[page.index('id="method-2"') :]
        assert own.index(said(rows).why) < own.index(TWO) < own.index("Ticket against every other arm")
