"""What is measured along a training: the early-stop point is found afterwards, and test data choose nothing."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scratchcard.networks.forward import state_digest
from scratchcard.training.data import Data
from scratchcard.training.evaluate import evaluate
from scratchcard.training.measure import Diverged, Measurement
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Snapshot


def examples(n, seed, kind=torch.float32):
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed)).to(kind)
    return x, x[:, :2].sum(1, keepdim=True)


def make():
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1))


def data(test_seed=3):
    return Data.from_tensors("sums", examples(64, 1), examples(20, test_seed), examples(20, 2))


TASK = Task("sums", make, data(), loss="mse", metric="mse")
RECIPE = Recipe(steps=20, lr=0.05, batch_size=16, eval_every=5)


def measured(task=TASK, recipe=RECIPE, stops=(), start=0):
    measurement = Measurement(task, recipe, 0, start)
    return measurement, {s.step: s.state() for s in measurement.snapshots(task.fresh(0), stops)}


class Given(nn.Module):
    """A network whose validation loss at each look is given."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.value.expand(len(x), 1)


def with_validation_losses(losses, steps, start=0, every=1):
    """A measurement of a made-up training that has these validation losses."""

    def loop(model, data, loss, recipe, seed, stops, start):
        for step in stops:
            with torch.no_grad():
                model.value.fill_(losses[(step - start + every - 1) // every] ** 0.5)
            yield Snapshot(step, 0.0 if step > start else None, dict)

    zeros = torch.zeros(4, 1), torch.zeros(4, 1)
    task = Task("given", Given, Data.from_tensors("zeros", zeros, zeros, zeros), loss="mse", metric="mse", loop=loop)
    return measured(task, Recipe(steps=steps, eval_every=every), start=start)[0]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=30))
def test_the_early_stop_is_the_first_of_the_lowest_validation_losses(losses):
    losses = [float(loss) ** 2 for loss in losses]
    measurement = with_validation_losses(losses, steps=len(losses) - 1)
    assert measurement.early_stop.step == losses.index(min(losses))
    assert measurement.early_stop.validation_loss == pytest.approx(min(losses))
    assert measurement.end.step == len(losses) - 1
    assert not measurement.end.censored


@pytest.mark.parametrize(("start", "steps"), [(0, 100), (0, 20), (40, 100), (100, 300)])
def test_an_early_stop_is_censored_in_the_last_five_percent_of_the_run_and_only_there(start, steps):
    tail = (steps - start) // 20
    for at, censored in ((steps - tail - 1, False), (steps - tail, False), (steps - tail + 1, True), (steps, True)):
        losses = [1.0 + (step != at) for step in range(start, steps + 1)]
        early_stop = with_validation_losses(losses, steps, start).early_stop
        assert (early_stop.step, early_stop.censored) == (at, censored)


def test_the_curve_has_an_entry_per_evaluation_and_reads_what_an_evaluation_reads():
    measurement, states = measured(stops=(0, 10))
    curve = measurement.curve
    assert curve.steps == RECIPE.evaluations() == [0, 5, 10, 15, 20]
    assert curve.train_loss[0] is None
    assert all(loss > 0 for loss in curve.train_loss[1:])
    assert set(states) == {0, 10}
    model = make()
    model.load_state_dict(states[10])
    assert curve.validation_loss[2] == evaluate(model, TASK, TASK.data.validation, RECIPE)[0]
    assert curve.test_metric[2] == evaluate(model, TASK, TASK.data.test, RECIPE)[1]


def test_the_training_metric_is_that_of_the_end_on_training_examples():
    measurement, states = measured(stops=(20,))
    model = make()
    model.load_state_dict(states[20])
    assert measurement.train_metric == evaluate(model, TASK, TASK.data.train, RECIPE)[1]


@pytest.mark.parametrize("start", [5, 7])
def test_a_rewound_training_is_measured_from_where_it_starts(start):
    assert measured(start=start)[0].curve.steps == sorted({start, 10, 15, 20})


def test_stops_that_are_no_evaluations_are_yielded_and_not_measured():
    measurement, states = measured(stops=(3, 20))
    assert list(states) == [3, 20]
    assert measurement.curve.steps == RECIPE.evaluations()


def test_other_test_data_change_no_weight_no_loss_and_no_early_stop():
    other_task = Task("sums", make, data(test_seed=4), loss="mse", metric="mse")
    (ours, states), (other, other_states) = measured(stops=range(21)), measured(other_task, stops=range(21))
    assert [state_digest(s) for s in states.values()] == [state_digest(s) for s in other_states.values()]
    assert ours.curve.validation_loss == other.curve.validation_loss
    assert ours.early_stop.step == other.early_stop.step
    assert ours.train_metric == other.train_metric
    assert ours.curve.test_metric != other.curve.test_metric


def test_a_training_that_diverges_says_so_and_its_curve_so_far_stands():
    recipe = Recipe(steps=20, lr=1e20, optimizer="sgd", batch_size=16, eval_every=5)
    measurement = Measurement(TASK, recipe, 0)
    with pytest.raises(Diverged, match=r"training loss was (nan|inf) by step 5"):
        list(measurement.snapshots(TASK.fresh(0), (20,)))
    assert measurement.curve.steps == [0]
    assert measurement.curve.validation_loss[0] > 0
    assert measurement.early_stop.step == 0
    assert measurement.train_metric is None


def test_a_validation_loss_that_is_not_finite_is_a_divergence_too():
    def loss(outputs, targets):
        return F.mse_loss(outputs, targets) if torch.is_grad_enabled() else outputs.mean() * float("inf")

    measurement = Measurement(Task("sums", make, data(), loss=loss, metric="mse"), RECIPE, 0)
    with pytest.raises(Diverged, match=r"validation loss was -?inf .* at step 0"):
        list(measurement.snapshots(TASK.fresh(0), ()))
    assert measurement.curve.steps == []
    assert measurement.early_stop is measurement.end is None


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_a_model_trained_elsewhere_is_measured_and_not_trained(precision):
    model = make()
    recipe = Recipe(steps=20, precision=precision)
    measurement = Measurement(TASK, recipe, 0)
    states = {s.step: s.state() for s in measurement.without_training(model)}
    assert list(states) == [0, 20]
    for state in states.values():
        assert all(torch.equal(tensor.float(), model.state_dict()[name].float()) for name, tensor in state.items())
    assert measurement.curve.steps == [0]
    assert measurement.end.test_metric == evaluate(model, TASK, TASK.data.test, recipe)[1]


def test_evaluation_is_no_training_and_is_not_in_its_seconds(monkeypatch):
    times = iter(range(1000))
    monkeypatch.setattr("scratchcard.training.measure.clock", lambda device: lambda: next(times))
    measurement = Measurement(TASK, Recipe(steps=4, batch_size=16, eval_every=1), 0)
    assert measurement.training_seconds is None
    snapshots = list(measurement.snapshots(TASK.model(), ()))
    assert snapshots == []
    # one tick for each of the five snapshots, one for each evaluation between them, which are left out
    assert measurement.training_seconds == 5
