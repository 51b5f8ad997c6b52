"""Whatever torch's own masks and hooks have done to a network, it can be read, cut and saved, and is left as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import scratchcard as sc
from scratchcard.networks.copies import copied, folded, masked_by_torch, without_masks
from scratchcard.networks.cost import cost
from scratchcard.networks.dead import dead_units
from scratchcard.networks.forward import read_state, with_state
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.weights import list_weights

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def plain():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))


def by_magnitude(net):
    prune.l1_unstructured(net[0], "weight", 0.3)


def twice(net):
    prune.random_unstructured(net[0], "weight", 0.3)
    prune.ln_structured(net[0], "weight", 0.5, n=1, dim=0)
    prune.l1_unstructured(net[2], "bias", 0.5)


def by_half(net):
    prune.custom_from_mask(net[0], "weight", torch.full((8, 3, 3, 3), 0.5))


def weight_normed(net):
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(net[2])


def both(net):
    by_magnitude(net)
    weight_normed(net)


MADE = {
    "by magnitude": by_magnitude,
    "twice": twice,
    "by half": by_half,
    "old weight_norm": weight_normed,
    "both": both,
}


def touched(how):
    net = plain()
    MADE[how](net)
    net.train()(X).sum().backward()  # weights that hooks calculate are no leaves now
    return net


@pytest.mark.parametrize("how", MADE)
def test_a_copy_computes_the_same_without_masks_and_the_model_stays(how):
    net = touched(how)
    before, hooks = copy.copy(net.state_dict()), [len(m._forward_pre_hooks) for m in net]
    twin = copied(net)
    assert torch.equal(twin(X), net(X))
    assert not masked_by_torch(twin)
    assert not {name for name in twin.state_dict() if name.endswith(("_orig", "_mask"))}
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [len(m._forward_pre_hooks) for m in net] == hooks
    own = {id(parameter) for parameter in net.parameters()}
    assert not own & {id(parameter) for parameter in twin.parameters()}


@pytest.mark.parametrize("how", ["by magnitude", "twice"])
def test_a_masked_network_is_read_cut_and_saved_as_the_one_with_plain_weights(how, tmp_path):
    net, same = touched(how), plain()
    same.load_state_dict(copied(net).state_dict())
    assert [w.name for w in list_weights(net, X)] == [w.name for w in list_weights(same, X)]
    sites = sc.find_sites(net, X)
    assert set(sites.sites) == {"0"}
    mask = {"0": torch.arange(8) % 2 == 0}
    small = sc.compact(net, mask, X, sites)
    torch.testing.assert_close(small.module(X), sc.compact(same, mask, X).module(X), rtol=0, atol=0)
    sc.save(small, tmp_path / "small")
    for factory in (plain, lambda: touched(how)):
        assert torch.equal(sc.load(tmp_path / "small", factory).module(X), small.module.eval()(X))
    sc.save(net, tmp_path / "whole")
    assert torch.equal(sc.load(tmp_path / "whole", plain).module(X), net(X))
    assert torch.equal(with_state(touched("by half"), read_state(net))(X), net(X))
    kept = {"0.weight": torch.rand(8, 3, 3, 3, generator=torch.Generator().manual_seed(0)) > 0.5}
    assert not bool(MaskedWeights(kept).trainable(net)[0].weight[~kept["0.weight"]].any())
    assert cost(net, X).parameters == sum(p.numel() for p in same.parameters())


def test_filters_that_torch_has_masked_whole_are_dead():
    net = touched("by magnitude")
    prune.ln_structured(net[0], "weight", 3, n=1, dim=0)
    gone = ~copied(net)[0].weight.flatten(1).any(1)
    found = dead_units(net, sc.find_sites(net, X), X)
    assert torch.equal(found.mask["0"], ~gone)
    small = sc.compact(with_state(net, {**read_state(net), **found.folded}), found.mask, X)
    torch.testing.assert_close(small.module(X), net(X), rtol=1e-5, atol=1e-6)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.three.weight = self.one.weight

    def forward(self, x):
        return self.three(self.two(self.one(x)))


def test_a_shared_weight_stays_one_where_its_masks_are_equal():
    with torch.random.fork_rng(devices=[]):
        net, x = Tied(), torch.randn(2, 4)
    mask = torch.eye(4)
    for module in (net.one, net.two):
        prune.custom_from_mask(module, "weight", mask)
    twin = copied(net)
    assert torch.equal(twin(x), net(x))
    assert twin.one.weight is twin.two.weight
    assert twin.three.weight is not twin.one.weight  # it is used unmasked


def test_recurrent_layers_use_what_was_folded_in():
    with torch.random.fork_rng(devices=[]):
        net, x = nn.LSTM(3, 5), torch.randn(7, 2, 3)
        prune.random_unstructured(net, "weight_hh_l0", 0.5)
        net(x)[0].sum().backward()
    twin = copied(net)
    assert torch.equal(twin(x)[0], net(x)[0])
    with torch.no_grad():
        twin.weight_hh_l0.zero_()
    assert not torch.equal(twin(x)[0], net(x)[0])


def test_a_network_without_masks_is_taken_as_it_is():
    net = plain()
    assert without_masks(net) is net


def factory(masked=True):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    if masked:
        prune.l1_unstructured(net[1], "weight", 0.5)
    return net


def test_a_study_takes_masked_weights_for_plain_ones_and_says_so():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        trained = factory()
    data = sc.Data.from_tensors(
        "t",
        train=(torch.randn(40, 64, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 10),
        validation=8,
        test=(torch.randn(9, 64, generator=torch.Generator().manual_seed(1)), torch.arange(9)),
    )
    task = sc.Task("masked", factory, data, start=trained)
    study = sc.Study(task, sc.Recipe(steps=2), seeds=1)
    study.check()
    assert any("torch.nn.utils.prune has masked 1.weight of task 'masked'" in note for note in study.notes())
    assert torch.equal(task.at_start(0)[1].weight, copied(trained)[1].weight)
    own = {"1.weight_orig": torch.ones(2), "1.weight_mask": torch.ones(2)}
    assert folded(own, trained) == own  # names of the network itself are left alone
