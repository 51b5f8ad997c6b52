"""Networks that nobody here wrote: everything that is offered can be cut, and what comes out is right.

What is right is said by `foreign/reference.py`, which owes the code nothing: the columns that read cut units are 0, the
rows that make them are drawn anew. The whole list is a heavy test; `benchmarks/foreign_zoo.py` writes its page.
"""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from foreign.kinds import KINDS, drawn
from foreign.listed import apart, known_types, networks
from foreign.measured import compared, covered, cut_places, measured, share
from foreign.reference import gap, lively, outputs, silent
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.sites import read_sites

LIGHT = ("gluvariants", "wideanddeep", "deepsets")


def _plain():
    return lively(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Sigmoid(), nn.Linear(6, 3)).eval())


def _cut(model):
    sites = read_sites(model, drawn(4)(2))
    mask = {"0": torch.tensor([True, False, True, True, False, True])}
    return sites, mask, compact(model, mask, drawn(4)(2), sites, "weights")


def test_the_reference_is_the_network_while_nothing_is_cut_and_finds_what_was_cut_wrongly():
    model = _plain()
    sites, mask, small = _cut(model)
    batch = drawn(4)(3)
    assert gap(outputs(model, batch), outputs(silent(model, {}), batch)) == 0
    assert compared(model, small, mask, sites, drawn(4)) == (pytest.approx(0, abs=1e-3), 3)
    with torch.no_grad():
        small.module[3].weight[0, 1] += 1e-4
    assert compared(model, small, mask, sites, drawn(4))[0] > 1


def test_the_reference_finds_a_unit_of_which_a_place_was_forgotten():
    model = _plain()
    sites, mask, _ = _cut(model)
    cut, _ = cut_places(sites, mask)
    batch = drawn(4)(3)
    drawn_twice = [outputs(silent(model, cut, seed=seed), batch) for seed in (0, 1)]
    assert gap(*drawn_twice) == 0, "what makes a unit does not matter"
    forgotten = copy.deepcopy(cut)
    del forgotten["3.weight"]
    assert gap(*[outputs(silent(model, forgotten, seed=seed), batch) for seed in (0, 1)]) > 1e-3


def test_parameters_in_units_are_counted_by_their_places_once():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    sites = read_sites(model, torch.zeros(2, 4))
    assert covered(model, sites) == {
        "0.weight": 24, "0.bias": 6, "2.weight": 30, "2.bias": 5, "4.weight": 10, "4.bias": 0,
    }  # fmt: skip
    assert share(model, sites) == 75 / 77


def test_the_list_is_fixed_and_says_why_a_type_is_not_in_it():
    listed = known_types()
    assert len(listed["in"]) >= 130
    assert not listed["in"].keys() & listed["out"].keys()
    assert all(len(why) > 10 for why in listed["out"].values())
    assert len(KINDS) >= 60


@pytest.mark.parametrize("name", LIGHT)
def test_some_hand_made_kinds_are_cut_rightly(name):
    kind = KINDS[name]
    row = measured(kind.make, kind.inputs, lambda _: None, other=False)
    assert [cut["outcome"] for cut in row["cuts"]] == ["exact"] * len(row["cuts"])
    assert row["share"] > 0.8


def test_a_network_that_ends_its_process_leaves_what_it_told():
    def work(note):
        note({"step": 1})
        raise SystemExit(3)

    row = apart(work, 20)
    assert "SystemExit" in row["failed"]
    assert row["ended"] == "by exit code 1"


@pytest.mark.heavy
@pytest.mark.parametrize("name", networks())
def test_everything_that_is_offered_of_a_network_can_be_cut_and_is_right(name):
    kind = networks()[name]
    row = apart(lambda note: measured(kind.make, kind.inputs, note, other=False), 600)
    assert "failed" not in row, row["failed"]
    assert "ended" not in row, row["ended"]
    assert "crash" not in row, row["crash"]
    assert Counter(cut["outcome"] for cut in row["cuts"]).keys() <= {"exact"}, [
        cut for cut in row["cuts"] if cut["outcome"] != "exact"
    ]
    assert row["read"] is False or row["share"] > 0 or row["kept"], "nothing is offered, and it is not said why"
