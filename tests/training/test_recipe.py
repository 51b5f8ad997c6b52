"""A recipe says how a network is trained, and refuses what cannot be."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scratchcard.training.recipe import OPTIMIZERS, Recipe


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"optimizer": "adan"}, "unknown optimizer 'adan'; did you mean 'adam'"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
        ({"augment": ("flap",)}, "unknown augmentation 'flap'; did you mean 'flip'"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"eval_every": 0}, "eval_every=0 must be at least 1"),
        ({"eval_batch_size": 0}, "eval_batch_size=0 must be at least 1"),
        ({"lr": 0.0}, "lr=0.0 must be a positive number"),
        ({"lr": math.nan}, "lr=nan must be a positive number"),
        ({"lr": math.inf}, "lr=inf must be a positive number"),
        ({"momentum": 1.0}, "momentum=1.0 must be in"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must be 0 or more"),
        ({"gamma": 0.0}, "gamma=0.0 must be a positive number"),
        ({"warmup": 2000}, "warmup=2000 must be between 0 and the 1000 steps"),
        ({"crop": 0.0}, "crop=0.0 must be above 0 and at most 0.5"),
        ({"crop": 0.51}, "crop=0.51 must be above 0 and at most 0.5"),
        ({"crop": math.nan}, "crop=nan must be above 0 and at most 0.5"),
        ({"warmup": -1}, "warmup=-1 must be"),
        ({"optimizer": "sgd", "nesterov": True}, "nesterov=True must be used only with momentum"),
        ({"schedule": "step"}, "milestones=.* must be rising steps below 1000"),
        ({"milestones": (5,)}, "milestones=.*empty otherwise"),
        ({"schedule": "step", "milestones": (5, 5)}, "milestones=.* must be rising"),
        ({"schedule": "step", "milestones": (6, 5)}, "milestones=.* must be rising"),
        ({"schedule": "step", "milestones": (1000,)}, "milestones=.* must be rising steps below 1000"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused_by_name(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**fields)


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(ValueError, match=r"lr=-1.*; .*momentum=2"):
        Recipe(lr=-1, momentum=2)


@given(st.integers(1, 300), st.integers(1, 120), st.integers(0, 300))
def test_evaluations_are_regular_and_include_both_ends(steps, every, start):
    start = min(start, steps)
    looks = Recipe(steps=steps, eval_every=every).evaluations(start)
    assert looks == sorted(set(looks))
    assert (looks[0], looks[-1]) == (start, steps)
    assert set(looks) - {start, steps} == {s for s in range(start + 1, steps) if s % every == 0}


def test_a_constant_rate_is_constant():
    assert {Recipe(steps=10).lr_factor(step) for step in range(10)} == {1.0}


def test_warm_up_rises_linearly_from_zero_and_stays_at_one():
    recipe = Recipe(steps=10, warmup=4)
    assert [recipe.lr_factor(step) for step in range(10)] == [0.25, 0.5, 0.75, *[1.0] * 7]


def test_a_step_schedule_falls_at_its_milestones_and_warm_up_multiplies():
    recipe = Recipe(steps=8, schedule="step", milestones=(3, 5), gamma=0.5, warmup=2)
    assert [recipe.lr_factor(step) for step in range(8)] == [0.5, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_a_cosine_falls_from_one_over_half_a_period():
    recipe = Recipe(steps=4, schedule="cosine")
    assert [recipe.lr_factor(step) for step in range(4)] == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_has_the_recipes_hyper_parameters_and_only_trainable_parameters(name):
    recipe = Recipe(optimizer=name, lr=0.3, weight_decay=0.2, momentum=0.5 if name == "sgd" else 0.0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    (group,) = recipe.make_optimizer(model.parameters()).param_groups
    assert group["params"] == list(model[1].parameters())
    assert (group["lr"], group["weight_decay"], group.get("momentum", recipe.momentum)) == (0.3, 0.2, recipe.momentum)


def test_a_callable_optimizer_is_used_as_it_is_and_recorded_by_name():
    recipe = Recipe(optimizer=my_rmsprop)
    assert isinstance(recipe.make_optimizer(nn.Linear(2, 2).parameters()), torch.optim.RMSprop)
    assert recipe.fields()["optimizer"] == "my_rmsprop"
    assert Recipe(milestones=[2], schedule="step").fields()["milestones"] == (2,)


def my_rmsprop(parameters):
    return torch.optim.RMSprop(parameters, 0.1)
