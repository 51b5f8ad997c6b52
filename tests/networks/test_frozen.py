"""Frozen layers keep their units unless somebody names them, and it is said."""

import pytest
import torch
from torch import nn

import scratchcard as sc
from scratchcard.methods.units import cuttable_sites

X = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))


def made(*frozen):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 10)
        )
    for at in frozen:
        net[at].requires_grad_(False)
    return net.eval()


CASES = {
    "nothing": ((), ["0", "3"]),
    "the first layer": ((0,), ["3"]),
    "a reader": ((3,), []),
    "the last": ((5,), ["0"]),
    "a normalisation": ((1,), ["0", "3"]),
    "everything": ((0, 1, 3, 5), []),
}


@pytest.mark.parametrize("what", CASES)
def test_sites_that_take_from_frozen_weights_are_found_and_not_ordinary(what):
    frozen, ordinary = CASES[what]
    sites = sc.find_sites(made(*frozen), X)
    assert set(sites.sites) == {"0", "3"}
    assert list(sites.ordinary) == ordinary
    assert set(sites.frozen) == {"0", "3"} - set(ordinary)
    for name, weights in sites.frozen.items():
        assert all(weight.partition(".")[0] in map(str, frozen) for weight in weights)
        assert sites.kept[name].startswith(f"frozen: it takes entries from {weights[0]}")


def test_a_mask_by_hand_cuts_what_is_frozen_and_it_stays_frozen():
    net = made(0, 1, 3, 5)
    small = sc.compact(net, {"0": torch.arange(12) < 5}, X)
    assert small.module[0].weight.shape == (5, 64)
    assert not any(parameter.requires_grad for parameter in small.module.parameters())


def data():
    chance = torch.Generator().manual_seed(0)
    return sc.Data.from_tensors(
        "d",
        train=(torch.randn(40, 64, generator=chance), torch.arange(40) % 10),
        validation=8,
        test=(torch.randn(9, 64, generator=chance), torch.arange(9)),
    )


def test_methods_leave_frozen_layers_alone_unless_they_are_named():
    task = sc.Task("frozen", lambda: made(0), data())
    assert cuttable_sites("it", task, (), ()) == ("3",)
    assert cuttable_sites("it", task, (), ("0",)) == ("0",)
    notes = sc.Study(task, sc.Recipe(steps=2), methods=[sc.IMP(rounds=1, rate=0.5, units="channels")], seeds=1).notes()
    assert any("The units of 0 of task 'frozen' take entries from frozen weights" in note for note in notes)
    assert not any("frozen weights" in note for note in sc.Study(task, sc.Recipe(steps=2), seeds=1).notes())
    whole = sc.Task("whole", lambda: made(0, 3, 5), data())
    with pytest.raises(ValueError, match=r"no unit that it could cut .*0: frozen: it takes entries from 0.weight"):
        cuttable_sites("it", whole, (), ())
