"""IMP over whole units: every level is trained in its small form, rewound bit for bit, at the densities declared."""

from itertools import pairwise

import pytest
import torch

from problems import digits, found, next_token, noise, regression
from scratchcard.masks.compare import nested
from scratchcard.methods.imp import IMP
from scratchcard.networks.forward import call, read_state
from scratchcard.networks.proved import find_sites
from scratchcard.networks.units import unit_magnitudes
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.training.recipe import Recipe

SHORT = Recipe(steps=6, lr=0.01, batch_size=16, eval_every=6)
CHANNELS = IMP(rounds=3, rate=0.4, units="channels")
TASKS = {"digits": digits, "noise": noise, "regression": regression, "next-token": next_token}


@pytest.fixture(params=TASKS.values(), ids=TASKS)
def studied(request, tmp_path):
    task = request.param()
    study = Study(task, SHORT, [CHANNELS], ["fresh-init", "random-mask-layerwise", "shuffled-mask"], seeds=1)
    backed = study.trainings(Store(tmp_path))
    return study, backed, list(found(backed, CHANNELS))


def test_rows_have_the_densities_declared_and_the_sizes_of_the_small_networks(studied):
    study, backed, tickets = studied
    declared = CHANNELS.densities(study.task)
    assert all(nested(b.subnetwork.mask, a.subnetwork.mask) for a, b in pairwise(tickets))
    for ticket in tickets:
        for _ in backed.train(ticket):
            pass
        row = backed.store.row(backed.spec(ticket).id)
        small = ticket.subnetwork.trainable(study.task.fresh(0))
        assert row.status == "done", row.message
        assert row.density == declared[ticket.level] < declared[ticket.level - 1]
        assert row.nonzero == row.parameters == sum(p.numel() for p in small.parameters())
        assert row.train_flops < backed.store.row(backed.spec(backed.dense(0)).id).train_flops


def test_small_networks_start_bitwise_from_the_dense_weights_and_view_and_ship_agree(studied):
    study, backed, tickets = studied
    origin = next(backed.train(backed.dense(0), (0,))).state()
    for ticket in tickets:
        start = next(backed.train(ticket, (0,))).state()
        large = ticket.subnetwork.enlarged(start)
        for name, value in large.items():
            there = value != 0
            assert torch.equal(value[there], origin[name][there])
        small = ticket.subnetwork.trainable(study.task.fresh(1)).eval()
        inputs = study.task.example_inputs(4)
        with torch.no_grad():
            assert torch.equal(call(ticket.subnetwork.ship(small), inputs), call(small, inputs))
        again = ticket.subnetwork.enlarged(read_state(small))
        assert {name: tensor.shape for name, tensor in again.items()} == {n: t.shape for n, t in origin.items()}


def test_controls_of_units_are_trained_from_nothing_but_the_store(studied, tmp_path):
    study, _, _ = studied
    rows = Study(study.task, SHORT, [CHANNELS], "all", seeds=1, store=tmp_path / "runs").run(workers=1, progress=False)
    assert {row.status for row in rows} == {"done"}
    assert {row.arm for row in rows} == {
        "dense",
        "ticket",
        "fresh-init",
        "random-mask-layerwise",
        "shuffled-mask",
        "inverted-scores",
        "scratch-e",
        "scratch-b",
        "scratch-b-strict",
        "scratch-b-cap-2",
        *("guided", "dense-for-the-search", "dense-times-3"),
    }, "a uniform width is what these tickets have already"
    by_level = {}
    for row in rows:
        if row.arm in ("guided", "dense-for-the-search", "dense-times-3"):  # of other widths; test_budgets.py
            continue
        by_level.setdefault(row.level, set()).add((row.density, row.parameters))
    assert all(len(sizes) == 1 for sizes in by_level.values()), "controls have the size of the ticket"


def test_a_unit_is_ranked_by_the_mean_size_of_its_filters():
    task = digits()
    sites = find_sites(task.fresh(0), task.example_inputs())
    state = read_state(task.fresh(0))
    scores = unit_magnitudes(sites, state)
    torch.testing.assert_close(scores["0"], state["0.weight"].double().abs().mean((1, 2, 3)))
    torch.testing.assert_close(scores["3"], state["3.weight"].double().abs().mean(1))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"scope": "global"}, "one rate, scope 'layer'.*got scope='global'"),
        ({"rate": {"conv": 0.2}}, "got rate="),
        ({"criterion": "movement"}, "got criterion='movement'"),
        ({"between": "lr-rewind"}, "rewinds between rounds; got between='lr-rewind'"),
        ({"keep": ("nothing",)}, "unknown site, layer, weight or kind 'nothing'; known: 0, 0.weight, 3, .*output"),
        ({"keep": ("*",)}, r"no unit that it could cut.*keep=\('\*',\) leaves none of 0, 3"),
    ],
)
def test_what_units_cannot_do_is_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        IMP(units="channels", **fields).densities(digits())
