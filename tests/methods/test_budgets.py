"""What inherited weights are worth is asked of the same structure from scratch, by budgets that are exact."""

import dataclasses

import pytest
import torch

from problems import bottlenecks, corners, find, found, planted, regression, trainings
from scratchcard.masks.compare import counts, digest
from scratchcard.methods import budgets
from scratchcard.methods.arms import ARMS, RETHINKING
from scratchcard.methods.budgets import (
    AnotherInit,
    Guided,
    LotteryInit,
    ReInit,
    ScratchB,
    ScratchE,
    Transferred,
    flops_ratio,
    pattern_of,
    stretched,
)
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.fit import refusal
from scratchcard.methods.imp import IMP
from scratchcard.methods.slimming import Slimming
from scratchcard.methods.soft_filters import SoftFilterPruning
from scratchcard.methods.ticket import Dense, Handed
from scratchcard.methods.units import fine_tuning
from scratchcard.networks.cost import cost
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.study.tickets import kept
from scratchcard.training.recipe import Recipe

RECIPE = Recipe(
    steps=24, optimizer="sgd", lr=0.05, momentum=0.9, batch_size=20, schedule="step", milestones=(12, 18), eval_every=24
)
CIFAR = Recipe(steps=160, optimizer="sgd", lr=0.1, schedule="step", milestones=(80, 120), eval_every=160)
METHODS = {
    "slimming": Slimming(),
    "early-bird": EarlyBird(every=2, patience=2),
    "l1-filters": FilterPruning(),
    "soft-filters": SoftFilterPruning(),
    "filters of two rates": FilterPruning(rate={"conv1": 0.5, "conv2": 0.125}),
}
every_method = pytest.mark.parametrize("label", METHODS)


@pytest.fixture(scope="module")
def tickets(tmp_path_factory):
    """Method -> (what backs its trainings, its ticket)."""
    made = {}
    for label, method in METHODS.items():
        arms = tuple(arm for arm in ARMS if not refusal(ARMS[arm], method, corners(), RECIPE))
        backed = trainings(corners(), RECIPE, method, Store(tmp_path_factory.mktemp(label)), arms)
        (ticket,) = found(backed, method)
        made[label] = backed, ticket
    return made


def only(arm, ticket, recipe=RECIPE, seed=0, task=None):
    (control,) = arm(ticket, recipe, seed, task or corners())
    return control


def begun(backed, ticket):
    """The weights that a training starts from, in its own shapes."""
    return next(backed.train(ticket, (ticket.start_step,))).state()


@pytest.mark.parametrize(
    ("ratio", "epochs", "milestones"),
    [(1.1156, 178, (89, 133)), (1.3791, 220, (110, 165)), (1.1883, 190, (95, 142)), (1.6273, 260, (130, 195))],
)
def test_scratch_b_trains_for_the_epochs_of_the_paper(tickets, monkeypatch, ratio, epochs, milestones):
    monkeypatch.setattr(budgets, "flops_ratio", lambda *_: ratio)
    _, ticket = tickets["l1-filters"]
    control = only(ScratchB(), ticket, CIFAR)
    recipe = dataclasses.replace(CIFAR, **control.changes)
    assert (recipe.steps, recipe.milestones) == (epochs, milestones) == (epochs, (epochs // 2, int(0.75 * epochs)))
    tuned = dataclasses.replace(ticket, start=Dense(160), changes=fine_tuning(CIFAR, None, 40))
    strict = only(ScratchB(strict=True), tuned, CIFAR)
    assert strict.changes["steps"] == epochs + 40
    assert only(ScratchB(cap=1.2), ticket, CIFAR).changes["steps"] == min(epochs, 192)


@pytest.mark.parametrize("ratio", [2.0, 2.5, 9.0])
def test_capped_at_twice_the_epochs_it_is_exactly_that_from_a_ratio_of_two_on(tickets, monkeypatch, ratio):
    monkeypatch.setattr(budgets, "flops_ratio", lambda *_: ratio)
    recipe = Recipe(steps=90, schedule="step", milestones=(30, 60))
    control = only(ScratchB(cap=2), tickets["l1-filters"][1], recipe)
    assert control.changes == {"steps": 180, "milestones": (60, 120), "warmup": 0}


@pytest.mark.parametrize("steps", [101, 161, 177, 221, 259])
def test_trainings_of_an_odd_length_still_lower_their_rate_twice(steps):
    recipe = dataclasses.replace(CIFAR, **stretched(CIFAR, steps))
    assert recipe.milestones == (steps // 2, steps * 3 // 4)
    assert [round(recipe.lr_factor(at), 6) for at in (0, steps // 2 - 1, steps // 2, steps - 1)] == [1, 1, 0.1, 0.01]


def test_a_warm_up_is_stretched_too():
    assert stretched(dataclasses.replace(CIFAR, warmup=10), 240)["warmup"] == 15


@every_method
def test_the_ratio_is_of_the_dense_networks_operations_to_the_small_ones(tickets, label):
    backed, ticket = tickets[label]
    small, inputs = ticket.subnetwork.trainable(corners().fresh(0)), corners().example_inputs()
    ratio = flops_ratio(ticket, corners())
    assert ratio == backed.cost.forward_flops / cost(small, inputs).forward_flops
    assert ratio > 1.1, "the released code compared the pruned network with itself"
    assert only(ScratchB(), ticket).changes["steps"] == int(24 * ratio)
    same = dataclasses.replace(ticket.subnetwork, mask=corners().sites.whole())
    assert flops_ratio(dataclasses.replace(ticket, subnetwork=same), corners()) == 1


def test_of_single_weights_the_ratio_counts_what_the_kept_ones_multiply(tmp_path):
    task, _ = planted()
    _, (ticket,) = find(task, RECIPE, IMP(rounds=1, rate=0.5), tmp_path)
    kept = {name: int(mask.sum()) for name, mask in ticket.subnetwork.mask.items()}
    assert flops_ratio(ticket, task) == pytest.approx((16 * 24 + 24) / sum(kept.values()))


@every_method
def test_scratch_e_and_b_start_from_the_same_fresh_weights_of_their_own_size(tickets, label):
    backed, ticket = tickets[label]
    short, long = only(ScratchE(), ticket), only(ScratchB(), ticket)
    assert short.start == long.start
    assert (short.changes, short.start_step, long.start_step) == ({}, 0, 0)
    weights = [begun(backed, control) for control in (short, long)]
    assert state_digest(weights[0]) == state_digest(weights[1])
    inherited = ticket.weights if ticket.weights is not None else next(backed.train(backed.dense(0), (24,))).state()
    small = read_state(ticket.subnetwork.trainable(_with(corners(), inherited)))
    for name, value in weights[0].items():
        assert value.shape == small[name].shape
        if value.dim() > 1:
            assert not set(value.flatten().tolist()) & set(small[name].flatten().tolist()), "nothing is inherited"
    assert torch.equal(weights[0]["bn1.weight"], torch.ones_like(weights[0]["bn1.weight"]))
    assert short.weights is None
    # torch draws uniformly within 1 / sqrt(inputs): of the small layer, not of the large one
    bound = weights[0]["output.weight"].shape[1] ** -0.5
    assert 0.9 * bound < float(weights[0]["output.weight"].abs().max()) <= bound * 1.0001
    for control in (short, long):
        for _ in backed.train(control):
            pass
    rows = [backed.store.row(backed.spec(control).id) for control in (short, long)]
    assert rows[0].parameters == rows[1].parameters < backed.cost.parameters
    assert rows[1].end.step == int(24 * flops_ratio(ticket, corners()))
    dense = backed.cost.training_flops * 20 * 24
    assert rows[0].train_flops < rows[1].train_flops
    assert abs(rows[1].train_flops / dense - 1) < 0.15, "as many operations as the dense training"


def _with(task, state):
    model = task.fresh(0)
    model.load_state_dict(state)
    return model


def test_replicates_seeds_and_levels_are_draws_of_their_own_and_arms_share_them(tickets):
    _, ticket = tickets["slimming"]
    starts = [c.start for c in ScratchE(3)(ticket, RECIPE, 0, corners())]
    assert [c.start for c in ScratchB(replicates=3)(ticket, RECIPE, 0, corners())] == starts
    assert only(ARMS["uniform-width"], ticket).start == only(Guided(), ticket).start == starts[0]
    starts += [only(ScratchE(), ticket, seed=1).start, only(ScratchE(), dataclasses.replace(ticket, level=2)).start]
    assert len(set(starts)) == 5


@pytest.mark.parametrize("label", ["slimming", "early-bird", "filters of two rates"])
def test_a_uniform_width_has_the_tickets_operations_and_one_width_for_all(tickets, label):
    backed, ticket = tickets[label]
    narrow = only(ARMS["uniform-width"], ticket)
    inputs = corners().example_inputs()
    macs = [cost(one.subnetwork.trainable(corners().fresh(0)), inputs).macs for one in (ticket, narrow)]
    assert macs[1] == pytest.approx(macs[0], rel=0.25), "six and eight channels leave few widths to choose among"
    shares = [kept / total for kept, total in counts(narrow.subnetwork.mask).values()]
    assert max(shares) - min(shares) <= 1 / 6
    assert (narrow.changes, narrow.start_step, narrow.weights) == ({}, 0, None)
    for _ in backed.train(narrow):
        pass
    row = backed.store.row(backed.spec(narrow).id)
    assert row.status == "done", row.message
    assert row.end.step == 24


@pytest.mark.parametrize(
    ("method", "fresh"),
    [
        (FilterPruning("l1", rounds=2), "scratch-e"),
        (FilterPruning("random", rate=0.3), "scratch-e"),
        (FilterPruning(only=("conv2",)), "scratch-e"),
        (SoftFilterPruning(rounds=2), "scratch-e"),
        (IMP(rounds=3, rate=0.4, units="channels"), "fresh-init"),
    ],
    ids=lambda one: getattr(one, "label", one),
)
def test_a_uniform_width_of_tickets_that_have_one_already_is_left_out_and_it_is_said_which_arm_it_is(method, fresh):
    why = refusal(ARMS["uniform-width"], method, corners(), RECIPE)
    assert why == f"its tickets keep the same share of every site already: {fresh} is this architecture"
    study = Study(corners(), RECIPE, [method, Slimming()], ["uniform-width", "scratch-e"], seeds=1)
    left_out = {label: plan.left_out for label, plan in study.spec.methods.items()}
    assert left_out == {method.label: {"uniform-width": why}, "slimming": {}}
    asked = {spec.label for spec in study._specs()}
    assert "slimming: uniform-width" in asked
    assert f"{method.label}: uniform-width" not in asked
    with pytest.raises(ValueError, match="uniform-width cannot be run on any method"):
        Study(corners(), RECIPE, [method], ["uniform-width"])


def test_a_uniform_width_stays_where_the_rates_of_the_sites_differ_at_the_primary_level():
    several, arm = FilterPruning(rate={"conv1": 0.5, "conv2": 0.125}, rounds=16), ARMS["uniform-width"]
    assert [dict(several.widths(corners(), level)) for level in (1, 16)] == [
        {"conv1": 3, "conv2": 7},
        {"conv1": 1, "conv2": 1},  # one share, however it came about
    ]
    assert [bool(refusal(arm, several, corners(), RECIPE, density)) for density in (0.9, 0.01)] == [False, True]
    for primary, level, uniform in ((0.9, 1, False), (0.01, 16, True)):
        plan = Study(corners(), RECIPE, [several], ["scratch-e"], seeds=1, primary=primary).spec.methods["l1-filters"]
        assert (plan.primary, plan.uniform) == (level, uniform)
        assert ("uniform-width" in plan.left_out) == uniform, "said also where it was not asked for"


@every_method
def test_a_lottery_starts_bitwise_from_the_original_weights_where_the_ticket_keeps(tickets, label):
    backed, ticket = tickets[label]
    control = only(LotteryInit(), ticket)
    start, original = begun(backed, control), next(backed.train(backed.dense(0), (0,))).state()
    assert state_digest(original) == state_digest(read_state(corners().fresh(0)))
    assert state_digest(start) == state_digest(read_state(ticket.subnetwork.trainable(corners().fresh(0))))
    assert (control.changes, control.start_step) == ({}, 0)


@every_method
def test_another_draw_of_the_large_networks_weights_differs_from_the_original_in_the_draw_alone(tickets, label):
    backed, ticket = tickets[label]
    own, another = only(LotteryInit(), ticket), only(AnotherInit(), ticket)
    assert dataclasses.replace(another, start=own.start, arm=own.arm) == own
    weights = begun(backed, another)
    drawn = read_state(ticket.subnetwork.trainable(corners().fresh(another.start.seed)))
    assert state_digest(weights) == state_digest(drawn) != state_digest(begun(backed, own))
    several = [c.start for c in AnotherInit(3)(ticket, RECIPE, 0, corners())]
    assert len({another.start, *several}) == 3
    assert "original weights already" in refusal(AnotherInit(), IMP(), corners(), RECIPE)


def test_a_re_initialised_early_bird_is_trained_as_the_ticket_from_the_step_of_its_draw(tickets):
    backed, ticket = tickets["early-bird"]
    control = only(ReInit(), ticket)
    assert ticket.start_step > 0, "an early bird has a rest of the schedule to go on with"
    assert ticket.changes["scale_l1"] == EarlyBird().strength, "under the penalty, and so is the control"
    assert dataclasses.replace(control, start=ticket.start, weights=ticket.weights, arm=None) == ticket
    assert dataclasses.replace(control.start, factor=None) == only(ScratchE(), ticket).start
    assert state_digest(begun(backed, control)) != state_digest(begun(backed, ticket))
    for one in (control, ticket):
        for _ in backed.train(one):
            pass
    rows = [backed.store.row(backed.spec(one).id) for one in (control, ticket)]
    assert rows[0].train_flops == rows[1].train_flops
    assert rows[0].curve.steps == rows[1].curve.steps == [ticket.start_step, 24]
    assert rows[0].end != rows[1].end


def test_a_re_initialised_early_bird_begins_with_the_scaling_factors_of_the_search_and_scratch_e_with_its_own(tickets):
    backed, ticket = tickets["early-bird"]
    fresh, scratch = (begun(backed, only(arm, ticket)) for arm in (ReInit(), ScratchE()))
    for name, value in fresh.items():
        if name in ("bn1.weight", "bn2.weight"):
            assert torch.equal(value, torch.full_like(value, 0.5))
            assert torch.equal(scratch[name], torch.ones_like(value))
        else:
            assert torch.equal(value, scratch[name]), "nothing else differs"


@pytest.mark.parametrize(("initial", "factor"), [(0.5, 0.5), (0.25, 0.25), (None, 1.0)])
def test_in_a_study_the_rows_of_re_init_begin_at_the_factor_that_the_search_began_at(initial, factor, tmp_path):
    method = EarlyBird(every=2, patience=2, initial=initial)
    study = Study(corners(), RECIPE, [method], ["re-init"], seeds=1, store=tmp_path)
    rows = {row.arm: row for row in study.run(workers=1, progress=False)}
    assert {row.status for row in rows.values()} == {"done"}
    backed = study.trainings(Store(tmp_path))
    ticket = kept(backed.store, rows["ticket"].id, method, corners(), lambda: backed.sites)
    control = only(ReInit(), ticket)
    small = read_state(control.subnetwork.trainable(backed.start_of(control)))
    assert {float(value) for name in ("bn1.weight", "bn2.weight") for value in small[name]} == {factor}
    row = rows["re-init"]
    assert row.snapshots[row.curve.steps[0]] == state_digest(small)


@pytest.mark.parametrize("method", [Slimming(), FilterPruning(), SoftFilterPruning(), IMP()])
def test_only_tickets_that_go_on_with_their_schedule_are_re_initialised(method):
    assert refusal(ReInit(), method, corners(), RECIPE)
    assert not refusal(ReInit(), EarlyBird(), corners(), RECIPE)


def test_the_strict_budget_of_an_early_bird_counts_the_steps_of_its_search_not_a_dense_training(tickets, monkeypatch):
    monkeypatch.setattr(budgets, "flops_ratio", lambda *_: 1.5)
    _, ticket = tickets["early-bird"]
    searched, left = ticket.start_step, 24 - ticket.start_step
    assert only(ScratchB(strict=True), ticket).changes["steps"] == int(1.5 * searched) + left
    late = dataclasses.replace(ticket, start=Handed(24))  # drawn at the end, trained for the same steps
    assert only(ScratchB(strict=True), late).changes["steps"] == 36 + left


def test_the_strict_budget_counts_every_training_of_a_search_at_the_dense_networks_price(tmp_path, monkeypatch):
    monkeypatch.setattr(budgets, "flops_ratio", lambda *_: 1.5)
    for method, own in ((IMP(rounds=3, rate=0.3), 24), (IMP(rounds=2, rewind=4), 20), (FilterPruning(), 6)):
        backed, found_ = find(corners(), RECIPE, method, tmp_path / method.label)
        for ticket in found_:
            before = 24 + (ticket.level - 1) * own if method.units == "weights" else 24
            assert ticket.search_flops == before * 20 * backed.cost.training_flops
            assert only(ScratchB(strict=True), ticket).changes["steps"] == int(1.5 * before) + own
            assert only(ScratchB(), ticket).changes["steps"] == 36, "the other budget leaves the search out"


def test_the_strict_budget_of_a_search_in_small_networks_counts_what_they_cost(tmp_path):
    _, (first, second) = find(corners(), RECIPE, IMP(rounds=2, rate=0.4, units="channels"), tmp_path)
    before = 24 + 24 / flops_ratio(first, corners())
    ratio = flops_ratio(second, corners())
    assert before < 48
    assert only(ScratchB(strict=True), second).changes["steps"] == int(round(before) * ratio) + 24


@every_method
def test_the_full_schedule_starts_from_the_inherited_weights(tickets, label):
    backed, ticket = tickets[label]
    control = only(ARMS["fine-tune-full-schedule"], ticket)
    assert backed.recipe_of(control) == RECIPE
    assert state_digest(begun(backed, control)) == state_digest(begun(backed, ticket))
    for _ in backed.train(control):
        pass
    assert backed.store.row(backed.spec(control).id).curve.steps == [0, 24]


def test_guided_widths_are_the_mean_shares_of_each_stage(tickets):
    _, ticket = tickets["slimming"]
    kept = counts(ticket.subnetwork.mask)
    pattern = pattern_of(ticket, corners())
    shares = [kept["conv1"][0] / 6, kept["conv2"][0] / 8]
    assert [stage[0] for stage in pattern[:2]] == pytest.approx(shares), "6 x 6 pixels, then 3 x 3"
    guided = only(Guided(), ticket)
    assert counts(guided.subnetwork.mask) == kept
    assert all(torch.equal(one, torch.arange(len(one)) < one.sum()) for one in guided.subnetwork.mask.values())
    moved = Transferred(((0.5,), (0.25,)), "elsewhere")
    assert moved.label == "transferred-elsewhere"
    assert counts(only(moved, ticket).subnetwork.mask) == {"conv1": (3, 6), "conv2": (2, 8)}


def test_a_pattern_of_one_network_is_transferred_to_another(tickets, tmp_path):
    pattern = pattern_of(tickets["slimming"][1], corners())
    arms = [Transferred(pattern, "corners"), Guided()]
    method = Slimming(rate=0.4)
    study = Study(bottlenecks(), RECIPE, [method], arms, seeds=1, store=tmp_path)
    rows = {row.arm: row for row in study.run(workers=1, progress=False)}
    assert {row.status for row in rows.values()} == {"done"}
    kept, whole = rows["transferred-corners"].widths["blocks.0.conv2"]
    assert kept == max(1, round(whole * pattern[0][0]))
    assert rows["guided"].widths.keys() == rows["ticket"].widths.keys()


def test_guided_masks_of_weights_keep_each_positions_share_at_random(tmp_path):
    method = IMP(rounds=2, rate=0.5)
    _, (*_, ticket) = find(corners(), RECIPE, method, tmp_path)
    pattern = pattern_of(ticket, corners())
    kept = ticket.subnetwork.mask["conv1.weight"]
    assert pattern[0] == pytest.approx(kept.double().mean((0, 1)).flatten().tolist())
    made = [only(Guided(), ticket, seed=seed).subnetwork.mask for seed in (0, 0, 1)]
    assert digest(made[0]) == digest(made[1]) != digest(made[2])
    for name in ("conv1.weight", "conv2.weight"):
        assert counts(made[0])[name] == pytest.approx(counts(ticket.subnetwork.mask)[name], abs=5)
    assert digest(made[0]) != digest(ticket.subnetwork.mask)


@pytest.mark.parametrize(
    ("arm", "method", "sentence"),
    [
        ("fresh-init", Slimming(), "scratch-e and scratch-b train fresh ones"),
        ("random-mask-layerwise", EarlyBird(), "scratch-e and scratch-b train fresh ones"),
        ("shuffled-mask", FilterPruning(), "its tickets go on from weights trained"),
        ("inverted-scores", SoftFilterPruning(), "its tickets go on from weights trained"),
        ("random-mask-global", Slimming(), "counted in whole units"),
        ("noise-1", Slimming(), "counted in whole units"),
        ("sign-constant", Slimming(), "counted in whole units"),
        ("own-init-resample", Slimming(), "counted in whole units"),
        ("fine-tune-full-schedule", IMP(), "do not inherit trained weights"),
        ("lottery-init", IMP(), "start from their original weights already"),
        ("fine-tune-full-schedule", IMP(between="lr-rewind"), "lr-rewinding and rewinding are methods"),
        ("fine-tune-full-schedule", IMP(units="channels"), "do not inherit trained weights"),
        ("fresh-init", IMP(between="fine-tune"), "scratch-e and scratch-b train fresh ones"),
        ("sign-constant", IMP(between="lr-rewind"), "scratch-e and scratch-b train fresh ones"),
    ],
)
def test_controls_that_do_not_fit_a_method_are_refused_with_a_reason(arm, method, sentence):
    assert sentence in refusal(ARMS[arm], method, corners(), RECIPE)
    with pytest.raises(ValueError, match=f"{arm} cannot be run on any method of this study: .*leave it out"):
        Study(corners(), RECIPE, [method], [arm])


def test_a_lottery_of_a_model_that_was_brought_trained_is_refused():
    task = dataclasses.replace(corners(), start=corners().fresh(3).state_dict())
    assert "from which weights it started is not known" in refusal(LotteryInit(), Slimming(), task, RECIPE)
    assert not refusal(LotteryInit(), Slimming(), corners(), RECIPE)
    assert not refusal(ScratchE(), Slimming(), task, RECIPE)


def test_the_usual_controls_are_those_that_fit():
    usual = lambda *methods: {arm.label for arm in Study(corners(), RECIPE, methods).controls}  # noqa: E731
    lotteries = {"fresh-init", "random-mask-layerwise", "random-mask-global"}
    longer = {"dense-for-the-search"}
    assert usual(IMP()) == usual(IMP(rewind=5)) == lotteries | longer
    assert usual(IMP(between="fine-tune")) == usual(IMP(between="lr-rewind")) == {"scratch-e", "scratch-b"} | longer
    assert usual(Slimming(), EarlyBird()) == set(RETHINKING) | longer
    assert usual(FilterPruning()) == set(RETHINKING) - {"uniform-width"} | longer
    assert usual(Slimming(), IMP()) == lotteries | set(RETHINKING) | longer
    assert {arm.label for arm in Study(regression(), RECIPE, [IMP()], "all").controls} >= {"scratch-e", "guided"}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ScratchB(cap=0.5), "got cap=0.5"),
        (lambda: ScratchB(cap=float("nan")), "got cap=nan"),
        (lambda: Transferred((), "x"), "shares in"),
        (lambda: Transferred(((1.5,),), "x"), "shares in"),
        (lambda: Transferred(((0.5,), ()), "x"), "shares in"),
        (lambda: Transferred(((0.5,),), ""), "needs a source"),
    ],
)
def test_a_control_that_means_nothing_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_labels_tell_budgets_apart():
    labels = [ScratchB().label, ScratchB(strict=True).label, ScratchB(cap=2).label, ScratchB(True, 1.5).label]
    assert labels == ["scratch-b", "scratch-b-strict", "scratch-b-cap-2", "scratch-b-strict-cap-1.5"]
