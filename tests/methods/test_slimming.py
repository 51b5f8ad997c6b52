"""Network slimming: exact counts, no emptied layer, one search or several passes, any kind of scaling factor."""

import dataclasses
from collections import OrderedDict
from fractions import Fraction
from itertools import pairwise
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from problems import bottlenecks, corners, find, found, noise, noise_model, perceptron, trainings
from scratchcard.masks.compare import digest, nested
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.slimming import Slimming
from scratchcard.methods.units import best_of_all, left_of, share_cut
from scratchcard.networks.forward import call, state_digest
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.training.recipe import Recipe

RECIPE = Recipe(
    steps=12, optimizer="sgd", lr=0.05, momentum=0.9, batch_size=20, schedule="step", milestones=(6, 9), eval_every=12
)

widths = st.lists(st.integers(1, 40), min_size=1, max_size=6)
rates = st.integers(1, 999).map(lambda thousandths: Fraction(thousandths, 1000))
values = st.sampled_from((0.0, 0.1, 0.5, 0.5000001, 2.0))


@st.composite
def ranked(draw):
    """Scores of several sites with many ties, and a share to cut that leaves each its least."""
    sizes = draw(widths)
    scores = {
        f"site {at}": torch.tensor(draw(st.lists(values, min_size=size, max_size=size)), dtype=torch.float64)
        for at, size in enumerate(sizes)
    }
    cut = draw(rates.filter(lambda p: sum(sizes) - floor(sum(sizes) * p) >= len(sizes)))
    return scores, cut


@given(ranked())
def test_exactly_n_minus_floor_n_p_units_are_kept_and_no_site_is_emptied(asked):
    scores, cut = asked
    total = sum(map(len, scores.values()))
    mask, notes = best_of_all(scores, cut, 1)
    assert sum(int(kept.sum()) for kept in mask.values()) == total - floor(total * cut)
    assert all(kept.any() for kept in mask.values())
    assert len(notes) <= sum(int(kept.sum()) == 1 for kept in mask.values())
    again, _ = best_of_all({name: score.clone() for name, score in scores.items()}, cut, 1)
    assert digest(again) == digest(mask), "ties are broken by position"
    for name, kept in mask.items():
        lost, left = scores[name][~kept], scores[name][kept]
        assert not len(lost) or left.min() >= lost.max(), f"a unit of {name} goes before one that is worth less"


@given(ranked())
def test_only_a_sites_least_number_comes_before_a_higher_score_elsewhere(asked):
    scores, cut = asked
    mask, _ = best_of_all(scores, cut, 1)
    free = [score[kept].min() for (name, score) in scores.items() if (kept := mask[name]).sum() > 1]
    lost = [score[~mask[name]].max() for name, score in scores.items() if not mask[name].all()]
    assert not free or not lost or min(free) >= max(lost)


@pytest.mark.parametrize(("p", "kept"), [("0.001", 12), ("0.08", 12), ("0.084", 11), ("0.75", 3), ("0.83", 3)])
def test_shares_near_nothing_and_near_everything_are_cut_exactly(p, kept):
    # the released code cut int(n p) + 1, all of them where all were equal, and crashed at 1
    equal = {"a": torch.full((4,), 0.5), "b": torch.full((8,), 0.5)}
    mask, _ = best_of_all(equal, Fraction(p), 1)
    assert left_of(12, Fraction(p)) == kept == sum(int(one.sum()) for one in mask.values())
    assert mask["a"].tolist() == sorted(mask["a"].tolist(), reverse=True), "the first of equals"
    assert mask["b"].any()


def test_a_share_is_exact_where_floating_point_is_not():
    assert left_of(10, share_cut(0.7, 1)) == 3  # 10 * 0.7 is 7.000000000000001, 10 * (1 - 0.3) 7
    assert left_of(1000, share_cut(0.29, 1)) == 710  # 1000 * 0.29 is 290.0 or 289.99999999999994
    assert left_of(100, share_cut(0.1, 2)) == 81


@pytest.mark.parametrize(("least", "kept"), [(1, 1), (3, 3), (0.5, 2), (9, 4)])
def test_a_site_keeps_its_least_number_and_it_is_said(least, kept):
    scores = {"weak": torch.tensor([0.1, 0.4, 0.2, 0.3]), "strong": torch.arange(1.0, 13.0)}
    mask, notes = best_of_all(scores, Fraction(1, 2), least if least != 9 else 4)
    assert int(mask["weak"].sum()) == kept
    assert mask["weak"][1], "the best of those it keeps"
    assert int(mask["strong"].sum()) == 8 - kept
    assert notes == [f"weak keeps {kept} of 4 units, its least number; by its scores alone 0"]


def test_least_numbers_that_add_up_to_more_than_is_kept_are_refused_before_anything_is_trained():
    with pytest.raises(ValueError, match=r"3 of 14 units are to be kept, but the 2 sites keep 4 at least; cut less"):
        Slimming(rate=0.8, least=2).check(corners(), RECIPE)
    with pytest.raises(ValueError, match="1 of 14 units"):
        Slimming(rate=0.5, rounds=5).check(corners(), RECIPE)
    Slimming(rate=0.8).check(corners(), RECIPE)


def chosen_by_hand(raw, keep, norms=("bn1", "bn2")):
    """The entries with the largest |factor| of all normalisations together."""
    flat = torch.cat([raw[f"{name}.weight"].abs() for name in norms])
    kept = torch.zeros(len(flat), dtype=torch.bool)
    kept[flat.argsort(descending=True, stable=True)[:keep]] = True
    return kept


def searched(backed, method, level=1):
    """The state that the training under the penalty ended with, as it is in the store."""
    (row,) = [
        row for run in backed.store.row_ids() if (row := backed.store.row(run)).arm == "search" and row.level == level
    ]
    return row, backed.store.tensors(row.artefacts[f"step-{RECIPE.steps}"])


def test_tickets_of_all_levels_are_cut_from_one_search_by_the_size_of_its_factors(tmp_path):
    method = Slimming(rounds=3, rate=0.3)
    backed, tickets = find(corners(), RECIPE, method, tmp_path)
    row, raw = searched(backed, method)
    assert row.recipe["scale_l1"] == method.strength == 1e-4
    assert row.status == "done"
    for level, ticket in enumerate(tickets, 1):
        keep = 14 - floor(14 * (1 - Fraction(7, 10) ** level))
        mask = torch.cat([ticket.subnetwork.mask[name] for name in ("conv1", "conv2")])
        assert torch.equal(mask, chosen_by_hand(raw, keep))
        assert ticket.search.notes[0].startswith(f"{keep} of 14 units kept")
        assert any("the shift of units that were cut was dropped" in note for note in ticket.search.notes)
    assert all(nested(b.subnetwork.mask, a.subnetwork.mask) for a, b in pairwise(tickets))
    assert len(backed.store.row_ids()) == 1, "one search, whatever the number of levels"


def test_factors_start_where_they_are_asked_to_and_the_penalty_pulls_at_them(tmp_path):
    gentle, harsh = Slimming(strength=0.0), Slimming(strength=0.1)
    ends = []
    for method in (gentle, harsh):
        backed, _ = find(corners(), RECIPE, method, tmp_path / method.label)
        ends.append(searched(backed, method)[1])
    sizes = [sum(float(end[f"bn{n}.weight"].abs().sum()) for n in (1, 2)) for end in ends]
    assert sizes[1] < sizes[0] - 0.5
    method = Slimming(initial=0.25)
    backed, (ticket,) = find(corners(), dataclasses.replace(RECIPE, lr=1e-9), method, tmp_path / "still")
    torch.testing.assert_close(ticket.weights["bn1.weight"], torch.full((6,), 0.25))
    method = Slimming(initial=None)
    backed, (ticket,) = find(corners(), dataclasses.replace(RECIPE, lr=1e-9), method, tmp_path / "given")
    torch.testing.assert_close(ticket.weights["bn1.weight"], torch.ones(6))


def test_a_ticket_is_fine_tuned_at_the_last_rate_of_the_schedule_for_a_quarter_of_the_steps(tmp_path):
    backed, (ticket,) = find(corners(), RECIPE, Slimming(), tmp_path)
    recipe = backed.recipe_of(ticket)
    assert (recipe.lr, recipe.steps, recipe.schedule) == (pytest.approx(0.0005), 3, "constant")
    assert recipe.scale_l1 == 0.0, "fine-tuning has no penalty"
    asked = Slimming(fine_tune_lr=0.003, fine_tune_steps=5)
    backed, (ticket,) = find(corners(), RECIPE, asked, tmp_path / "asked")
    assert (backed.recipe_of(ticket).lr, backed.recipe_of(ticket).steps) == (0.003, 5)


@pytest.fixture(scope="module")
def passes(tmp_path_factory):
    method = Slimming(rounds=2, rate=0.3, passes=True, fine_tune_steps=4)
    backed = trainings(corners(), RECIPE, method, Store(tmp_path_factory.mktemp("passes")))
    return method, backed, list(found(backed, method))


def test_each_of_several_passes_goes_on_in_the_small_network_from_its_fine_tuned_weights(passes):
    method, backed, tickets = passes
    assert all(nested(b.subnetwork.mask, a.subnetwork.mask) for a, b in pairwise(tickets))
    assert [sum(int(m.sum()) for m in t.subnetwork.mask.values()) for t in tickets] == [10, 7]
    for before, after in pairwise(tickets):
        row, raw = searched(backed, method, after.level)
        assert raw["bn1.weight"].shape == (int(before.subnetwork.mask["conv1"].sum()),), "the search's network is small"
        assert row.train_flops < searched(backed, method, 1)[0].train_flops
        (end,) = [s.state() for s in backed.train(before, (4,))]
        assert row.snapshots[0] == state_digest(end), "its weights and factors are those that fine-tuning left"
        keep = sum(int(m.sum()) for m in after.subnetwork.mask.values())
        # the units that are still there, in the order of the sites
        there = torch.cat([before.subnetwork.mask[n] for n in ("conv1", "conv2")])
        kept = torch.cat([after.subnetwork.mask[n] for n in ("conv1", "conv2")])[there]
        assert torch.equal(kept, chosen_by_hand(raw, keep))


def mixed_model():
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 12, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(12),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(12, 16, 3, stride=2, padding=1, bias=False),
            bn2=nn.BatchNorm2d(16),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            hidden=nn.Linear(16 * 9, 28),
            relu3=nn.ReLU(),
            output=nn.Linear(28, 4),
        )
    )


def test_a_later_pass_ranks_units_with_and_without_normalisation_together(tmp_path):
    task = dataclasses.replace(corners(), model=mixed_model)
    recipe = dataclasses.replace(RECIPE, steps=60, milestones=(30, 45), eval_every=60, weight_decay=1e-4)
    _, tickets = find(task, recipe, Slimming(rounds=2, rate=0.3, passes=True, fine_tune_steps=5), tmp_path)
    before, after = ({n: int(kept.sum()) for n, kept in t.subnetwork.mask.items()} for t in tickets)
    assert (sum(before.values()), sum(after.values())) == (40, 28)
    assert after["conv1"] + after["conv2"] < before["conv1"] + before["conv2"]
    assert after["hidden"] < before["hidden"], "gates at 1 would be above all factors that were trained"


def test_the_price_of_a_pass_is_all_that_went_before_it(tmp_path):
    method = Slimming(rounds=2, rate=0.3, passes=True, fine_tune_steps=4)
    rows = Study(corners(), RECIPE, [method], arms=[], seeds=1, store=tmp_path).run(workers=1, progress=False)
    by = {(row.arm, row.level): row for row in rows}
    assert set(by) == {("dense", 0), ("search", 1), ("ticket", 1), ("search", 2), ("ticket", 2)}
    first = by["search", 1].train_flops
    assert by["search", 1].search_flops == 0
    assert by["ticket", 1].search_flops == first
    assert by["search", 2].search_flops == first + by["ticket", 1].train_flops
    assert by["ticket", 2].search_flops == by["search", 2].search_flops + by["search", 2].train_flops
    assert by["search", 1].density == 1.0


def test_networks_without_normalisation_are_ranked_by_gates_that_are_multiplied_out(tmp_path):
    task, method = perceptron(), Slimming(strength=0.01)
    backed, (ticket,) = find(task, RECIPE, method, tmp_path)
    _, raw = searched(backed, method)
    factors = [value for name, value in raw.items() if name.endswith("factor")]
    assert sorted(map(len, factors)) == [8, 10]
    flat = torch.cat([next(v for v in factors if len(v) == n) for n in (10, 8)]).abs()
    kept = torch.zeros(18, dtype=torch.bool)
    kept[flat.argsort(descending=True, stable=True)[:9]] = True
    assert torch.equal(torch.cat([ticket.subnetwork.mask[name] for name in ("1", "3")]), kept)
    assert not any("parametrizations" in name for name in ticket.weights)
    # what the ticket inherits is the function that the search trained
    whole, inputs = task.fresh(0), task.example_inputs(8)
    whole.load_state_dict(ticket.weights)
    hidden = torch.relu(nn.functional.linear(inputs.flatten(1), raw["1.weight"], raw["1.bias"]))
    ten = next(v for v in factors if len(v) == 10)
    eight = next(v for v in factors if len(v) == 8)
    original = {n: v for n, v in raw.items() if n.endswith("original")}
    second = next(v for v in original.values() if v.shape == (8, 10)) * ten
    third = next(v for v in original.values() if v.shape == (4, 8)) * eight
    hidden = torch.relu(nn.functional.linear(hidden, second, raw["3.bias"]))
    torch.testing.assert_close(call(whole, inputs), nn.functional.linear(hidden, third, raw["5.bias"]))


def test_channels_are_chosen_for_each_reader_where_normalisation_comes_first(tmp_path):
    task = bottlenecks()
    backed, (ticket,) = find(task, RECIPE, Slimming(rate=0.4, strength=0.01), tmp_path)
    chosen = [name for name in ticket.subnetwork.mask if name in task.sites.choices]
    assert len(chosen) == 3, "two blocks and the last normalisation choose among the stream"
    kept = sum(int(k.sum()) for k in ticket.subnetwork.mask.values())
    total = sum(len(k) for k in ticket.subnetwork.mask.values())
    assert total == 3 * 8 + 4 * 2
    assert kept == total - floor(total * 0.4)
    assert any("is kept whole: whoever reads it chooses" in note for note in ticket.search.notes)
    for _ in backed.train(ticket):
        pass
    row = backed.store.row(backed.spec(ticket).id)
    assert row.status == "done", row.message
    assert row.parameters < backed.cost.parameters


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rate": 0}, "rate between 0 and 1, got rounds=1, rate=0"),
        ({"rate": 1}, "rate between 0 and 1"),
        ({"rate": {"conv": 0.5}}, "rate must be a number"),
        ({"rounds": 0}, "rounds of at least 1"),
        ({"strength": -1}, "strength of 0 or more"),
        ({"strength": float("nan")}, "strength of 0 or more"),
        ({"least": 0}, "least number above 0"),
        ({"initial": 0}, "start at a positive number"),
        ({"fine_tune_lr": 0}, "fine_tune_lr must be a positive number"),
        ({"fine_tune_steps": 0}, "fine_tune_steps must be at least 1"),
    ],
)
def test_hyper_parameters_that_mean_nothing_are_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Slimming(**fields)


@pytest.mark.parametrize(
    ("recipe", "method", "sentence"),
    [
        ({"scale_l1": 0.1}, Slimming(), "is its own `strength`"),
        (
            {"steps": 200, "schedule": "cosine", "milestones": ()},
            Slimming(),
            "cosine schedule ends at .* give fine_tune_lr",
        ),
        ({"optimizer": lambda p: torch.optim.SGD(p, lr=0.1), "momentum": 0.0}, Slimming(), "optimizer is your own"),
        ({}, Slimming(keep=("*",)), "finds no unit that it could cut"),
        ({}, Slimming(only=("conv7",)), "unknown site, layer, weight or kind 'conv7'.*known: conv, conv1"),
    ],
)
def test_what_cannot_be_slimmed_is_refused_before_anything_is_trained(recipe, method, sentence):
    with pytest.raises(ValueError, match=sentence):
        method.check(corners(), dataclasses.replace(RECIPE, **recipe))


def test_only_the_sites_that_are_named_are_cut(tmp_path):
    _, (ticket,) = find(corners(), RECIPE, Slimming(only=("conv2",)), tmp_path)
    assert list(ticket.subnetwork.mask) == ["conv2"]
    assert int(ticket.subnetwork.mask["conv2"].sum()) == 4


@pytest.mark.parametrize("method", [Slimming(), EarlyBird(every=1, patience=2, epsilon=0.4)], ids=lambda m: m.label)
def test_the_scales_of_a_model_that_was_brought_trained_are_its_own(method):
    class Asked(Exception):
        pass

    class Train:
        def __call__(self, ticket, stops):
            raise Asked(ticket.subnetwork.initial)

        search = __call__

    for start, initial in ((None, 0.5), (noise_model(), None)):
        task = dataclasses.replace(noise(), start=start)
        with pytest.raises(Asked) as asked:
            next(method.find(task, Recipe(steps=4, batch_size=16), 0, Train()))
        assert asked.value.args == (initial,)
