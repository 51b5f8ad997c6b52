"""Iterative magnitude pruning does what the paper's Strategy 1 says, on networks whose training is made up."""

import pytest
import torch
from torch import nn

from scratchcard.masks.compare import density, nested
from scratchcard.methods.imp import IMP
from scratchcard.methods.ticket import Dense
from scratchcard.training.data import Data
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Snapshot

RECIPE = Recipe(steps=10)
X, Y = torch.zeros(4, 1, 6, 6), torch.zeros(4, dtype=torch.int64)
DATA = Data.from_tensors("zeros", (X, Y), (X, Y), (X, Y))


def make():
    return nn.Sequential(nn.Conv2d(1, 5, 3), nn.Flatten(), nn.Linear(80, 10), nn.BatchNorm1d(10), nn.Linear(10, 3))


TASK = Task("made up", make, DATA)
CONV, LINEAR, OUTPUT = "0.weight", "2.weight", "4.weight"
SIZES = {CONV: 45, LINEAR: 800, OUTPUT: 30}


class MadeUp:
    """A `train` whose trained weights are drawn by level; it notes what it was asked."""

    def __init__(self, scale=None):
        self.asked, self.scale = [], scale or {}

    def weights(self, level):
        chance = torch.Generator().manual_seed(level)
        shapes = {name: tensor.shape for name, tensor in make().state_dict().items()}
        return {name: torch.randn(s, generator=chance) * self.scale.get(name, 1) for name, s in shapes.items()}

    def __call__(self, ticket, stops):
        self.asked.append((ticket.level, tuple(stops)))
        mask = ticket.subnetwork.mask
        state = {k: v * mask[k] if k in mask else v for k, v in self.weights(ticket.level).items()}
        for stop in sorted(stops):
            yield Snapshot(stop, None, lambda: state if stop == RECIPE.steps else {})  # noqa: B023, read before the next


def find(method, train=None, task=TASK):
    train = train or MadeUp()
    return list(method.find(task, RECIPE, 7, train)), train


def test_each_round_cuts_the_smallest_survivors_of_each_layer():
    tickets, train = find(IMP(rounds=3))
    previous = {name: torch.ones(make().state_dict()[name].shape, dtype=torch.bool) for name in SIZES}
    for ticket in tickets:
        mask, end = ticket.subnetwork.mask, train.weights(ticket.level - 1)
        for name in SIZES:
            assert end[name][mask[name]].abs().min() >= end[name][previous[name] & ~mask[name]].abs().max()
        assert nested(mask, previous)
        previous = mask


def test_what_was_cut_is_not_revived_even_when_all_survivors_train_to_zero():
    class Fades(MadeUp):
        def weights(self, level):
            return {name: tensor * (level == 0) for name, tensor in super().weights(level).items()}

    for scope in ("layer", "global"):
        first, second = (ticket.subnetwork.mask for ticket in find(IMP(rounds=2, scope=scope), Fades())[0])
        assert nested(second, first)


def test_a_global_ranking_compares_weights_of_all_layers():
    (ticket,), train = find(IMP(rounds=1, scope="global", rate=0.3), MadeUp({CONV: 100.0}))
    mask, end = ticket.subnetwork.mask, train.weights(0)
    kept = torch.cat([end[name][mask[name]].abs() for name in SIZES])
    cut = torch.cat([end[name][~mask[name]].abs() for name in SIZES])
    assert kept.min() >= cut.max()
    assert mask[CONV].all()
    assert abs(len(cut) - 0.3 * 875) < 1


def test_every_training_is_asked_for_once_with_the_full_budget_and_the_last_is_left_to_the_caller():
    assert find(IMP(rounds=3))[1].asked == [(0, (0, 10)), (1, (10,)), (2, (10,))]
    assert find(IMP(rounds=3, rewind=4))[1].asked == [(0, (4, 10)), (1, (10,)), (2, (10,))]


def test_one_shot_trains_the_dense_network_only_and_has_the_same_densities():
    tickets, train = find(IMP(rounds=3, one_shot=True))
    assert train.asked == [(0, (0, 10))]
    iterative, _ = find(IMP(rounds=3))
    assert [density(t.subnetwork.mask) for t in tickets] == [density(t.subnetwork.mask) for t in iterative]
    end = train.weights(0)
    for ticket in tickets:
        for name, kept in ticket.subnetwork.mask.items():
            assert end[name][kept].abs().min() >= end[name][~kept].abs().max()


def test_a_ticket_is_found_before_the_next_training_is_paid_for():
    train = MadeUp()
    tickets = IMP(rounds=3).find(TASK, RECIPE, 7, train)
    assert next(tickets).level == 1
    assert len(train.asked) == 1


@pytest.mark.parametrize("rewind", [0, 4])
def test_tickets_say_where_they_come_from(rewind):
    method = IMP(rounds=2, rewind=rewind)
    tickets, _ = find(method)
    assert [(t.method, t.seed, t.level) for t in tickets] == [(method, 7, 1), (method, 7, 2)]
    assert {(t.start, t.start_step, t.arm_label) for t in tickets} == {(Dense(rewind), rewind, "ticket")}
    assert all(t.prunable == (CONV, LINEAR, OUTPUT) for t in tickets)


@pytest.mark.parametrize(
    "method",
    [
        IMP(rounds=12),
        IMP(rounds=12, scope="global", rate=0.35),
        IMP(rounds=12, one_shot=True, rate=0.5),
        IMP(rounds=4, rate={"linear": 0.3, "output": 0.1}),
        IMP(rounds=4, keep=("output",)),
    ],
)
def test_the_densities_of_the_masks_are_exactly_those_promised(method):
    tickets, _ = find(method)
    assert [1.0, *(density(t.subnetwork.mask) for t in tickets)] == method.densities(TASK)
    assert all(set(t.subnetwork.mask) == set(SIZES) for t in tickets), "a mask has every weight, prunable or not"
    assert all(kept.any() for t in tickets for kept in t.subnetwork.mask.values())


def test_kinds_without_a_rate_and_kept_weights_stay_whole_and_are_not_shuffled():
    for method in (IMP(rounds=2, rate={"linear": 0.3}), IMP(rounds=2, keep=("conv", OUTPUT))):
        tickets, _ = find(method)
        assert all(t.subnetwork.mask[name].all() for t in tickets for name in (CONV, OUTPUT))
        assert all(t.prunable == (LINEAR,) for t in tickets)
    reasons = {w.name: w.reason for w in IMP(rate={"linear": 0.3}).weights(TASK)}
    assert reasons[LINEAR] == ""
    assert "no rate for kind 'conv'" in reasons[CONV]


def test_more_rounds_find_the_same_tickets_on_the_way():
    short, long = find(IMP(rounds=2))[0], find(IMP(rounds=4))[0]
    for a, b in zip(short, long[:2], strict=True):
        assert all(torch.equal(kept, b.subnetwork.mask[name]) for name, kept in a.subnetwork.mask.items())


def test_labels_tell_methods_of_one_study_apart():
    assert IMP().label == "imp"
    assert IMP(one_shot=True, scope="global", rewind=5).label == "imp-one-shot-global-rewind-5"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rounds": 0}, "at least one round, got rounds=0"),
        ({"scope": "layers"}, "unknown scope 'layers'; did you mean 'layer'"),
        ({"units": "channel"}, "unknown unit to cut 'channel'; did you mean 'channels'"),
        ({"rewind": -1}, "0 or later; got rewind=-1"),
        ({"rate": 1.0}, "between 0 and 1.*got rate=1.0"),
        ({"rate": {"conv": 0.0}}, "between 0 and 1.*got rate="),
        ({"scope": "locally"}, "unknown scope 'locally'.*known: erk, global, layer, uniform"),
        ({"criterion": "large_finale"}, "did you mean 'large_final'"),
        ({"between": "rewinding"}, "did you mean 'rewind'"),
        ({"fine_tune_lr": 0.1}, "need between='fine-tune', got 'rewind'"),
        ({"between": "fine-tune", "fine_tune_lr": -1.0}, "positive number, got -1.0"),
        ({"between": "fine-tune", "fine_tune_steps": 0}, "at least 1, got 0"),
        ({"between": "fine-tune", "rewind": 5}, "rewinds nothing"),
        ({"between": "continue", "one_shot": True}, "nothing to continue"),
        ({"rate": {"linaer": 0.2, "output": 0.1}}, "linaer"),
    ],
)
def test_hyper_parameters_that_mean_nothing_are_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        IMP(**fields).check(TASK, RECIPE)


@pytest.mark.parametrize(
    ("method", "task", "sentence"),
    [
        (IMP(rewind=10), TASK, "before the end.* at 10"),
        (IMP(rewind=2), Task("given", make, DATA, start=make()), "needs the dense training.*use rewind=0"),
        (IMP(rate={"recurrent": 0.2}), TASK, "rates are for recurrent.*kind conv, linear, output"),
        (IMP(keep=("fc*",)), TASK, "unknown site, layer, weight or kind 'fc"),
    ],
)
def test_a_task_the_method_cannot_work_on_is_refused_before_training(method, task, sentence):
    with pytest.raises(ValueError, match=sentence):
        method.check(task, RECIPE)


def test_a_given_dense_model_can_be_cut_and_reset():
    IMP().check(Task("given", make, DATA, start=make()), RECIPE)
