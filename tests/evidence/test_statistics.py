"""The paired tests agree with scipy, are honest without spread, and keep their promise in simulations."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scratchcard.evidence.statistics import holm, p_above, p_below, paired, seeds_needed, t_interval

numbers = st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=2, max_size=12)
p_values = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6)


def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "false_positives.py"
    spec = importlib.util.spec_from_file_location("false_positives", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


simulated = benchmark()


@given(numbers.filter(lambda values: np.std(values) > 1e-6))
def test_difference_and_interval_are_those_of_the_t_test(values):
    tested, expected = paired(values, 0.1), stats.ttest_1samp(values, 0)
    assert tested.p_difference == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert (tested.low, tested.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), abs=1e-9)


@given(numbers.filter(lambda values: np.std(values) > 1e-6), st.floats(0.01, 1))
def test_equivalence_is_the_larger_of_two_one_sided_t_tests(values, margin):
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert paired(values, margin).p_equivalence == pytest.approx(max(above, below), rel=1e-6, abs=1e-12)


@given(numbers, st.floats(0.01, 1))
def test_equivalence_is_shown_at_5_percent_where_the_90_percent_interval_lies_inside_the_margin(values, margin):
    low, high = t_interval(values, 0.1)
    if min(abs(low + margin), abs(high - margin)) > 1e-9:
        assert (paired(values, margin).p_equivalence < 0.05) == bool(-margin < low and high < margin)


@given(numbers, st.floats(0, 1))
def test_swapping_the_arms_changes_only_the_sign(values, margin):
    one, other = paired(values, margin), paired([-value for value in values], margin)
    assert (one.mean, one.low) == (-other.mean, -other.high)
    assert one.p_difference == other.p_difference
    assert one.p_equivalence == other.p_equivalence


def test_identical_pairs_are_equivalent_for_certain_and_not_different():
    same = paired([0.0, 0.0, 0.0], 0.005)
    assert (same.mean, same.low, same.high, same.p_difference, same.p_equivalence) == (0, 0, 0, 1, 0)


def test_a_constant_difference_is_certain_and_equivalent_only_inside_the_margin():
    assert paired([0.1, 0.1, 0.1], 0.2).p_difference == 0
    assert paired([0.1, 0.1, 0.1], 0.2).p_equivalence == 0
    assert paired([0.1, 0.1, 0.1], 0.05).p_equivalence == 1


@pytest.mark.parametrize("values", [[], [0.3]])
def test_fewer_than_two_seeds_claim_nothing(values):
    tested = paired(values, 0.5)
    assert (tested.p_difference, tested.p_equivalence) == (1, 1)
    assert np.isnan(tested.low)
    assert np.isnan(tested.high)


def test_many_studies_at_once_are_tested_as_each_alone():
    values = np.random.default_rng(0).normal(0.2, 1, (4, 3, 5))
    together, alone = paired(values, 1.0), paired(values[2, 1], 1.0)
    assert together.p_difference[2, 1] == alone.p_difference
    assert together.p_equivalence[2, 1] == alone.p_equivalence
    assert together.low[2, 1] == alone.low
    assert p_above(values, 0.1).shape == p_below(values, 0.1).shape == (4, 3)


@given(p_values)
def test_the_smallest_p_value_pays_for_all_comparisons_and_the_others_for_more_than_half(pairs):
    raw, m = np.array(pairs).T, len(pairs)
    adjusted = np.array(holm(*raw))
    assert adjusted.min() == pytest.approx(min(1, m * raw.min()))
    assert np.all(adjusted >= np.minimum(1, raw * (m + 1) / 2) - 1e-12)
    assert np.all(adjusted <= 1)


@given(p_values, st.randoms())
def test_the_order_of_the_comparisons_does_not_matter(pairs, random):
    shuffled = list(range(len(pairs)))
    random.shuffle(shuffled)
    difference, equivalence = np.array(pairs).T
    first, second = holm(difference, equivalence), holm(difference[shuffled], equivalence[shuffled])
    for one, other in zip(first, second, strict=True):
        assert one[shuffled] == pytest.approx(other)


def test_a_single_comparison_is_not_corrected():
    assert [p.item() for p in holm([0.03], [0.8])] == [0.03, 0.8]


def test_only_a_comparison_with_both_claims_made_lowers_the_factor_by_half():
    difference, equivalence = holm([0.001, 0.011, 0.2], [0.9, 0.5, 0.01])
    assert difference == pytest.approx([0.003, 0.033, 0.6])
    difference, equivalence = holm([0.001, 0.011, 0.2], [0.002, 0.5, 0.01])
    assert difference == pytest.approx([0.003, 0.0275, 0.5])
    assert equivalence == pytest.approx([0.006, 1, 0.025])


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("truth", simulated.TRUTHS)
@pytest.mark.parametrize("margin", [1.0, 5.0])
def test_a_study_makes_a_false_claim_at_most_as_often_as_declared(seeds, truth, margin):
    studies = 4000
    random = np.random.default_rng([seeds, list(simulated.TRUTHS).index(truth)])
    values = simulated.differences(random, "Gaussian", truth, margin, studies, seeds)
    allowed = 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)
    assert simulated.false_claims(values, truth, margin)["any"] <= allowed


def test_uncorrected_claims_would_break_that_promise():
    values = simulated.differences(np.random.default_rng(0), "Gaussian", "no difference", 5.0, 4000, 5)
    assert simulated.false_claims(values, "no difference", 5.0, lambda *p: p)["any"] > 0.08


def test_plain_holm_on_the_smaller_p_value_would_break_that_promise():
    def plain(difference, equivalence):
        smaller = np.minimum(difference, equivalence)
        order = np.argsort(smaller, axis=-1)
        rank = np.argsort(order, axis=-1)
        factor = smaller.shape[-1] - rank
        running = np.maximum.accumulate(np.take_along_axis(smaller * factor, order, -1), axis=-1)
        before = np.take_along_axis(running, rank, -1)
        return np.maximum(before, difference * factor), np.maximum(before, equivalence * factor)

    truth = "ticket one margin better"
    values = np.random.default_rng(0).normal(1.5, 1, (4000, 4, 10))
    assert simulated.false_claims(values, truth, 1.5, plain)["any"] > 0.08
    assert simulated.false_claims(values, truth, 1.5)["any"] <= 0.055


@pytest.mark.parametrize(("mean", "margin"), [(0.5, 0.05), (0.0, 1.0), (-0.8, 0.3), (0.1, 0.9)])
def test_the_seeds_asked_for_decide_four_times_out_of_five_and_one_fewer_does_not(mean, margin):
    alpha, random = 0.05, np.random.default_rng(1)
    needed = seeds_needed(mean, 1.0, margin, alpha)
    assert needed is not None

    def power(n: int) -> float:
        tested = paired(random.normal(mean, 1.0, (20_000, n)), margin)
        different = tested.p_difference <= alpha
        claims = (different & (tested.mean > 0), different & (tested.mean < 0), tested.p_equivalence <= alpha)
        return max(claim.mean() for claim in claims)

    assert power(needed) > 0.79
    assert power(needed - 1) < 0.81


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 0.0), (0.1, 0.0)])
def test_without_spread_two_seeds_decide(mean, sd):
    assert seeds_needed(mean, sd, 0.05, 0.05) == 2


@pytest.mark.parametrize(("mean", "sd"), [(0.0, float("nan")), (0.005, 1.0)])
def test_no_number_of_seeds_is_promised_without_a_known_spread_or_beyond_200(mean, sd):
    assert seeds_needed(mean, sd, 0.005, 0.05) is None


def test_two_equal_differences_of_a_coarse_metric_are_no_certainty() -> None:
    grain = 1 / 150  # an accuracy on 150 examples: two seeds that are both one example better show very little
    agreeing = paired([grain, grain], margin=0.01, grain=grain)
    assert agreeing.p_difference > 0.05
    assert agreeing.p_equivalence > 0.05
    assert agreeing.low < 0 < agreeing.high


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=8), st.floats(1e-4, 0.1))
def test_a_grain_never_narrows_an_interval(counts: list[int], grain: float) -> None:
    values = [count * grain for count in counts]
    fine, coarse = paired(values, margin=0.01), paired(values, margin=0.01, grain=grain)
    assert coarse.low <= fine.low
    assert coarse.high >= fine.high
    assert coarse.sd >= grain / 6**0.5 * (1 - 1e-12)
