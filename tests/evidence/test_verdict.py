"""Every sentence of the closed list is reached by the rows that deserve it, and by no others."""

import math

import numpy as np
import pytest
from small_study import DENSE, run, study

from scratchcard.evidence.statistics import holm, paired
from scratchcard.evidence.verdict import Outcome, judge
from scratchcard.row import Rows

TICKET, FRESH, MASK = ("imp", 1, "ticket"), ("imp", 1, "fresh-init"), ("imp", 1, "random-mask-global")
BASE = [0.900, 0.904, 0.898, 0.901, 0.903]
JITTER = np.array([0.0003, -0.0004, 0.0001, 0.0002, -0.0002])


def shifted(by, noise=1.0):
    """Metrics that lie this far above the dense ones, with a little noise."""
    return list(np.array(BASE) + by + noise * JITTER)


def only(rows):
    (verdict,) = judge(rows).methods
    return verdict


def test_a_ticket_clearly_above_dense_and_its_control_is_better_because_of_its_weights():
    verdict = only(study({DENSE: BASE, TICKET: shifted(0.01), FRESH: shifted(-0.02, -1)}))
    assert verdict.outcome is Outcome.BETTER_AND_SMALLER
    assert "beats dense by +1.00 pp [+0.9" in verdict.sentence
    assert verdict.why.startswith("Why: the initial weights matter: +3.00 pp")
    assert [(c.arm, c.n, c.claim) for c in verdict.comparisons] == [
        ("dense", 5, "better"),
        ("fresh-init", 5, "better"),
    ]


def test_a_ticket_within_the_margin_is_matching_even_when_shown_to_be_a_little_worse():
    verdict = only(study({DENSE: BASE, TICKET: shifted(-0.002)}))
    assert verdict.outcome is Outcome.MATCHING_AND_SMALLER
    assert "equivalent and worse" in str(verdict.comparisons[0])
    assert verdict.why == "Why: not known, no control of the same size was run."


def test_a_ticket_shown_better_by_less_than_the_margin_is_better_and_its_size_is_printed():
    verdict = only(study({DENSE: BASE, TICKET: shifted(0.002)}))
    assert verdict.outcome is Outcome.BETTER_AND_SMALLER
    assert "+0.20 pp" in verdict.sentence


def test_a_price_is_printed_with_its_interval_when_another_level_is_not_as_bad():
    rows = study({DENSE: BASE, TICKET: shifted(-0.01), ("imp", 2, "ticket"): shifted(0.0, 30)})
    verdict = only(rows)
    assert verdict.outcome is Outcome.SMALLER_AT_A_PRICE
    assert "costs -1.00 pp [-1.0" in verdict.sentence


def test_no_smaller_match_needs_every_planned_level_to_be_worse_by_more_than_the_margin():
    both = {DENSE: BASE, TICKET: shifted(-0.01), ("imp", 2, "ticket"): shifted(-0.03)}
    assert only(study(both)).outcome is Outcome.NO_SMALLER_MATCH
    assert "each of the 2 levels" in only(study(both)).sentence
    missing = Rows([row for row in study(both) if row.level != 2], study(both).study)
    assert only(missing).outcome is Outcome.SMALLER_AT_A_PRICE
    close = both | {("imp", 2, "ticket"): shifted(-0.004)}
    assert only(study(close)).outcome is Outcome.SMALLER_AT_A_PRICE


@pytest.mark.parametrize("control", [0.01, 0.03])
def test_a_control_that_does_as_well_or_better_explains_the_ticket_away(control):
    rows = study({DENSE: BASE, TICKET: shifted(0.01), FRESH: shifted(-0.02, -1), MASK: shifted(control, -1)})
    verdict = only(rows)
    assert verdict.outcome is Outcome.EXPLAINED_BY_A_CONTROL
    assert "but a random mask of the same density overall" in verdict.sentence
    assert "fresh weights" not in verdict.sentence


@pytest.mark.parametrize("arm", ["noise-0.5", "sign-constant", "sign-redrawn", "continued"])
def test_a_control_that_keeps_part_of_the_ticket_explains_nothing_away(arm):
    rows = study({DENSE: BASE, TICKET: shifted(0.01), FRESH: shifted(-0.02, -1), ("imp", 1, arm): shifted(0.01, -1)})
    verdict = only(rows)
    assert verdict.outcome is Outcome.BETTER_AND_SMALLER
    assert "does as well within the margin" in verdict.why


@pytest.mark.parametrize(
    "arm", ["own-init-shuffle", "random-sign-constant", "shuffled-mask", "uniform-width", "my-own"]
)
def test_a_control_that_keeps_nothing_of_the_weights_or_the_mask_explains_the_ticket_away(arm):
    rows = study({DENSE: BASE, TICKET: shifted(0.01), ("imp", 1, arm): shifted(0.01, -1)})
    assert only(rows).outcome is Outcome.EXPLAINED_BY_A_CONTROL


UNIFORM = ("imp", 1, "uniform-width")


def of_units(metrics):
    """The verdict on tickets whose networks have units cut."""
    rows = study(metrics)
    return only(Rows([row.model_copy(update={"widths": {"conv": (4, 8)} if row.level else {}}) for row in rows],
                     rows.study))  # fmt: skip


def test_a_ticket_of_units_is_called_better_only_with_three_seeds_and_a_uniform_width_control():
    better = {DENSE: BASE, TICKET: shifted(0.01, 0.1)}
    control = {UNIFORM: shifted(-0.02, -0.1)}
    refused = (
        "better by its numbers, but that is claimed only with at least 3 seeds and a uniform-width control; here: "
    )
    for n, beside, here, needed in [
        (5, 5, None, None),
        (3, 3, None, None),
        (3, 2, None, None),
        (3, 1, "3 seeds, such a control in 1 of them only; run the control uniform-width.", None),
        (5, 0, "5 seeds, no such control; run the control uniform-width.", None),
        (2, 2, "2 seeds, such a control; run 1 more seed.", 3),
        (2, 0, "2 seeds, no such control; run 1 more seed and the control uniform-width.", None),
    ]:
        metrics = {key: values[:n] for key, values in better.items()}
        if beside:
            metrics |= {key: [*values[:beside], *[None] * (n - beside)] for key, values in control.items()}
        said = of_units(metrics)
        assert said.comparisons[0].claim == "better"
        assert only(study(metrics)).outcome is Outcome.BETTER_AND_SMALLER, "of single weights"
        if here is None:
            assert said.outcome is Outcome.BETTER_AND_SMALLER
            continue
        assert said.outcome is Outcome.UNDECIDED
        assert said.sentence.endswith(refused + here)
        assert "+1.0" in said.sentence
        assert said.seeds_needed == needed


def test_what_is_missing_for_better_keeps_no_other_answer_from_being_given():
    scratch = {("imp", 1, "scratch-e"): shifted(0.01, -1)}
    assert of_units({DENSE: BASE, TICKET: shifted(0.01)} | scratch).outcome is Outcome.EXPLAINED_BY_A_CONTROL
    assert of_units({DENSE: BASE, TICKET: shifted(-0.002)}).outcome is Outcome.MATCHING_AND_SMALLER
    assert of_units({DENSE: BASE, TICKET: shifted(-0.01)}).outcome is Outcome.NO_SMALLER_MATCH
    open_ = of_units({DENSE: BASE, TICKET: shifted(0.003, 20)})
    assert "more seeds would decide" in open_.sentence
    assert "better by its numbers" not in open_.sentence


def test_many_controls_are_told_by_what_they_show():
    worse = {("imp", 1, f"noise-{at}"): shifted(0.01 - at / 100, -1) for at in range(2, 8)}
    even = {("imp", 1, "noise-1"): shifted(0.01, -1), FRESH: shifted(0.0, 60), MASK: shifted(0.05, 1)}
    why = only(study({DENSE: BASE, TICKET: shifted(0.01)} | worse | even)).why
    assert why.startswith("Why: the ticket beats 6 of 9 controls, by +2.00 pp (noise-2) to +7.00 pp (noise-7); ")
    assert "is matched by noise-1; is beaten by random-mask-global; is not told apart from fresh-init." in why


def test_of_many_controls_that_do_as_well_the_sentence_names_two():
    even = {("imp", 1, f"own-{at}"): shifted(0.01, -1) for at in range(5)}
    sentence = only(study({DENSE: BASE, TICKET: shifted(0.01)} | even)).sentence
    assert sentence.startswith("Explained by a control")
    assert "own-0 (" in sentence
    assert "and 3 more controls" in sentence
    assert "own-2" not in sentence


def test_an_undecided_control_leaves_the_outcome_and_says_that_the_cause_is_not_known():
    verdict = only(study({DENSE: BASE, TICKET: shifted(0.01), FRESH: shifted(0.0, 40)}))
    assert verdict.outcome is Outcome.BETTER_AND_SMALLER
    assert "not known whether the initial weights matter" in verdict.why


def test_an_undecided_verdict_says_how_many_more_seeds_would_decide():
    verdict = only(study({DENSE: BASE, TICKET: shifted(0.003, 20)}))
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.seeds_needed
    assert f"{verdict.seeds_needed - 5} more seeds would decide" in verdict.sentence
    family = only(study({DENSE: BASE, TICKET: shifted(0.003, 20), FRESH: BASE, MASK: BASE}))
    assert family.seeds_needed is not None
    assert family.seeds_needed > verdict.seeds_needed


def test_one_seed_decides_nothing():
    verdict = only(study({DENSE: [0.9], TICKET: [0.99]}))
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.seeds_needed is None
    assert "one seed shows no spread" in verdict.sentence
    assert math.isnan(verdict.comparisons[0].low)


def test_a_method_whose_runs_all_diverged_is_undecided_and_says_why():
    verdict = only(study({DENSE: BASE, TICKET: [None] * 5, FRESH: shifted(0)}))
    assert verdict.outcome is Outcome.UNDECIDED
    assert "ticket seed 0 diverged (loss was nan at step 7)" in verdict.sentence
    assert not verdict.winning_ticket


def test_identical_runs_match_for_certain():
    verdict = only(study({DENSE: BASE, TICKET: BASE}))
    assert verdict.outcome is Outcome.MATCHING_AND_SMALLER
    assert verdict.comparisons[0].p_equivalence == 0


def test_diverged_and_absent_runs_are_named_and_pairs_stay_pairs():
    rows = study({DENSE: BASE, TICKET: [*shifted(0.01)[:3], None], FRESH: shifted(0.0)})
    comparison = only(rows).comparisons[0]
    assert comparison.n == 3
    assert comparison.mean == pytest.approx(0.01 + JITTER[:3].mean())
    assert comparison.missing == ["ticket seed 3 diverged (loss was nan at step 7)", "ticket seed 4 not run"]
    assert "ticket seed 4 not run" in str(judge(rows))


def test_draws_of_one_seed_are_averaged_and_do_not_count_as_seeds():
    rows = study({DENSE: BASE, TICKET: shifted(0.01), FRESH: shifted(0.0)})
    more = [run("imp", 1, "fresh-init", seed, shifted(0.004)[seed], replicate=1) for seed in range(5)]
    fresh = only(Rows([*rows, *more], rows.study)).comparisons[1]
    assert (fresh.n, fresh.mean) == (5, pytest.approx(0.01 - 0.002))


def test_the_rounding_of_an_average_is_no_difference():
    rows = study({DENSE: BASE, TICKET: [0.2] * 5, FRESH: [0.1] * 5})
    more = [run("imp", 1, "fresh-init", seed, draw / 10, replicate=draw) for seed in range(5) for draw in (2, 3)]
    fresh = only(Rows([*rows, *more], rows.study)).comparisons[1]
    assert (fresh.mean, fresh.p_difference) == (0, 1)


def test_lower_is_better_flips_the_sign_only():
    loss = {DENSE: BASE, TICKET: shifted(-0.01), FRESH: shifted(0.02, -1)}
    verdict = only(study(loss, higher_is_better=False, metric_is_fraction=False))
    assert verdict.outcome is Outcome.BETTER_AND_SMALLER
    assert "+0.0" in verdict.sentence
    assert "pp" not in str(verdict)


def test_a_relative_margin_is_a_fraction_of_the_dense_mean():
    verdict = only(study({DENSE: BASE, TICKET: BASE}, margin=0.01, margin_kind="relative"))
    assert verdict.comparisons[0].margin == pytest.approx(0.01 * np.mean(BASE))


def test_other_levels_are_described_and_claim_nothing():
    rows = study({DENSE: BASE, TICKET: shifted(0.01), ("imp", 2, "ticket"): shifted(0.03)})
    (other,) = only(rows).descriptive
    assert (other.level, other.claim, other.primary) == (2, "undecided", False)
    assert math.isnan(other.adjusted_difference)


def test_the_primary_comparisons_of_all_methods_are_corrected_together():
    values = {DENSE: BASE, TICKET: shifted(0.004, 5), FRESH: shifted(0.001, -8)}
    values |= {("snip", 1, "ticket"): shifted(-0.002, 4), ("imp", 2, "ticket"): shifted(0.03)}
    rows = study(values)
    found = [c for method in judge(rows).methods for c in method.comparisons]
    pairs = [(TICKET, DENSE), (TICKET, FRESH), (("snip", 1, "ticket"), DENSE)]
    differences = np.round([np.subtract(values[one], values[other]) for one, other in pairs], 12)
    tested = paired(differences, 0.005)
    adjusted = holm(tested.p_difference, tested.p_equivalence)
    assert [c.adjusted_difference for c in found] == pytest.approx(adjusted[0])
    assert [c.adjusted_equivalence for c in found] == pytest.approx(adjusted[1])


def test_the_headline_is_the_best_method_s_sentence():
    rows = study({DENSE: BASE, TICKET: shifted(-0.02), ("snip", 1, "ticket"): shifted(0.01)})
    verdict = judge(rows)
    assert verdict.sentence == verdict.methods[1].sentence
    assert str(verdict).startswith("small: Better and smaller: the snip ticket")


def legs(stop, **spec):
    verdict = only(study({DENSE: BASE, TICKET: shifted(0.01)}, stop=stop, **spec))
    assert verdict.winning_ticket == all(leg.status == "holds" for leg in verdict.legs)
    return {leg.name: leg.status for leg in verdict.legs}


FAST, SLOW, LATE = [80, 82, 79, 81, 80], [400, 410, 390, 405, 400], [960, 970, 965, 960, 970]


def test_a_winning_ticket_is_said_only_when_all_three_legs_hold():
    assert legs({"ticket": FAST}) == {"accuracy": "holds", "training time": "holds", "size": "holds"}
    assert legs({"ticket": SLOW})["training time"] == "fails"
    assert legs({"ticket": [50, 200, 90, 130, 100]})["training time"] == "undecided"


def test_censoring_blocks_only_the_conclusion_it_could_overturn():
    assert legs({"ticket": [950] * 5, "dense": LATE})["training time"] == "censored"
    assert legs({"ticket": FAST, "dense": LATE})["training time"] == "holds"
    assert legs({"ticket": LATE, "dense": FAST})["training time"] == "fails"
    assert legs({"ticket": [4000] * 5, "dense": LATE})["training time"] == "censored"


def test_early_stopping_at_step_0_is_no_crash():
    assert legs({"ticket": [0] * 5, "dense": [0] * 5})["training time"] == "holds"


def test_a_given_dense_model_has_no_training_time_to_compare_with_and_stands_beside_every_seed():
    assert legs(None, dense_given=True)["training time"] == "undecided"
    rows = study({DENSE: BASE[:1], TICKET: shifted(0.01)}, dense_given=True, measure="early_stop")
    assert only(rows).comparisons[0].n == 5


def test_a_ticket_as_large_as_the_dense_network_is_no_winning_ticket():
    rows = study({DENSE: BASE, TICKET: shifted(0.01)})
    whole = Rows([row.model_copy(update={"nonzero": 1000}) for row in rows], rows.study)
    assert [leg.status for leg in only(whole).legs] == ["holds", "holds", "fails"]
    assert not only(whole).winning_ticket
    assert "Winning ticket: no." in str(judge(whole))


def test_accuracy_leg_fails_when_shown_worse_by_more_than_the_margin():
    verdict = only(study({DENSE: BASE, TICKET: shifted(-0.02)}))
    assert verdict.legs[0].status == "fails"


def test_a_study_without_a_method_is_refused_with_a_sentence():
    with pytest.raises(ValueError, match="study 'small' has no method"):
        judge(study({DENSE: BASE}))
