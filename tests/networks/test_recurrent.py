"""Units of recurrent layers, of experts in one tensor, and of what is made of constants: cut, and the same as silenced.

The reference is made with the network's own modules (`foreign/reference.py`) and owes the code nothing.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from foreign.measured import compared
from foreign.reference import lively
from shrinkable import Net
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.dead import dead_units
from scratchcard.networks.forward import read_state, with_state
from scratchcard.networks.proved import find_sites
from scratchcard.networks.sites import read_sites

LAYERS = {
    "LSTM": (False, lambda: nn.LSTM(6, 5, batch_first=True)),
    "two LSTMs both ways": (False, lambda: nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)),
    "last state of a GRU without biases": (True, lambda: nn.GRU(6, 5, num_layers=2, bias=False, batch_first=True)),
    "last state, plain, both ways": (True, lambda: nn.RNN(6, 5, bidirectional=True, batch_first=True)),
}


def _small(model, example, sites, keep):
    """Cut all ordinary sites to so many units, and compare with the reference on another number of examples."""
    mask = {
        name: torch.arange(len(sites[name])) % 2 == 0 if keep is None else torch.arange(len(sites[name])) < keep
        for name in sites.ordinary
    }
    small = compact(model, mask, example(2), sites, "weights")
    left, examples = compared(model, small, mask, sites, example)
    assert left <= 1
    assert examples == 3
    return small.module


def _steps(batch):
    return torch.randn(batch, 4, 6, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize("name", LAYERS)
def test_a_unit_of_a_recurrent_layer_goes_with_its_gates_in_all_layers_and_directions(name):
    state, made = LAYERS[name]
    torch.manual_seed(0)
    layer = made()
    both = 2 if layer.bidirectional else 1

    def read(made):
        last = made[1][0] if isinstance(made[1], tuple) else made[1]
        return last[-1] if state else made[0][:, -1]

    model = Net(
        lambda m, x: m.out(read(m.layer(torch.tanh(m.into(x))))),
        into=nn.Linear(6, 6),
        layer=layer,
        out=nn.Linear(5 if state else 5 * both, 3),
    )
    model = lively(model)
    sites = read_sites(model, _steps(2))
    assert set(sites.sites) == {"into", "layer.weight_ih_l0"}
    small = _small(model, _steps, sites, None)
    assert (small.layer.input_size, small.layer.hidden_size) == (3, 3)
    assert small.layer.weight_hh_l0.shape == (small.layer.weight_ih_l0.shape[0], 3)


def test_a_cell_gives_up_units_where_it_begins_with_its_own_zeros_and_keeps_them_where_the_code_says_how_many():
    def own(m, x):
        return m.out(m.cell(x[:, 0])[0])

    def told(m, x):
        return m.out(m.cell(x[:, 0], (x.new_zeros(len(x), 5), x.new_zeros(len(x), 5)))[0])

    own_state, told_state = (Net(how, cell=nn.LSTMCell(6, 5), out=nn.Linear(5, 2)) for how in (own, told))
    sites = read_sites(lively(own_state), _steps(2))
    assert set(sites.sites) == {"cell.weight_ih"}
    assert _small(lively(own_state), _steps, sites, 2).cell.hidden_size == 2
    refused = find_sites(lively(told_state), _steps(2))
    assert not refused.sites
    assert "hidden" in refused.kept["cell.weight_ih"]


class _State(nn.Module):
    """A state that begins as zeros of a number that is an attribute, as in Mamba."""

    def __init__(self):
        super().__init__()
        self.width = 7
        self.into, self.out = nn.Linear(6, 7), nn.Linear(7, 2)

    def forward(self, x):
        state = torch.zeros(x.shape[0], self.width, dtype=x.dtype)
        for step in self.into(x).unbind(1):
            state = 0.5 * state + torch.tanh(step)
        return self.out(state)


def test_a_state_of_zeros_is_made_smaller_by_the_attribute_that_says_how_large_it_is():
    model = lively(_State())
    sites = read_sites(model, _steps(2))
    assert set(sites.sites) == {"into"}
    assert _small(model, _steps, sites, 3).width == 3


class _Written(nn.Module):
    """What is read is written into an empty tensor, part by part, as keys of latent attention are."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x):
        first = torch.tanh(self.a(x[:, 0]))
        made = first.new_empty(x.shape[0], 2, first.shape[-1])
        made[:, 0] = first
        made[:, 1] = torch.tanh(self.b(x[:, 1]))
        return self.out(made)


def test_what_is_written_into_a_tensor_that_is_read_is_read():
    model = lively(_Written())
    sites = read_sites(model, _steps(2))
    assert "not used" not in " ".join(sites.kept.values())
    assert set(sites.sites) == {"a"}, "the same units of both go"
    _small(model, _steps, sites, 2)


def test_halves_that_lie_in_turns_lose_the_same_units():
    def in_turns(m, x):
        both = m.into(x)
        return m.out(F.silu(both[..., ::2]) * both[..., 1::2])

    model = lively(Net(in_turns, into=nn.Linear(6, 10), out=nn.Linear(5, 2)))
    sites = read_sites(model, _steps(2))
    assert len(sites["into"]) == 5
    assert _small(model, _steps, sites, 2).into.weight.shape == (4, 6)


@pytest.mark.heavy
def test_experts_in_one_tensor_lose_the_same_inner_units():
    pytest.importorskip("transformers")
    from foreign.small_configs import built, candidates

    model = lively(built("mixtral", {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16}))

    def example(batch):
        return candidates(model, batch)["ids"]

    sites = find_sites(model, example(2))
    site = sites["layers.0.mlp.experts.gate_up_proj"]
    assert len(site) == 16
    mask = {site.name: torch.arange(16) % 4 == 0}  # the kernel wants multiples of 4
    small = compact(model, mask, example(2), sites, "weights")
    assert compared(model, small, mask, sites, example)[0] <= 1
    assert small.module.layers[0].mlp.experts.down_proj.shape == (4, 16, 4)


class _WithoutGradients(nn.Module):
    """A part that is never trained, as people write it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x):
        with torch.no_grad():
            x = torch.relu(self.a(x))
            x = torch.relu(self.b(x))
        return self.out(x)


def test_what_is_run_without_gradients_is_read_like_the_rest():
    model = lively(_WithoutGradients())
    sites = read_sites(model, _steps(2))
    assert set(sites.sites) == {"a", "b"}
    _small(model, _steps, sites, 2)


@pytest.mark.parametrize("name", LAYERS)
def test_dead_units_of_a_pruned_recurrent_network_go_and_it_computes_what_it_did(name):
    state, made = LAYERS[name]
    torch.manual_seed(1)
    layer = made()
    width = 5 if state or not layer.bidirectional else 10

    def forward(m, x):
        outputs, last = m.layer(torch.tanh(m.into(x)))
        return m.out((last[0] if isinstance(last, tuple) else last)[-1] if state else outputs[:, -1])

    model = Net(forward, into=nn.Linear(6, 6), layer=layer, out=nn.Linear(width, 3)).double()
    with torch.no_grad():
        layer.weight_ih_l0[:, 2] = 0.0  # nobody reads the third unit of the first layer
    inputs = torch.randn(2, 4, 6, dtype=torch.float64)
    sites = read_sites(model, inputs)
    if layer.bidirectional:
        with torch.no_grad():
            layer.weight_ih_l0_reverse[:, 2] = 0.0
    dead = dead_units(model, sites, inputs)
    assert dead.mask["into"].tolist() == [True, True, False, True, True, True]
    small = compact(with_state(model, {**read_state(model), **dead.folded}), dead.mask, inputs, sites, "weights").module
    torch.testing.assert_close(small(inputs), model(inputs))
