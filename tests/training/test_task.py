"""A task is the user's model, data, loss and metric: what does not fit is said before anything is trained."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scratchcard.networks.forward import state_digest
from scratchcard.training.data import Data, batches, sequential
from scratchcard.training.evaluate import evaluate
from scratchcard.training.fits import check_fits
from scratchcard.training.loop import train
from scratchcard.training.metrics import LOSSES, METRICS, Metric
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task

chance = torch.Generator().manual_seed(0)
X, Y = torch.randn(20, 4, generator=chance), torch.randint(0, 3, (20,), generator=chance)
DATA = Data.from_tensors("mine", (X, Y), (X, Y), (X, Y))


def make():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def task(**fields):
    return Task(**{"name": "mine", "model": make, "data": DATA, **fields})


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": ""}, "a task needs a name"),
        ({"model": make()}, r"must be a factory.*Sequential.*Task\(start=\.\.\.\)"),
        ({"model": "lenet"}, "must be a factory.*str"),
        ({"data": (X, Y)}, r"Task\.data must be.*Data.*tuple"),
        ({"loss": "cross_entrop"}, "unknown loss 'cross_entrop'; did you mean 'cross_entropy'"),
        ({"metric": "acuracy"}, "unknown metric 'acuracy'; did you mean 'accuracy'"),
        ({"start": "checkpoint.pt"}, r"start"),
    ],
)
def test_a_task_of_wrong_parts_is_refused_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        task(**fields)


def test_a_factory_that_returns_no_network_is_refused():
    with pytest.raises(ValueError, match=r"factory of task 'mine' must return a torch\.nn\.Module.*dict"):
        task(model=dict).fresh(0)


def test_fresh_networks_are_a_function_of_the_seed_and_leave_the_global_random_state_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = state_digest(task().fresh(5).state_dict())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert state_digest(task().fresh(5).state_dict()) == first
    assert state_digest(task().fresh(6).state_dict()) != first


@pytest.mark.parametrize("given", [lambda model: model, lambda model: model.state_dict()], ids=["module", "state"])
def test_a_trained_model_is_taken_as_it_is_and_fresh_ones_still_come_from_the_factory(given):
    mine = make()
    before = state_digest(mine.state_dict())
    with_start = task(start=given(mine))
    for seed in (0, 1):
        taken = with_start.at_start(seed)
        assert state_digest(taken.state_dict()) == before
        with torch.no_grad():
            taken[0].weight.zero_()
    assert state_digest(mine.state_dict()) == before
    assert state_digest(with_start.fresh(0).state_dict()) == state_digest(task().fresh(0).state_dict())


@pytest.mark.parametrize("given", [lambda model: model, lambda model: model.state_dict()], ids=["module", "state"])
def test_a_trained_model_that_is_trained_on_afterwards_changes_no_task(given):
    mine = make()
    before = state_digest(mine.state_dict())
    with_start = task(start=given(mine))
    with torch.no_grad():
        mine[0].weight.add_(1)  # a state_dict shares memory with its model
    assert state_digest(with_start.at_start(0).state_dict()) == before


def test_a_trained_model_of_another_architecture_is_refused():
    with pytest.raises(ValueError, match=r"not of this Sequential: missing.*0\.bias.*other shape.*0\.weight"):
        check_fits(task(start={"0.weight": torch.zeros(2, 2)}), Recipe())


def test_losses_and_metrics_are_found_by_name():
    assert task().loss_of is F.cross_entropy
    assert task(loss="mse").loss_of is LOSSES["mse"]
    assert task(metric="mae").measured_by is METRICS["mae"]
    loss_itself = task(metric="loss").measured_by
    assert (loss_itself.of, loss_itself.higher_is_better) == (F.cross_entropy, False)
    assert METRICS["accuracy"].of(torch.eye(3), torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)
    logits, tokens = torch.randn(2, 5, 4), torch.randint(0, 4, (2, 5))
    by_hand = torch.stack([F.cross_entropy(row, t) for row, t in zip(logits, tokens, strict=True)]).mean()
    torch.testing.assert_close(LOSSES["next_token"](logits, tokens), by_hand)
    shares = METRICS["next_token_accuracy"].of(logits, tokens)
    assert shares == (logits.argmax(2) == tokens).float().mean()


def relu_first():
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3))


class Shifts(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        x -= 0.5
        return self.linear(x)


@pytest.mark.parametrize("model", [relu_first, Shifts])
def test_a_network_that_changes_its_inputs_in_place_leaves_the_data_as_they_are(model):
    before = X.clone()
    mine = task(model=model)
    check_fits(mine, Recipe())
    mine.example_outputs()
    net = mine.fresh(0)
    for split in (DATA.train, DATA.validation, DATA.test):
        for inputs, targets in (*sequential(split, 7), next(batches(split, 7, 0))):
            net(inputs)
            targets.zero_()
    for _ in range(2):
        assert evaluate(net, mine, DATA.test, Recipe()) == evaluate(net, mine, DATA.test, Recipe())
    *_, _end = train(net, DATA, mine.loss_of, Recipe(steps=3, batch_size=7), 0, (3,))
    assert torch.equal(X, before)
    assert int(Y.sum()) > 0
    assert torch.equal(mine.example_inputs(3), before[:3])


def same_seed():
    torch.manual_seed(3)
    return make()


ONE = make()


def constant():
    model = make()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    return model


@pytest.mark.parametrize(
    ("model", "one"), [(make, False), (same_seed, True), (lambda: ONE, True), (constant, True), (lambda: make(), False)]
)
def test_a_factory_that_gives_the_same_weights_under_every_seed_has_one_draw(model, one):
    torch.manual_seed(1)
    chance = torch.get_rng_state()
    assert task(model=model).one_draw == one
    assert torch.equal(torch.get_rng_state(), chance)


def test_the_example_inputs_are_the_first_of_validation():
    assert torch.equal(task().example_inputs(3), X[:3])


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_a_task_that_fits_passes_and_is_untouched(precision):
    before = torch.get_rng_state()
    mine = task(start=make())
    start = state_digest(mine.start)
    torch.set_rng_state(before)
    check_fits(mine, Recipe(precision=precision))
    assert torch.equal(torch.get_rng_state(), before), "dropout draws from the global random state"
    assert state_digest(mine.start) == start


def test_data_and_recipe_in_float64_fit_a_model_that_the_recipe_makes_float64():
    x = X.double()
    check_fits(task(data=Data.from_tensors("mine", (x, Y), (x, Y), (x, Y))), Recipe(precision="float64"))


def narrow():
    return nn.Linear(5, 3)


def broken():
    model = make()
    nn.init.constant_(model[0].weight, float("nan"))
    return model


def regressor():
    return nn.Linear(4, 2)


def first_of(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def detached(outputs, targets):
    return F.cross_entropy(outputs.detach(), targets)


def nothing(outputs, targets):
    return torch.tensor(float("nan"))


def per_example(outputs, targets):
    return (outputs.argmax(1) == targets).float()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model": narrow}, r"model of task 'mine' fails on a batch \[8, 4\] float32: RuntimeError"),
        ({"loss": "mse"}, r"loss.*does not fit.*outputs \[8, 3\] float32, targets \[8\] int64.*one shape"),
        ({"model": regressor, "metric": "mse"}, r"loss.*does not fit.*outputs \[8, 2\]"),
        ({"loss": first_of}, r"must be a scalar tensor that depends on the weights, got \[8\] float32.*mean"),
        ({"loss": detached}, "must be a scalar tensor that depends on the weights"),
        ({"loss": lambda outputs, targets: 1.0}, "must be a scalar tensor.*got float"),
        ({"model": broken}, "before any training, the loss of task 'mine' on one batch is nan"),
        ({"metric": Metric("nothing", nothing)}, "before any training, the metric.*nan"),
        ({"metric": Metric("rights", per_example)}, "metric"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_fits(task(**fields), Recipe())


def test_a_metric_computed_with_numpy_is_as_good_as_any():
    def rights(outputs, targets):
        return torch.tensor((outputs.numpy().argmax(1) == targets.numpy()).mean())

    check_fits(task(metric=Metric("rights", rights)), Recipe())
