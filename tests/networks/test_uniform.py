"""Uniform widths: one factor for every site, as near to the wanted multiply-adds as whole units allow."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shrinkable import Net
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.cost import cost
from scratchcard.networks.sites import read_sites
from scratchcard.networks.uniform import uniform_at, uniform_widths
from scratchcard.networks.zoo import resnet_20


@functools.cache
def mlp(widths=(16, 40)):
    torch.manual_seed(0)
    one, two = widths
    model = nn.Sequential(nn.Linear(6, one), nn.ReLU(), nn.Linear(one, two), nn.ReLU(), nn.Linear(two, 3))
    inputs = torch.randn(2, 6)
    return model, inputs, read_sites(model, inputs)


def macs_of(one, two):
    """By hand: inputs x outputs of every layer."""
    return 6 * one + one * two + two * 3


@pytest.mark.parametrize("share", [1e-6, 0.01, 0.3, 0.5, 0.999, 1.0])
def test_every_site_keeps_the_same_share_and_at_least_one_unit_and_those_are_its_first(share):
    _, _, sites = mlp()
    mask = uniform_widths(sites, sites.ordinary, share)
    assert list(mask) == ["0", "2"]
    for name, units in (("0", 16), ("2", 40)):
        kept = int(mask[name].sum())
        assert kept >= 1
        assert abs(kept - share * units) <= 0.5 or kept == 1
        assert bool(mask[name][:kept].all())
        assert not bool(mask[name][kept:].any())


@settings(max_examples=20, deadline=None)
@given(
    shares=st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)), widths=st.tuples(st.integers(1, 50), st.integers(1, 50))
)
def test_a_larger_share_is_never_a_narrower_network(shares, widths):
    _, _, sites = mlp(widths)
    few, many = (uniform_widths(sites, sites.ordinary, share) for share in sorted(shares))
    assert all(bool((many[name] | ~few[name]).all()) for name in few)


@settings(max_examples=12, deadline=None)
@given(macs=st.floats(0, 2000))
def test_no_other_uniform_widths_are_nearer_to_the_wanted_multiply_adds(macs):
    model, inputs, sites = mlp()
    mask = uniform_at(model, sites, sites.ordinary, inputs, macs)
    found = macs_of(int(mask["0"].sum()), int(mask["2"].sum()))
    assert cost(compact(model, mask, inputs, sites).module, inputs).macs == found
    everything = {
        macs_of(*(int(kept.sum()) for kept in uniform_widths(sites, sites.ordinary, (at + 0.5) / 2000).values()))
        for at in range(2000)
    }
    assert abs(found - macs) == min(abs(other - macs) for other in everything)


def test_more_multiply_adds_are_never_a_narrower_network():
    model, inputs, sites = mlp()
    before = 0
    for macs in range(0, 900, 150):
        mask = uniform_at(model, sites, sites.ordinary, inputs, macs)
        units = sum(int(kept.sum()) for kept in mask.values())
        assert units >= before
        before = units


def test_a_network_as_large_as_it_is_and_one_unit_a_site_can_both_be_had():
    model, inputs, sites = mlp((3, 1200))
    whole = uniform_at(model, sites, sites.ordinary, inputs, macs_of(3, 1200))
    assert all(bool(kept.all()) for kept in whole.values())
    least = uniform_at(model, sites, sites.ordinary, inputs, 0)
    assert [int(kept.sum()) for kept in least.values()] == [1, 1]


def test_sites_that_are_not_named_stay_whole_and_the_network_is_not_touched():
    model = resnet_20(width=0.5)
    inputs = torch.randn(2, 3, 8, 8)
    sites = read_sites(model, inputs)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    among = [name for name in sites.ordinary if name.endswith("conv1")]
    wanted = cost(model, inputs).macs * 0.7
    mask = uniform_at(model, sites, among, inputs, wanted)
    assert set(mask) == set(among)
    assert len({int(kept.sum()) / len(kept) for kept in mask.values()}) <= 3
    found = cost(compact(model, mask, inputs, sites).module, inputs).macs
    assert abs(found - wanted) / wanted < 0.05
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_streams_and_those_who_choose_from_them_are_narrowed_together():
    model = Net(
        lambda m, x: m.out(torch.relu(m.norm(y := m.a(x))) + m.b(y)),
        a=nn.Linear(5, 12),
        norm=nn.BatchNorm1d(12),
        b=nn.Linear(12, 12),
        out=nn.Linear(12, 2),
    )
    inputs = torch.randn(3, 5)
    sites = read_sites(model.eval(), inputs)
    mask = uniform_at(model, sites, list(sites.sites), inputs, 60)
    compact(model, mask, inputs, sites)
    assert all(bool(kept.any()) for kept in mask.values())
