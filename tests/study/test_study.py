"""A study runs to its end whatever single runs do, and refuses beforehand what cannot be studied."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scratchcard.evidence.report import report
from scratchcard.evidence.verdict import judge
from scratchcard.methods.at_init import AtInit
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.imp import IMP
from scratchcard.methods.ticket import Method
from scratchcard.study import progress
from scratchcard.study.execute import Stopped
from scratchcard.study.study import Study, read
from scratchcard.training.data import Data
from scratchcard.training.metrics import Metric
from scratchcard.training.recipe import Recipe
from tiny_study import RECIPE, data, examples, plain, started, tiny, tiny_study


class Fragile(nn.Module):
    """A network that ends in NaN (or an error) once most of its first layer was cut."""

    def __init__(self, accident: str) -> None:
        super().__init__()
        self.first, self.second, self.accident = nn.Linear(4, 32), nn.Linear(32, 2), accident

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and float((self.first.weight == 0).float().mean()) > 0.5:
            if self.accident == "raises":
                raise RuntimeError("the accident of this test\nin two lines")
            return self.second(self.first(inputs)) * torch.nan
        return self.second(self.first(inputs).relu())


def nan_when_sparse() -> nn.Module:
    return Fragile("nan")


def raises_when_sparse() -> nn.Module:
    return Fragile("raises")


SPARSE = [IMP(rounds=3, rate=0.5)]
FILTERS = FilterPruning(rounds=3, rate=0.5)


def test_rows_are_the_same_from_one_process_and_from_two(tmp_path: Path) -> None:
    one, two = (tiny_study(tmp_path / name, methods=[IMP(rounds=2)], seeds=2) for name in ("one", "two"))
    assert plain(one.run(workers=1, progress=False)) == plain(two.run(workers=2, progress=False))
    assert len(one.rows()) == 2 * (1 + 2 * 6 + 1)


def test_a_ticket_that_diverges_leaves_the_same_rows_from_one_process_and_from_two(tmp_path: Path) -> None:
    one, two = (tiny_study(tmp_path / name, tiny(model=nan_when_sparse), methods=SPARSE) for name in ("one", "two"))
    seen, wanted = plain(one.run(workers=1, progress=False)), plain(two.run(workers=2, progress=False))
    assert [row["id"] for row in seen] == [row["id"] for row in wanted]
    assert seen == wanted


def test_a_study_that_has_ended_has_nothing_more_to_start(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, tiny(model=nan_when_sparse), methods=SPARSE)
    rows = plain(study.run(workers=1, progress=False))
    assert started(study) == 0
    assert plain(study.rows()) == rows


def test_a_diverging_ticket_is_a_row_and_verdict_and_report_are_made(tmp_path: Path) -> None:
    rows = tiny_study(tmp_path / "runs", tiny(model=nan_when_sparse), methods=SPARSE, seeds=2).run(1, progress=False)
    status = {(row.seed, row.level, row.arm): row.status for row in rows}
    assert status[0, 1, "ticket"] == status[1, 1, "ticket"] == "done"
    assert status[0, 2, "ticket"] == status[1, 2, "ticket"] == "diverged"
    lost = next(row for row in rows if row.status == "diverged")
    assert lost.end is None
    assert lost.found
    assert lost.message == "the training loss was nan by step 2; a lower learning rate may help", "the cause alone"
    assert lost.density == pytest.approx(0.25, abs=0.01)
    (unfound,) = (row for row in rows if (row.seed, row.level, row.arm) == (0, 3, "ticket"))
    assert (unfound.status, unfound.found, unfound.message) == ("diverged", False, lost.message)
    assert str(judge(rows))
    assert "diverged" in report(rows, tmp_path / "report.html").read_text()


class Vulnerable(nn.Module):
    """A network that ends in NaN at one level of pruning alone: its first layer has 32 neurons of 4 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 32), nn.Linear(32, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.second(self.first(inputs).relu())
        cut = self.training and (len(self.first.weight) == 8 or int((self.first.weight == 0).sum()) == 96)
        return outputs * torch.nan if cut else outputs


@pytest.mark.parametrize(
    "method",
    [IMP(rounds=3, rate=0.5, one_shot=True), AtInit("magnitude", rounds=3, rate=0.5, scope="layer"), FILTERS],
    ids=lambda method: method.label,
)
def test_a_ticket_that_diverges_stops_no_level_that_does_not_need_its_training(tmp_path: Path, method: Method) -> None:
    study = tiny_study(tmp_path, tiny(model=Vulnerable), methods=[method], arms=["scratch-e"])
    rows = study.run(1, progress=False)
    told = {(row.level, row.arm): (row.status, row.found) for row in rows}
    lost = ("diverged", True)
    assert told == {
        (0, "dense"): ("done", True),
        **{(level, arm): ("done", True) for level in (1, 3) for arm in ("ticket", "scratch-e")},
        **{(2, arm): lost for arm in ("ticket", "scratch-e")},
    }
    cause = "the training loss was nan by step {}; a lower learning rate may help"
    assert {row.message for row in rows if row.level == 2} <= {cause.format(step) for step in (1, 2)}, "that alone"
    assert not any(row.message for row in rows if row.level != 2)
    assert started(study) == 0


def test_an_iterative_search_needs_the_level_before_and_finds_what_comes_before_the_loss(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, tiny(model=Vulnerable), methods=[IMP(rounds=4, rate=0.5)], arms=["scratch-e"])
    rows = study.run(1, progress=False)
    told = {(row.level, row.arm): (row.status, row.found) for row in rows}
    assert told == {
        (0, "dense"): ("done", True),
        (1, "ticket"): ("done", True),
        (1, "scratch-e"): ("done", True),
        (2, "ticket"): ("diverged", True),
        (2, "scratch-e"): ("diverged", True),
        (3, "ticket"): ("diverged", False),
        (4, "ticket"): ("diverged", False),
    }
    for row in rows:
        if not row.found:
            assert row.density == study.spec.methods["imp"].densities[row.level]
            assert row.message == "the training loss was nan by step 2; a lower learning rate may help"
    assert started(study) == 0, "what diverged is no run that is missing"
    assert not study.plan().missing


def test_what_stopped_says_what_was_trained_how_it_ended_and_why() -> None:
    stopped = Stopped("diverged", "the training loss was nan by step 2", "the dense training of seed 0")
    assert str(stopped) == "the dense training of seed 0 diverged: the training loss was nan by step 2"
    assert (stopped.status, stopped.cause) == ("diverged", "the training loss was nan by step 2")


def test_seeds_that_diverge_do_not_stop_the_others(tmp_path: Path) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        bad = outputs.detach()[0, 0] > outputs.detach()[0, 1]  # about half of the seeds meet it
        return nn.functional.cross_entropy(outputs, targets) * (torch.nan if outputs.shape[0] == 10 and bad else 1.0)

    rows = tiny_study(tmp_path, tiny(loss=loss), recipe=dataclasses.replace(RECIPE, steps=1), seeds=8, arms=[])
    dense = {row.seed: row.status for row in rows.run(1, progress=False) if row.arm == "dense"}
    assert set(dense) == set(range(8))
    assert set(dense.values()) == {"done", "diverged"}


def test_a_huge_learning_rate_diverges_into_rows(tmp_path: Path) -> None:
    recipe = Recipe(steps=8, optimizer="sgd", lr=1e30, batch_size=10, eval_every=2)
    rows = tiny_study(tmp_path, recipe=recipe, seeds=2).run(1, progress=False)
    told = [(row.seed, row.arm, row.status, row.found) for row in rows]
    both = [("dense", "diverged", True), ("ticket", "diverged", False)]
    assert told == [(seed, *one) for seed in (0, 1) for one in both]
    assert len(read(tmp_path)[0]) == 4


def test_a_run_that_raises_is_a_failed_row_and_is_tried_again_when_the_cause_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study(tmp_path, tiny(model=raises_when_sparse), methods=SPARSE, arms=["fresh-init"])
    rows = study.run(1, progress=False)
    failed = [row for row in rows if row.status == "failed"]
    assert {(row.level, row.arm, row.found) for row in failed} == {
        (2, "ticket", True),
        (2, "fresh-init", True),
        (3, "ticket", False),
    }
    assert {row.message for row in failed} == {"RuntimeError: the accident of this test in two lines"}
    assert str(judge(rows))
    assert started(study) == 1 + 3, "failed runs are tried again, each once"
    monkeypatch.setattr(Fragile.forward, "__code__", (lambda self, x: self.second(self.first(x).relu())).__code__)
    again = tiny_study(tmp_path, tiny(model=raises_when_sparse), methods=SPARSE, arms=["fresh-init"])
    repaired = dataclasses.replace(again)
    repaired.__dict__["causes"] = study.causes  # the same identity: what failed was the machine, not the code
    rows = repaired.run(1, progress=False)
    assert {row.status for row in rows} == {"done"}
    assert len(rows) == 1 + 3 + 9


def test_a_factory_that_fails_for_one_fresh_start_is_a_row_and_the_study_goes_on(tmp_path: Path) -> None:
    def unlucky() -> nn.Module:
        if torch.initial_seed() > 2**40 and torch.initial_seed() % 3 == 0:  # only seeds of fresh starts are that large
            raise RuntimeError("no luck")
        return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))

    study = tiny_study(tmp_path, tiny(model=unlucky), methods=[IMP(rounds=4)], arms=["fresh-init"])
    rows = study.run(1, progress=False)
    assert {row.status for row in rows} == {"done", "failed"}
    assert len(rows) == 1 + 4 + 12


def test_a_factory_whose_weights_are_not_torchs_chance_is_found_out(tmp_path: Path) -> None:
    calls: list[int] = []

    def restless() -> nn.Module:
        calls.append(1)
        model = nn.Linear(4, 2)
        nn.init.constant_(model.weight, len(calls))
        return model

    with pytest.raises(ValueError, match="gives other weights for seed 0"):
        tiny_study(tmp_path, tiny(model=restless)).run(1, progress=False)


def test_the_users_random_state_and_threads_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    study = tiny_study(tmp_path)
    study.plan()
    study.run(1, progress=False)
    assert torch.equal(state, torch.get_rng_state())
    assert threads == torch.get_num_threads()


def test_a_plan_writes_nothing_and_counts_what_exists(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    study = tiny_study(folder)
    plan = study.plan()
    assert not folder.exists()
    assert (len(plan.runs), len(plan.missing)) == (8, 8)
    assert plan.price.flops == (7 + 2) * plan.each.flops > 0, "one of them is trained for twice as long"
    assert plan.price.seconds > 0
    study.run(1, progress=False)
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    plan = study.plan()
    assert (len(plan.missing), plan.price.flops) == (0, 0)
    assert before == sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    assert "8 of them in the store, 0 to run" in plan.describe(2)


def test_the_planned_price_is_what_the_rows_say_it_was(tmp_path: Path) -> None:
    study = tiny_study(tmp_path)
    planned = study.plan().price.flops
    assert planned == pytest.approx(sum(row.train_flops for row in study.run(1, progress=False)))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"seeds": 0}, "one or more different seeds"),
        ({"seeds": []}, "one or more different seeds"),
        ({"seeds": [1, 1]}, "different seeds"),
        ({"seeds": [0, -1]}, "0 or higher"),
        ({"seeds": -3}, "one or more"),
        ({"margin": 0}, "margin"),
        ({"margin": -0.1}, "margin"),
        ({"margin": 1}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"primary": 0}, "density"),
        ({"primary": 1.5}, "density"),
        ({"primary": float("nan")}, "density"),
        ({"measure": "early-stop"}, "did you mean 'early_stop'"),
        ({"arms": ["fresh_init"]}, "did you mean 'fresh-init'"),
        ({"arms": ["fresh-init", "fresh-init"]}, "label of its own"),
        ({"methods": []}, "at least one method"),
        ({"methods": [IMP(), IMP(rate=0.3)]}, "label of its own"),
        ({"methods": IMP()}, "methods"),
        ({"recipe": {"lr": 0.1}}, "recipe"),
        ({"seeds": "3"}, "seeds"),
    ],
    ids=lambda asked: str(asked)[:40],
)
def test_a_study_that_means_nothing_is_refused_when_it_is_written(
    tmp_path: Path, asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        tiny_study(tmp_path, **asked)


class InPlace(nn.Module):
    """A network that changes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        inputs -= 0.5
        return self.layers(inputs)


def test_a_network_that_changes_its_inputs_in_place_changes_no_data_and_no_row_depends_on_what_ran_before(
    tmp_path: Path,
) -> None:
    seen = {}
    for seeds in ((0, 1), (1, 0)):
        task = tiny(model=InPlace)
        study = tiny_study(tmp_path / str(seeds), task, seeds=seeds, arms=["fresh-init"])
        seen[seeds] = plain(study.run(1, progress=False))
        for mine, original in zip(vars(task.data).values(), vars(data()).values(), strict=True):
            if hasattr(original, "inputs"):
                assert torch.equal(mine.inputs, original.inputs)
                assert torch.equal(mine.targets, original.targets)
    assert seen[0, 1] == seen[1, 0]
    assert {row["status"] for row in seen[0, 1]} == {"done"}


@pytest.mark.parametrize("workers", [0, -1])
def test_zero_workers_are_refused(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ValueError, match="worker"):
        tiny_study(tmp_path).run(workers=workers, progress=False)


def one_input_too_many() -> nn.Module:
    return nn.Linear(5, 2)


def needs_an_argument(width: int) -> nn.Module:
    return nn.Linear(4, width)


def no_module() -> Any:
    return [nn.Linear(4, 2)]


def one_number() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))


def nan_from_the_start() -> nn.Module:
    model = nn.Linear(4, 2)
    nn.init.constant_(model.weight, torch.nan)
    return model


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": one_input_too_many}, "fails on a batch"),
        ({"model": needs_an_argument}, "width"),
        ({"model": no_module}, "must return a torch.nn.Module, not list"),
        ({"model": one_number}, "does not fit the model"),
        ({"model": nan_from_the_start}, "before any training"),
        ({"loss": lambda outputs, targets: 1.0}, "scalar tensor that depends on the weights"),
        ({"loss": lambda outputs, targets: outputs.sum(1)}, "scalar tensor"),
        ({"loss": lambda outputs, targets: outputs.sum().detach()}, "scalar tensor"),
        ({"loss": "mse"}, "does not fit the model"),
        ({"loss": lambda outputs: outputs.sum()}, "does not fit"),
        ({"metric": Metric("mine", lambda outputs, targets: outputs.argmax(1) == targets)}, "metric"),
        ({"metric": Metric("mine", lambda outputs, targets: None)}, "metric"),
        ({"metric": Metric("mine", lambda outputs, targets: torch.tensor(torch.nan))}, "metric"),
        ({"start": {"weight": torch.zeros(1)}}, "these weights are not of this"),
    ],
    ids=lambda changes: (
        "-".join(
            f"{name}={getattr(value, '__name__', getattr(value, 'name', value))}" for name, value in changes.items()
        )
        if isinstance(changes, dict)
        else ""
    ),
)
def test_a_task_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    folder = tmp_path / "runs"
    with pytest.raises(ValueError, match=told) as error:
        tiny_study(folder, tiny(**changes)).run(1, progress=False)
    assert len(str(error.value).splitlines()) == 1
    assert not folder.exists()


@pytest.mark.parametrize("device", ["cuda:99", "banana"])
def test_a_device_that_is_not_there_is_refused_in_a_sentence(tmp_path: Path, device: str) -> None:
    study = tiny_study(tmp_path / "runs", recipe=dataclasses.replace(RECIPE, device=device))
    with pytest.raises(ValueError, match=device):
        study.run(1, progress=False)


def test_rewinding_beyond_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="before the end of training at 4"):
        tiny_study(tmp_path, methods=[IMP(rewind=4)]).run(1, progress=False)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_inputs_that_are_no_numbers_are_refused_with_their_place(bad: float) -> None:
    inputs, targets = examples(20, 0)
    inputs[7, 2] = bad
    with pytest.raises(ValueError, match="index 7"):
        Data.from_tensors("bad", (inputs, targets), examples(5, 1))
    with pytest.raises(ValueError, match="no examples"):
        Data.from_tensors("empty", examples(20, 0), examples(0, 1))
    assert data().name == "tiny"


def test_a_task_that_cannot_be_sent_to_workers_is_one_sentence(tmp_path: Path) -> None:
    lock = threading.Lock()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        with lock:
            return nn.functional.cross_entropy(outputs, targets)

    study = tiny_study(tmp_path, tiny(loss=loss))
    with pytest.raises(ValueError, match="worker"):
        study.run(workers=2, progress=False)
    assert len(study.run(workers=1, progress=False)) == 8


def test_the_time_left_is_told_from_the_speed_so_far() -> None:
    shown = progress.Progress(10, show=False)
    shown.at(2)
    assert shown.left(2, shown._began + 5) == "estimating the time left"
    assert shown.left(4, shown._began + 10) == "about 30 s left"
    assert shown.left(10, shown._began + 70) == "after 1 min 10 s"


def test_a_study_is_what_it_was_asked_for() -> None:
    study = Study(tiny(), seeds=[4, 2])
    assert study.spec.seeds == [4, 2]
    usual = ["fresh-init", "random-mask-layerwise", "random-mask-global", "dense-for-the-search"]
    assert study.spec.arms == ["dense", "ticket", *usual]
    assert (study.spec.margin, study.spec.margin_kind) == (0.005, "absolute")
    assert Study(tiny(metric="loss"), margin=0.03).spec.margin_kind == "relative"
    levels = study.spec.methods["imp"]
    assert min(abs(density - 0.2) for density in levels.densities) == abs(levels.densities[levels.primary] - 0.2)
