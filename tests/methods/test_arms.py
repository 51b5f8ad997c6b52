"""A control differs from the ticket in one thing only."""

import dataclasses
import functools

import pytest
import torch

from problems import digits, found, next_token
from scratchcard.masks.compare import counts, density, digest, distance
from scratchcard.methods.arms import ARMS, PAPER, USUAL, FreshInit, Noise, OwnInit, RandomMask, Signs, UniformWidth
from scratchcard.methods.at_init import AtInit
from scratchcard.methods.fit import refusal
from scratchcard.methods.imp import IMP, Continued
from scratchcard.methods.ticket import Dense, End, Fresh, Narrow, Redrawn, Ticket
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.zoo import lenet_300_100
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.training.recipe import Recipe

RECIPE = Recipe(steps=10)
SHORT = Recipe(steps=6, lr=0.01, batch_size=16, eval_every=6)


def ticket(level=2, seed=3):
    chance = torch.Generator().manual_seed(0)
    mask = {name: torch.rand(30, 20, generator=chance) < share for name, share in (("a", 0.1), ("b", 0.5), ("c", 0.9))}
    upside_down = {name: kept.flip(0) for name, kept in mask.items()}
    return Ticket(
        IMP(rewind=4), seed, level, MaskedWeights(mask), ("a", "b"), Dense(4), 4, {"lr": 0.5}, inverse=upside_down
    )


def drawn(arm, of=None, seed=3):
    return list(arm(of or ticket(), RECIPE, seed, digits()))


def mask_of(control):
    return control.subnetwork.mask


def differing(control, original):
    pairs = {f.name: (getattr(control, f.name), getattr(original, f.name)) for f in dataclasses.fields(Ticket)}
    return {name for name, (a, b) in pairs.items() if a is not b and (name in ("subnetwork", "inverse") or a != b)}


NOISE = ["noise-0.5", "noise-1", "noise-2", "noise-3"]
SIGNS = ["sign-redrawn", "sign-constant", "random-sign-constant"]
REDRAWN = ["own-init-resample", "own-init-shuffle", *NOISE, *SIGNS]
FRESH = ["fresh-init", "fresh-init-same-steps"]
WEIGHTS_ALONE = [*FRESH, *REDRAWN]
PLACES_ALONE = ["shuffled-mask", "inverted-scores"]
BOTH = ["random-mask-layerwise", "random-mask-global", "uniform-width"]
SAME_STEPS = [f"{label}-same-steps" for label in ("fresh-init", *BOTH)]
BOTH += SAME_STEPS[1:]
OF_LOTTERIES = [*WEIGHTS_ALONE, *PLACES_ALONE, *BOTH]
GO_ON = [*NOISE, *PLACES_ALONE, *SAME_STEPS]
"""Controls that are trained from the step that the ticket is rewound to; all others are trained from step 0."""
OF_INHERITED = ["fine-tune-full-schedule", "re-init", "lottery-init", "another-init"]
BUDGETS = ["scratch-e", "scratch-b", "scratch-b-strict", "scratch-b-cap-2", "guided", *OF_INHERITED]  # test_budgets.py
LONGER = ["dense-for-the-search", "dense-times-3"]  # test_dense_longer.py


def test_labels_are_those_of_the_rows_and_every_control_is_tested_for_what_it_changes():
    assert sorted(ARMS) == sorted(OF_LOTTERIES + BUDGETS + LONGER)
    assert all(arm.label == label for label, arm in ARMS.items())
    assert set(USUAL) < set(PAPER) < set(ARMS)


@pytest.mark.parametrize("label", OF_LOTTERIES)
def test_every_control_says_what_it_is_and_is_trained_as_the_ticket_is_or_by_the_whole_recipe(label):
    arm = ARMS[label]
    controls = drawn(arm)
    assert len(controls) == arm.replicates >= 1
    for replicate, control in enumerate(controls):
        assert (control.arm, control.arm_label, control.replicate) == (arm, label, replicate)
        assert (control.method, control.seed, control.level) == (IMP(rewind=4), 3, 2)
        as_the_ticket, whole = (4, {"lr": 0.5}), (0, {})
        assert (control.start_step, control.changes) == (as_the_ticket if label in GO_ON else whole)


@pytest.mark.parametrize("label", [*WEIGHTS_ALONE, *BOTH])
def test_a_control_is_a_function_of_its_causes_and_no_draw_of_how_many_there_are(label):
    arm = ARMS[label]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    few, many = (drawn(dataclasses.replace(arm, replicates=n)) for n in (2, 5))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(few, many[:2], strict=True):
        assert a.start == b.start
        assert mask_of(a).keys() == mask_of(b).keys()
        assert not mask_of(a) or distance(mask_of(a), mask_of(b)) == 0
    starts = [c.start for c in (*many, *drawn(arm, ticket(level=1)), *drawn(arm, seed=4))]
    assert len(set(starts)) == len(starts), "replicates, levels and seeds draw their own weights"


@pytest.mark.parametrize("label", WEIGHTS_ALONE)
def test_a_control_of_the_weights_differs_from_the_ticket_in_them_alone(label):
    original = ticket()
    steps = set() if label in GO_ON else {"start_step", "changes"}
    for control in drawn(ARMS[label], original):
        assert differing(control, original) - {"replicate"} == {"start", "arm"} | steps
        assert control.subnetwork is original.subnetwork
        assert isinstance(control.start, Fresh) == (label in FRESH)
        assert label in FRESH or control.start.of == original.start


@pytest.mark.parametrize("label", PLACES_ALONE)
def test_a_control_of_the_places_differs_from_the_ticket_in_them_alone(label):
    original = ticket()
    for control in drawn(ARMS[label], original):
        assert differing(control, original) - {"replicate"} == {"subnetwork", "arm"}
        assert counts(mask_of(control)) == counts(mask_of(original))
        assert distance(mask_of(control), mask_of(original)) > 0.1


@pytest.mark.parametrize("steps", ["whole", "ticket"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_random_mask_differs_from_fresh_init_in_its_places_alone(scope, steps):
    original = ticket()
    before = {name: kept.clone() for name, kept in mask_of(original).items()}
    controls = drawn(FreshInit(3, steps)), drawn(RandomMask(scope, 3, steps), original)
    for fresh, random in zip(*controls, strict=True):
        assert random.start == fresh.start
        assert differing(random, fresh) <= {"subnetwork", "arm", "inverse"}
        assert density(mask_of(random)) == density(before)
        assert torch.equal(mask_of(random)["c"], before["c"]), "what the method could not cut is not shuffled"
        assert distance(mask_of(random), before) > 0.1
        assert (counts(mask_of(random)) == counts(before)) == (scope == "layer")
    assert distance(mask_of(original), before) == 0


def test_a_shuffled_mask_has_the_places_of_the_random_mask_and_the_weights_of_the_ticket():
    (shuffled,), (random,) = drawn(ARMS["shuffled-mask"]), drawn(RandomMask("layer", 1))
    assert distance(mask_of(shuffled), mask_of(random)) == 0
    assert shuffled.start == ticket().start


@pytest.mark.parametrize("arm", [FreshInit(2), RandomMask("layer", 2), RandomMask("global", 2), UniformWidth(2)])
def test_the_same_steps_reading_has_the_same_weights_and_places_and_differs_in_its_steps_alone(arm):
    same, original = dataclasses.replace(arm, steps="ticket"), ticket()
    assert same.label == f"{arm.label}-same-steps"
    for whole, as_ticket in zip(drawn(arm, original), drawn(same, original), strict=True):
        assert whole.start == as_ticket.start
        assert digest(mask_of(whole)) == digest(mask_of(as_ticket))
        assert dataclasses.replace(as_ticket, start_step=0, changes={}, arm=arm, subnetwork=whole.subnetwork) == whole
    unwound = dataclasses.replace(original, start=Dense(0), start_step=0, changes={})
    for whole, as_ticket in zip(drawn(arm, unwound), drawn(same, unwound), strict=True):
        assert dataclasses.replace(as_ticket, arm=arm, subnetwork=whole.subnetwork) == whole, "nothing to tell apart"


def test_random_masks_of_different_replicates_levels_and_scopes_differ():
    masks = [mask_of(c) for scope in ("layer", "global") for c in drawn(RandomMask(scope, 3))]
    masks += [mask_of(c) for c in drawn(RandomMask("layer", 1), ticket(level=1))]
    assert all(distance(a, b) > 0.1 for i, a in enumerate(masks) for b in masks[:i])


def test_new_magnitudes_are_those_of_the_fresh_init_arm_so_that_only_signs_differ():
    (signs,), (fresh,) = drawn(Signs("redrawn", replicates=1)), drawn(FreshInit(1))
    assert signs.start.seed == fresh.start.seed


def test_a_continued_training_goes_on_from_the_level_before_and_the_first_from_the_dense_end():
    for level, start in ((1, Dense(10)), (3, End(2, continued=True))):
        (search,) = drawn(Continued(), ticket(level=level))
        assert (search.start, search.start_step, search.arm_label) == (start, 0, "continued")
        assert search.subnetwork is not None


def test_a_uniform_width_asks_for_as_many_weights_as_the_ticket_keeps():
    (narrow,) = drawn(ARMS["uniform-width"])
    assert isinstance(narrow.start, Narrow)
    assert narrow.start.weights == sum(int(kept.sum()) for kept in mask_of(ticket()).values())


@pytest.mark.parametrize("wrong", [lambda: Noise(0), lambda: Noise(float("nan")), lambda: Signs("redrawn", keep=False)])
def test_a_control_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        wrong()


# what a control trains, in a real study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = Study(wider(), SHORT, [IMP(rounds=2, rate=0.5, rewind=2)], OF_LOTTERIES, seeds=1)
    backed = study.trainings(Store(tmp_path_factory.mktemp("store")))
    *_, ticket = found(backed, study.methods[0])
    return backed, ticket


def small_lenet(width=1.0):
    return lenet_300_100(inputs=64, width=width)


@functools.cache
def wider():
    """Digits, by a network of any width."""
    return dataclasses.replace(digits(), model=small_lenet)


def started(backed, control):
    """The weights a control is trained from, and where it keeps them."""
    snapshot = next(backed.train(control, (control.start_step,)))
    return snapshot.state()


def finished(backed, trained):
    for _ in backed.train(trained):
        pass
    return backed.store.row(backed.spec(trained).id)


@pytest.mark.parametrize("label", REDRAWN)
def test_redrawn_weights_are_made_from_the_tickets_own(study, label):
    backed, ticket = study
    origin, mask = started(backed, ticket), mask_of(ticket)
    control = drawn(ARMS[label], ticket, seed=0)[0]
    start = started(backed, control)
    initial = read_state(backed.task.at_start(0))
    fresh = read_state(backed.task.fresh(control.start.seed))
    for name, value in start.items():
        if name not in mask:
            assert torch.equal(value, origin[name]), "biases and all else are the ticket's"
            continue
        kept, sigma = mask[name], initial[name].double().std(correction=0)
        new, old = value[kept], origin[name][kept]
        assert not value[~kept].any()
        assert not torch.equal(new, old)
        if label == "own-init-resample":
            assert set(new.tolist()) < set(old.tolist())
        elif label == "own-init-shuffle":
            assert torch.equal(new.sort().values, old.sort().values)
        elif label.startswith("noise"):
            spread = (new - old).double().std() / sigma
            assert spread == pytest.approx(float(label.removeprefix("noise-")), rel=0.2)
        else:
            assert torch.equal(new.sign(), old.sign()) == (label != "random-sign-constant")
            magnitude = fresh[name].abs()[kept] if label == "sign-redrawn" else torch.full_like(new, float(sigma))
            assert torch.equal(new.abs(), magnitude)


@pytest.mark.parametrize("label", [*FRESH, "own-init-resample", "noise-1", "sign-constant", *PLACES_ALONE, *BOTH])
def test_of_a_rewound_ticket_only_what_has_the_weights_of_that_step_skips_the_steps_before_it(study, label):
    backed, ticket = study
    control = drawn(ARMS[label], ticket, seed=0)[0]
    row = finished(backed, control)
    assert row.status == "done", row.message
    assert row.curve.steps == ([2, 6] if label in GO_ON else [0, 6])
    assert row.recipe == {**SHORT.fields(), "augment": [], "milestones": []}, "by the rates of the study"
    if not label.startswith("uniform-width"):
        per_step = 16 * backed.cost.training_flops
        assert row.train_flops == per_step * (4 if label in GO_ON else 6)


def test_a_narrow_network_is_dense_and_has_as_many_weights_to_within_one_width(study):
    backed, ticket = study
    (narrow,) = drawn(ARMS["uniform-width"], ticket, seed=0)
    row, ticket_row = finished(backed, narrow), finished(backed, ticket)
    assert row.status == "done", row.message
    wanted = sum(int(kept.sum()) for kept in mask_of(ticket).values())
    have = sum(kept for kept, _ in row.layers.values())
    assert abs(have - wanted) < 0.02 * wanted
    assert row.density == have / 50_200
    assert row.nonzero == row.parameters < 50_610
    assert row.train_flops / 6 < ticket_row.train_flops / 4 / 2


def test_controls_that_cannot_be_run_are_said_with_a_reason_and_all_means_those_that_can():
    plain, wide = next_token(), wider()
    assert "width" in refusal(ARMS["uniform-width"], IMP(), plain, SHORT)
    assert not refusal(ARMS["uniform-width"], IMP(), wide, SHORT)
    with pytest.raises(ValueError, match=r"uniform-width cannot be run.*`width`.*leave it out"):
        Study(plain, SHORT, arms=["uniform-width"])
    assert "uniform-width" not in {arm.label for arm in Study(plain, SHORT, arms="all").controls}
    methods = [IMP(between="lr-rewind"), AtInit("random")]
    study = Study(wide, SHORT, methods, "all", seeds=1)
    left_out = {label: set(plan.left_out) for label, plan in study.spec.methods.items()}
    untrained = {"fresh-init", "random-mask-layerwise", "random-mask-global", *SIGNS, *PLACES_ALONE}
    untrained |= {"own-init-resample", "own-init-shuffle"}
    assert left_out == {"imp-lr-rewind": untrained, "random-at-init": {"dense-for-the-search"}}
    runs = [spec for spec in study.plan().runs if spec.method and spec.method.label == "imp-lr-rewind" and spec.arm]
    assert {spec.arm.label for spec in runs} == set(ARMS) - untrained - {*OF_INHERITED, *SAME_STEPS}


@pytest.mark.parametrize("between", ["lr-rewind", "fine-tune"])
def test_fresh_weights_are_never_trained_at_the_rates_of_tickets_that_go_on_from_trained_ones(between):
    method, wide = IMP(between=between), wider()
    for label in ("fresh-init", "random-mask-layerwise", "random-mask-global", *REDRAWN[:2], *SIGNS, *SAME_STEPS):
        assert refusal(ARMS[label], method, wide, SHORT), label
        with pytest.raises(ValueError, match=f"{label} cannot be run on any method of this study: its tickets"):
            Study(wide, SHORT, [method], [label])
    for label in PLACES_ALONE:
        assert "weights trained under their own mask" in refusal(ARMS[label], method, wide, SHORT)
    assert "scratch-e and scratch-b train fresh ones" in refusal(FreshInit(), method, wide, SHORT)
    (narrow,) = drawn(ARMS["uniform-width"], dataclasses.replace(ticket(), method=method))
    assert (narrow.start_step, narrow.changes) == (0, {}), "the whole recipe"
    for task, usual in ((digits(), set()), (wide, {"uniform-width"})):
        arms = {arm.label for arm in Study(task, SHORT, [method], seeds=1).controls}
        assert arms == {"scratch-e", "scratch-b", "dense-for-the-search"} | usual


def test_the_same_steps_reading_is_there_only_for_tickets_that_are_rewound_to_a_later_step():
    wide, rewound = wider(), IMP(rewind=2)
    for label in SAME_STEPS:
        assert not refusal(ARMS[label], rewound, wide, SHORT)
        for method in (IMP(), AtInit("random"), IMP(between="continue")):
            assert "not rewound to a later step" in refusal(ARMS[label], method, wide, SHORT)
        with pytest.raises(ValueError, match=f"{label} cannot be run on any .* without -same-steps again; leave it"):
            Study(wide, SHORT, [IMP()], [label])
    assert not {arm.label for arm in Study(wide, SHORT, [IMP()], "all").controls} & set(SAME_STEPS)
    assert {arm.label for arm in Study(wide, SHORT, [rewound], "all").controls} >= set(SAME_STEPS)
    assert not {arm.label for arm in Study(wide, SHORT, [rewound]).controls} & set(SAME_STEPS), "not usual"


@pytest.mark.parametrize("between", ["lr-rewind", "continue", "fine-tune"])
def test_weights_that_go_on_are_those_the_level_before_ended_with(between, tmp_path):
    recipe = dataclasses.replace(SHORT, schedule="step", milestones=(4,), warmup=2)
    fresh = "fresh-init" if between == "continue" else "scratch-e"
    study = Study(digits(), recipe, [IMP(rounds=3, rate=0.5, between=between)], [fresh, "noise-1"], seeds=1)
    backed = study.trainings(Store(tmp_path))
    before, masks = backed.dense(0), []
    for ticket in found(backed, study.methods[0]):
        masks.append(mask_of(ticket))
        goes_on = Continued()(ticket, recipe, 0, study.task) if between == "continue" else [ticket]
        (running,) = goes_on
        (end,) = [s.state() for s in backed.train(before, (backed.recipe_of(before).steps,))]
        cut = {name: value * masks[-1][name] if name in masks[-1] else value for name, value in end.items()}
        assert state_digest({n: v + 0.0 for n, v in started(backed, running).items()}) == state_digest(
            {n: v + 0.0 for n, v in cut.items()}
        )
        row = finished(backed, running)
        assert (row.recipe["schedule"], row.recipe["lr"], row.recipe["warmup"]) == (
            ("constant", pytest.approx(0.001), 0) if between == "fine-tune" else ("step", 0.01, 2)
        )
        before = running
    if between == "continue":
        assert state_digest(started(backed, ticket)) != state_digest(started(backed, running))
    # from nothing but the store, in another process or on another day
    rows = dataclasses.replace(study, store=tmp_path).run(workers=1, progress=False)
    assert {row.status for row in rows} == {"done"}
    assert len(rows) == study.spec.planned == 1 + 3 * (2 + 3 + 1 if between == "continue" else 1 + 1 + 1)


def test_own_initial_values_are_drawn_with_or_without_replacement():
    (with_, without) = (drawn(OwnInit(replacement))[0].start for replacement in (True, False))
    assert isinstance(with_, Redrawn)
    assert (with_.how, without.how) == ("resample", "permute")
