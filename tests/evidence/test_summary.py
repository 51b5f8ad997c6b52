from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_rows import make_rows

from scratchcard.evidence.summary import (
    density_text,
    difference_text,
    learning_curves,
    markdown,
    metric_text,
    spread,
    step_cell,
    summarise,
    thinned,
)
from scratchcard.row import Rows

ROWS = make_rows()
FINITE = st.floats(-1e6, 1e6)


def line_of(rows, level, arm):
    return next(line for line in summarise(rows) if (line.level, line.arm) == (level, arm))


def test_every_number_of_a_line_is_recomputed_from_its_rows():
    for line in summarise(ROWS):
        done = [
            row
            for row in ROWS
            if (row.method, row.level, row.arm, row.status) == (line.method, line.level, line.arm, "done")
        ]
        ends = [row.end.test_metric for row in done]
        by_seed = [fmean(r.end.test_metric for r in done if r.seed == s) for s in {row.seed for row in done}]
        assert line.runs == len(done)
        assert line.seeds == len(by_seed)
        assert line.end.mean == pytest.approx(fmean(by_seed), abs=1e-12)
        assert (line.end.low, line.end.high) == (min(ends), max(ends))
        assert line.density == pytest.approx(done[0].density)
        assert line.stop_step.high == max(row.early_stop.step for row in done)
        assert line.censored == sum(row.early_stop.censored for row in done)


def test_a_seed_with_more_draws_does_not_weigh_more():
    found = spread([(0, 1.0), (0, 1.0), (0, 1.0), (1, 0.0)])
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


@given(st.lists(st.tuples(st.integers(0, 4), FINITE), min_size=1))
def test_the_mean_lies_between_the_extremes(values):
    found = spread(values)
    slack = 1e-9 * (1 + abs(found.low) + abs(found.high))
    assert found.low - slack <= found.mean <= found.high + slack


def test_no_value_has_no_spread():
    assert spread([]) is None


def test_diverged_and_failed_runs_are_counted_as_lost_and_never_averaged():
    lines = summarise(ROWS)
    assert sum(line.lost for line in lines) == 2
    assert sum(line.runs + line.lost for line in lines) == len(ROWS)
    only_lost = [row for row in ROWS if row.status == "diverged"]
    (line,) = summarise(Rows(only_lost, ROWS.study))
    assert (line.runs, line.end, line.stop_step) == (0, None, None)


def test_the_mean_step_of_censored_runs_is_called_a_lower_bound():
    censored = next(line for line in summarise(ROWS) if 0 < line.censored < line.runs)
    assert step_cell(censored).startswith("≥ ")
    assert f"{censored.censored} of {censored.runs} censored" in step_cell(censored)
    assert "≥" not in step_cell(line_of(ROWS, 0, "dense"))


def test_the_order_of_the_rows_does_not_matter():
    assert markdown(Rows(list(ROWS)[::-1], ROWS.study)) == markdown(ROWS)


def test_the_dense_network_comes_first_and_arms_follow_the_declared_order():
    arms = [line.arm for line in summarise(ROWS)]
    assert arms[: 1 + 4] == ROWS.study.arms
    levels = [line.level for line in summarise(ROWS)]
    assert levels == sorted(levels)


def test_markdown_is_one_table_that_a_name_cannot_break():
    text = markdown(make_rows(levels=2, seeds=1, task="a|b <img onerror=alert(1)>\n| c", method="i|mp"))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 1 + 2 * 4
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "<img" not in text


def test_learning_curves_are_means_of_finished_runs_at_one_step():
    curves = learning_curves(ROWS, "imp", [7])
    assert {point.level for point in curves} == {0, 7}
    point = next(point for point in curves if point.level == 7 and point.step == 1000)
    runs = [row.curve for row in ROWS if row.level == 7 and row.arm == "ticket"]
    assert point.runs == 5
    assert point.test_metric == pytest.approx(fmean(c.test_metric[c.steps.index(1000)] for c in runs))
    assert point.validation_loss == pytest.approx(fmean(c.validation_loss[10] for c in runs))


def test_thin_curves_keep_their_ends():
    steps = [point.step for point in learning_curves(ROWS, "imp", [], points=8)]
    assert (len(steps), steps[0], steps[-1]) == (8, 0, 4000)


@given(st.integers(0, 200), st.integers(2, 60))
def test_thinning_keeps_order_and_bound_and_repeats_nothing(count, most):
    kept = thinned(range(count), most)
    assert len(kept) == min(count, most)
    assert kept == sorted(set(kept))
    assert not count or (kept[0], kept[-1]) == (0, count - 1)


def test_densities_read_as_in_the_paper():
    assert [density_text(0.8**n) for n in (0, 1, 4, 7, 15, 20)] == [
        "100 %", "80.0 %", "41.0 %", "21.0 %", "3.52 %", "1.15 %",
    ]  # fmt: skip


def test_accuracies_are_printed_in_per_cent_and_losses_are_not():
    loss = make_rows(levels=1, seeds=1, metric="perplexity", metric_is_fraction=False, higher_is_better=False)
    assert metric_text(0.97451, ROWS.study) == "97.45 %"
    assert difference_text(0.0012, ROWS.study) == "+0.12 pp"
    assert metric_text(23.456, loss.study) == "23.46"
    assert difference_text(-1.5, loss.study) == "-1.5"
