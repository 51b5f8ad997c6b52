"""A control differs from the ticket in one thing only."""

import dataclasses

import pytest
import torch

from scratchcard.masks.compare import counts, density, distance
from scratchcard.methods.arms import ARMS, FreshInit, RandomMask
from scratchcard.methods.imp import IMP
from scratchcard.methods.ticket import Dense, Fresh, Ticket
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.training.recipe import Recipe

RECIPE = Recipe(steps=10)


def ticket(level=2, seed=3):
    chance = torch.Generator().manual_seed(0)
    mask = {name: torch.rand(30, 20, generator=chance) < share for name, share in (("a", 0.1), ("b", 0.5), ("c", 0.9))}
    return Ticket(IMP(rewind=4), seed, level, MaskedWeights(mask), ("a", "b"), Dense(4), 4)


def drawn(arm, of=None, seed=3):
    made = list(arm(of or ticket(), RECIPE, seed))
    assert all(recipe is RECIPE for _, recipe in made)
    return [control for control, _ in made]


def mask_of(control):
    return control.subnetwork.mask


def differing(control, original):
    pairs = {f.name: (getattr(control, f.name), getattr(original, f.name)) for f in dataclasses.fields(Ticket)}
    return {name for name, (a, b) in pairs.items() if a is not b and (name == "subnetwork" or a != b)}


@pytest.mark.parametrize("label", list(ARMS))
def test_every_control_says_what_it_is_and_stands_where_the_ticket_stands(label):
    arm = ARMS[label]
    controls = drawn(arm)
    assert len(controls) == arm.replicates >= 1
    for replicate, control in enumerate(controls):
        assert (control.arm, control.arm_label, control.replicate) == (arm, label, replicate)
        assert (control.method, control.seed, control.level, control.start_step) == (IMP(rewind=4), 3, 2, 4)


@pytest.mark.parametrize("label", list(ARMS))
def test_a_control_is_a_function_of_its_causes_and_no_draw_of_how_many_there_are(label):
    arm = ARMS[label]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    few, many = (drawn(dataclasses.replace(arm, replicates=n)) for n in (2, 5))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(few, many[:2], strict=True):
        assert a.start == b.start
        assert distance(mask_of(a), mask_of(b)) == 0
    starts = [c.start for c in (*many, *drawn(arm, ticket(level=1)), *drawn(arm, seed=4))]
    assert len(set(starts)) == len(starts), "replicates, levels and seeds draw their own weights"


def test_fresh_init_differs_from_the_ticket_in_its_weights_alone():
    original = ticket()
    for control in drawn(FreshInit(), original):
        assert differing(control, original) - {"replicate"} == {"start", "arm"}
        assert control.subnetwork is original.subnetwork
        assert isinstance(control.start, Fresh)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_random_mask_differs_from_fresh_init_in_its_places_alone(scope):
    original = ticket()
    before = {name: kept.clone() for name, kept in mask_of(original).items()}
    for fresh, random in zip(drawn(FreshInit(3)), drawn(RandomMask(scope, 3), original), strict=True):
        assert random.start == fresh.start
        assert differing(random, fresh) == {"subnetwork", "arm"}
        assert density(mask_of(random)) == density(before)
        assert torch.equal(mask_of(random)["c"], before["c"]), "what the method could not cut is not shuffled"
        assert distance(mask_of(random), before) > 0.1
        assert (counts(mask_of(random)) == counts(before)) == (scope == "layer")
    assert distance(mask_of(original), before) == 0


def test_random_masks_of_different_replicates_levels_and_scopes_differ():
    masks = [mask_of(c) for scope in ("layer", "global") for c in drawn(RandomMask(scope, 3))]
    masks += [mask_of(c) for c in drawn(RandomMask("layer", 1), ticket(level=1))]
    assert all(distance(a, b) > 0.1 for i, a in enumerate(masks) for b in masks[:i])


def test_labels_are_those_of_the_rows():
    assert list(ARMS) == ["fresh-init", "random-mask-layerwise", "random-mask-global"]
