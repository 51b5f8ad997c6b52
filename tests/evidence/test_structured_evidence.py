"""Where whole units are cut: what the tables about size, width, savings and search say of the rows they come from."""

from statistics import fmean, stdev

import pytest
from make_rows import EVERY_OF_UNITS, OF_UNITS, make_rows
from small_study import DENSE, study

from scratchcard.evidence.arms import WHOLE, by_family, control, described
from scratchcard.evidence.caveats import not_measured
from scratchcard.evidence.emergence import consecutive, drops_within, emerged
from scratchcard.evidence.price import price
from scratchcard.evidence.said import counted, notes
from scratchcard.evidence.savings import HEADER, lines, savings
from scratchcard.evidence.statistics import t_interval
from scratchcard.evidence.tradeoff import timing_conditions, trade_off, units_were_cut
from scratchcard.evidence.verdict import Outcome, judge
from scratchcard.evidence.widths import widths
from scratchcard.row import Rows

BOTH = ["slimming", "early-bird"]
ROWS = make_rows(levels=3, seeds=3, method=BOTH, controls=OF_UNITS, structured=True, accidents=False)
PLAIN = make_rows(levels=2, seeds=2)


def changed(rows, where, **fields):
    """The rows, with some fields of those that `where` holds for set otherwise."""
    return Rows([row.model_copy(update=fields) if where(row) else row for row in rows], rows.study)


def of(rows, method, level, arm):
    return [row for row in rows if (row.method, row.level, row.arm) == (method, level, arm)]


def test_every_point_of_the_trade_off_is_a_seed_mean_with_its_interval_and_its_sizes():
    places = trade_off(ROWS)
    assert places[0].arm == "dense"
    ran = {(row.method if row.level else "dense", row.level, row.arm) for row in ROWS}
    assert {(place.method, place.level, place.arm) for place in places} == ran
    assert len(places) == len(ran) == 1 + 3 * (1 + 4) + 1 + 3 * (1 + 4)
    for place in places:
        runs = of(ROWS, place.method, place.level, place.arm)
        numbers = [row.end.test_metric for row in runs]
        low, high = map(float, t_interval(numbers))
        assert (place.mean.n, place.mean.mean, place.mean.sd) == pytest.approx((3, fmean(numbers), stdev(numbers)))
        assert (place.mean.low, place.mean.high) == pytest.approx((low, high))
        assert place.sizes["parameters"].mean == pytest.approx(fmean(row.nonzero for row in runs))
        assert place.sizes["multiply-accumulates"].mean == pytest.approx(fmean(row.macs for row in runs))
        assert place.sizes["latency, ms"].mean == pytest.approx(fmean(1000 * row.latency.median for row in runs))


def test_a_size_that_was_not_measured_is_missing_and_lost_runs_count_nowhere():
    rows = changed(ROWS, lambda row: row.arm == "ticket" and row.level == 2, latency=None)
    rows = changed(rows, lambda row: row.arm == "ticket" and row.seed == 0, status="diverged", end=None)
    places = {(place.method, place.level, place.arm): place for place in trade_off(rows)}
    assert set(places["slimming", 2, "ticket"].sizes) == {"parameters", "multiply-accumulates"}
    assert set(places["slimming", 1, "ticket"].sizes) == {"parameters", "multiply-accumulates", "latency, ms"}
    assert places["slimming", 1, "ticket"].mean.n == 2
    assert not units_were_cut(PLAIN)


def test_latencies_taken_in_different_ways_are_told_apart():
    assert timing_conditions(ROWS) == ["batch 64, 1 thread, cpu"]
    other = ROWS[0].latency.model_copy(update={"batch": 1, "threads": 8})
    mixed = changed(ROWS, lambda row: row.seed == 1, latency=other)
    assert timing_conditions(mixed) == ["batch 1, 8 threads, cpu", "batch 64, 1 thread, cpu"]


def test_widths_are_means_over_seeds_and_the_uniform_one_is_that_of_its_runs():
    found = widths(ROWS, "slimming", 3)
    assert [site.site for site in found.sites] == ["fc1", "fc2"]
    for site in found.sites:
        shares = [kept / every for row in of(ROWS, "slimming", 3, "ticket") for kept, every in [row.widths[site.site]]]
        assert (site.kept.mean, site.kept.low, site.kept.high) == pytest.approx(
            (fmean(shares), min(shares), max(shares))
        )
        assert site.seeds == 3
    assert found.measured
    assert found.uniform == pytest.approx(0.512**0.5, abs=0.01)
    without = Rows([row for row in ROWS if row.arm != "uniform-width"], ROWS.study)
    alone = widths(without, "slimming", 3)
    units = [[sum(n) for n in zip(*row.widths.values(), strict=True)] for row in of(ROWS, "slimming", 3, "ticket")]
    assert (alone.measured, alone.uniform) == (False, pytest.approx(fmean(kept / every for kept, every in units)))
    assert widths(PLAIN, "imp", 1) is None


def test_savings_add_search_and_retraining_and_keep_the_two_references_apart():
    found = {(saving.method, saving.against): saving for saving in savings(ROWS)}
    assert set(found) == {
        ("slimming", "dense once"), ("early-bird", "dense once"), ("early-bird", "train-prune-retrain"),
    }  # fmt: skip
    dense = {row.seed: row for row in ROWS if row.arm == "dense"}
    early, late = (of(ROWS, name, 3, "ticket") for name in ("early-bird", "slimming"))
    once, against_late = found["early-bird", "dense once"], found["early-bird", "train-prune-retrain"]
    assert once.n == 3
    shares = [(row.search_flops + row.train_flops) / dense[row.seed].train_flops for row in early]
    assert (once.ratio.mean, once.ratio.low, once.ratio.high) == pytest.approx(
        (fmean(shares), min(shares), max(shares))
    )
    times = [(row.search.seconds + row.training_seconds) / dense[row.seed].training_seconds for row in early]
    assert once.seconds_ratio.mean == pytest.approx(fmean(times))
    assert against_late.reference == "slimming"
    both = fmean(row.search_flops + row.train_flops for row in late)
    assert against_late.reference_flops.mean == pytest.approx(both)
    assert found["slimming", "dense once"].ratio.low > 1, "pruning a trained network costs more than training it"


def test_seconds_of_a_search_are_those_of_the_runs_whose_operations_it_counts():
    slimming = next(saving for saving in savings(ROWS) if saving.method == "slimming")
    searches, tickets = of(ROWS, "slimming", 1, "search"), of(ROWS, "slimming", 3, "ticket")
    seconds = [one.training_seconds + other.training_seconds for one, other in zip(searches, tickets, strict=True)]
    assert slimming.seconds.mean == pytest.approx(fmean(seconds))
    twice = changed(ROWS, lambda row: row.arm == "search", train_flops=2 * searches[0].train_flops)
    slimming = next(saving for saving in savings(twice) if saving.method == "slimming")
    assert slimming.seconds is None, "what the ticket cost is not what its searches cost"
    none = Rows([row for row in ROWS if row.arm != "search"], ROWS.study)
    slimming = next(saving for saving in savings(none) if saving.method == "slimming")
    seconds = [
        next(row for row in none if (row.arm, row.seed) == ("dense", seed)).training_seconds
        + of(none, "slimming", 3, "ticket")[seed].training_seconds
        for seed in range(3)
    ]
    assert slimming.seconds.mean == pytest.approx(fmean(seconds))
    older = changed(none, lambda row: row.arm == "dense", training_seconds=None)
    slimming = next(saving for saving in savings(older) if saving.method == "slimming")
    assert slimming.seconds is None, "rows from before steps were timed alone have wall-clock seconds of all they did"
    strange = changed(none, lambda row: row.method == "slimming", search_flops=123.0)
    slimming = next(saving for saving in savings(strange) if saving.method == "slimming")
    assert slimming.seconds is None
    assert lines(slimming)[1][3:] == ["–"] * 5  # noqa: RUF001


def test_without_a_method_that_prunes_late_its_cost_is_added_up_from_the_dense_training():
    alone = make_rows(levels=2, seeds=2, method="early-bird", controls=[], structured=True, accidents=False)
    once, late = savings(alone)
    dense, tickets = of(alone, "dense", 0, "dense"), of(alone, "early-bird", 2, "ticket")
    assert late.reference.startswith("dense, then the ticket's own training")
    both = [one.train_flops + other.train_flops for one, other in zip(dense, tickets, strict=True)]
    assert late.reference_flops.mean == pytest.approx(fmean(both))
    assert late.reference_flops.mean > once.reference_flops.mean
    for saving in (once, late):
        assert [len(line) for line in lines(saving)] == [len(HEADER)] * 2
        assert [line[2] for line in lines(saving)] == ["operations", "seconds"]


def test_only_seeds_that_have_both_are_compared_and_a_given_dense_network_has_no_cost():
    lost = changed(ROWS, lambda row: row.arm == "dense" and row.seed == 2, status="failed", end=None)
    assert {saving.n for saving in savings(lost) if saving.against == "dense once"} == {2}
    assert savings(Rows(list(ROWS), ROWS.study.model_copy(update={"dense_given": True}))) == []
    assert savings(PLAIN) == []


def test_notes_of_a_search_are_said_once_with_the_seeds_and_levels_they_are_about():
    assert notes(ROWS, "slimming", lambda level: True) == [
        "The scaling factors of fc2 tie at the threshold (seeds 0, 1, 2 at levels 1, 2, 3).",
        "fc1 keeps its least number of units, 1 (seed 1 at levels 1, 2, 3).",
    ]
    assert notes(ROWS, "slimming", lambda level: level == 3) == [
        "The scaling factors of fc2 tie at the threshold (seeds 0, 1, 2 at level 3).",
        "fc1 keeps its least number of units, 1 (seed 1 at level 3).",
    ]
    assert notes(PLAIN, "imp", lambda level: True) == []


def test_what_was_counted_is_said_and_energy_never_is_measured():
    text = " ".join(counted(ROWS))
    for word in ("biases and normalisation included", "masked", "Many papers call twice this number FLOPs", "median",
                 "batch 64, 1 thread, cpu", "Search is everything that was trained before"):  # fmt: skip
        assert word in text
    assert counted(PLAIN) == []
    said = not_measured(ROWS)
    assert "Energy: no meter was read, and none of these numbers is one of energy." in said
    assert not [sentence for sentence in said if sentence.startswith("Speed: no latency")]
    assert "Controls that were not planned: dense-for-the-search." in said
    bare = Rows(list(ROWS), ROWS.study.model_copy(update={"arms": ["dense", "ticket"]}))
    assert "Controls that were not planned: scratch-e, scratch-b, uniform-width, dense-for-the-search." in not_measured(
        bare
    )
    assert not [sentence for sentence in not_measured(PLAIN) if sentence.startswith("Energy")]


def test_the_price_has_operations_and_latency_where_they_were_measured():
    names = [line[0] for line in price(ROWS, "slimming", 3)]
    assert "multiply-accumulates of one example" in names
    assert "latency of one forward pass, ms" in names
    assert len(names) == len(price(PLAIN, "imp", 1)) + 2


def test_a_ticket_is_drawn_where_its_rows_say_and_drops_beyond_its_search_are_not_within():
    found = emerged(ROWS, "early-bird", 3)
    assert list(found.seeds) == [0, 1, 2]
    one = found.seeds[0]
    row = of(ROWS, "early-bird", 3, "ticket")[0]
    assert one == row.search.emergence
    assert consecutive(one) == [one.distances[at + 1][at] for at in range(len(one.steps) - 1)]
    assert one.steps[-1] < one.drops[0]
    assert drops_within(one) == []
    assert drops_within(one.model_copy(update={"drops": [one.steps[2], 10**6]})) == [one.steps[2]]
    assert emerged(ROWS, "early-bird", 99).level == 3, "the deepest level where the primary one is not there"
    assert emerged(ROWS, "slimming", 3) is None


@pytest.mark.parametrize("arm", ["scratch-e", "scratch-b", "scratch-b-strict", "scratch-b-cap-4", "uniform-width"])
def test_a_fresh_network_of_the_pruned_shape_that_does_as_well_explains_the_ticket_away(arm):
    base = [0.900, 0.904, 0.898, 0.901, 0.903]
    ticket = ("slimming", 1, "ticket")
    same = {DENSE: base, ticket: [b + 0.01 for b in base], ("slimming", 1, arm): [b + 0.0102 for b in base]}
    (said,) = judge(study(same)).methods
    assert said.outcome is Outcome.EXPLAINED_BY_A_CONTROL


@pytest.mark.parametrize("arm", ["fine-tune-full-schedule", "lottery-init", "search"])
def test_other_trainings_of_what_was_inherited_explain_nothing_away(arm):
    base = [0.900, 0.904, 0.898, 0.901, 0.903]
    ticket = ("slimming", 1, "ticket")
    same = {DENSE: base, ticket: [b + 0.01 for b in base], ("slimming", 1, arm): [b + 0.0102 for b in base]}
    same[("slimming", 1, "dense-for-the-search")] = base
    (said,) = judge(study(same)).methods
    assert said.outcome is Outcome.BETTER_AND_SMALLER


def test_every_arm_of_pruned_units_has_words_of_its_own_and_a_family():
    said = [described(arm) for arm in EVERY_OF_UNITS]
    assert len(set(said)) == len(said)
    for arm in EVERY_OF_UNITS:
        assert control(arm).what != arm
        assert "where it loses to the ticket, " in described(arm)
    assert control("scratch-b-cap-2").what.endswith("the dense network, but at most 2 times its steps")
    strict, capped = control("scratch-b-strict").what, control("scratch-b-strict-cap-2").what
    on_top = ", with the ticket's own steps on top"
    assert strict.endswith(on_top)
    assert capped == strict.removesuffix(on_top) + ", but at most 2 times its steps" + on_top, "these are not capped"
    assert "elsewhere (vgg on digits)" in control("transferred-vgg on digits").what
    assert control("scratch-b-strict-cap-2").explains
    assert set(by_family(EVERY_OF_UNITS)) == {"weights", "budget", "network"}
    assert by_family(EVERY_OF_UNITS)["budget"] == [
        "scratch-e", "scratch-b", "fine-tune-full-schedule", "scratch-b-strict", "scratch-b-cap-2",
    ]  # fmt: skip
    assert "rewound" in WHOLE["ticket"] or "rewind" in WHOLE["ticket"]
    assert "inherits" in WHOLE["ticket"]


def test_a_ticket_that_was_fine_tuned_by_a_recipe_of_its_own_is_not_called_winning_by_its_training_time():
    slimming, early = judge(ROWS).methods
    leg = next(leg for leg in slimming.legs if leg.name == "training time")
    assert leg.status == "not observed"
    assert "1000 steps of its own recipe" in leg.text
    assert not slimming.winning_ticket
    assert next(leg for leg in early.legs if leg.name == "training time").status != "not observed"
