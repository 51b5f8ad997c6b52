"""Linear mode connectivity: the line between two networks, and from which step on it loses nothing."""

import dataclasses

import pytest
import torch
from torch import nn

from problems import digits, noise, regression
from scratchcard.evidence.connectivity import advice, by_step, instability, rewind_step
from scratchcard.evidence.plate import plate
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.row import Connectivity, Path
from scratchcard.study.connectivity import Child, Stability
from scratchcard.study.store import Store
from scratchcard.training.between import along, interpolated
from scratchcard.training.recipe import Recipe

SHORT = Recipe(steps=12, lr=0.01, batch_size=16, eval_every=6)


def record(*paths, fraction=True, higher=True):
    return Connectivity(
        task="</script><b>", data="data", metric="accuracy", higher_is_better=higher, metric_is_fraction=fraction,
        steps=100, statistics="interpolated", paths=list(paths), command="x", machine={"torch": "2"},
    )  # fmt: skip


def path(step, *values, seed=0):
    return Path(seed=seed, step=step, values=list(values), losses=[0.0] * len(values))


@pytest.mark.parametrize(
    ("values", "fraction", "higher", "expected"),
    [
        ([0.9, 0.7, 0.8], True, True, 0.85 - 0.7),
        ([0.9, 0.95, 0.8], True, True, 0.85 - 0.8),  # the ends belong to the line: never negative
        ([0.1, 0.5, 0.3], True, False, 0.5 - 0.2),
        ([1.0, 4.0, 3.0], False, False, (4.0 - 2.0) / 2.0),
        ([-1.0, -4.0, -3.0], False, True, (4.0 - 2.0) / 2.0),
    ],
)
def test_instability_is_the_worst_of_the_line_minus_the_mean_of_its_ends(values, fraction, higher, expected):
    found = record(path(0, *values), fraction=fraction, higher=higher)
    assert instability(found.paths[0], found) == pytest.approx(expected)


def test_the_advice_is_the_first_step_from_which_on_all_are_stable():
    calm, rough = (0.9, 0.89, 0.9), (0.9, 0.5, 0.9)
    assert rewind_step(record(path(0, *rough), path(5, *calm), path(9, *calm))) == 5
    assert rewind_step(record(path(0, *calm), path(5, *rough), path(9, *calm))) == 9
    assert rewind_step(record(path(0, *calm), path(5, *rough))) is None
    assert "Rewind to step 5 (5 %" in advice(record(path(0, *rough), path(5, *calm)))
    assert "Stable at initialisation" in advice(record(path(0, *calm)))
    assert "Not stable at any step" in advice(record(path(0, *rough)))
    # the mean over seeds decides, and below 2 % is stable
    both = record(path(0, *rough), path(0, *calm, seed=1))
    assert [at.stable for at in by_step(both)] == [False]
    assert by_step(both)[0].each == pytest.approx((0.4, 0.01))
    assert not by_step(record(path(0, 0.9, 0.88, 0.9)))[0].mean < 0.02 - 1e-9


def test_the_line_is_straight_in_weights_and_buffers_and_ends_at_its_ends():
    task = noise()
    a, b = read_state(task.fresh(0)), read_state(task.fresh(1))
    a["1.running_mean"] += 1.0
    assert state_digest(interpolated(a, b, 0.0)) == state_digest(a)
    assert state_digest(interpolated(a, b, 1.0)) == state_digest(
        {**b, "1.num_batches_tracked": a["1.num_batches_tracked"]}
    )
    middle = interpolated(a, b, 0.25)
    torch.testing.assert_close(middle["0.weight"], 0.75 * a["0.weight"] + 0.25 * b["0.weight"])
    assert torch.equal(middle["1.running_mean"], torch.full((10,), 0.75))


def test_a_line_between_equal_networks_is_flat_and_statistics_are_estimated_anew_where_asked():
    task = noise()
    a = read_state(task.fresh(0))
    losses, values = along(a, a, task, SHORT, task.data.validation, 5)
    assert len(set(losses)) == len(set(values)) == 1
    assert len(losses) == 5
    shifted = {**a, "1.running_mean": a["1.running_mean"] + 5.0}
    plain = along(shifted, shifted, task, SHORT, task.data.validation, 2)[0][0]
    anew = along(shifted, shifted, task, SHORT, task.data.validation, 2, re_estimate=True)[0][0]
    healthy = along(a, a, task, SHORT, task.data.validation, 2, re_estimate=True)[0][0]
    assert anew == healthy != plain


def test_children_share_their_start_bitwise_and_differ_in_the_data_order_alone(tmp_path):
    stability = Stability(digits(), SHORT, steps=[4], seeds=1, store=tmp_path)
    backed = stability.trainings(Store(tmp_path))
    dense = backed.dense(0)
    at = next(backed.train(dense, (4,))).state()
    children = list(Child(4)(dense, SHORT, 0, digits()))
    starts = [next(backed.train(child, (4,))).state() for child in children]
    ends = [next(backed.train(child, (12,))).state() for child in children]
    assert {state_digest(start) for start in starts} == {state_digest(at)}
    assert len({state_digest(end) for end in ends}) == 2
    assert len({child.order for child in children}) == 2


def test_what_was_trained_is_not_trained_again_and_two_workers_find_the_same(tmp_path):
    stability = Stability(regression(), SHORT, steps=[0, 6], seeds=2, points=4, store=tmp_path / "a")
    *_, one = stability.walk(progress=False)
    rows = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "a" / "rows").iterdir()}
    assert len(rows) == 2 * (1 + 2 * 2)
    *_, again = stability.walk(progress=False)
    assert again == one
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "a" / "rows").iterdir()} == rows
    *_, two = dataclasses.replace(stability, store=tmp_path / "b").walk(workers=2, progress=False)
    assert two == one
    assert [(p.seed, p.step) for p in one.paths] == [(0, 0), (1, 0), (0, 6), (1, 6)]
    assert all(len(p.values) == len(p.losses) == 4 for p in one.paths)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"steps": [0, 12]}, r"from 0 to 11; got \[12\]"),
        ({"steps": []}, "got none"),
        ({"seeds": 0}, "at least one seed"),
        ({"points": 2}, "at least 3 points.*got points=2"),
    ],
)
def test_what_cannot_be_measured_is_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Stability(regression(), SHORT, **fields)


def test_a_given_model_has_no_training_in_which_two_could_part():
    task = dataclasses.replace(regression(), start=nn.Sequential())
    with pytest.raises(ValueError, match="no training in which two could part"):
        Stability(task, SHORT)


@pytest.mark.parametrize("suffix", [".html", ".svg", ".png", ".pdf"])
def test_the_figures_are_written_and_hostile_names_are_escaped(tmp_path, suffix):
    found = record(path(0, 0.9, 0.5, 0.9), path(0, 0.9, 0.6, 0.8, seed=1), path(5, 0.9, 0.89, 0.9))
    files = plate(found, tmp_path / f"rewind{suffix}")
    assert [file.name for file in files] == (
        ["rewind.html"] if suffix == ".html" else [f"rewind-instability{suffix}", f"rewind-lines{suffix}"]
    )
    assert all(file.stat().st_size > 1000 for file in files)
    if suffix == ".html":
        page = files[0].read_text()
        assert "</script>" not in page
        assert "<b>" not in page
        assert page.count("<svg") == 2
