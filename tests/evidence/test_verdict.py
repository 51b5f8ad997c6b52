"""Every sentence of the closed list is reached by the rows that deserve it, and by no others."""

import math

import numpy as np
import pytest
from small_study import DENSE, run, study

from scratchcard.evidence.statistics import holm, paired
from scratchcard.evidence.verdict import Outcome, judge
from scratchcard.row import Origin, Rows

TICKET, FRESH, MASK = ("imp", 1, "ticket"), ("imp", 1, "fresh-init"), ("imp", 1, "random-mask-global")
LONGER = ("imp", 1, "dense-for-the-search")
BASE = [0.900, 0.904, 0.898, 0.901, 0.903]
JITTER = np.array([0.0003, -0.0004, 0.0001, 0.0002, -0.0002])


def shifted(by, noise=1.0):
    """Metrics that lie this far above the dense ones, with a little noise."""
    return list(np.array(BASE) + by + noise * JITTER)


def only(rows):
    (verdict,) = judge(rows).methods
    return verdict


def test_a_ticket_clearly_above_dense_and_its_control_is_better_because_of_its_weights():
    verdict = only(study({DENSE: BASE, TICKET: shifted(0.01), FRESH: shifted(-0.02, -1), LONGER: shifted(0.001)}))
    assert verdict.outcome is Outcome.BETTER_AND_SMALLER
    assert "beats dense by +1.00 pp [+0.9" in verdict.sentence
    assert "the initial weights matter: +3.00 pp" in verdict.why
    assert {(c.arm, c.n, c.claim) for c in verdict.comparisons} == {
        ("dense", 5, "better"),
        ("fresh-init", 5, "better"),
        ("dense-for-the-search", 5, "better"),
    }


def test_a_ticket_within_the_margin_is_matching_even_when_shown_to_be_a_little_worse():
    verdict = only(study({DENSE: BASE, TICKET: shifted(-0.002)}))
    assert verdict.outcome is Outcome.MATCHING_AND_SMALLER
    assert "equivalent and worse" in str(verdict.comparisons[0])
    assert verdict.why == "Why: not known, no control of the same size was run."


def test_a_ticket_shown_better_by_less_than_the_margin_is_better_and_its_size_is_printed():
    verdict = only(study({DENSE: BASE, TICKET: shifted(0.002), LONGER: BASE}))
    assert verdict.outcome is Outcome.BETTER_AND_SMALLER
    assert "+0.20 pp" in verdict.sentence


def test_better_must_beat_the_dense_network_trained_for_the_search_too_else_it_is_matching_or_undecided():
    for gain, matching in ((0.002, True), (0.01, False)):
        for longer, claim in ((gain, "does as well"), (gain + 0.02, "does better"), (gain - 0.004, "is not shown")):
            noise = 60 if claim == "is not shown" else -1
            rows = study({DENSE: BASE, TICKET: shifted(gain), LONGER: shifted(longer, noise)})
            verdict = only(rows)
            assert verdict.comparisons[0].claim == "better"
            assert verdict.outcome is (Outcome.MATCHING_AND_SMALLER if matching else Outcome.UNDECIDED), claim
            said = verdict.caveats[0] if matching else verdict.sentence
            assert "etter than dense by its numbers, but the dense network trained for as many" in said
            assert claim in said
    # it explains nothing: a ticket that matches the dense network is smaller all the same
    verdict = only(study({DENSE: BASE, TICKET: shifted(-0.001), LONGER: shifted(0.02, -1)}))
    assert verdict.outcome is Outcome.MATCHING_AND_SMALLER


def test_without_the_control_that_trains_dense_for_the_search_better_is_not_said():
    verdict = only(study({DENSE: BASE, TICKET: shifted(0.01)}))
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.sentence.endswith("claimed only beside dense-for-the-search; run it in 3 seeds or more.")
    rows = study({DENSE: BASE, TICKET: shifted(0.01)})
    plan = rows.study.methods["imp"].model_copy(update={"left_out": {"dense-for-the-search": "it costs nothing"}})
    free = Rows(list(rows), rows.study.model_copy(update={"methods": {"imp": plan}}))
    assert only(free).outcome is Outcome.BETTER_AND_SMALLER, "where the search costs nothing dense is that control"


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
    others = {FRESH: shifted(-0.02, -1), LONGER: shifted(-0.02, -1)}
    rows = study({DENSE: BASE, TICKET: shifted(0.01), ("imp", 1, arm): shifted(0.01, -1)} | others)
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
    better = {DENSE: BASE, TICKET: shifted(0.01, 0.1), LONGER: shifted(-0.02, -0.1)}
    control = {UNIFORM: shifted(-0.02, -0.1)}
    alone = (
        "better than dense by its numbers, but that is claimed only beside uniform-width; run it in 3 seeds or more."
    )
    few = "better by its numbers, but that takes at least 3 seeds; run 1 more seed."
    for n, beside, here, needed in [
        (5, 5, None, None),
        (3, 3, None, None),
        (3, 2, alone, None),
        (3, 1, alone, None),
        (5, 0, alone, None),
        (2, 2, few, 3),
        (2, 0, few, 3),
    ]:
        metrics = {key: values[:n] for key, values in better.items()}
        if beside:
            metrics |= {key: [*values[:beside], *[None] * (n - beside)] for key, values in control.items()}
        said = of_units(metrics)
        assert said.comparisons[0].claim == "better"
        weights = Outcome.BETTER_AND_SMALLER if n > 2 else Outcome.UNDECIDED
        assert only(study(metrics)).outcome is weights, "of single weights three seeds alone"
        if here is None:
            assert said.outcome is Outcome.BETTER_AND_SMALLER
            continue
        assert said.outcome is Outcome.UNDECIDED
        assert said.sentence.endswith(here)
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
    verdict = only(study({DENSE: BASE, TICKET: shifted(0.01), FRESH: shifted(0.0, 40), LONGER: BASE}))
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


def test_a_method_that_is_lost_in_every_seed_has_failed_and_the_cause_is_said_once():
    verdict = only(study({DENSE: BASE, TICKET: [None] * 5, FRESH: shifted(0)}))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.sentence.endswith("has no finished run in any of 5 seeds.")
    assert verdict.diverged == ["Diverged: ticket, seeds 0, 1, 2, 3, 4: loss was nan at step 7."]
    assert str(verdict).count("loss was nan at step 7") == 1
    assert not verdict.winning_ticket
    crashed = lost({DENSE: BASE, TICKET: [None] * 5}, "failed", "RuntimeError: an accident")
    assert only(crashed).outcome is Outcome.FAILED
    assert str(only(crashed)).count("an accident") == 1
    some = study({DENSE: BASE, TICKET: [None]})
    assert only(some).outcome is Outcome.UNDECIDED, "the other seeds have not run"


def lost(metrics, status, message):
    """Rows whose lost runs ended so."""
    rows = study(metrics)
    gone = {"status": status, "message": message}
    return Rows([row.model_copy(update=gone if row.status != "done" else {}) for row in rows], rows.study)


def test_a_diverged_ticket_is_an_outcome_that_blocks_better_matching_and_winning_and_is_said_first():
    for gain in (0.01, 0.0, 0.002):
        rows = study({DENSE: BASE, TICKET: [*shifted(gain)[:4], None], LONGER: shifted(-0.02), FRESH: shifted(-0.02)})
        verdict = only(rows)
        assert verdict.comparisons[0].n == 4
        assert verdict.outcome is Outcome.DIVERGES
        said = "Diverges: in 1 of 5 seeds the imp ticket at density 50.0 % or the search for it diverged; where neither"
        assert verdict.sentence.startswith(said)
        assert str(verdict).startswith("Diverged: ticket, seed 4: loss was nan at step 7.")
        assert (verdict.legs[0].status, verdict.winning_ticket) == ("fails", False)
    # what is shown to be worse stays so, after the divergence
    worse = only(study({DENSE: BASE, TICKET: [*shifted(-0.02)[:4], None]}))
    assert worse.outcome is Outcome.NO_SMALLER_MATCH
    assert str(worse).startswith("Diverged: ")


def test_a_ticket_that_was_never_found_since_its_search_diverged_is_an_outcome_too_and_the_cause_is_said_once():
    rows = study({DENSE: [*BASE[:4], None], TICKET: [*shifted(0.0)[:4], None]})
    unfound = Rows([row.model_copy(update={"found": row.status == "done" or row.arm == "dense"}) for row in rows],
                   rows.study)  # fmt: skip
    verdict = only(unfound)
    assert verdict.outcome is Outcome.DIVERGES
    assert verdict.diverged == ["Diverged: dense, seed 4; ticket (never found for it), seed 4: loss was nan at step 7."]
    assert judge(unfound).first == [
        "The dense network diverged in 1 of 5 seeds: nothing is compared with it there; a lower learning rate may help."
    ]


def test_causes_that_differ_in_a_step_are_one():
    rows = study({DENSE: BASE, TICKET: [None] * 5})
    steps = [row.model_copy(update={"message": f"nan by step {row.seed}"} if row.message else {}) for row in rows]
    assert only(Rows(steps, rows.study)).diverged == ["Diverged: ticket, seeds 0, 1, 2, 3, 4: nan by step 0."]


def test_a_crash_is_left_out_by_name():
    crashed = {DENSE: BASE, TICKET: [*shifted(0.01)[:4], None], LONGER: shifted(-0.02)}
    verdict = only(lost(crashed, "failed", "RuntimeError: an accident"))
    assert verdict.outcome is Outcome.BETTER_AND_SMALLER
    assert "over 4 of 5 seeds" in verdict.sentence
    assert verdict.failed == ["Failed: ticket, seed 4: RuntimeError: an accident."]


def test_a_control_that_diverges_here_and_there_does_not_favour_the_ticket():
    even = [*shifted(0.01, -1)[:4], None]
    verdict = only(study({DENSE: BASE, TICKET: shifted(0.01), FRESH: even, LONGER: BASE}))
    assert verdict.outcome is Outcome.EXPLAINED_BY_A_CONTROL
    assert verdict.diverged == ["Diverged: fresh-init, seed 4: loss was nan at step 7."]
    longer = [*shifted(-0.02)[:2], None, None, None]
    few = only(study({DENSE: BASE, TICKET: shifted(0.01), FRESH: BASE, LONGER: longer}))
    assert few.outcome is Outcome.UNDECIDED, "two seeds of the longer dense training are too few"


@pytest.mark.parametrize("gain", [0.01, 0.0])
def test_two_seeds_show_neither_better_nor_matching_nor_winning(gain):
    for n, fine in ((2, False), (3, True)):
        values = {DENSE: BASE, TICKET: shifted(gain, 0.01), LONGER: shifted(-0.02)}
        rows = study({key: list(numbers)[:n] for key, numbers in values.items()}, stop={"ticket": FAST[:n]})
        verdict = only(rows)
        assert verdict.comparisons[0].claim in ("better", "equivalent")
        assert (verdict.outcome is not Outcome.UNDECIDED) == fine
        assert verdict.winning_ticket == fine
        assert verdict.seeds_needed == (None if fine else 3)


def test_the_dense_network_that_learnt_nothing_is_said_first():
    rows = study({DENSE: BASE, TICKET: BASE}, constant=0.9013)
    assert str(judge(rows)).startswith("The dense network is not shown to be better than a constant predictor")
    assert not judge(study({DENSE: BASE, TICKET: BASE}, constant=0.5)).first
    assert judge(study({DENSE: BASE, TICKET: BASE}, constant=0.89, higher_is_better=False)).first
    assert not judge(study({DENSE: BASE, TICKET: BASE})).first, "where no constant is known"


def test_identical_runs_match_for_certain():
    verdict = only(study({DENSE: BASE, TICKET: BASE}))
    assert verdict.outcome is Outcome.MATCHING_AND_SMALLER
    assert verdict.comparisons[0].p_equivalence == 0


def test_diverged_and_absent_runs_are_named_and_pairs_stay_pairs():
    rows = study({DENSE: BASE, TICKET: [*shifted(0.01)[:3], None], FRESH: shifted(0.0)})
    comparison = only(rows).comparisons[0]
    assert comparison.n == 3
    assert comparison.mean == pytest.approx(0.01 + JITTER[:3].mean())
    assert comparison.missing == ["ticket diverged (seed 3)", "ticket not run (seed 4)"]
    assert "ticket not run (seed 4)" in str(judge(rows))


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
    loss = {DENSE: BASE, TICKET: shifted(-0.01), FRESH: shifted(0.02, -1), LONGER: BASE}
    rows = study(loss, higher_is_better=False, metric_is_fraction=False, metric="loss")
    verdict = only(rows)
    assert verdict.outcome is Outcome.BETTER_AND_SMALLER
    assert "+0.0" in verdict.sentence
    assert "pp" not in str(verdict)
    assert "a lower loss is better, and + means lower" in verdict.sentence
    assert "lower" not in only(study({DENSE: BASE, TICKET: BASE})).sentence


def test_beside_every_interval_stands_what_it_covers():
    rows = study({DENSE: BASE, TICKET: shifted(0.01), FRESH: BASE, LONGER: BASE}, test_targets=360)
    said = str(judge(rows))
    for line in said.splitlines():
        if "pp" in line and "early-stop" not in line and not line.startswith("small"):
            assert "for these 360 test examples" in line, line
    assert "over 5 of 5 seeds; for these 360 test examples" in only(rows).sentence


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
    longer = {("snip", 1, "dense-for-the-search"): shifted(-0.02, -1)}
    rows = study({DENSE: BASE, TICKET: shifted(-0.02), ("snip", 1, "ticket"): shifted(0.01)} | longer)
    verdict = judge(rows)
    assert verdict.sentence == verdict.methods[1].sentence
    assert str(verdict).startswith("small: Better and smaller: the snip ticket")


def test_tickets_of_trained_weights_have_no_training_time_unless_they_resume_a_schedule():
    for origin, status in (
        (Origin(weights="initial"), "holds"),
        (Origin(weights="rewound", step=20), "holds"),
        (Origin(weights="trained"), "not observed"),
        (Origin(weights="trained", resumes=True), "holds"),
    ):
        rows = study({DENSE: BASE, TICKET: shifted(0.01), LONGER: BASE}, stop={"ticket": FAST})
        plan = rows.study.methods["imp"].model_copy(update={"origin": origin})
        verdict = only(Rows(list(rows), rows.study.model_copy(update={"methods": {"imp": plan}})))
        assert verdict.legs[1].status == status
        assert verdict.winning_ticket == (status == "holds")


def test_initial_weights_is_said_of_initial_weights_alone():
    for origin, words in (
        (Origin(weights="initial"), "the initial weights matter"),
        (Origin(weights="rewound", step=20), "the weights at step 20 matter"),
        (Origin(weights="trained"), "the trained weights matter"),
        (Origin(weights="given"), "the weights that were brought matter"),
    ):
        rows = study({DENSE: BASE, TICKET: shifted(0.01), FRESH: BASE, ("imp", 1, "own-init-shuffle"): BASE})
        plan = rows.study.methods["imp"].model_copy(update={"origin": origin})
        why = only(Rows(list(rows), rows.study.model_copy(update={"methods": {"imp": plan}}))).why
        assert words in why
        assert ("initial" in why) == (origin.weights == "initial")


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
    assert legs(None, dense_given=True)["training time"] == "not observed"
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
