"""The peak of a forward pass, against peaks worked out by hand and real storages on the CPU."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from shrinkable import made
from torch import Tensor, nn

from scratchcard.networks.compact import compact
from scratchcard.networks.cost import cost
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.networks.memory import _peak, peak_activation_bytes
from scratchcard.networks.sites import read_sites

WIDTHS = st.lists(st.integers(1, 40), min_size=2, max_size=6)


def chain(widths: list[int]) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(into, out) for into, out in pairwise(widths)))


@settings(max_examples=30, deadline=None, database=None)
@given(WIDTHS, st.integers(1, 7))
def test_a_chain_holds_its_input_and_two_neighbours(widths, batch):
    # the caller holds the input; a layer's input goes when its output is there
    pairs = [widths[1], *(a + b for a, b in pairwise(widths[1:]))]
    assert peak_activation_bytes(chain(widths), torch.zeros(batch, widths[0])) == 4 * batch * (widths[0] + max(pairs))


@settings(max_examples=30, deadline=None, database=None)
@given(WIDTHS, st.data())
def test_narrower_layers_never_need_more(widths, data):
    narrower = [widths[0], *(data.draw(st.integers(1, width)) for width in widths[1:])]
    x = torch.zeros(3, widths[0])
    assert peak_activation_bytes(chain(narrower), x) <= peak_activation_bytes(chain(widths), x)


def test_a_shortcut_is_held_until_it_is_added():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.up, self.down = nn.Linear(4, 10), nn.Linear(10, 30), nn.Linear(30, 10)

        def forward(self, x: Tensor, shortcut: bool = True) -> Tensor:
            x = self.stem(x)
            return x + self.down(self.up(x)) if shortcut else self.down(self.up(x))

    block, plain = Block(), Block()
    plain.forward = lambda x: Block.forward(plain, x, shortcut=False)
    # alive when `down` is done: the input, the shortcut, what `up` gave (an argument of `down`) and what `down` gave
    assert peak_activation_bytes(block, torch.zeros(2, 4)) == 4 * 2 * (4 + 10 + 30 + 10)
    straight = nn.Sequential(plain.stem, plain.up, plain.down)
    assert peak_activation_bytes(straight, torch.zeros(2, 4)) == 4 * 2 * (4 + 10 + 30)


def test_what_is_done_in_place_and_views_cost_nothing():
    layers = (nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Unflatten(1, (3, 64)))
    x = torch.zeros(2, 2, 8, 8)
    assert peak_activation_bytes(nn.Sequential(*layers), x) == 4 * 2 * 64 * (2 + 3)
    layers = (layers[0], nn.ReLU(), *layers[2:])
    assert peak_activation_bytes(nn.Sequential(*layers), x) == 4 * 2 * 64 * (2 + 3 + 3)


def test_parameters_and_buffers_are_not_activations():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    x = torch.zeros(5, 4)
    assert peak_activation_bytes(model, x) == 4 * 5 * (4 + 4 + 4)


def test_a_part_of_a_larger_tensor_counts_as_the_part_and_double_precision_twice():
    large = torch.zeros(100, 4)
    assert peak_activation_bytes(nn.Linear(4, 2), large[:3]) == 4 * 3 * (4 + 2)
    assert peak_activation_bytes(nn.Linear(4, 2).double(), large[:3]) == 8 * 3 * (4 + 2)


@pytest.mark.parametrize("name", ["Conv-4", "ResNet-20", "DenseNet", "MobileNetV2", "U-Net", "GroupNorm", "ResNeXt"])
def test_counted_without_computing_it_is_what_it_is_on_the_cpu(name):
    model, inputs = made(name)
    assert peak_activation_bytes(model, inputs) == _peak(model, inputs, "cpu") > 0


@pytest.mark.parametrize("name", ["Conv-4", "VGG-19", "ResNet-20", "DenseNet", "MobileNetV2", "U-Net", "attention"])
def test_a_small_network_never_needs_more_than_the_dense_one(name):
    model, inputs = made(name)
    sites = read_sites(model, inputs)
    dense, last = peak_activation_bytes(model, inputs), None
    for step in (1, 2, 4):  # nested: the more is cut, the less is needed
        mask = {name: torch.arange(len(site)) % step == 0 for name, site in sites.sites.items()}
        small = peak_activation_bytes(compact(model, mask, inputs, sites).module, inputs)
        assert small <= (last or dense)
        last = small
    assert last < dense


@settings(max_examples=15, deadline=None, database=None)
@given(st.integers(1, 6))
def test_it_grows_with_the_batch_and_cost_tells_it_per_example(batch):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5))
    one = peak_activation_bytes(model, torch.zeros(1, 1, 8, 8))
    assert peak_activation_bytes(model, torch.zeros(batch, 1, 8, 8)) == batch * one
    assert cost(model, torch.zeros(batch, 1, 8, 8)).activation_bytes == one


def test_a_network_that_looks_at_its_values_is_counted_on_the_cpu():
    class Looks(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(super().forward(x)) if x.sum().item() >= 0 else x

    assert peak_activation_bytes(Looks(4, 4), torch.zeros(2, 4)) == 4 * 2 * (4 + 4 + 4)


def test_it_is_counted_in_evaluation_mode_and_nothing_is_touched():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    before, chance = state_digest(read_state(model)), torch.get_rng_state()
    x = torch.ones(1, 4)  # a batch of one would be refused in training mode
    peak_activation_bytes(model, x)
    assert model.training
    assert state_digest(read_state(model)) == before
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.equal(x, torch.ones(1, 4))
    assert all(p.grad is None and not p.is_meta for p in model.parameters())
