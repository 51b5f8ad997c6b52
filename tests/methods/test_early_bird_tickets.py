"""Early-bird tickets: drawn when the mask has settled, not before, and trained on from there."""

import dataclasses
from fractions import Fraction
from itertools import pairwise
from math import floor

import pytest
import torch

from problems import bottlenecks, corners, find, one_thread, perceptron
from scratchcard.masks.compare import digest
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.networks.forward import state_digest
from scratchcard.networks.scaling import Scaled, find_factors, scaling_factors
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.weights import everything
from scratchcard.study.study import Study
from scratchcard.training.loop import train
from scratchcard.training.recipe import Recipe

RECIPE = Recipe(
    steps=24, optimizer="sgd", lr=0.05, momentum=0.9, batch_size=20, schedule="step", milestones=(12, 18), eval_every=24
)
EARLY = EarlyBird(every=2, patience=2)


def searched(recipe, initial=0.5, stops=range(2, 25, 2), strength=1e-4, **changes):
    """The raw states of a search, trained by hand."""
    task = corners()
    factors = find_factors(task.fresh(0), task.sites, ("conv1", "conv2"))
    model = Scaled(MaskedWeights(everything(task.fresh(0))), factors, initial).trainable(task.fresh(0))
    recipe = dataclasses.replace(recipe, scale_l1=strength, **changes)
    with one_thread():
        return {s.step: s.state() for s in train(model, task.data, task.loss_of, recipe, 0, tuple(stops))}


def drawn(raw, p=Fraction(1, 2)):
    """The mask by hand: the largest |factor| of all layers together, 14 - floor(14 p) of them."""
    flat = torch.cat([raw[f"bn{n}.weight"].abs() for n in (1, 2)])
    kept = torch.zeros(14, dtype=torch.bool)
    kept[flat.argsort(descending=True, stable=True)[: 14 - floor(14 * p)]] = True
    return kept


def mask_of(ticket):
    return torch.cat([ticket.subnetwork.mask[name] for name in ("conv1", "conv2")])


def fires(masks, epsilon, patience, reading):
    """By hand: the step at which masks, {step: mask}, have settled; None when they have not."""
    steps = list(masks)
    apart = lambda a, b: float((masks[a] != masks[b]).float().mean())  # noqa: E731
    for at in range(len(steps)):
        lately = steps[: at + 1]
        if reading == "consecutive":
            distances = [apart(a, b) for a, b in pairwise(lately)][-patience:]
            if len(distances) == patience and max(distances) < epsilon:
                return steps[at]
        elif at >= patience - 1 and max(apart(steps[at], s) for s in lately[-patience:-1]) <= epsilon:
            return steps[at]
    return None


@pytest.fixture(scope="module")
def states():
    return searched(RECIPE)


@pytest.mark.parametrize("reading", ["consecutive", "window"])
@pytest.mark.parametrize(("epsilon", "patience"), [(0.2, 2), (0.08, 3), (0.3, 4)])
def test_the_ticket_is_drawn_when_the_masks_have_settled(states, tmp_path, reading, epsilon, patience):
    method = EarlyBird(every=2, patience=patience, epsilon=epsilon, reading=reading)
    _, (ticket,) = find(corners(), RECIPE, method, tmp_path)
    masks = {step: drawn(raw) for step, raw in states.items()}
    emerged = fires(masks, epsilon, patience, reading)
    found = ticket.search.emergence
    assert found.emerged == emerged
    at = emerged or 24
    assert found.steps == list(range(2, at + 1, 2))
    assert (ticket.start_step, ticket.start.step, found.drawn) == (at, at, at)
    assert torch.equal(mask_of(ticket), masks[at])
    assert state_digest(ticket.weights) == state_digest(states[at])
    seen = {step: mask for step, mask in masks.items() if step <= at}
    other = "window" if reading == "consecutive" else "consecutive"
    assert found.other_reading == fires(seen, epsilon, patience, other)
    distances = [[float((a != b).double().mean()) for b in seen.values()] for a in seen.values()]
    torch.testing.assert_close(torch.tensor(found.distances), torch.tensor(distances))
    assert found.random == 0.5


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_it_never_fires_before_there_are_more_masks_than_its_queue_is_long(tmp_path, patience):
    still = dataclasses.replace(RECIPE, lr=1e-9)  # nothing moves: the very first masks are the same
    method = EarlyBird(every=1, patience=patience)
    _, (ticket,) = find(corners(), still, method, tmp_path)
    assert ticket.search.emergence.emerged == patience + 1
    assert len(ticket.search.emergence.steps) == patience + 1


def test_the_released_codes_reading_fires_once_its_queue_of_masks_is_full(tmp_path):
    still = dataclasses.replace(RECIPE, lr=1e-9)
    _, (ticket,) = find(corners(), still, EarlyBird(every=1, patience=5, reading="window"), tmp_path)
    assert ticket.search.emergence.emerged == 5


def test_masks_are_drawn_after_every_epoch_unless_told_otherwise(tmp_path):
    never = EarlyBird(patience=3, epsilon=1e-6)
    _, (ticket,) = find(corners(), RECIPE, never, tmp_path)
    assert ticket.search.emergence.steps == [6, 12, 18, 24], "120 examples, 20 in a batch"
    _, (ticket,) = find(corners(), RECIPE, dataclasses.replace(never, every=7), tmp_path / "7")
    assert ticket.search.emergence.steps == [7, 14, 21, 24]


def test_masks_that_never_settle_are_no_early_bird_and_it_is_said(tmp_path):
    restless = dataclasses.replace(RECIPE, lr=1.0, milestones=(23,))
    method = EarlyBird(every=3, patience=7, epsilon=1e-6)
    backed, (ticket,) = find(corners(), restless, method, tmp_path)
    found = ticket.search.emergence
    assert found.emerged is None
    assert (ticket.start_step, found.drawn) == (24, 24)
    assert "no early bird" in ticket.search.notes[0]
    for _ in backed.train(ticket):
        pass
    row = backed.store.row(backed.spec(ticket).id)
    assert row.status == "done", row.message
    assert row.train_flops == 0
    assert row.curve.steps == [24]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rate": 0.95}, "at level 1 a share of 0.95 is cut.*differ in 0.095 .*any mask would pass"),
        ({"rate": 0.05}, "at level 1 a share of 0.05 is cut"),
        ({"rate": 0.5, "rounds": 5}, "at level 5 a share of 0.969 is cut.*fewer rounds"),
        ({"epsilon": 0.6}, "differ in 0.5 of their entries: within epsilon=0.6"),
    ],
)
def test_rates_at_which_random_masks_would_pass_are_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        EarlyBird(**fields)
    EarlyBird(rate=0.94)
    EarlyBird(rate=0.05, epsilon=0.09)


def test_so_are_those_that_rounding_makes_so_in_a_small_network():
    # 0.09 of 14 channels is 1 channel, and two masks that each cut one channel hardly differ
    for rate, cut in ((0.09, "0.0714"), (0.06, "0")):
        method = EarlyBird(rate=rate, epsilon=0.105 if rate == 0.06 else 0.15, patience=1)
        with pytest.raises(ValueError, match=f"at level 1 a share of {cut} is cut.*any mask would pass"):
            method.check(corners(), RECIPE)


def test_all_levels_of_one_search_are_those_of_searches_of_their_own(tmp_path):
    several = dataclasses.replace(EARLY, rounds=3)
    backed, tickets = find(corners(), RECIPE, several, tmp_path / "several")
    for level, ticket in enumerate(tickets, 1):
        cut = float(1 - Fraction(1, 2) ** level)
        _, (alone,) = find(corners(), RECIPE, dataclasses.replace(EARLY, rate=cut), tmp_path / str(level))
        assert digest(alone.subnetwork.mask) == digest(ticket.subnetwork.mask)
        assert state_digest(alone.weights) == state_digest(ticket.weights)
        assert alone.search.emergence == ticket.search.emergence
        assert (alone.start_step, alone.start) == (ticket.start_step, ticket.start)
        assert alone.scoring_flops == ticket.scoring_flops == 20 * ticket.start.step * backed.cost.training_flops
    assert len({ticket.start_step for ticket in tickets}) > 1, "else this shows nothing"


def test_drawn_at_the_end_it_is_trained_as_long_as_the_early_one(states, tmp_path):
    _, (early,) = find(corners(), RECIPE, EARLY, tmp_path / "early")
    late = dataclasses.replace(EARLY, draw="end")
    backed, (ticket,) = find(corners(), RECIPE, late, tmp_path / "late")
    assert early.start_step < 24
    assert ticket.start_step == early.start_step
    assert (ticket.start.step, ticket.search.emergence.drawn) == (24, 24)
    assert ticket.search.emergence.emerged == early.search.emergence.emerged
    assert torch.equal(mask_of(ticket), drawn(states[24]))
    assert state_digest(ticket.weights) == state_digest(states[24])
    assert ticket.scoring_flops == 20 * 24 * backed.cost.training_flops


def test_the_search_in_eight_bits_is_another_one_and_its_ticket_is_trained_in_full_precision(states, tmp_path):
    low = dataclasses.replace(EARLY, precision="block8")
    backed, (ticket,) = find(corners(), RECIPE, low, tmp_path / "low")
    by_hand = searched(RECIPE, precision="block8")
    assert state_digest(ticket.weights) == state_digest(by_hand[ticket.start.step])
    assert state_digest(ticket.weights) != state_digest(states[ticket.start.step])
    steps = {name: value for name, value in ticket.weights.items() if name.startswith("conv")}
    assert all(len(filters.unique()) <= 255 for value in steps.values() for filters in value), "eight bits"
    assert "precision" not in ticket.changes
    (end,) = [s.state() for s in backed.train(ticket, (24,))]
    row = backed.store.row(backed.spec(ticket).id)
    assert row.recipe["precision"] == "float32"
    throughout = dataclasses.replace(low, low_throughout=True)
    backed, (same,) = find(corners(), RECIPE, throughout, tmp_path / "throughout")
    assert digest(same.subnetwork.mask) == digest(ticket.subnetwork.mask)
    assert backed.recipe_of(same).precision == "block8"
    (other,) = [s.state() for s in backed.train(same, (24,))]
    assert state_digest(end) != state_digest(other)
    labels = {EARLY.label, low.label, throughout.label}
    assert labels == {"early-bird", "early-bird-block8", "early-bird-block8-throughout"}


def test_the_penalty_stays_unless_told_otherwise(tmp_path):
    for stays, scale in ((True, 1e-4), (False, 0.0)):
        backed, (ticket,) = find(
            corners(), RECIPE, dataclasses.replace(EARLY, penalty_stays=stays), tmp_path / str(stays)
        )
        assert backed.recipe_of(ticket).scale_l1 == scale


def test_a_tickets_notes_say_what_is_kept_and_which_shift_was_dropped(tmp_path):
    _, (ticket,) = find(corners(), RECIPE, EARLY, tmp_path)
    shift = torch.cat([ticket.weights[f"bn{n}.bias"] for n in (1, 2)])[~mask_of(ticket)].abs().max()
    assert shift > 0
    kept, dropped = ticket.search.notes[:2]
    assert kept.startswith("7 of 14 units kept (50.0%), which leaves ")
    assert f"was dropped, not folded into what reads them: up to {float(shift):.3g} after" in dropped


def test_a_tickets_notes_say_what_is_left_whole_for_want_of_a_factor(tmp_path):
    _, (ticket,) = find(bottlenecks(), RECIPE, dataclasses.replace(EARLY, rate=0.4, epsilon=0.3), tmp_path)
    assert any("is kept whole: whoever reads it chooses" in note for note in ticket.search.notes)


@pytest.mark.parametrize(
    ("task", "fields", "said"),
    [
        (perceptron, {}, True),
        (perceptron, {"penalty_stays": False}, False),
        (perceptron, {"strength": 0.0}, False),
        (corners, {}, False),
    ],
    ids=["gates", "gates, not asked for", "gates, no penalty", "normalised"],
)
def test_a_penalty_that_stays_without_a_factor_to_act_on_is_said_to_do_nothing(task, fields, said, tmp_path):
    method = dataclasses.replace(EARLY, rate=0.4, epsilon=0.3, **fields)
    backed, (ticket,) = find(task(), RECIPE, method, tmp_path)
    assert said == any("the penalty stays, but has nothing to act on" in note for note in ticket.search.notes)
    small = ticket.subnetwork.trainable(backed.start_of(ticket))
    assert said == (bool(backed.recipe_of(ticket).scale_l1) and not scaling_factors(small))


@pytest.mark.parametrize("task", [perceptron, bottlenecks], ids=["gates", "choices"])
def test_any_kind_of_scaling_factor_will_do(task, tmp_path):
    study = Study(task(), RECIPE, [dataclasses.replace(EARLY, rate=0.4, epsilon=0.3)], [], seeds=1, store=tmp_path)
    dense, ticket = study.run(workers=1, progress=False)
    assert ticket.status == "done", ticket.message
    assert ticket.parameters < dense.parameters
    assert ticket.search.emergence.emerged


def test_a_training_too_short_for_the_detector_is_refused():
    with pytest.raises(
        ValueError, match=r"draws a mask every 6 steps, 4 in this training of 24, and can fire after 6 "
    ):
        EarlyBird().check(corners(), RECIPE)
    EarlyBird(patience=3).check(corners(), RECIPE)
    EarlyBird(patience=4, reading="window").check(corners(), RECIPE)
    EarlyBird(every=4).check(corners(), RECIPE)
    with pytest.raises(ValueError, match="is its own `strength`"):
        EarlyBird(every=1).check(corners(), dataclasses.replace(RECIPE, scale_l1=0.1))
    with pytest.raises(ValueError, match="7 of 14 units are to be kept, but the 2 sites keep 8 at least"):
        EarlyBird(every=1, least=4).check(corners(), RECIPE)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rate": 1.0}, "rate between 0 and 1"),
        ({"rounds": 0}, "rounds of at least 1"),
        ({"every": 0}, "at least 1; got every=0"),
        ({"draw": "late"}, "time to draw"),
        ({"reading": "newest"}, "reading"),
        ({"patience": 0}, "patience >= 1"),
        ({"epsilon": 0}, "0 < epsilon < 1"),
        ({"strength": -1}, "strength of 0 or more"),
        ({"initial": -0.5}, "start at a positive number"),
        ({"precision": "int8"}, "'block8'"),
        ({"low_throughout": True}, "only the latter can be kept"),
    ],
)
def test_hyper_parameters_that_mean_nothing_are_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        EarlyBird(**fields)
