"""The checklist answers from the rows: what is taken away from a study turns its answers."""

import pytest
from make_rows import EVERY_CONTROL, MACHINE, OF_UNITS, make_rows

from scratchcard.evidence.checklist import checklist
from scratchcard.row import Rows

FULL = make_rows(
    levels=15, seeds=3, method=["slimming", "l1-filters", "random-filters"], controls=OF_UNITS, structured=True,
    accidents=False, control_levels=[],
)  # fmt: skip


def answers(rows):
    """The beginning of what is asked -> (status, reason)."""
    return {point.asked: (point.status, point.reason) for point in checklist(rows)}


def answer(rows, start):
    (found,) = [said for asked, said in answers(rows).items() if asked.startswith(start)]
    return found


def only(rows, keep):
    return Rows([row for row in rows if keep(row)], rows.study)


def test_a_study_is_one_pair_of_data_and_architecture_and_never_more():
    status, reason = answer(FULL, "At least 3 pairs")
    assert status == "no"
    assert FULL.study.data in reason


@pytest.mark.parametrize(("levels", "status"), [(5, "yes"), (4, "no")])
def test_five_operating_points_are_wanted_of_every_method(levels, status):
    rows = make_rows(levels=levels, seeds=2, controls=[], accidents=False)
    assert answer(rows, "A trade-off curve") == (status, f"Levels with finished tickets: imp {levels}.")
    both = make_rows(levels=6, seeds=2, method=["imp", "snip"], controls=[], accidents=False)
    some = only(both, lambda row: row.method != "snip" or row.level < 3)
    assert answer(some, "A trade-off curve") == ("partly", "Levels with finished tickets: imp 6, snip 2.")


def test_both_sizes_are_wanted_of_every_network():
    assert answer(FULL, "Size and multiply-accumulates")[0] == "yes"
    part = Rows(
        [row.model_copy(update={"macs": None}) if row.method == "l1-filters" else row for row in FULL], FULL.study
    )
    assert answer(part, "Size and multiply-accumulates")[0] == "partly"
    assert answer(make_rows(levels=2), "Size and multiply-accumulates")[0] == "partly"


@pytest.mark.parametrize(("seeds", "status"), [(1, "no"), (2, "partly"), (3, "yes")])
def test_three_seeds_are_wanted_and_deviations_need_two(seeds, status):
    rows = make_rows(levels=2, seeds=seeds, accidents=False, controls=[])
    assert answer(rows, "Several runs with separate initialisations")[0] == status
    assert answer(rows, "Means with sample standard deviations")[0] == status
    assert f"dense {seeds}, imp (64.0 %) {seeds}" in answer(rows, "Several runs")[1]


def test_seeds_of_one_given_dense_network_are_not_separate_initialisations():
    rows = make_rows(levels=2, seeds=3, accidents=False, controls=[], dense_given=True)
    status, reason = answer(rows, "Several runs with separate initialisations")
    assert status == "partly"
    assert "one given dense network" in reason


def test_the_range_of_sizes_is_that_of_the_whole_networks():
    dense = FULL[0]
    tickets = [row for row in FULL if row.arm == "ticket"]
    times = [dense.parameters / row.nonzero for row in tickets]
    status, reason = answer(FULL, "A range of sizes")
    assert f"{min(times):.3g} to {max(times):.3g} times" in reason
    assert status == "partly", "15 levels of 20 % end at 28 times"
    assert answer(make_rows(levels=16, seeds=2, structured=True, accidents=False), "A range of sizes")[0] == "yes"


@pytest.mark.parametrize(
    ("start", "method", "arms"),
    [
        ("Random pruning over the whole network", "random-at-init-uniform", ["random-mask-global"]),
        ("Random pruning with as many cut in each layer", "random-at-init", ["random-mask-layerwise"]),
        ("Pruning by magnitude, globally or uniformly", "l1-filters", []),
    ],
)
def test_baselines_count_only_where_they_were_run(start, method, arms):
    without = make_rows(levels=1, seeds=2, method="snip", controls=[], accidents=False)
    assert answer(without, start) == ("no", "Not run here.")
    as_method = make_rows(levels=1, seeds=2, method=["snip", method], controls=[], accidents=False)
    assert answer(as_method, start) == ("yes", f"Run here: {method}.")
    for arm in arms:
        as_arm = make_rows(levels=1, seeds=2, method="snip", controls=EVERY_CONTROL, accidents=False)
        assert answer(as_arm, start)[0] == "yes"
        lost = only(as_arm, lambda row, arm=arm: row.arm not in (arm, "shuffled-mask"))
        assert answer(lost, start) == ("no", "Not run here.")


LAYERWISE = "Random pruning with as many cut in each layer"
PREDEFINED, FOUND = {"conv1": (4, 8), "conv2": (8, 16)}, {"conv1": (7, 8), "conv2": (5, 16)}


def widened(rows, where, widths):
    return Rows([row.model_copy(update={"widths": widths}) if where(row) else row for row in rows], rows.study)


def cut_alike(*methods):
    """Methods whose tickets have the same widths at level 2, the judged one, and at no other."""
    rows = make_rows(levels=2, seeds=2, method=methods, controls=[], structured=True, accidents=False)
    return widened(rows, lambda row: row.arm == "ticket" and row.level == 2, PREDEFINED)


def test_random_filters_are_random_at_a_method_s_own_widths_only_where_those_are_equal_seed_by_seed():
    assert answer(FULL, LAYERWISE) == (
        "no", "Not run here: random-filters did not cut as many in each layer, in every seed, as slimming, l1-filters.",
    )  # fmt: skip
    alike = cut_alike("l1-filters", "random-filters")
    assert answer(alike, LAYERWISE) == ("yes", "Run here: random-filters.")
    whole = {**PREDEFINED, "conv3": (16, 16)}
    named = widened(alike, lambda row: row.method == "l1-filters", whole)
    assert answer(named, LAYERWISE)[0] == "yes", "a site that is kept whole is the same as one that is left out"
    for method in ("l1-filters", "random-filters"):
        one_seed = widened(alike, lambda row, m=method: (row.method, row.level, row.seed) == (m, 2, 1), FOUND)
        assert answer(one_seed, LAYERWISE)[0] == "no"
    lost = only(alike, lambda row: row.method != "random-filters" or row.seed)
    assert answer(lost, LAYERWISE)[0] == "no"


def test_random_filters_do_not_stand_in_for_random_cuts_at_the_widths_that_slimming_found():
    alike = cut_alike("slimming", "random-filters")
    found = widened(alike, lambda row: row.method == "slimming" and row.arm == "ticket", FOUND)
    assert answer(alike, LAYERWISE)[0] == "yes"
    assert answer(found, LAYERWISE) == (
        "no", "Not run here: random-filters did not cut as many in each layer, in every seed, as slimming.",
    )  # fmt: skip
    control = [row.model_copy(update={"arm": "random-mask-layerwise"}) for row in found if row.method == "slimming"]
    assert answer(Rows([*found, *control], found.study), LAYERWISE) == ("yes", "Run here: random-mask-layerwise.")
    three = cut_alike("slimming", "l1-filters", "random-filters")
    three = widened(three, lambda row: row.method == "slimming", FOUND)
    assert answer(three, LAYERWISE) == ("partly", "Run here: random-filters, for l1-filters; not for slimming.")


def test_random_masks_of_single_weights_count_by_the_weights_left_in_each_layer():
    rows = make_rows(levels=1, seeds=2, method=["imp", "random-at-init"], controls=[], accidents=False)
    assert answer(rows, LAYERWISE)[0] == "yes"
    moved = [
        row.model_copy(update={"layers": {name: (kept + 1, every) for name, (kept, every) in row.layers.items()}})
        if row.method == "imp" else row
        for row in rows
    ]  # fmt: skip
    assert answer(Rows(moved, rows.study), LAYERWISE) == (
        "no", "Not run here: random-at-init did not cut as many in each layer, in every seed, as imp.",
    )  # fmt: skip


def test_a_random_criterion_is_no_magnitude():
    rows = make_rows(levels=1, seeds=2, method=["imp-random", "imp-movement"], controls=[], accidents=False)
    assert answer(rows, "Pruning by magnitude, globally")[0] == "no"
    magnitude = make_rows(levels=1, seeds=2, controls=[], accidents=False)
    assert answer(magnitude, "Pruning by magnitude with as many")[0] == "yes"
    assert answer(FULL, "Pruning by magnitude with as many")[0] == "no"


def test_latency_counts_with_one_condition_for_all():
    assert answer(FULL, "Latency measured") == (
        "yes", "Of 135 of 135 tickets: batch 64, 1 thread, cpu; beside whatever else ran on the machine.",
    )  # fmt: skip
    none = Rows([row.model_copy(update={"latency": None}) for row in FULL], FULL.study)
    assert answer(none, "Latency measured") == ("no", "No network was timed.")
    other = FULL[0].latency.model_copy(update={"threads": 2})
    mixed = Rows([row.model_copy(update={"latency": other}) if row.seed else row for row in FULL], FULL.study)
    assert answer(mixed, "Latency measured")[0] == "partly"


def test_scratch_training_is_wanted_for_both_budgets_and_only_of_pruned_units():
    asked = "The pruned architecture trained from scratch"
    assert answer(FULL, asked) == ("yes", "Run here: scratch-e, scratch-b.")
    assert answer(only(FULL, lambda row: row.arm != "scratch-b"), asked) == ("partly", "Run here: scratch-e.")
    assert answer(only(FULL, lambda row: not row.arm.startswith("scratch")), asked)[0] == "no"
    assert answer(only(FULL, lambda row: row.arm != "uniform-width"), "A network of the same size")[0] == "no"
    assert answer(only(FULL, lambda row: "full" not in row.arm), "Fine-tuning under more than one")[0] == "no"
    assert not [asked for asked in answers(make_rows(levels=1)) if "scratch" in asked]


def test_mixed_versions_and_a_missing_device_are_said():
    one, other = (make_rows(levels=1, seeds=2, machine={**MACHINE, "torch": v}) for v in ("2.13.0", "2.12.0"))
    mixed = Rows([*list(one)[:4], *list(other)[4:]], one.study)
    assert answer(mixed, "Every method under the same") == (
        "partly", "One data pipeline and training loop, but runs differ in torch.",
    )  # fmt: skip
    devices = {"cpu": "partly", "NVIDIA H200": "yes"}
    for device, status in devices.items():
        assert answer(make_rows(levels=1, machine={**MACHINE, "device": device}), "Hardware described")[0] == status
    assert answer(make_rows(levels=1, machine={}), "Hardware described")[0] == "no"


def test_every_answer_is_one_of_three_with_a_reason_whatever_the_study():
    begun = Rows([FULL[0]], FULL.study)
    for rows in (FULL, begun, make_rows(levels=1, seeds=1), Rows([], FULL.study)):
        points = checklist(rows)
        assert len({point.asked for point in points}) == len(points) >= 18
        assert {point.status for point in points} <= {"yes", "partly", "no"}
        assert all(point.reason.endswith(".") for point in points)
        assert [point.later for point in points] == sorted(point.later for point in points)
