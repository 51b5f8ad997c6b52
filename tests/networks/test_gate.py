"""The gate refuses what is wrong, whatever hides it, and lets pass what is right, whatever makes it look wrong."""

import copy
import functools
import math

import pytest
import torch
import torch.nn.functional as F
from shrinkable import Net
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.cuts import shrink_spec
from scratchcard.networks.gate import Cut, Gate
from scratchcard.networks.originals import Originals
from scratchcard.networks.redrawn import redraw
from scratchcard.networks.sites import read_sites

KEPT = torch.arange(8) % 2 == 0


def seeded(forward, seed=0, **parts):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Net(forward)
        for name, make in parts.items():
            setattr(net, name, make())
        return net.eval()


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layered(forward, **more):
    """A hidden layer `a` of 8 units that `out` reads, and whatever else there is."""
    parts = {"a": lambda: nn.Linear(5, 8), "out": lambda: nn.Linear(8, 3)}
    return seeded(forward, **{**parts, **more})


def zero_linear():
    layer = nn.Linear(8, 3)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def reversed_hidden(small):
    """The wrong units: those of `a` in another order than `out` reads them."""
    with torch.no_grad():
        small.a.weight.copy_(small.a.weight.flip(0))
        small.a.bias.copy_(small.a.bias.flip(0))


def hidden_read_reversed(small):
    """The same fault in the code, not in the weights."""
    small.out.register_forward_pre_hook(lambda _, args: (args[0].flip(-1),))


def wrong_at(change):
    def mutate(small):
        small.register_forward_hook(lambda module, args, found: change(module, args[0], found))

    return mutate


def flipped_around_norm(small):
    """What changes nothing while all channels have the same statistics."""
    small.norm.register_forward_pre_hook(lambda _, args: (args[0].flip(1),))
    small.norm.register_forward_hook(lambda _, __, found: found.flip(1))


def never_first(found, value):
    return found[0], torch.full_like(found[1], value)


PLAIN = layered(lambda m, x: m.out(m.a(x).relu()))
HUGE = layered(lambda m, x: ((h := m.out(m.a(x).relu())), h.sum(-1) - 1e30 * (x[:, 0] > 0)))
ILLEGAL = layered(lambda m, x: ((h := m.out(m.a(x).relu())), h.masked_fill(x[:, :3] > 0, -math.inf)))
UNKNOWN = layered(lambda m, x: ((h := m.out(m.a(x).relu())), h.masked_fill(x[:, :3] > 0, math.nan)))
CLASSES = layered(lambda m, x: ((h := m.out(m.a(x).relu())), h.argmax(-1)))
ZERO = layered(lambda m, x: m.out(m.a(x).relu()) + x[:, :3], out=zero_linear)
GATED = layered(lambda m, x: x[:, :3] + m.gate * m.out(m.a(x).relu()), gate=lambda: nn.Parameter(torch.zeros(1)))
NORMALISED = layered(lambda m, x: m.out(m.norm(m.a(x)).relu()), norm=lambda: nn.BatchNorm1d(8))
MASKED = layered(
    lambda m, x: m.out(
        m.a(F.scaled_dot_product_attention(*[x[None, None].expand(1, 2, 16, 5)] * 3, attn_mask=m.mask)[0, 0]).relu()
    ),
    mask=lambda: nn.Buffer(torch.ones(16, 16, dtype=torch.bool).tril()),
)

WRONG = {
    "a huge output beside it": (HUGE, hidden_read_reversed),
    "an output with -inf beside it": (ILLEGAL, hidden_read_reversed),
    "an output with NaN beside it": (UNKNOWN, hidden_read_reversed),
    "-inf at other places": (ILLEGAL, wrong_at(lambda m, x, found: (found[0], found[1].flip(1)))),
    "+inf for -inf": (ILLEGAL, wrong_at(lambda m, x, found: (found[0], found[1].nan_to_num(0, neginf=math.inf)))),
    "NaN for numbers": (ILLEGAL, wrong_at(lambda m, x, found: never_first(found, math.nan))),
    "NaN for inf": (
        UNKNOWN,
        wrong_at(lambda m, x, found: (found[0], torch.where(found[1].isfinite(), found[1], math.inf))),
    ),
    "other classes": (CLASSES, wrong_at(lambda m, x, found: (found[0], found[1] + 1))),
    "a layer that starts at zero": (ZERO, hidden_read_reversed),
    "a closed gate": (GATED, hidden_read_reversed),
    "statistics of no data": (NORMALISED, flipped_around_norm),
    "another number of examples": (PLAIN, wrong_at(lambda m, x, found: found[:16])),
    "values of another number of examples": (PLAIN, wrong_at(lambda m, x, found: found * (1 + (len(x) > 16)))),
    "a crash in training": (PLAIN, wrong_at(lambda m, x, found: found @ x[:, :2].T if m.training else found)),
    "other values in training": (PLAIN, wrong_at(lambda m, x, found: found * (2 if m.training else 1))),
    "another shape in training": (PLAIN, wrong_at(lambda m, x, found: found[None] if m.training else found)),
    "weights": (PLAIN, reversed_hidden),
    "fewer digits": (PLAIN, wrong_at(lambda m, x, found: found.float().to(found))),
}


X, MASK = drawn(16, 5), {"a": KEPT}


@functools.cache
def sites_of(model):
    return read_sites(model, X)


@functools.cache
def small_of(model):
    return compact(model, MASK, X, sites_of(model), proof="weights")


def gate_of(model, **how):
    sites = sites_of(model)
    cut = Cut(sites, MASK, shrink_spec(sites, MASK), {})
    return Gate(Originals(model), cut, X, **{"redrawn": True, "full": True, **how})


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_small_network_is_refused_whatever_hides_it(fault):
    model, mutate = WRONG[fault]
    gate, small = gate_of(model), copy.deepcopy(small_of(model).module)
    assert gate(small) <= 1e-12
    mutate(small)
    with pytest.raises(ValueError, match="small network"):
        gate(small)


@pytest.mark.parametrize("model", [ZERO, GATED])
def test_what_is_constant_with_the_given_weights_only_other_weights_tell_apart(model):
    small = copy.deepcopy(small_of(model).module)
    hidden_read_reversed(small)
    gate_of(model, redrawn=False, full=False)(small)
    with pytest.raises(ValueError, match="on a drawn batch and redrawn weights"):
        gate_of(model, redrawn=True, full=False)(small)


def sinusoidal(m, x, dtype=None):
    angles = torch.exp(-torch.arange(4, dtype=dtype or x.dtype) * 0.7) * 50
    return m.out((m.a(x) + m.time(torch.cat([angles.sin(), angles.cos()]).to(x.dtype))).relu())


class Sampled(nn.Module):
    """Like the middle of a variational autoencoder: it draws in evaluation too."""

    def forward(self, x):
        return x + torch.randn_like(x)


def at_odds_with_its_program(m, x):
    return m.out(m.a(x).relu()) * (1.01 if torch.compiler.is_exporting() else 1.0)


TIMED = {"time": lambda: nn.Linear(8, 8)}
AWKWARD = {
    "types taken from the input": (layered(sinusoidal, **TIMED), 1e-12),
    "types written into it": (layered(lambda m, x: sinusoidal(m, x, torch.float32), **TIMED), 1e-5),
    "digits lost on the way": (layered(lambda m, x: m.out(m.a(x).float().relu().to(x.dtype))), 1e-5),
    "numbers that only single precision takes": (
        layered(lambda m, x: m.out(m.a(x).relu()) + (x @ torch.ones(5, 3, dtype=torch.float32))),
        1e-5,
    ),
    "random numbers": (layered(lambda m, x: m.out(m.a(m.draw(x)).relu()), draw=Sampled), 1e-12),
    "another program than the network": (layered(at_odds_with_its_program), 1e-12),
    "attention under a mask": (MASKED, 1e-12),
    "an output of rounding errors": (
        layered(lambda m, x: ((h := m.out(m.a(x).relu())), (h - h.mean(-1, keepdim=True)).sum(-1))),
        1e-12,
    ),
    "dropout": (layered(lambda m, x: m.out(m.drop(m.a(x).relu())), drop=lambda: nn.Dropout(0.4)), 1e-12),
}


@pytest.mark.parametrize("kind", AWKWARD)
def test_a_right_small_network_passes_whatever_the_reference_makes_of_it_and_a_wrong_one_does_not(kind):
    model, limit = AWKWARD[kind]
    gate, small = gate_of(model), copy.deepcopy(small_of(model).module)
    assert gate(small) <= limit
    assert small_of(model).error <= limit
    hidden_read_reversed(small)
    with pytest.raises(ValueError, match="computes something else"):
        gate(small)


def test_where_nothing_can_be_compared_with_the_comparison_is_blamed_and_not_the_network():
    model = layered(lambda m, x: at_odds_with_its_program(m, x) + F.linear(m.a(x), m.out.weight * 1.0))
    with pytest.raises(ValueError, match=r"differs from it by 0\.0.*the comparison is at fault"):
        compact(model, {"a": KEPT}, drawn(4, 5))


def test_an_output_without_numbers_shows_nothing():
    model = layered(lambda m, x: ((h := m.out(m.a(x).relu())), h * math.nan))
    with pytest.raises(ValueError, match="nothing is shown by output 2"):
        compact(model, {"a": KEPT}, drawn(4, 5))


def test_random_numbers_of_units_are_blamed():
    model = layered(lambda m, x: m.out(F.dropout(m.a(x), training=True)))
    with pytest.raises(ValueError, match="It draws random numbers"):
        compact(model, {"a": KEPT}, drawn(4, 5))


def test_a_refusal_names_the_site_that_is_to_blame():
    model = layered(lambda m, x: m.out(m.b(m.a(x).relu().view(-1, 8)).relu()), b=lambda: nn.Linear(8, 8))
    mask = {"a": KEPT, "b": KEPT}
    with pytest.raises(ValueError, match=r"To blame: a; the other"):
        compact(model, mask, drawn(4, 5))
    assert compact(model, {"b": KEPT}, drawn(4, 5)).error <= 1e-12


def test_redrawing_changes_every_weight_and_statistic_and_nothing_else():
    model = layered(
        lambda m, x: m.out(m.norm(m.a(x))),
        norm=lambda: nn.BatchNorm1d(8),
        gate=lambda: nn.Parameter(torch.zeros(())),
        places=lambda: nn.Buffer(torch.arange(6.0)),
        negative=lambda: nn.Parameter(-torch.ones(3)),
    )
    model.tied = model.get_submodule("a")
    before = copy.deepcopy(model).state_dict()
    redraw(model)
    after = model.state_dict()
    for name, value in before.items():
        changed = (after[name] != value).float().mean()
        assert changed == (0 if name in ("places", "norm.num_batches_tracked") else 1), name
        if not name.startswith("places"):
            assert name.endswith("tracked") or float((after[name] - value).abs().max()) > 1e-2
    assert bool((after["norm.weight"] > 0).all() and (after["norm.running_var"] > 0).all())
    assert bool((after["negative"] < 0).all())
    assert model.get_parameter("tied.weight") is model.get_parameter("a.weight")


def test_a_very_large_network_is_compared_in_its_own_type(monkeypatch):
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    types = set()
    model[0].register_forward_hook(lambda module, args, out: types.add(out.dtype))
    x = drawn(16, 5).float()
    mask = {"0": torch.arange(8) < 4}
    compact(model, mask, x)
    assert torch.float64 in types
    types.clear()
    monkeypatch.setattr("scratchcard.networks.originals.LARGEST_DOUBLE", 50)
    assert compact(model, mask, x).error <= 1e-5
    assert types == {torch.float32}


def test_constants_show_nothing_so_weights_are_drawn_until_the_outputs_depend_on_the_input():
    """Units that are all switched off give the same whatever is wrong with them: with some seeds one unit is."""
    from scratchcard.networks.operators import RULES

    class Compared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.out(self.b(self.a(x).log_softmax(1)).relu())

    x = drawn(4, 5).float()
    masks = {"a": torch.arange(8) % 7 > 1, "b": torch.arange(6) == 2}
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setitem(RULES, "log_softmax", lambda walk, node, x, *rest, **named: x)
        for seed in range(12):
            torch.manual_seed(seed)
            with pytest.raises(ValueError, match="computes something else"):
                compact(Compared(), masks, x)
