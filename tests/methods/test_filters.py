"""Filter pruning: the counts that were asked for, of the filters that were asked for; soft pruning lets them grow."""

import dataclasses
from math import floor

import pytest
import torch

from problems import bottlenecks, corners, find, one_thread
from scratchcard.masks.compare import nested
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.soft_filters import SoftFilterPruning
from scratchcard.networks.compact import compact
from scratchcard.networks.cost import cost
from scratchcard.networks.forward import read_state, with_state, write_state
from scratchcard.networks.zoo import resnet_56, vgg_16
from scratchcard.study.study import Study
from scratchcard.training.data import Data
from scratchcard.training.loop import train
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Snapshot

RECIPE = Recipe(
    steps=12, optimizer="sgd", lr=0.05, momentum=0.9, batch_size=20, schedule="step", milestones=(6, 9), eval_every=12
)


def dense_end(backed):
    return next(backed.train(backed.dense(0), (RECIPE.steps,))).state()


def by_hand(state, name, keep, power=1, largest=True):
    """The filters of a convolution with the largest (or smallest) norm, by position."""
    norms = state[f"{name}.weight"].double().abs().pow(power).flatten(1).sum(1)
    order = norms.argsort(descending=largest, stable=True)[:keep]
    return torch.zeros(len(norms), dtype=torch.bool).index_fill_(0, order, True)


@pytest.mark.parametrize(
    ("method", "power", "largest"),
    [
        (FilterPruning("l1", rounds=2, rate=0.4), 1, True),
        (FilterPruning("l2", rounds=2, rate=0.4), 2, True),
        (FilterPruning("l1", rounds=2, rate=0.4, smallest=True), 1, False),
    ],
    ids=lambda method: getattr(method, "label", ""),
)
def test_every_layer_keeps_the_filters_of_the_largest_or_smallest_norm_at_the_end_of_training(
    tmp_path, method, power, largest
):
    backed, tickets = find(corners(), RECIPE, method, tmp_path)
    end = dense_end(backed)
    for level, ticket in enumerate(tickets, 1):
        for name, wide in (("conv1", 6), ("conv2", 8)):
            keep = wide - floor(round(wide * (1 - 0.6**level), 6))
            assert torch.equal(ticket.subnetwork.mask[name], by_hand(end, name, keep, power, largest))
    assert nested(tickets[1].subnetwork.mask, tickets[0].subnetwork.mask)


def test_random_filters_are_as_many_and_others_for_every_seed(tmp_path):
    masks = []
    for seed in (0, 1):
        backed, tickets = find(corners(), RECIPE, FilterPruning("random", rounds=2), tmp_path / str(seed), seed)
        masks.append(tickets[0].subnetwork.mask)
        assert [int(kept.sum()) for kept in masks[-1].values()] == [3, 4]
        assert nested(tickets[1].subnetwork.mask, masks[-1])
        assert not torch.equal(masks[-1]["conv2"], by_hand(dense_end(backed), "conv2", 4))
    assert any(not torch.equal(masks[0][name], masks[1][name]) for name in masks[0])


def test_rates_are_per_pattern_the_first_that_fits_and_what_none_fits_is_whole(tmp_path):
    _, (ticket,) = find(corners(), RECIPE, FilterPruning(rate={"conv1": 0.5}), tmp_path)
    assert {name: int(kept.sum()) for name, kept in ticket.subnetwork.mask.items()} == {"conv1": 3}
    method = FilterPruning(rate={"conv2": 0.75, "conv*": 0.5})
    backed, (ticket,) = find(corners(), RECIPE, method, tmp_path / "two")
    assert {name: int(kept.sum()) for name, kept in ticket.subnetwork.mask.items()} == {"conv1": 3, "conv2": 2}
    for _ in backed.train(ticket):
        pass
    row = backed.store.row(backed.spec(ticket).id)
    assert [1.0, row.density] == method.densities(corners())
    assert row.density == (3 * 9 + 2 * 3 * 9 + 2 * 9 * 4) / (6 * 9 + 8 * 6 * 9 + 8 * 9 * 4)


def test_the_order_of_patterns_is_a_cause_of_what_is_found():
    rates = {"conv2": 0.75, "conv*": 0.5}
    backwards = dict(reversed(rates.items()))
    ids = []
    for rate in (rates, backwards):
        study = Study(corners(), RECIPE, [FilterPruning(rate=rate)], arms=[], seeds=1)
        ids.append({spec.id for spec in study._specs() if spec.method is not None})
    assert FilterPruning(rate=rates).densities(corners()) != FilterPruning(rate=backwards).densities(corners())
    assert not ids[0] & ids[1]


def images(classes=10):
    examples = (torch.zeros(4, 3, 32, 32), torch.arange(4))
    return Data.from_tensors("images", examples, examples, examples)


def cut_to(task, method):
    """The network that is left, whatever the weights: its parts are counted."""
    keeps = method._keeps(task, 1)
    mask = {name: torch.arange(len(task.sites[name])) < keep for name, keep in keeps.items()}
    return keeps, compact(task.fresh(0), mask, task.example_inputs(), task.sites).module


def vgg_16_hidden():
    return vgg_16(head="hidden")


def test_the_predefined_vgg_16_a_of_the_paper_can_be_asked_for():
    halved = ("conv1", *(f"conv{n}" for n in range(8, 14)))
    task = Task("vgg", vgg_16_hidden, images())
    _, small = cut_to(task, FilterPruning(rate=0.5, only=halved))
    widths = [module.out_channels for module in small.modules() if isinstance(module, torch.nn.Conv2d)]
    assert widths == [32, 64, 128, 128, *[256] * 9]
    assert small.fc1.in_features == 256
    found, dense = cost(small, task.example_inputs()), cost(task.fresh(0), task.example_inputs())
    assert round(found.parameters / 1e6, 1) == 5.4
    assert round(found.macs / 1e9, 3) == 0.206
    assert round(dense.macs / 1e9, 3) == 0.313


# the first convolution of each block, by its number: stages end at 18, 36 and 54
FIRST = {2 * block + 2: f"stage{block // 9 + 1}.{block % 9}.conv1" for block in range(27)}
A = ({"stage1.*.conv1": 0.125, "stage2.*.conv1": 0.125, "stage3.*.conv1": 7 / 64}, (16, 20, 38, 54), 1.1156)
B = ({"stage1.*.conv1": 0.625, "stage2.*.conv1": 0.3125, "stage3.*.conv1": 7 / 64}, (16, 18, 20, 34, 38, 54), 1.3791)


@pytest.mark.parametrize(("rates", "skipped", "ratio"), [A, B], ids=["A", "B"])
def test_the_predefined_resnet_56s_of_the_paper_can_be_asked_for_with_their_skipped_layers(rates, skipped, ratio):
    """Their code keeps int(n (1 - r)) of 16, 32 and 64 filters: 14, 28 and 57 of A; 6, 22 and 57 of B."""
    task = Task("resnet", resnet_56, images())
    keep = tuple(FIRST[number] for number in skipped)
    keeps, small = cut_to(task, FilterPruning(rate=rates, keep=keep))
    kept = (14, 28, 57) if ratio == 1.1156 else (6, 22, 57)
    wanted = {name: kept[int(name[5]) - 1] for number, name in FIRST.items() if number not in skipped}
    assert keeps == wanted
    dense = cost(task.fresh(0), task.example_inputs())
    assert dense.macs / cost(small, task.example_inputs()).macs == pytest.approx(ratio, abs=0.002)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: FilterPruning("l3"), "criterion"),
        (lambda: FilterPruning(rate=1), "a rate between 0 and 1"),
        (lambda: FilterPruning(rate={"conv1": 1.5}), "a rate between 0 and 1"),
        (lambda: FilterPruning(rate={}), "a rate between 0 and 1"),
        (lambda: FilterPruning("random", smallest=True), "random filters have no smallest"),
        (lambda: FilterPruning(fine_tune_steps=0), "at least 1"),
        (
            lambda: FilterPruning(rate={"fc*": 0.5}).check(corners(), RECIPE),
            r"unknown site, layer, weight or kind 'fc\*'; .*known: conv, conv1",
        ),
        (
            lambda: FilterPruning(rate={"conv1": 0.5}, keep=("conv1",)).check(corners(), RECIPE),
            "has rates for conv1, but what it cuts is: conv2",
        ),
        (lambda: FilterPruning(keep=("conv9",)).check(corners(), RECIPE), "unknown site, layer, .* 'conv9'"),
        (lambda: SoftFilterPruning(rate=0), "rate between 0 and 1"),
        (lambda: SoftFilterPruning(every=0), "got every=0"),
        (lambda: SoftFilterPruning(fine_tune_steps=-1), "at least 1"),
    ],
)
def test_what_means_nothing_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


# soft filter pruning

SOFT = SoftFilterPruning(rate=0.5, every=3)


def softly(task, keep, every=3, steps=12):
    """By hand: (state before, state after filters were set to zero) at every stop, and the end's state."""
    model, seen = task.fresh(0), []
    with one_thread():
        for snapshot in train(model, task.data, task.loss_of, RECIPE, 0, tuple(range(every, steps + 1, every))):
            before = snapshot.state()
            after = {name: value.clone() for name, value in before.items()}
            for name, number in keep.items():
                after[f"{name}.weight"][~by_hand(before, name, number, 2)] = 0.0
            if snapshot.step < steps:
                write_state(model, after)
            seen.append((before, after))
    return seen


def test_filters_that_were_set_to_zero_grow_again_and_the_smallest_at_the_end_are_cut(tmp_path):
    backed, (ticket,) = find(corners(), RECIPE, SOFT, tmp_path)
    keep = {"conv1": 3, "conv2": 4}
    seen = softly(corners(), keep)
    end = seen[-1][0]
    assert all(torch.equal(ticket.weights[name], value) for name, value in end.items())
    for name, number in keep.items():
        assert torch.equal(ticket.subnetwork.mask[name], by_hand(end, name, number, 2))
    zeroed = seen[-2][1]["conv2.weight"].flatten(1).abs().sum(1) == 0
    assert int(zeroed.sum()) == 4
    assert bool((end["conv2.weight"].flatten(1).abs().sum(1)[zeroed] > 0).all()), "they have moved since"
    assert torch.equal(seen[0][1]["bn1.weight"], seen[0][0]["bn1.weight"]), "normalisation stays"
    assert ticket.scoring_flops == 12 * 20 * backed.cost.training_flops


def test_soft_pruning_is_another_search_than_plain_training(tmp_path):
    backed, (ticket,) = find(corners(), RECIPE, SOFT, tmp_path)
    assert any(not torch.equal(dense_end(backed)[name], value) for name, value in ticket.weights.items())


def test_without_fine_tuning_the_soft_ticket_is_taken_as_it_is(tmp_path):
    study = Study(corners(), RECIPE, [dataclasses.replace(SOFT, fine_tune_steps=0)], [], seeds=1, store=tmp_path)
    dense, row = study.run(workers=1, progress=False)
    assert row.status == "done", row.message
    assert row.train_flops == 0
    assert row.search_flops == dense.train_flops
    assert row.curve.steps == [12]


def test_every_level_of_soft_pruning_has_a_search_of_its_own(tmp_path):
    _, tickets = find(corners(), RECIPE, dataclasses.replace(SOFT, rounds=2), tmp_path)
    assert [[int(k.sum()) for k in t.subnetwork.mask.values()] for t in tickets] == [[3, 4], [2, 2]]
    assert any(not torch.equal(tickets[0].weights[n], tickets[1].weights[n]) for n in tickets[0].weights)
    assert [t.scoring_flops for t in tickets] == [tickets[0].scoring_flops] * 2


def test_a_loop_of_ones_own_that_cannot_be_changed_is_one_sentence(tmp_path):
    def loop(*arguments):
        for snapshot in train(*arguments):
            yield Snapshot(snapshot.step, snapshot.train_loss, snapshot.state)

    task = dataclasses.replace(corners(), loop=loop)
    with pytest.raises(ValueError, match="snapshots of its own loop cannot be written to"):
        find(task, RECIPE, SOFT, tmp_path)


def test_layers_that_add_to_one_stream_are_cut_together(tmp_path):
    task = bottlenecks()
    stream = next(name for name, site in task.sites.sites.items() if "conv" in site.layers)
    backed, (ticket,) = find(task, RECIPE, FilterPruning(only=(stream,)), tmp_path)
    end = dense_end(backed)
    added = [f"{layer}.weight" for layer in ("conv", "blocks.0.conv3", "blocks.1.conv3")]
    norms = sum(end[name].double().abs().flatten(1).sum(1) for name in added)
    kept = torch.zeros(8, dtype=torch.bool).index_fill_(0, norms.argsort(descending=True)[:4], True)
    assert torch.equal(ticket.subnetwork.mask[stream], kept)
    assert read_state(with_state(task.fresh(0), end)).keys() == end.keys()
