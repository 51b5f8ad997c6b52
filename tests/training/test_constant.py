"""The constant predictor: what outputs reach that know nothing of their inputs."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from problems import digits, next_token, noise, regression
from scratchcard.training.constant import constant_metric
from scratchcard.training.data import Data
from scratchcard.training.metrics import Metric
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task

RECIPE = Recipe()


def measured(task):
    return constant_metric(task, task.data.test, RECIPE)


@pytest.mark.parametrize("make", [digits, noise])
def test_of_classes_it_is_the_share_of_the_most_frequent_training_class(make):
    data = make().data
    most = torch.bincount(data.train.targets).argmax()
    assert measured(make()) == pytest.approx(float((data.test.targets == most).double().mean()))


def test_of_tokens_it_is_the_most_frequent_one_at_every_position():
    data = next_token().data
    most = torch.bincount(data.train.targets.flatten()).argmax()
    assert measured(next_token()) == pytest.approx(float((data.test.targets == most).double().mean()))


def test_of_numbers_it_is_the_mean_for_squares_and_the_median_for_absolute_errors():
    task = regression()
    train, test = (split.targets.double() for split in (task.data.train, task.data.test))
    assert measured(task) == pytest.approx(float((test - train.mean(0)).square().mean()), rel=1e-5)
    skewed = Data.from_tensors("skewed", (torch.randn(90, 2), torch.randn(90, 1).exp()), (torch.ones(9, 2),) * 2, 9)
    test = (torch.randn(9, 2), torch.randn(9, 1).exp())
    skewed = Data.from_tensors("skewed", (skewed.train.inputs, skewed.train.targets), test, 9)
    absolute = Task("skewed", lambda: nn.Linear(2, 1), skewed, loss="mse", metric="mae")
    median = skewed.train.targets.double().median()
    assert measured(absolute) == pytest.approx(float((test[1].double() - median).abs().mean()), rel=1e-5)


def test_the_loss_itself_is_the_entropy_of_the_classes_seen_from_the_training_data():
    task = replace(digits(), metric="loss")
    shares = torch.bincount(task.data.train.targets).double() / len(task.data.train)
    assert measured(task) == pytest.approx(-float(shares[task.data.test.targets].log().mean()), rel=1e-5)


def test_where_it_cannot_be_calculated_it_is_not_known():
    def refuses(outputs, targets):
        raise RuntimeError("only of real outputs")

    assert measured(replace(digits(), metric=Metric("odd", refuses))) is None
    assert measured(replace(regression(), model=lambda: nn.Linear(16, 3))) is None, "outputs of another shape"
