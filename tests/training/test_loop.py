"""The one loop: step s is a function of (seed, s), whoever trains and wherever they begin."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from scratchcard.networks.forward import read_state, state_digest, with_state
from scratchcard.training.augment import augment
from scratchcard.training.data import Data, batches
from scratchcard.training.evaluate import evaluate
from scratchcard.training.loop import train
from scratchcard.training.metrics import Metric
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task


def images(n=40):
    chance = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 6, 6, generator=chance), torch.randint(0, 3, (n,), generator=chance)


DATA = Data.from_tensors("images", images(), images(10), images(12))


def make():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(48, 3))


def fresh(seed=0):
    return TASK.fresh(seed)


TASK = Task("images", make, DATA)
SGD = Recipe(steps=12, lr=0.1, optimizer="sgd", batch_size=8, augment=("pad-crop", "flip"))


def run(model, recipe=SGD, seed=0, stops=None, start=0, data=DATA, loss=F.cross_entropy):
    stops = recipe.evaluations(start) if stops is None else stops
    return {s.step: s.state() for s in train(model, data, loss, recipe, seed, stops, start)}


def digests(states):
    return {step: state_digest(state) for step, state in states.items()}


class Listens(nn.Module):
    """Notes what the loop sends it, and what chance gives at that step."""

    def __init__(self):
        super().__init__()
        self.weight, self.heard = nn.Parameter(torch.ones(3, 36)), []

    def forward(self, x):
        if self.training:
            self.heard.append((x.clone(), torch.rand(4)))
        return x.flatten(1) @ self.weight.T


def test_images_are_cropped_as_the_recipe_says():
    for crop in (0.125, 0.5):
        recipe = replace(SGD, augment=("pad-crop",), crop=crop)
        model = Listens()
        run(model, recipe)
        feed = batches(DATA.train, recipe.batch_size, 0)
        for step, (heard, _) in enumerate(model.heard):
            inputs, _ = next(feed)
            assert torch.equal(heard, augment(inputs, ("pad-crop",), 0, step, crop))


@pytest.mark.parametrize("k", [1, 4, 5, 7, 11])  # 5 steps are an epoch
def test_batch_augmentation_and_dropout_at_a_step_are_the_same_wherever_the_training_began(k):
    whole, later = Listens(), Listens()
    run(whole), run(later, start=k)
    assert len(later.heard) == 12 - k
    for (x, chance), (x_later, chance_later) in zip(whole.heard[k:], later.heard, strict=True):
        assert torch.equal(x, x_later)
        assert torch.equal(chance, chance_later)
    assert len({chance[0].item() for _, chance in whole.heard}) == 12, "every step draws anew"


@pytest.mark.parametrize("schedule", [{}, {"schedule": "cosine"}, {"warmup": 6}])
@pytest.mark.parametrize("k", [1, 5, 8])
def test_a_training_resumed_at_k_ends_with_bitwise_the_same_weights(k, schedule):
    recipe = Recipe(**{**SGD.fields(), **schedule})
    whole = run(fresh(), recipe, stops=[k, 12])
    resumed = run(with_state(fresh(1), whole[k]), recipe, stops=[12], start=k)
    assert state_digest(resumed[12]) == state_digest(whole[12])


def test_where_it_stops_and_what_is_done_at_a_stop_change_nothing():
    plain = run(fresh(), stops=[12])
    model = fresh()
    for snapshot in train(model, DATA, F.cross_entropy, SGD, 0, range(13)):
        torch.rand(7)
        torch.manual_seed(snapshot.step)
        evaluate(model, TASK, DATA.validation, SGD)
    assert state_digest(snapshot.state()) == state_digest(plain[12])


def test_the_seed_decides_and_nothing_else_does():
    torch.manual_seed(1)
    once = digests(run(fresh()))
    torch.manual_seed(2)
    assert digests(run(fresh())) == once
    assert digests(run(fresh(), seed=1))[12] != once[12]


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_every_precision_trains_and_keeps_the_weights_in_full(precision):
    recipe = Recipe(steps=30, lr=0.3, optimizer="sgd", batch_size=20, precision=precision)
    model = fresh()
    first, last = (s for s in train(model, DATA, F.cross_entropy, recipe, 0, [5, 30]))
    assert last.train_loss < first.train_loss
    wanted = torch.float64 if precision == "float64" else torch.float32
    assert {tensor.dtype for tensor in last.state().values()} == {wanted}
    loss, metric = evaluate(model, TASK, DATA.test, recipe)
    assert 0 < loss < 10
    assert 0 <= metric <= 1


@pytest.mark.parametrize(
    "schedule", [{}, {"schedule": "cosine"}, {"schedule": "step", "milestones": (2, 5)}, {"warmup": 3}]
)
@pytest.mark.parametrize("start", [0, 2])
def test_the_optimizer_is_given_the_rate_of_every_step(schedule, start):
    rates = []

    class Notes(torch.optim.SGD):
        def step(self, closure=None):
            rates.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    def two_rates(parameters):
        first, *rest = parameters
        return Notes([{"params": [first], "lr": 0.1}, {"params": rest, "lr": 0.01}])

    recipe = Recipe(steps=8, optimizer=two_rates, **schedule)
    run(fresh(), recipe, start=start)
    factors = [recipe.lr_factor(step) for step in range(start, 8)]
    assert rates == [[0.1 * factor, 0.01 * factor] for factor in factors]


def test_the_training_loss_is_the_mean_since_the_snapshot_before():
    losses = []

    def loss(outputs, targets):
        value = F.cross_entropy(outputs, targets)
        losses.append(value.item())
        return value

    snapshots = list(train(fresh(), DATA, loss, SGD, 0, [0, 3, 4, 12]))
    assert snapshots[0].train_loss is None
    for snapshot, (a, b) in zip(snapshots[1:], [(0, 3), (3, 4), (4, 12)], strict=True):
        assert snapshot.train_loss == pytest.approx(sum(losses[a:b]) / (b - a), rel=1e-5)


def test_the_global_random_state_is_the_callers_at_every_snapshot_and_at_the_end():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for _ in train(fresh(), DATA, F.cross_entropy, SGD, 0, [0, 5, 12]):
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_random_state_is_the_callers_after_a_training_that_failed():
    def loss(outputs, targets):
        raise RuntimeError("my loss is broken")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="my loss is broken"):
        run(fresh(), loss=loss)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    assert torch.equal(after, before)


def test_a_snapshot_is_a_copy_that_later_steps_do_not_change():
    states = run(fresh(), stops=[0, 12])
    assert state_digest(states[0]) == state_digest(fresh().state_dict())
    assert state_digest(states[0]) != state_digest(states[12])


@pytest.mark.parametrize("stops", [[13], [-1, 5], [3]])
def test_a_stop_outside_the_training_is_refused(stops):
    with pytest.raises(ValueError, match=r"from step 4 to 12 cannot stop at \[(13|-1|3)\]"):
        run(fresh(), stops=stops, start=4)


def test_without_stops_nothing_is_trained():
    model = fresh()
    assert run(model, stops=[]) == {}
    assert state_digest(model.state_dict()) == state_digest(fresh().state_dict())


class Rows(Dataset):
    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return self.inputs[i], self.targets[i]


def streamed(workers=0):
    splits = (DATA.train, DATA.test, DATA.validation)
    return Data.from_dataset("streamed", *(Rows(s.inputs, s.targets) for s in splits), workers=workers)


def test_streamed_data_trains_bitwise_like_the_same_data_in_memory():
    assert digests(run(fresh(), data=streamed())) == digests(run(fresh()))
    for recipe in (SGD, Recipe(precision="float64", eval_batch_size=7)):
        model = fresh().to(torch.float64 if recipe.precision == "float64" else None)
        assert evaluate(model, TASK, streamed().test, recipe) == evaluate(model, TASK, DATA.test, recipe)


def test_the_evaluation_is_a_mean_over_examples_whatever_the_batches():
    model = fresh().double().eval()
    outputs = model(DATA.validation.inputs.double()).detach()
    wanted = float(F.cross_entropy(outputs, DATA.validation.targets))
    right = (outputs.argmax(1) == DATA.validation.targets).double().mean().item()
    for size in (1, 5, 12, 1000):
        recipe = Recipe(precision="float64", eval_batch_size=size)
        assert evaluate(model, TASK, DATA.validation, recipe) == pytest.approx((wanted, right), rel=1e-6)


@pytest.mark.parametrize("size", [1, 4, 8, 1000])
def test_a_limited_evaluation_looks_at_the_first_examples_whatever_the_batches(size):
    counted = Metric("first", lambda outputs, targets: targets.double().mean())
    task, recipe = Task("images", make, DATA, metric=counted), Recipe(eval_batch_size=size)
    inputs, targets = DATA.train.inputs[:9], DATA.train.targets[:9]
    seen = evaluate(fresh(), task, DATA.train, recipe, limit=9)
    first_9 = F.cross_entropy(fresh().eval()(inputs).detach(), targets)
    assert seen == pytest.approx((float(first_9), float(targets.double().mean())), rel=1e-5)


def test_an_evaluation_changes_neither_weights_nor_statistics_nor_the_global_random_state():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Dropout(), nn.Linear(36, 3))
    before, chance = state_digest(read_state(model)), torch.get_rng_state()
    assert evaluate(model, TASK, DATA.test, SGD) == evaluate(model, TASK, DATA.test, SGD)
    assert state_digest(read_state(model)) == before
    assert torch.equal(torch.get_rng_state(), chance)


def test_a_network_that_draws_when_it_is_evaluated_is_measured_the_same_every_time():
    class Samples(nn.Linear):
        def forward(self, x):
            return super().forward(F.dropout(x.flatten(1), 0.5, training=True))

    model, chance = Samples(36, 3), torch.get_rng_state()
    assert evaluate(model, TASK, DATA.test, SGD) == evaluate(model, TASK, DATA.test, SGD)
    assert torch.equal(torch.get_rng_state(), chance)
