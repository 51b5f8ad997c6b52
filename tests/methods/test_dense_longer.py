"""The dense network trained for as long as search and ticket together: its steps, its weights, its price, its place."""

import dataclasses

import pytest

from problems import corners, find
from scratchcard.methods import METHODS
from scratchcard.methods.arms import ARMS, USUAL
from scratchcard.methods.at_init import AtInit
from scratchcard.methods.budgets import DenseLonger, flops_ratio, stretched
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.fit import refusal
from scratchcard.methods.imp import IMP
from scratchcard.methods.slimming import Slimming
from scratchcard.networks.cost import cost
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.row import LONGER
from scratchcard.study.study import Study
from scratchcard.training.recipe import Recipe

RECIPE = Recipe(
    steps=12, optimizer="sgd", lr=0.05, momentum=0.9, batch_size=20, schedule="step", milestones=(6, 9), eval_every=12
)
LABEL = "dense-for-the-search"
EARLY = EarlyBird(every=1, patience=2, epsilon=0.2)


def longer(ticket, arm=None, recipe=RECIPE):
    (control,) = (arm or DenseLonger())(ticket, recipe, ticket.seed, corners())
    return control


def test_it_is_called_by_what_it_is_for_and_stands_among_the_controls():
    assert [DenseLonger().label, DenseLonger(3).label, DenseLonger(1.5).label] == [
        LABEL,
        "dense-times-3",
        "dense-times-1.5",
    ]
    assert LONGER == LABEL
    assert ARMS[LABEL] == DenseLonger()
    assert ARMS["dense-times-3"] == DenseLonger(3)
    for times in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"positive number of times as long, got times={times}"):
            DenseLonger(times)


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        (IMP(rounds=3, rate=0.3), [24, 36, 48]),  # n + 1 trainings at level n
        (IMP(rounds=2, rate=0.3, rewind=4), [12 + 8, 12 + 2 * 8]),
        (IMP(rounds=2, rate=0.3, one_shot=True), [24, 24]),
        (IMP(rounds=2, rate=0.3, between="fine-tune", fine_tune_steps=5), [12 + 5, 12 + 2 * 5]),
        (AtInit("snip", rounds=1, examples=60), [12 + 3]),  # forward and backward of 60 examples, 20 a step
    ],
    ids=lambda one: getattr(one, "label", ""),
)
def test_of_single_weights_its_steps_are_those_of_all_trainings_and_of_the_scores(method, steps, tmp_path):
    _, tickets = find(corners(), RECIPE, method, tmp_path)
    assert [longer(ticket).changes["steps"] for ticket in tickets] == steps
    assert {longer(ticket, DenseLonger(3)).changes["steps"] for ticket in tickets} == {36}, "whatever the search cost"


@pytest.mark.parametrize("method", [FilterPruning(), IMP(rounds=2, rate=0.4, units="channels"), Slimming(), EARLY])
def test_of_units_the_tickets_own_steps_count_for_what_the_small_network_costs(method, tmp_path):
    backed, tickets = find(corners(), RECIPE, method, tmp_path)
    per_step, before = 20 * backed.cost.training_flops, 12.0
    for ticket in tickets:
        steps = backed.recipe_of(ticket).steps - ticket.start_step
        if method is EARLY:
            before = float(ticket.start.step)  # what was searched, up to the step of the draw
            assert 0 < before < 12
            assert ticket.start_step == before, "and the rest of the schedule"
        assert ticket.search_flops == pytest.approx(before * per_step, rel=1e-12)
        worth = longer(ticket).changes["steps"]
        assert worth == round(before + steps / flops_ratio(ticket, corners())) < before + steps, "fewer than steps"
        small = cost(ticket.subnetwork.trainable(corners().fresh(0)), corners().example_inputs())
        before += steps * small.training_flops / backed.cost.training_flops  # before the next level is cut


def test_its_schedule_is_stretched_with_milestones_and_warm_up(tmp_path):
    recipe = dataclasses.replace(RECIPE, warmup=2)
    _, (ticket,) = find(corners(), recipe, IMP(rounds=1), tmp_path)
    assert longer(ticket, recipe=recipe).changes == {"steps": 24, "milestones": (12, 18), "warmup": 4}
    assert longer(ticket, DenseLonger(1.5), recipe).changes == stretched(recipe, 18)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Of three methods and two seeds."""
    methods = [IMP(rounds=2, rate=0.4, rewind=4), FilterPruning(rate=0.3), AtInit("magnitude", rounds=1)]
    folder = tmp_path_factory.mktemp("store")
    study = Study(corners(), RECIPE, methods, [LABEL, DenseLonger(1.5)], seeds=2, primary=0.4, store=folder)
    return study, study.run(workers=1, progress=False)


def test_it_starts_bitwise_from_the_dense_weights_of_its_seed_with_nothing_cut(rows):
    _, found = rows
    assert {row.status for row in found} == {"done"}
    dense = {row.seed: row for row in found if row.arm == "dense"}
    for row in (row for row in found if row.arm in (LABEL, "dense-times-1.5")):
        assert row.snapshots[0] == dense[row.seed].snapshots[0] == state_digest(read_state(corners().fresh(row.seed)))
        assert (row.density, row.parameters, row.layers) == (1.0, dense[0].parameters, dense[0].layers)
        assert row.mask_digest == dense[0].mask_digest
        assert row.curve.steps[0] == 0
        assert row.end.step == row.recipe["steps"] == max(row.snapshots)
        assert {name for name in row.recipe if row.recipe[name] != dense[0].recipe[name]} <= {"steps", "milestones"}
        assert row.recipe["steps"] > 12
    assert dense[0].snapshots[0] != dense[1].snapshots[0]


def test_it_costs_as_many_operations_as_search_and_ticket_together(rows):
    study, found = rows
    by = {(row.method, row.level, row.arm, row.seed): row for row in found}
    one_step = by["dense", 0, "dense", 0].train_flops / 12
    for label in ("imp-rewind-4", "l1-filters"):
        level = study.spec.methods[label].primary
        for seed in (0, 1):
            ticket, control = by[label, level, "ticket", seed], by[label, level, LABEL, seed]
            assert abs(control.train_flops - ticket.search_flops - ticket.train_flops) <= one_step / 2
            assert by[label, level, "dense-times-1.5", seed].train_flops == 18 * one_step
            assert control.search_flops == ticket.search_flops


def test_it_is_run_at_the_primary_level_alone_once_per_seed_whatever_other_controls_are(rows):
    study, found = rows
    primary = {label: plan.primary for label, plan in study.spec.methods.items()}
    assert primary == {"imp-rewind-4": 2, "l1-filters": 1, "magnitude-at-init": 1}
    ran = [(row.method, row.level, row.seed) for row in found if row.arm == "dense-times-1.5"]
    assert sorted(ran) == sorted((label, level, seed) for label, level in primary.items() for seed in (0, 1))
    for levels, others in ((None, {1, 2}), ((), {2}), ((1,), {1, 2})):
        arms = [LABEL, "random-mask-layerwise"]
        planned = dataclasses.replace(study, arms=arms, control_levels=levels)._specs()
        runs = [spec for spec in planned if spec.arm is not None and spec.arm.label == LABEL]
        assert sorted((spec.method.label, spec.level, spec.seed, spec.replicate) for spec in runs) == [
            (label, primary[label], seed, 0) for label in ("imp-rewind-4", "l1-filters") for seed in (0, 1)
        ]
        assert {spec.level for spec in planned if spec.label == "imp-rewind-4: random-mask-layerwise"} == others


def test_where_a_ticket_costs_nothing_to_find_it_is_refused_as_the_dense_network_once_more(rows):
    study, _ = rows
    for score in ("magnitude", "random"):
        assert "costs nothing" in refusal(DenseLonger(), AtInit(score), corners(), RECIPE)
        assert not refusal(DenseLonger(3), AtInit(score), corners(), RECIPE)
        with pytest.raises(ValueError, match=f"{LABEL} cannot be run on any .* the dense network once more; leave it"):
            Study(corners(), RECIPE, [AtInit(score)], [LABEL])
    for score in ("snip", "grasp", "synflow"):
        assert not refusal(DenseLonger(), AtInit(score), corners(), RECIPE)
    assert study.spec.methods["magnitude-at-init"].left_out.keys() == {LABEL}


@pytest.mark.parametrize("label", [label for label in METHODS if "only" not in label])
def test_it_is_usual_for_every_method_whose_search_costs_something(label):
    free = label.startswith(("magnitude-at-init", "random-at-init"))
    method = METHODS[label]
    assert bool(refusal(DenseLonger(), method, corners(), RECIPE)) == free
    recipe = dataclasses.replace(RECIPE, steps=60, milestones=(30, 45))
    plan = Study(corners(), recipe, [dataclasses.replace(method, rounds=1)], seeds=1)
    assert (LABEL in {arm.label for arm in plan.controls}) == (not free)


def test_a_plan_prices_it_apart_and_what_it_says_is_what_the_rows_say(rows, tmp_path):
    study, found = rows
    plan = dataclasses.replace(study, store=tmp_path / "none").plan()
    assert plan.price.flops == pytest.approx(plan.each.flops * sum(plan.longer.get(s.id, 1.0) for s in plan.runs))
    most = {spec.label: plan.longer[spec.id] for spec in plan.runs if spec.id in plan.longer}
    assert most == {
        f"imp-rewind-4: {LABEL}": pytest.approx(1 + 8 / 12 + 1),
        f"l1-filters: {LABEL}": 2.0,
        **{f"{label}: dense-times-1.5": 1.5 for label in study.spec.methods},
    }
    for row in found:
        if row.id in plan.longer:
            assert row.train_flops <= plan.longer[row.id] * plan.each.flops
    told = plan.describe(1).splitlines()
    apart = [line for line in told if line.startswith("of it ")]
    assert len(apart) == 5
    line = next(line for line in apart if line.startswith(f"of it imp-rewind-4: {LABEL}: "))
    assert line.endswith("(2 runs, each about 2.67 trainings of the dense network)")
    assert told.index(apart[0]) == 1 + next(at for at, line in enumerate(told) if line.startswith("price: "))
    assert not [line for line in study.plan().describe(1).splitlines() if line.startswith("of it ")], "all are there"


def test_a_plan_without_it_has_nothing_to_price_apart(tmp_path):
    plan = Study(corners(), RECIPE, [IMP(rounds=1)], USUAL, seeds=1, store=tmp_path / "none").plan()
    assert plan.longer == {}
    assert "of it" not in plan.describe(1)
