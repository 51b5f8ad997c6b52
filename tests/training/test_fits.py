"""What does not fit is refused before anything is trained: broadcasts, means that are none, idle losses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scratchcard.training.data import Data
from scratchcard.training.fits import check_fits
from scratchcard.training.metrics import Metric
from scratchcard.training.probes import broadcasts, no_mean
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task

chance = torch.Generator().manual_seed(0)
X = torch.randn(40, 4, generator=chance)
NUMBERS = X.sum(1) + torch.randn(40, generator=chance)
CLASSES = (NUMBERS > 0).long()


def data(targets, *others, inputs=X):
    train, *rest = targets, *(others or (targets, targets))
    validation, test = rest
    return Data.from_tensors(
        "mine", (inputs, train), (inputs[: len(test)], test), (inputs[: len(validation)], validation)
    )


def regressor():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))


def classifier():
    return nn.Linear(4, 2)


def regression(targets=NUMBERS, **fields):
    return Task(**{"name": "mine", "model": regressor, "data": data(targets), "loss": "mse", "metric": "mae", **fields})


def classification(**fields):
    return Task(**{"name": "mine", "model": classifier, "data": data(CLASSES), **fields})


# losses and metrics of one's own, given outputs [N, 1] and targets [N]


def huber(outputs, targets):
    return torch.where((outputs - targets).abs() < 1, (outputs - targets) ** 2, (outputs - targets).abs()).mean()


def squeezed(outputs, targets):
    return ((outputs.squeeze(1) - targets) ** 2).mean()


def without_last(outputs, targets):
    return ((outputs.squeeze(-1) - targets) ** 2).mean()


def flattened(outputs, targets):
    return ((outputs.flatten() - targets.flatten()) ** 2).mean()


def ranking(outputs, targets):
    """All pairs, as it means to: which of two is larger."""
    better = (targets[:, None] - targets).sign()
    return F.softplus(-better * (outputs - outputs.squeeze(1))).mean()


def contrastive(outputs, targets):
    """Of each output, which target is its own among all: the pairs are the point of it."""
    return F.cross_entropy(-((outputs - targets) ** 2), torch.arange(len(targets)))


def residual(outputs, targets):
    return 1 - ((outputs - targets) ** 2).sum() / ((targets - targets.mean()) ** 2).sum()


OUTPUTS = torch.randn(16, 1, generator=chance)


@pytest.mark.parametrize(
    ("of", "pairs"),
    [
        (huber, True),
        (squeezed, False),
        (without_last, False),
        (flattened, False),
        (ranking, False),
        (contrastive, False),
        (residual, True),
    ],
)
@pytest.mark.parametrize("other_way_round", [False, True])
def test_what_pairs_outputs_with_targets_by_mistake_is_told_from_what_means_to(of, pairs, other_way_round):
    if not other_way_round:
        assert broadcasts(of, OUTPUTS, NUMBERS[:16]) == pairs
    elif of in (huber, residual):
        assert broadcasts(of, OUTPUTS[:, 0], NUMBERS[:16, None])
    assert not broadcasts(of, OUTPUTS, NUMBERS[:16, None]), "of one shape"


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (torch.randn(5, 3), torch.randint(0, 3, (5,))),
        (torch.randn(5, 3), torch.randn(5, 1)),
        (torch.randn(1, 1), torch.randn(1)),
        ((torch.randn(5, 1),), torch.randn(5)),
    ],
    ids=["classes", "one target for three outputs", "one example", "a tuple"],
)
def test_other_shapes_are_not_called_a_broadcast(outputs, targets):
    assert not broadcasts(lambda one, other: one[0].sum() + other.sum(), outputs, targets)


def mean_of_squares(outputs, targets):
    return ((outputs - targets) ** 2).mean()


def right(outputs, targets):
    return ((outputs > 0) == (targets > 0)).float().mean()


def root(outputs, targets):
    return mean_of_squares(outputs, targets) ** 0.5


def f1(outputs, targets):
    said, is_so = outputs > 3, targets > 0
    both = (said & is_so).sum()
    return 2 * both / (said.sum() + is_so.sum()).clamp_min(1)


def total(outputs, targets):
    return (outputs - targets).abs().sum()


def largest(outputs, targets):
    return (outputs - targets).abs().max()


def changes_its_outputs(outputs, targets):
    return outputs.sub_(targets).abs_().mean()


def of_one_kind(outputs, targets):
    if len(targets) < 16:
        raise ValueError("too few")
    return outputs.mean()


@pytest.mark.parametrize(
    ("of", "mean"),
    [
        (mean_of_squares, True),
        (right, True),
        (changes_its_outputs, True),
        (lambda outputs, targets: torch.tensor(0.25), True),
        (root, False),
        (residual, False),
        (f1, False),
        (total, False),
        (largest, False),
        (of_one_kind, False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_mean_that_is_none_is_found_by_its_parts(of, mean, dtype):
    outputs, targets = OUTPUTS.to(dtype), NUMBERS[:16, None]
    before = outputs.clone()
    assert (no_mean(of, outputs, targets) is None) == mean
    assert torch.equal(outputs, before)


def test_outputs_that_are_all_alike_do_not_hide_that_a_metric_is_no_mean():
    assert no_mean(f1, torch.zeros(16, 1), NUMBERS[:16, None]) is not None


def test_a_batch_that_cannot_be_cut_is_not_judged():
    assert no_mean(residual, OUTPUTS[:1], NUMBERS[:1, None]) is None
    assert no_mean(lambda outputs, targets: outputs[0].sum(), (OUTPUTS, torch.tensor(1.0)), NUMBERS[:16]) is None


def of_nothing(outputs, targets):
    return (outputs * 0).sum() + targets.float().mean()


WEIGHT = torch.ones(1, requires_grad=True)


def of_another(outputs, targets):
    return (WEIGHT * targets.float().mean()).sum()


def percent(outputs, targets):
    return 100 * (outputs.argmax(1) == targets).float().mean()


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (regression(), r"outputs \[8, 1\].*targets \[8\].*mse needs.*of one shape, got \[8, 1\] and \[8\]; reshape"),
        (regression(loss=squeezed), r"metric.*outputs \[32, 1\].*targets \[32\].*mae needs.*one shape"),
        (regression(loss=huber, metric="loss"), r"the loss.*outputs \[32, 1\].*targets \[32\].*one shape, e\.g\."),
        (
            regression(loss=squeezed, metric=Metric("r2", residual, over="split")),
            r"the metric 'r2' of task 'mine' pairs every output with every target: outputs \[32, 1\]",
        ),
        (
            regression(NUMBERS[:, None], metric=Metric("r2", residual)),
            r"the metric 'r2' of task 'mine' is no mean over examples: on 32 of them it is .*over=\"split\"",
        ),
        (regression(NUMBERS[:, None], metric=total), "the metric 'total' of task 'mine' is no mean over examples"),
        (classification(loss=of_nothing), "the loss of task 'mine' does not depend on the weights"),
        (classification(loss=of_another), "the loss of task 'mine' does not depend on the weights"),
        (
            classification(metric=Metric("right", percent, fraction=True)),
            r"the metric 'right' of task 'mine' is declared a fraction, and is \d\d.* between 0 and 1: divide it",
        ),
        (
            classification(data=data(torch.ones(40).long(), CLASSES, CLASSES)),
            "all 40 training targets of task 'mine' are class 1, so that there is nothing to learn",
        ),
    ],
)
def test_a_task_that_would_be_measured_wrong_is_refused_in_a_sentence(task, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        check_fits(task, Recipe())
    assert "\n" not in str(refused.value)


def saturated():
    """Weights that are so sure of all examples that float32 has no gradient left."""
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(1e4 * torch.stack([-torch.ones(4), torch.ones(4)]))
        model.bias.zero_()
    return model


def with_dummy_targets():
    return data(torch.zeros(40).long(), torch.zeros(40).long(), torch.zeros(40).long())


@pytest.mark.parametrize(
    "task",
    [
        regression(NUMBERS[:, None]),
        regression(loss=squeezed, metric="loss"),
        regression(loss=contrastive, metric=Metric("squares", squeezed, higher_is_better=False)),
        regression(NUMBERS[:, None], metric=Metric("r2", residual, over="split")),
        classification(data=data((X.sum(1) > 0).long()), start=saturated()),
        classification(data=with_dummy_targets(), loss=lambda outputs, targets: outputs.square().mean()),
        classification(data=data(CLASSES, torch.ones(9).long(), torch.zeros(7).long())),
    ],
    ids=["targets of one shape", "squeezed", "contrastive", "r2", "saturated", "no targets", "one class to measure on"],
)
def test_what_is_right_though_it_looks_odd_passes(task):
    check_fits(task, Recipe())


def test_a_metric_over_a_split_that_needs_more_than_a_few_examples_is_tried_on_all_of_validation():
    def of_both(outputs, targets):
        if len(targets.unique()) < 2:
            raise ValueError("both classes are needed")
        return outputs.mean()

    sorted_ones = torch.arange(40) // 35
    inputs = X.clone()
    both = Metric("both", of_both, over="split")
    check_fits(classification(data=data(CLASSES, sorted_ones, CLASSES, inputs=inputs), metric=both), Recipe())
    one = classification(data=data(CLASSES, torch.zeros(40).long(), CLASSES), metric=both)
    with pytest.raises(
        ValueError, match=r"task 'mine', validation split: the metric 'both' cannot be calculated.*both"
    ):
        check_fits(one, Recipe())
