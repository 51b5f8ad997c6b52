"""Weights that are calculated are cut where each row comes from its own entries, and kept for a reason elsewhere."""

import functools
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from shrinkable import Net
from torch import nn
from torch.nn import utils
from torch.nn.utils import parametrizations, parametrize

import scratchcard as sc
from scratchcard.methods.soft_filters import _zeroed
from scratchcard.networks.copies import copied
from scratchcard.networks.cuts import shrink_spec
from scratchcard.networks.dead import dead_units
from scratchcard.networks.forward import read_state, with_state
from scratchcard.networks.gate import Cut, Gate
from scratchcard.networks.lengths import find_lengths
from scratchcard.networks.originals import Originals
from scratchcard.networks.scratch import Layer, rescaled
from scratchcard.networks.silenced import ByWeights
from scratchcard.networks.units import SmallUnits, unit_magnitudes
from scratchcard.networks.weights import list_weights


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / (weight.var((1, 2, 3), keepdim=True) + 1e-5).sqrt(), self.bias)


class StandardisedAtOnce(nn.Conv2d):
    def forward(self, x):
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True, correction=0)
        return self._conv_forward(x, (self.weight - mean) / (variance + 1e-5).sqrt(), self.bias)


class StandardisedByBatchNorm(nn.Conv2d):
    """As timm's networks without normalisation do it."""

    def __init__(self, *sizes, **more):
        super().__init__(*sizes, **more)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, weight=self.gain.view(-1), training=True, momentum=0.0)
        return self._conv_forward(x, weight.reshape_as(self.weight), self.bias)


class OfLengthOne(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, F.normalize(self.weight.flatten(1), dim=1).view_as(self.weight), self.bias)


class LowRank(nn.Linear):
    def __init__(self, into, out):
        super().__init__(into, out)
        self.A, self.B = nn.Parameter(torch.randn(2, into)), nn.Parameter(torch.randn(out, 2))

    def forward(self, x):
        return F.linear(x, self.weight + 0.5 * (self.B @ self.A), self.bias)


class LowRankMaps(nn.Conv2d):
    def __init__(self, into, out, size, **more):
        super().__init__(into, out, size, **more)
        self.A, self.B = nn.Parameter(torch.randn(2, into * size**2)), nn.Parameter(torch.randn(out, 2))

    def forward(self, x):
        return self._conv_forward(x, self.weight + (self.B @ self.A).view(self.weight.shape), self.bias)


class LowRankAdded(nn.Module):
    """The same as a parametrization of torch."""

    def __init__(self, into, out):
        super().__init__()
        self.A, self.B = nn.Parameter(torch.randn(2, into)), nn.Parameter(torch.randn(out, 2))

    def forward(self, weight):
        return weight + self.B @ self.A


class Squashed(nn.Module):
    """Zeros become halves, so that nothing is silenced by a zero."""

    def forward(self, weight):
        return weight.sigmoid()


class Scored(nn.Linear):
    def __init__(self, into, out):
        super().__init__(into, out)
        self.scores = nn.Parameter(torch.randn(out, into))

    def forward(self, x):
        return F.linear(x, self.weight * self.scores.sigmoid(), self.bias)


def older(how, **more):
    def make(layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return how(layer, **more)

    return make


def added(into, out):
    return parametrize.register_parametrization(nn.Linear(into, out), "weight", LowRankAdded(into, out))


def squashed(into, out):
    return parametrize.register_parametrization(nn.Linear(into, out), "weight", Squashed())


def on(how, layer=nn.Linear, **more):
    return lambda into, out: how(layer(into, out, **more))


def maps(layer=nn.Conv2d):
    return lambda into, out: layer(into, out, 3, padding=1)


conv = functools.partial(on, layer=nn.Conv2d, kernel_size=3, padding=1)
plain = {"linear": nn.Linear, "maps": maps()}

NEW, OLD = parametrizations.weight_norm, older(utils.weight_norm)
CHAINS = {
    "weight_norm": (conv(NEW), conv(NEW), "01"),
    "weight_norm, older": (conv(OLD), conv(OLD), "01"),
    "weight_norm of all": (on(functools.partial(NEW, dim=None)), on(functools.partial(NEW, dim=None)), "01"),
    "weight_norm of all, older": (conv(older(utils.weight_norm, dim=None)), plain["maps"], "01"),
    "weight_norm of columns": (conv(functools.partial(NEW, dim=1)), conv(functools.partial(NEW, dim=1)), "01"),
    "weight_norm read by another": (on(NEW), nn.Linear, "01"),
    "standardised": (maps(Standardised), plain["maps"], "0"),
    "standardised at once": (maps(StandardisedAtOnce), plain["maps"], "0"),
    "standardised by batch norm": (maps(StandardisedByBatchNorm), plain["maps"], "0"),
    "of length one": (maps(OfLengthOne), plain["maps"], "0"),
    "low rank": (LowRank, LowRank, "01"),
    "low rank, maps": (maps(LowRankMaps), plain["maps"], "0"),
    "low rank, as a parametrization": (added, added, "01"),
    "scores": (Scored, Scored, "01"),
    "squashed": (squashed, squashed, "01"),
    "spectral_norm": (conv(parametrizations.spectral_norm), plain["maps"], ""),
    "spectral_norm, older": (conv(older(utils.spectral_norm)), plain["maps"], ""),
    "orthogonal": (on(parametrizations.orthogonal), nn.Linear, ""),
}
"""Name -> layers that make and that read units, and which of the first two of three are cut: the middle one is made
and read by layers of the first kind where both are calculated alike."""
CHEAP = ("weight_norm", "weight_norm of all, older", "standardised by batch norm", "low rank", "scores", "squashed",
         "spectral_norm", "orthogonal")  # fmt: skip


@functools.cache
def chain(name):
    """Three layers, the first of one kind and the others of another."""
    first, rest, _ = CHAINS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(first(3, 8), nn.ReLU(), rest(8, 6), nn.ReLU(), rest(6, 2)).train()
        x = torch.randn(4, 3, 5, 5) if net[0].weight.dim() == 4 else torch.randn(4, 3)
        net(x)
    return net.eval(), x


@functools.cache
def sites_of(name):
    return sc.find_sites(*chain(name))


def all_or_heavy(names, cheap=CHEAP):
    return [name if name in cheap else pytest.param(name, marks=pytest.mark.heavy) for name in names]


@pytest.mark.parametrize("name", all_or_heavy(CHAINS))
def test_what_is_calculated_row_by_row_is_cut_and_stays_what_it_was(name, tmp_path):
    (net, x), sites, cut = chain(name), sites_of(name), CHAINS[name][2]
    expected = {str(2 * int(at)) for at in cut} | ({"2"} if CHAINS[name][1] in plain.values() else set())
    of_ranks = (LowRank, LowRankMaps, LowRankAdded)
    ranks = {f"{path}.A" for path, module in net.named_modules() if isinstance(module, of_ranks)}
    assert set(sites.sites) - ranks == expected
    assert all("parametrizations" not in layer for layer in sites.kept)
    if not cut:
        return
    mask = {site: torch.arange(len(sites[site])) % 2 == 0 for site in sites.sites}
    small = sc.compact(net, mask, x, sites)  # behind the whole gate
    for site in mask.keys() - ranks:
        layer = small.module[int(site)]
        assert layer.weight.shape[0] == (layer.out_channels if layer.weight.dim() == 4 else layer.out_features)
        assert layer.weight.shape[0] == int(mask[site].sum())
        assert type(layer) is type(small.module[int(site)])
    assert {n for n, _ in small.module.named_parameters()} == {n for n, _ in net.named_parameters()}
    sc.save(small, tmp_path / "small")
    again = sc.load(tmp_path / "small", lambda: copied(net)).module
    assert torch.equal(again(x), small.module(x))
    again.train()(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in again.parameters())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("spectral_norm", r"divided by the largest singular value of the whole weight \(spectral_norm\)"),
        pytest.param("spectral_norm, older", "divided by the largest singular value", marks=pytest.mark.heavy),
        ("orthogonal", "rows and columns are made orthogonal together"),
        ("standardised by batch norm", "output"),
    ],
)
def test_what_is_calculated_as_a_whole_is_kept_for_a_true_reason(name, why):
    kept = sites_of(name).kept
    with pytest.raises(ValueError, match=why):
        raise ValueError(kept.get("0", kept["4"]))


def test_a_norm_over_inputs_keeps_them():
    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), StandardisedAtOnce(6, 5, 1), nn.ReLU(), nn.Conv2d(5, 2, 1))
        sites = sc.find_sites(net, torch.randn(2, 3, 4, 4))
    assert set(sites.sites) == {"2"}
    assert sites.kept["0"] == "averaged or compared with its neighbours"


class Vocoder(nn.Module):
    """Transposed, grouped and plain convolutions, all weight-normed."""

    def __init__(self, normed):
        super().__init__()
        self.into, self.up = normed(nn.Conv1d(4, 8, 3, padding=1)), normed(nn.ConvTranspose1d(8, 6, 4, 2, 1))
        self.each, self.out = normed(nn.Conv1d(6, 6, 3, padding=1, groups=6)), normed(nn.Conv1d(6, 1, 3, padding=1))

    def forward(self, x):
        return self.out(F.leaky_relu(self.each(F.leaky_relu(self.up(F.leaky_relu(self.into(x)))))))


@pytest.mark.parametrize("normed", [NEW, pytest.param(OLD, marks=pytest.mark.heavy)])
def test_transposed_and_grouped_layers_are_named_and_cut_by_their_outputs(normed):
    with torch.random.fork_rng(devices=[]):
        net, x = Vocoder(normed).eval(), torch.randn(2, 4, 6)
    sites = sc.find_sites(net, x)
    assert {name: len(site) for name, site in sites.sites.items()} == {"into": 8, "up": 6}
    small = sc.compact(net, {"into": torch.arange(8) < 3, "up": torch.arange(6) > 1}, x, sites).module
    assert small.up.weight.shape == (3, 4, 4)
    assert (small.up.in_channels, small.up.out_channels, small.each.groups) == (3, 4, 4)


NAMES = {
    "new": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    "old": ("weight_g", "weight_v"),
}


def lengths_of(which):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make = {"new": NEW, "old": OLD}[which]
        return nn.Sequential(make(nn.Linear(3, 8)), nn.ReLU(), make(nn.Linear(8, 6)), nn.ReLU(), make(nn.Linear(6, 2)))


@pytest.mark.parametrize("which", NAMES)
def test_lengths_are_found_and_are_no_weights(which):
    net, (g, v) = lengths_of(which), NAMES[which]
    assert find_lengths(net) == {f"{at}.{g}": (f"{at}.{v}", 0) for at in (0, 2, 4)}
    with pytest.raises(ValueError, match=r"a direction of weight_norm: its size says nothing"):
        list_weights(net, torch.randn(2, 3))
    assert [w.name for w in list_weights(net, torch.randn(2, 3), also=["0.*"]) if w.prunable] == [f"0.{g}", f"0.{v}"]


@pytest.mark.parametrize("normed", [NEW, OLD])
def test_a_layer_before_a_normalised_one_is_not_taken_for_the_last(normed):
    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(nn.Linear(3, 4), normed(nn.Linear(4, 2)))
    assert {w.name: w.kind for w in list_weights(net, torch.randn(2, 3))}["0.weight"] == "linear"


def test_the_gate_sees_lengths_that_were_not_fitted():
    net, x = lengths_of("new"), torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    sites = sc.find_sites(net, x)
    mask = {"0": torch.arange(8) < 4}
    small = sc.compact(net, mask, x, sites).module
    gate = Gate(Originals(net), Cut(sites, mask, shrink_spec(sites, mask), {}), x, redrawn=True, full=True)
    assert gate(small) < 1e-12
    with torch.no_grad():
        small[2].parametrizations.weight.original0.mul_(1.0001)
    with pytest.raises(ValueError, match=r"other lengths of its weights than cutting gives: 2.param"):
        gate(small)


@pytest.mark.parametrize("name", all_or_heavy(["weight_norm", "weight_norm of columns", "low rank", "scores"]))
def test_calculated_weights_are_silenced_by_zeros_of_their_parameters(name):
    (net, _), sites = chain(name), sites_of(name)
    mask = {site: torch.arange(len(sites[site])) % 2 == 0 for site in ("0", "2")}
    silenced = ByWeights(sites, mask, shrink_spec(sites, mask), {}).silenced(net)
    large, small = (one[2].weight.detach() for one in (net, silenced))
    assert not bool(small[:, ~mask["0"]].any())
    torch.testing.assert_close(small[:, mask["0"]], large[:, mask["0"]])


def test_weights_that_no_zeros_silence_give_no_such_reference():
    sites = sites_of("squashed")
    mask = {"0": torch.arange(8) < 4}
    with pytest.raises(ValueError, match="no zeros of what a weight is calculated from"):
        ByWeights(sites, mask, shrink_spec(sites, mask), {})


@pytest.mark.parametrize(
    "name", all_or_heavy(["weight_norm", "low rank", "scores", "standardised"], ("scores", "low rank"))
)
@pytest.mark.parametrize("power", [1, 2])
def test_units_are_as_large_as_the_weights_that_are_used(name, power):
    net, _ = chain(name)
    found = unit_magnitudes(sites_of(name), read_state(net), power)["0"]
    with torch.no_grad():
        used = {"standardised": lambda w: w - w.mean((1, 2, 3), keepdim=True)}.get(name, lambda w: w)(net[0].weight)
        if name == "standardised":
            used = used / (used.var((1, 2, 3), keepdim=True) + 1e-5).sqrt()
        if name == "low rank":
            used = used + 0.5 * net[0].B @ net[0].A
        if name == "scores":
            used = used * net[0].scores.sigmoid()
    torch.testing.assert_close(found, (used.abs() ** power).flatten(1).mean(1).double(), rtol=1e-5, atol=0)


def test_zeroed_and_enlarged_directions_stay_numbers():
    net, x = lengths_of("new"), torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    sites, state = sc.find_sites(net, x), read_state(net)
    mask = {"0": torch.arange(8) < 4}
    soft = with_state(net, {**state, **_zeroed(sites, mask, state)})
    assert not bool(soft[0].weight[4:].any())
    assert torch.equal(soft[0].weight[:4], net[0].weight[:4])
    units = SmallUnits(mask, sites, x)
    small = units.trainable(net)
    torch.testing.assert_close(with_state(net, units.view(small))(x), small(x))


def test_dead_units_of_normalised_weights_go():
    net, x = lengths_of("old"), torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        net[2].weight_v[:, 5] = 0  # read by nobody
        net[0].weight_g[2] = 0  # the same for every input
    found = dead_units(net, sc.find_sites(net, x), x)
    assert (~found.mask["0"]).nonzero().flatten().tolist() == [2, 5]
    small = sc.compact(with_state(net, {**read_state(net), **found.folded}), found.mask, x)
    torch.testing.assert_close(small.module(x), net(x))


def test_fresh_lengths_follow_their_directions_to_a_new_size():
    net = lengths_of("new")
    state, (g, v) = read_state(net), NAMES["new"]
    layers = {f"2.{v}": Layer(state[f"2.{v}"], (6, 2), 0), f"2.{g}": Layer(state[f"2.{g}"], (6, 1), 0)}
    scaled = rescaled(state, layers, find_lengths(net))
    ratio = float((scaled[f"2.{v}"] / state[f"2.{v}"]).mean())
    assert math.isclose(ratio, 2.0, rel_tol=1e-5) or ratio == 1.0
    torch.testing.assert_close(scaled[f"2.{g}"], state[f"2.{g}"] * ratio)


def test_a_direction_that_is_left_nothing_has_the_length_0():
    with torch.random.fork_rng(devices=[]):
        net, x = Net(lambda m, x: m.out(m.a(x).relu()), a=nn.Linear(3, 4), out=NEW(nn.Linear(4, 2))), torch.randn(5, 3)
    with torch.no_grad():
        net.out.parametrizations.weight.original1[0, :2] = 0
    small = sc.compact(net, {"a": torch.arange(4) < 2}, x).module
    assert not bool(small.out.weight[0].any())
    assert bool(small.out.weight[1].any())


def test_a_whole_branch_of_calculated_weights_can_be_cut():
    def forward(m, x):
        x = m.into(x)
        return m.out((x + m.beside(x)).mean(2))

    model = Net(
        forward,
        into=nn.Conv1d(3, 8, 1),
        beside=parametrizations.weight_norm(nn.Conv1d(8, 8, 3, padding=1, groups=4), dim=2),
        out=nn.Linear(8, 2),
    )
    sites = sc.find_sites(model, torch.randn(2, 3, 6))
    assert "beside" in sites.branches
    sc.compact(model, {"beside": torch.tensor([False])}, torch.randn(2, 3, 6), sites)
