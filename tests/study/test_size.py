"""What a row says of a network's size is what the network has that was built by hand to be that small."""

import pytest
import torch
from torch import nn

from problems import corners, regression
from scratchcard.methods.imp import IMP
from scratchcard.methods.ticket import Dense, Narrow, Ticket
from scratchcard.networks.cost import cost
from scratchcard.networks.scaling import Scaled, find_factors
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits
from scratchcard.networks.weights import everything
from scratchcard.study.size import size_of, timing_of

METHOD = IMP()


def by_hand(one, two):
    """The network of `corners` with so many channels."""
    return nn.Sequential(
        nn.Conv2d(1, one, 3, padding=1, bias=False),
        nn.BatchNorm2d(one),
        nn.ReLU(),
        nn.Conv2d(one, two, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(two),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(two * 9, 4),
    )


def small(one=4, two=5):
    task = corners()
    chance = torch.Generator().manual_seed(0)
    mask = {
        "conv1": torch.randperm(6, generator=chance) < one,
        "conv2": torch.randperm(8, generator=chance) < two,
    }
    return task, SmallUnits(mask, task.sites, task.example_inputs())


def measured(task, subnetwork, start=Dense(0), examples=100, model=None):  # noqa: B008 - frozen
    whole = everything(task.fresh(0))
    ticket = Ticket(METHOD, 0, 1, subnetwork, (), start)
    net = subnetwork.trainable(task.fresh(0)) if model is None else model
    return size_of(ticket, net, task, cost(task.fresh(0), task.example_inputs()), whole, examples)


@pytest.mark.parametrize(("one", "two"), [(6, 8), (4, 5), (1, 1)])
def test_a_small_network_has_the_sizes_of_one_built_by_hand(one, two):
    task, subnetwork = small(one, two)
    size = measured(task, subnetwork)
    hand = by_hand(one, two)
    own = cost(hand, task.example_inputs())
    assert size.parameters == size.nonzero == sum(p.numel() for p in hand.parameters())
    assert size.macs == own.macs == 36 * 9 * one + 9 * 9 * one * two + 9 * two * 4
    assert size.train_flops == 100 * own.training_flops
    assert size.widths == {"conv1": (one, 6), "conv2": (two, 8)}
    weights = [p.numel() for p in hand.parameters() if p.dim() > 1]
    large = [p.numel() for p in by_hand(6, 8).parameters() if p.dim() > 1]
    assert list(size.layers.values()) == list(zip(weights, large, strict=True))
    assert size.density == sum(weights) / sum(large)


def test_a_masked_network_has_all_multiply_adds_and_only_the_parameters_that_are_kept():
    task = corners()
    chance = torch.Generator().manual_seed(0)
    mask = {n: torch.rand(k.shape, generator=chance) < 0.4 for n, k in everything(task.fresh(0)).items()}
    size = measured(task, MaskedWeights(mask))
    dense = by_hand(6, 8)
    left, total = (sum(int(m.sum()) for m in ms) for ms in (mask.values(), [torch.ones_like(m) for m in mask.values()]))
    assert size.density == left / total
    assert size.parameters == sum(p.numel() for p in dense.parameters())
    assert size.nonzero == size.parameters - (total - left)
    assert size.macs == cost(dense, task.example_inputs()).macs
    assert size.widths == {}
    assert size.layers == {name: (int(m.sum()), m.numel()) for name, m in mask.items()}


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("inside", ["masked", "small"])
def test_factors_are_nothing_that_a_network_has(gated, inside):
    task = regression() if gated else corners()
    sites = task.sites
    factors = find_factors(task.fresh(0), sites, list(sites.sites))
    assert bool(factors.gated) == gated
    mask = {name: torch.arange(len(site)) % 3 < 2 for name, site in sites.sites.items()}
    inner = (
        SmallUnits(mask, sites, task.example_inputs())
        if inside == "small"
        else MaskedWeights(everything(task.fresh(0)))
    )
    assert measured(task, Scaled(inner, factors)) == measured(task, inner)


def test_a_narrow_network_is_counted_as_it_is():
    task = corners()
    size = measured(task, MaskedWeights({}), Narrow(0, 100), model=narrow_corners())
    own = cost(by_hand(3, 4), task.example_inputs())
    assert (size.parameters, size.macs) == (own.parameters, own.macs)
    assert size.layers == {"conv1.weight": (27, 54), "conv2.weight": (108, 432), "output.weight": (144, 288)}
    assert size.density == (27 + 108 + 144) / (54 + 432 + 288)


def narrow_corners():
    names = ("conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "flatten", "output")
    model = nn.Sequential()
    for name, layer in zip(names, by_hand(3, 4), strict=True):
        model.add_module(name, layer)
    return model


def test_what_failed_before_there_was_a_network_is_not_measured():
    task, subnetwork = small()
    ticket = Ticket(METHOD, 0, 1, MaskedWeights({}), (), Narrow(0, 100))
    dense = cost(task.fresh(0), task.example_inputs())
    size = size_of(ticket, None, task, dense, everything(task.fresh(0)), 10)
    assert (size.parameters, size.macs, size.density) == (0, 0.0, 0.0)
    small_ticket = Ticket(METHOD, 0, 1, subnetwork, ())
    size = size_of(small_ticket, None, task, dense, everything(task.fresh(0)), 10)
    assert size.parameters == dense.parameters
    assert size.widths == {"conv1": (4, 6), "conv2": (5, 8)}
    search = Ticket(METHOD, 0, 1, Scaled(subnetwork, find_factors(task.fresh(0), task.sites, ["conv1"])), ())
    assert size_of(search, None, task, dense, everything(task.fresh(0)), 10) == size


def test_networks_that_are_really_smaller_are_timed_and_those_with_zeros_are_not():
    task, subnetwork = small()
    net = subnetwork.trainable(task.fresh(0))
    dense = MaskedWeights(everything(task.fresh(0)))
    for method, one, start in ((METHOD, subnetwork, Dense(0)), (None, dense, Dense(0)), (METHOD, dense, Narrow(0, 9))):
        timing = timing_of(Ticket(method, 0, 1, one, (), start), net, task)
        assert timing.batch == 32
        assert timing.threads == 1
        assert 0 < timing.quartiles[0] <= timing.median <= timing.quartiles[1]
    assert timing_of(Ticket(METHOD, 0, 1, dense, ()), net, task) is None
