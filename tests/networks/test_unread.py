"""What evaluation never reads is no unit of anything, and the small network still runs and trains."""

import pytest
import torch
from shrinkable import Net
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.sites import read_sites
from scratchcard.networks.unread import REASON


def auxiliary(m, x):
    hidden = m.a(x).relu()
    found = m.out(m.b(hidden).relu())
    return (found, m.classes(m.aux(hidden).relu())) if m.training else found


def skipping(m, x, table=None):
    x = x if table is None else x + m.table(table)
    return m.out(m.a(x).relu())


def residual(m, x):
    hidden = m.a(x)
    first = m.b(hidden).relu()
    hidden = hidden + m.r(first)
    second = m.b2(hidden).relu()
    _ = hidden + m.r2(second)  # the last sum is never read, its layer is run all the same
    return m.out(second)


def linear(into, out):
    return lambda: nn.Linear(into, out)


NETS = {
    "a head that only training runs": (
        auxiliary,
        {"a": linear(5, 8), "b": linear(8, 6), "out": linear(6, 3), "aux": linear(8, 4), "classes": linear(4, 3)},
        {"a": 8, "b": 6},
        {"aux": (4, 4), "classes": (3, 4)},
    ),
    "a layer and a table that nobody calls": (
        skipping,
        {"a": linear(5, 8), "out": linear(8, 3), "spare": linear(8, 7), "table": lambda: nn.Embedding(4, 5)},
        {"a": 8},
        {"spare": (7, 8), "table": (4, 5)},
    ),
    "a layer whose result is not used": (
        residual,
        {"a": linear(5, 8), "b": linear(8, 6), "r": linear(6, 8), "b2": linear(8, 4), "r2": linear(4, 8)}
        | {"out": linear(4, 3)},
        {"a": 8, "b": 6, "b2": 4},
        {"r2": (4, 2)},
    ),
}


@pytest.mark.parametrize("kind", NETS)
def test_only_what_evaluation_reads_can_be_cut_and_what_reads_it_otherwise_goes_along(kind):
    forward, parts, units, shapes = NETS[kind]
    with torch.random.fork_rng(devices=[]):
        model, x = Net(forward, **{name: make() for name, make in parts.items()}), torch.randn(4, 5)
    sites = read_sites(model, x)
    assert {name: len(sites[name]) for name in sites.ordinary} == units
    small = compact(model, {name: torch.arange(n) % 2 == 0 for name, n in units.items()}, x, sites).module
    for name, shape in shapes.items():
        assert tuple(small.get_parameter(f"{name}.weight").shape) == shape
    for found, wanted in zip(small.train()(x), model.train()(x), strict=True):
        assert found.shape == wanted.shape


def test_it_is_said_why():
    forward, parts, *_ = NETS["a head that only training runs"]
    model = Net(forward, **{name: make() for name, make in parts.items()})
    kept = read_sites(model, torch.randn(4, 5)).kept
    assert kept["aux"] == REASON
    assert "output of the network" in kept["classes"]
