"""What is said before anything is trained: of trained models, margins, other data, metrics, methods left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from problems import corners
from scratchcard.evidence.declared import declared
from scratchcard.evidence.verdict import judge
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.imp import IMP
from scratchcard.study.notes import about_task
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.training.data import Data
from scratchcard.training.metrics import Metric
from scratchcard.training.recipe import Recipe
from scratchcard.training.splits import Streamed
from scratchcard.training.task import Task
from tiny_study import data, examples, network, tiny, tiny_study

# trained models


def carved(split_seed: int = 0) -> Data:
    return Data.from_tensors("tiny", examples(60, 0), examples(30, 1), 20, split_seed)


@pytest.mark.parametrize(
    ("start", "given", "said"),
    [(network(), carved(), True), (network(), data(), False), (None, carved(), False)],
    ids=["carved", "given", "nothing brought"],
)
def test_validation_that_a_trained_model_may_have_seen_is_said(
    start: nn.Module | None, given: Data, said: bool
) -> None:
    sentences = list(about_task(tiny(start=start, data=given)))
    assert bool(sentences) == said
    assert all("carved from training examples, which the model that was brought may have seen" in s for s in sentences)
    assert tiny_study(Path("nowhere"), tiny(start=start, data=given)).notes() == sentences


# metrics and classes


def rights(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float().mean()


class Says:
    higher_is_better = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 1 - rights(outputs, targets)


def test_a_bare_function_is_a_metric_and_what_is_assumed_of_it_is_said(tmp_path: Path) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    study = tiny_study(tmp_path, tiny(loss=loss, metric=rights), arms=[])
    assert any(
        note.startswith("Of the metric 'rights' it is assumed that higher is better") and "sc.Metric('rights'" in note
        for note in study.notes()
    )
    assert (study.spec.metric, study.spec.loss) == ("rights", "loss")
    assert (study.spec.higher_is_better, study.spec.metric_is_fraction) == (True, False)
    with pytest.warns(UserWarning, match="higher is better"):
        rows = study.run(workers=1, progress=False)
    assert {row.status for row in rows} == {"done"}
    by_name = tiny_study(tmp_path, tiny(loss=loss), arms=[]).run(workers=1, progress=False)
    assert [row.curve for row in rows] == [row.curve for row in by_name], "accuracy by another name"


@pytest.mark.parametrize("metric", ["accuracy", "loss", Metric("rights", rights), Says()])
def test_of_a_metric_that_says_what_is_better_nothing_is_assumed(metric: Any) -> None:
    assert not list(about_task(tiny(metric=metric)))


@pytest.mark.parametrize("which", ["validation", "test"])
def test_a_split_of_one_class_is_said(which: str) -> None:
    inputs, _ = examples(30, 1)
    splits = {"validation": examples(30, 2), "test": examples(30, 1), which: (inputs, torch.ones(30).long())}
    task = tiny(data=Data.from_tensors("tiny", examples(60, 0), splits["test"], splits["validation"]))
    (sentence,) = about_task(task)
    assert sentence.startswith(f"All 30 {which} targets of task 'tiny' are class 1")


# other data


def test_a_store_that_has_runs_of_the_same_task_with_other_data_says_how_many(tmp_path: Path) -> None:
    before = tiny_study(tmp_path, tiny(data=carved(1)), arms=[])
    rows = before.run(workers=1, progress=False)
    assert before.notes(Store(tmp_path)) == [], "of its own runs nothing is said"
    again = tiny_study(tmp_path, tiny(data=carved(2)), arms=[])
    (sentence,) = again.notes(Store(tmp_path))
    assert f"has {len(rows)} runs of task 'tiny' with other data: is the split seeded?" in sentence
    assert list(again.plan().notes) == [sentence]
    assert tiny_study(tmp_path, tiny(data=carved(2), name="another"), arms=[]).notes(Store(tmp_path)) == []
    assert tiny_study(tmp_path, tiny(data=carved(2), loss=rights), arms=[]).notes(Store(tmp_path)) == [], "other code"


def test_a_study_declared_before_data_had_a_digest_says_nothing_of_them(tmp_path: Path) -> None:
    before = tiny_study(tmp_path, tiny(data=carved(1)), arms=[])
    store = Store(tmp_path)
    store.write_study("0" * 24, before.spec.model_copy(update={"data_digest": None}), [])
    (tmp_path / "studies" / "broken.json").write_text("{")
    assert tiny_study(tmp_path, tiny(data=carved(2)), arms=[]).notes(store) == []


def test_the_digest_of_the_data_is_no_second_declaration_of_a_study() -> None:
    study = tiny_study(Path("nowhere"))
    before = study._id
    object.__setattr__(study, "spec", study.spec.model_copy(update={"data_digest": None}))
    assert study._id == before


# the margin


def numbers(scale: float = 1.0, shift: float = 0.0) -> Data:
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=chance)
    y = scale * x.sum(1, keepdim=True) + shift
    return Data.from_tensors("numbers", (x[:200], y[:200]), (x[200:250], y[200:250]), (x[250:], y[250:]))


def regression(given: Data, metric: Any = "mse") -> Task:
    return Task("numbers", lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), given, "mse", metric)


def r2(outputs: Tensor, targets: Tensor) -> Tensor:
    return 1 - ((outputs - targets) ** 2).sum() / ((targets - targets.mean()) ** 2).sum()


R2 = Metric("r2", r2, over="split")


def test_the_margin_of_an_unbounded_metric_is_declared_before_the_runs() -> None:
    given = numbers(scale=3)
    mean, targets = given.train.targets.mean(), given.validation.targets
    spec = Study(regression(given)).spec
    assert spec.margin_kind == "absolute"
    assert spec.margin == pytest.approx(0.01 * float((targets - mean).square().mean()), rel=0.02)
    assert declared(spec)["margin for matching"] == f"{spec.margin:.4g}"
    far = Study(regression(numbers(shift=100))).spec
    assert far.margin == pytest.approx(Study(regression(numbers())).spec.margin, rel=0.01), "of what is to be learnt"


def test_where_higher_is_better_it_is_a_share_of_the_way_to_right_outputs() -> None:
    spec = Study(regression(numbers(), R2)).spec
    assert (spec.margin, spec.margin_kind) == (pytest.approx(0.01, rel=0.1), "absolute")


@pytest.mark.parametrize(
    ("task", "asked", "margin", "kind"),
    [
        (regression(numbers()), 0.03, 0.03, "relative"),
        (tiny(), None, 0.005, "absolute"),
        (tiny(), 0.02, 0.02, "absolute"),
        (regression(numbers(scale=0)), None, 0.01, "relative"),
    ],
    ids=["asked for", "of a share", "asked for, of a share", "constant targets"],
)
def test_other_margins_are_what_they_were(task: Task, asked: float | None, margin: float, kind: str) -> None:
    spec = Study(task, margin=asked).spec
    assert (spec.margin, spec.margin_kind) == (margin, kind)


class Pairs(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.full((4,), index / 60), torch.tensor([index / 30])


def test_a_margin_that_only_the_runs_will_tell_is_said() -> None:
    streamed = Data("pairs", Streamed(Pairs()), Streamed(Pairs()), Streamed(Pairs()))
    study = Study(regression(streamed))
    assert study.spec.margin_kind == "relative"
    assert [note.partition(",")[0] for note in study.notes()] == [
        "The margin for matching is 1 % of the dense networks' mean"
    ]
    assert not Study(regression(streamed), margin=0.01).notes()


def test_a_verdict_prints_the_declared_margin_in_the_metrics_unit(tmp_path: Path) -> None:
    recipe = Recipe(steps=40, batch_size=20, eval_every=20, lr=0.01)
    study = Study(regression(numbers(scale=3)), recipe, [IMP(rounds=1)], [], seeds=3, store=tmp_path)
    said = judge(study.run(workers=1, progress=False))
    assert f"margin {study.spec.margin:.4g}" in str(said)
    assert said.methods[0].comparisons[0].margin == study.spec.margin


# methods that are left out

SHORT = Recipe(steps=24, batch_size=20, eval_every=12)


def test_a_method_that_needs_a_longer_training_is_left_out_of_a_study_of_several(tmp_path: Path) -> None:
    study = Study(corners(), SHORT, [EarlyBird(), IMP(rounds=1)], ["fresh-init", "re-init"], seeds=1, store=tmp_path)
    (sentence,) = study.notes()
    assert sentence.startswith(
        "early-bird is left out: early-bird draws a mask every 6 steps, 4 in this training of 24,"
    )
    assert "for which it needs 31 steps" in sentence
    assert list(study.spec.methods) == ["imp"]
    assert study.spec.arms == ["dense", "ticket", "fresh-init"], "re-init is a control of early-bird tickets alone"
    assert {spec.label for spec in study.plan().runs} == {"dense", "imp: ticket", "imp: fresh-init"}
    with pytest.warns(UserWarning, match="early-bird is left out"):
        rows = study.run(workers=1, progress=False)
    assert len(rows) == study.spec.planned == 2 + 3, "fresh weights are drawn three times"
    assert "imp" in str(judge(rows))


@pytest.mark.parametrize(("steps", "long_enough"), [(30, False), (31, True)])
def test_the_number_of_steps_that_is_said_is_what_it_takes(steps: int, long_enough: bool) -> None:
    recipe = Recipe(steps=steps, batch_size=20)
    study = Study(corners(), recipe, [EarlyBird(), IMP(rounds=1)], [])
    assert ([m.label for m in study.able] == ["early-bird", "imp"]) == long_enough


@pytest.mark.parametrize("methods", [[EarlyBird()], [EarlyBird(), EarlyBird(reading="window", patience=9)]])
def test_where_none_is_left_it_is_refused_with_the_number(methods: list[EarlyBird]) -> None:
    with pytest.raises(ValueError, match="for which it needs 31 steps; train longer"):
        Study(corners(), SHORT, methods, []).check()
