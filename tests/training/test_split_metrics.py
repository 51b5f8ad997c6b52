"""Metrics over a whole split: the same number whatever the batches, nothing shared between two evaluations."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from scratchcard.study.source import source_digest
from scratchcard.training.accumulate import NotMeasured
from scratchcard.training.constant import constant_metric
from scratchcard.training.data import Data
from scratchcard.training.evaluate import evaluate
from scratchcard.training.measure import Measurement
from scratchcard.training.metrics import METRICS, Metric, as_metric
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task

chance = torch.Generator().manual_seed(0)
X = torch.randn(60, 4, generator=chance)
NUMBERS = X.sum(1, keepdim=True) + torch.randn(60, 1, generator=chance)
LABELS = (X.sum(1) > 0).long() + (X[:, 0] > 1).long()
REGRESSION = Data.from_tensors("numbers", (X[:30], NUMBERS[:30]), (X[30:], NUMBERS[30:]), (X[:20], NUMBERS[:20]))
CLASSES = Data.from_tensors("labels", (X[:30], LABELS[:30]), (X[30:], LABELS[30:]), (X[:20], LABELS[:20]))


class Perplexity:
    """Of someone's own, in the shape of those of torchmetrics."""

    higher_is_better = False

    def __init__(self, base: float = math.e) -> None:
        self.base = base
        self.reset()

    def reset(self) -> None:
        self.total, self.seen = 0.0, 0

    def update(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        assert outputs.device.type == targets.device.type == "cpu"
        self.total += float(nn.functional.cross_entropy(outputs, targets, reduction="sum"))
        self.seen += len(targets)

    def compute(self) -> float:
        return self.base ** (self.total / self.seen / math.log(self.base))


def r2(outputs, targets):
    return 1 - ((outputs - targets) ** 2).sum() / ((targets - targets.mean()) ** 2).sum()


def macro_f1(outputs, targets):
    said = outputs.argmax(1)
    both = torch.stack([((said == c) & (targets == c)).sum() for c in range(3)])
    either = torch.stack([(said == c).sum() + (targets == c).sum() for c in range(3)])
    return (2 * both / either.clamp_min(1)).mean()


def regression(metric):
    return Task("numbers", partial(nn.Linear, 4, 1), REGRESSION, loss="mse", metric=metric)


def classification(metric):
    return Task("labels", partial(nn.Linear, 4, 3), CLASSES, metric=metric)


def torchmetrics():
    return pytest.importorskip("torchmetrics")


HEAVY = pytest.mark.heavy  # torchmetrics alone takes seconds to be imported
CASES = {
    "r2 by a function": lambda: (regression(Metric("r2", r2, over="split")), r2),
    "r2 of torchmetrics": lambda: (regression(torchmetrics().R2Score()), r2),
    "f1 by a function": lambda: (classification(Metric("f1", macro_f1, fraction=True, over="split")), macro_f1),
    "f1 of torchmetrics": lambda: (
        classification(Metric("f1", torchmetrics().F1Score("multiclass", num_classes=3, average="macro"))),
        macro_f1,
    ),
    "perplexity": lambda: (
        classification(Perplexity()),
        lambda outputs, targets: nn.functional.cross_entropy(outputs, targets).exp(),
    ),
}


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=HEAVY) if "torchmetrics" in name else name for name in CASES]
)
def test_it_is_what_it_is_on_the_whole_split_whatever_the_batches(case):
    task, by_hand = CASES[case]()
    model = task.fresh(0)
    with torch.no_grad():
        wanted = float(by_hand(model(task.data.test.inputs), task.data.test.targets))
    for size in (1, 7, 30, 1000):
        for _ in range(2):  # nothing is left of the evaluation before
            found = evaluate(model, task, task.data.test, Recipe(eval_batch_size=size))[1]
            assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=HEAVY) if "torchmetrics" in name else name for name in CASES]
)
def test_curves_and_the_training_metric_are_over_the_split_too(case):
    task, by_hand = CASES[case]()
    found = []
    for size in (3, 1000):
        measured = Measurement(task, Recipe(steps=4, batch_size=8, eval_every=2, eval_batch_size=size), seed=0)
        model = task.fresh(0)
        for _ in measured.snapshots(model, []):
            pass
        found.append([*measured.curve.test_metric, measured.train_metric])
    with torch.no_grad():
        at_end = float(by_hand(model(task.data.train.inputs), task.data.train.targets))
    assert found[0] == pytest.approx(found[1], rel=1e-5, abs=1e-6)
    assert found[1][-1] == pytest.approx(at_end, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("size", [1, 1000])
def test_the_constant_predictor_is_measured_on_the_whole_split_too(size):
    mean = REGRESSION.train.targets.mean().expand(30, 1)
    found = constant_metric(regression(Metric("r2", r2, over="split")), REGRESSION.test, Recipe(eval_batch_size=size))
    assert found == pytest.approx(float(r2(mean, REGRESSION.test.targets)), abs=0.05), "the mean or the median"


@pytest.mark.parametrize(
    ("given", "name", "higher", "over"),
    [
        (r2, "r2", True, "batch"),
        (partial(r2), "r2", True, "batch"),
        (lambda outputs, targets: outputs.mean(), "own metric", True, "batch"),
        (Perplexity(), "Perplexity", False, "split"),
    ],
)
def test_a_bare_function_or_object_is_a_metric_under_its_own_name(given, name, higher, over):
    for metric in (as_metric(given), regression(given).measured_by):
        assert (metric.name, metric.higher_is_better, metric.fraction, metric.over) == (name, higher, False, over)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Metric("mine", Perplexity), "must be a function.*update, compute and reset, got the class Perplexity"),
        (lambda: regression(3), "the metric 'int' must be a function.*got a int"),
        (lambda: Metric("mine", r2, over="splits"), "unknown over 'splits'; did you mean 'split'"),
        (lambda: Task("mine", nn.Identity, CLASSES, loss=3), r"Task\.loss must be a name in cross_entropy.*got a int"),
    ],
)
def test_what_cannot_measure_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_what_an_object_was_shown_elsewhere_is_no_part_of_it():
    mine = Perplexity()
    mine.update(torch.randn(5, 3), torch.zeros(5).long())
    task = classification(mine)
    assert source_digest(task.metric) == source_digest(classification(Perplexity()).metric)
    assert mine.seen == 5, "the user's own object is left alone"
    evaluate(task.fresh(0), task, CLASSES.test, Recipe())
    assert source_digest(task.metric) == source_digest(classification(Perplexity()).metric)


def test_two_evaluations_share_nothing():
    task = classification(Metric("perplexity", Perplexity(), higher_is_better=False))
    model, recipe = task.fresh(0), Recipe()
    alone = evaluate(model, task, CLASSES.test, recipe)
    evaluate(model, task, CLASSES.validation, recipe)
    assert evaluate(model, task, CLASSES.test, recipe) == alone


def test_what_a_metric_is_made_of_is_a_cause():
    digests = [
        source_digest(classification(metric).metric)
        for metric in (Perplexity(), Perplexity(base=2), macro_f1, Metric("f1", macro_f1, over="split"))
    ]
    assert len(set(digests)) == 4


def test_the_identity_of_a_metric_that_is_averaged_is_from_before_there_was_a_choice():
    assert "over" not in METRICS["accuracy"].__getstate__()
    assert pickle.loads(pickle.dumps(METRICS["accuracy"])) == METRICS["accuracy"]


DIGEST = """
import torchmetrics
from scratchcard.study.source import source_digest
from scratchcard.training.metrics import Metric
mine = Metric("f1", torchmetrics.F1Score("multiclass", num_classes=3), fraction=True)
print(source_digest(mine))
"""


@HEAVY
def test_one_of_torchmetrics_travels_and_has_the_same_digest_in_every_process():
    mine = Metric("f1", torchmetrics().F1Score("multiclass", num_classes=3), fraction=True)
    told = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout.strip()
    assert told == source_digest(mine) == source_digest(pickle.loads(pickle.dumps(mine)))
    assert source_digest(Metric("f1", torchmetrics().F1Score("multiclass", num_classes=4), fraction=True)) != told


def two_classes(outputs, targets):
    if targets.unique().numel() < 2 or not outputs.isfinite().all():
        raise ValueError("two classes, and finite outputs")
    return outputs.mean()


SORTED = Data.from_tensors(
    "sorted", (X, torch.arange(60) // 50), (X, torch.arange(60) // 50), (X, torch.zeros(60).long())
)


def test_where_a_metric_over_a_split_cannot_be_calculated_it_is_said_or_is_no_number():
    task = Task("sorted", partial(nn.Linear, 4, 3), SORTED, metric=Metric("two", two_classes, over="split"))
    model, recipe = task.fresh(0), Recipe()
    assert math.isfinite(evaluate(model, task, SORTED.test, recipe)[1])
    assert math.isnan(evaluate(model, task, SORTED.test, recipe, limit=20)[1]), "the first examples are of one class"
    with pytest.raises(NotMeasured, match="'two' cannot be calculated over a split: ValueError: two classes"):
        evaluate(model, task, SORTED.validation, recipe)
    with torch.no_grad():
        model.bias.fill_(math.nan)
    assert all(map(math.isnan, evaluate(model, task, SORTED.test, recipe))), "of a network that has diverged"


@pytest.mark.parametrize(
    ("gives", "seen"), [({"a": 1.0}, "a dict"), (torch.ones(2), r"shape \[2\]"), ("much", "a str")], ids=str
)
def test_what_is_not_one_number_is_said(gives, seen):
    task = classification(Metric("mine", lambda outputs, targets: gives, over="split"))
    with pytest.raises(NotMeasured, match=f"'mine' cannot be calculated.*must give one number, got {seen}"):
        evaluate(task.fresh(0), task, CLASSES.test, Recipe())


class Pair(nn.Linear):
    def forward(self, x):
        return {"logits": super().forward(x), "inputs": x}


def test_outputs_of_any_structure_are_joined_in_order():
    def seen(outputs, targets):
        assert torch.equal(outputs["inputs"], CLASSES.test.inputs)
        assert torch.equal(targets, CLASSES.test.targets)
        return outputs["logits"].mean()

    task = Task(
        "pair",
        partial(Pair, 4, 3),
        CLASSES,
        loss=lambda outputs, targets: outputs["logits"].mean(),
        metric=Metric("seen", seen, over="split"),
    )
    assert math.isfinite(evaluate(task.fresh(0), task, CLASSES.test, Recipe(eval_batch_size=7))[1])
