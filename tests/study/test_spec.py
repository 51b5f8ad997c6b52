"""Identity of a run: every cause counts, nothing else does, and it stays what it is."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scratchcard.methods.arms import FreshInit, RandomMask
from scratchcard.methods.budgets import DenseLonger
from scratchcard.methods.imp import IMP
from scratchcard.methods.ticket import Arm, Method
from scratchcard.row import VERSION
from scratchcard.study.spec import Cause, Causes, RunSpec, canonical, task_digest
from scratchcard.training.data import Data
from scratchcard.training.recipe import Recipe
from tiny_study import RECIPE, data, tiny, tiny_study


def dense(recipe: Recipe) -> str:
    return Causes.of(TINY, recipe, [], []).spec(None, 0, 0, None, 0).id


TINY = tiny()
STEP = Recipe(steps=9, schedule="step", milestones=(3,))
SGD = Recipe(steps=9, optimizer="sgd", momentum=0.5)
OTHER: dict[str, tuple[Recipe, Any]] = {
    "steps": (RECIPE, 5),
    "lr": (RECIPE, 0.02),
    "optimizer": (RECIPE, "sgd"),
    "momentum": (SGD, 0.6),
    "nesterov": (SGD, True),
    "weight_decay": (RECIPE, 0.1),
    "batch_size": (RECIPE, 11),
    "schedule": (RECIPE, "cosine"),
    "milestones": (STEP, (4,)),
    "gamma": (STEP, 0.2),
    "warmup": (RECIPE, 1),
    "augment": (RECIPE, ("flip",)),
    "crop": (RECIPE, 0.25),
    "precision": (RECIPE, "float64"),
    "eval_every": (RECIPE, 1),
    "eval_batch_size": (RECIPE, 7),
    "device": (RECIPE, "cuda"),
    "scale_l1": (RECIPE, 1e-4),
    "channels_last": (RECIPE, True),
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Recipe)])
def test_every_field_of_a_recipe_is_identity_except_device_and_evaluation_batches(name: str) -> None:
    recipe, value = OTHER[name]
    same = dense(recipe) == dense(dataclasses.replace(recipe, **{name: value}))
    assert same == (name in ("device", "eval_batch_size"))


def test_an_optimizer_of_ones_own_is_identity_by_its_code() -> None:
    one = dataclasses.replace(RECIPE, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    other = dataclasses.replace(RECIPE, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.2))
    assert dense(one) != dense(other)


CAUSES = RunSpec("task", "recipe", Cause("imp", "fields"), 1, 2, Cause("fresh-init", "fields"), 3)


def test_the_identity_of_a_run_is_pinned() -> None:
    assert CAUSES.id == "8ee9ce11d69b8bebcb7e81d4"


def test_the_text_of_a_recipe_and_a_method_is_pinned() -> None:
    causes = Causes.of(TINY, Recipe(), [IMP()], [FreshInit()])
    assert causes.recipe == (
        '{"augment": [], "batch_size": 64, "crop": 0.125, "eval_every": 100, "gamma": 0.1, "lr": 0.001, '
        '"milestones": [], "momentum": 0.0, "nesterov": false, "optimizer": "adam", "precision": "float32", '
        '"schedule": "constant", "steps": 1000, "type": "Recipe", "warmup": 0, "weight_decay": 0.0}'
    )
    assert causes.methods["imp"].fields == (
        '{"also": [], "between": "rewind", "criterion": "large_final", "fine_tune_lr": null, "fine_tune_steps": null, '
        '"keep": [], "one_shot": false, "only": [], "rate": 0.2, "rewind": 0, "scope": "layer", "type": "IMP", '
        '"units": "weights"}'
    )


def test_runs_of_two_versions_of_the_identity_never_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert VERSION == 2
    monkeypatch.setattr("scratchcard.study.spec.VERSION", 1)
    assert CAUSES.id == "3b48e0a6cacd4bac1e34c39f", "nothing but the version has changed since"


@pytest.mark.parametrize(
    "change",
    [
        {"task": "other"},
        {"recipe": "other"},
        {"method": Cause("imp", "other")},
        {"method": Cause("other", "fields")},
        {"method": None},
        {"seed": 2},
        {"level": 1},
        {"arm": Cause("fresh-init", "other")},
        {"arm": None},
        {"replicate": 0},
    ],
    ids=str,
)
def test_every_cause_of_a_run_is_identity(change: dict[str, Any]) -> None:
    assert dataclasses.replace(CAUSES, **change).id != CAUSES.id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (IMP(rate=0.2), IMP(rate=0.25)),
        (IMP(rate={"linear": 0.2}), IMP(rate={"linear": 0.2, "output": 0.1})),
        (IMP(), IMP(scope="global")),
        (IMP(), IMP(rewind=1)),
        (IMP(), IMP(one_shot=True)),
        (IMP(), IMP(keep=("output",))),
        (RandomMask("layer"), RandomMask("global")),
        (FreshInit(), RandomMask()),
        (FreshInit(), FreshInit(steps="ticket")),
        (DenseLonger(), DenseLonger(3)),
    ],
)
def test_hyper_parameters_of_methods_and_controls_are_identity(one: Method | Arm, other: Method | Arm) -> None:
    assert text(one) != text(other)


@pytest.mark.parametrize(("one", "other"), [(IMP(rounds=3), IMP(rounds=15)), (FreshInit(1), FreshInit(9))])
def test_how_far_to_go_is_not_identity(one: Method | Arm, other: Method | Arm) -> None:
    assert text(one) == text(other)


def text(value: Any) -> str:
    return json.dumps(canonical(value), sort_keys=True)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.tuples(inner, inner) | st.dictionaries(LEAVES, inner, max_size=3), max_leaves=6
)


@given(VALUES, VALUES)
def test_values_that_differ_in_value_or_type_never_share_an_identity(one: Any, other: Any) -> None:
    assert (text(one) == text(other)) == (typed(one) == typed(other))


def typed(value: Any) -> Any:
    """The value with the type of every part, so that comparing two compares both."""
    if isinstance(value, tuple):
        return tuple(map(typed, value))
    if isinstance(value, dict):
        return frozenset((typed(key), typed(part)) for key, part in value.items())
    return type(value), repr(value)


def test_one_the_number_the_float_the_truth_and_the_text_are_four_causes() -> None:
    assert len({text(value) for value in (1, 1.0, True, "1")}) == 4
    assert len({text({key: 0}) for key in (1, 1.0, True, "1")}) == 4
    assert len({text({"mapping": 1}), text([["mapping", 1]]), text("mapping")}) == 3


def test_renaming_a_task_or_its_data_does_not_change_what_it_is() -> None:
    one = data()
    renamed = Data("another name", one.train, one.validation, one.test)
    assert task_digest(tiny()) == task_digest(tiny(name="renamed", data=renamed))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("part", ["inputs", "targets"])
def test_one_number_of_the_data_changes_the_identity(split: str, part: str) -> None:
    changed = data()
    tensor = getattr(getattr(changed, split), part)
    tensor.view(-1)[-1] = 1 - tensor.view(-1)[-1]
    assert task_digest(tiny(data=changed)) != task_digest(tiny())


def deeper() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2))


@pytest.mark.parametrize(
    "change",
    [
        {"model": deeper},
        {"loss": nn.CrossEntropyLoss()},
        {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
        {"metric": "loss"},
        {"start": nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))},
        {"loop": lambda *arguments: iter(())},
    ],
    ids=lambda change: next(iter(change)),
)
def test_model_loss_metric_start_and_loop_are_identity(change: dict[str, Any]) -> None:
    assert task_digest(tiny(**change)) != task_digest(tiny())


def test_two_losses_of_one_class_with_other_settings_are_two_tasks() -> None:
    one, other = (tiny(loss=nn.CrossEntropyLoss(label_smoothing=amount)) for amount in (0.1, 0.2))
    assert task_digest(one) != task_digest(other)


def test_every_weight_of_a_given_dense_model_is_identity() -> None:
    start = {name: value.clone() for name, value in TINY.fresh(0).state_dict().items()}
    nudged = {name: value.clone() for name, value in start.items()}
    nudged["2.bias"][-1] += 1e-6
    assert task_digest(tiny(start=start)) != task_digest(tiny(start=nudged))


CONTROL = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Mine:
    replicates: int = 1
    label = "mine"

    def __call__(self, ticket, recipe, seed):
        yield dataclasses.replace(ticket, arm=self, seed=seed), recipe
"""


def test_the_code_of_a_control_of_ones_own_is_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(code: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text(code)
        module = types.ModuleType("mine")
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, "mine", module)
        exec(compile(code, str(path), "exec"), vars(module))
        return text(vars(module)["Mine"]())

    assert identity(CONTROL) != identity(CONTROL.replace("seed=seed", "seed=seed + 1"))


def test_the_same_study_has_the_same_runs_twice(tmp_path: Path) -> None:
    one, other = (tiny_study(tmp_path).plan().runs for _ in range(2))
    assert [spec.id for spec in one] == [spec.id for spec in other]
    assert len({spec.id for spec in one}) == len(one) == 1 + 1 + 3 + 1 + 1 + 1
