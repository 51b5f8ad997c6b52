"""A sparse network's theoretical speedup is the ratio of operations that one would count by hand."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shrinkable import Functional, Net, Tied
from torch import nn

from scratchcard.networks.cost import cost
from scratchcard.networks.speedup import sparse_speedup
from scratchcard.networks.weights import everything
from scratchcard.networks.zoo import resnet_20


def with_share(model, shares):
    """The mask that keeps the first so many entries of each weight."""
    mask = everything(model)
    for name, kept in shares.items():
        mask[name] = (torch.arange(mask[name].numel()) < kept).view(mask[name].shape)
    return mask


def test_nothing_cut_is_no_speedup():
    model = resnet_20(width=0.25)
    assert sparse_speedup(model, everything(model), torch.randn(2, 3, 8, 8)) == 1.0


def test_convolutions_count_at_every_place_and_linear_layers_once():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 25, 3))
    dense = 5 * 5 * 4 * 2 * 9 + 100 * 3
    mask = with_share(model, {"0.weight": 18, "3.weight": 30})
    assert sparse_speedup(model, mask, torch.randn(7, 2, 5, 5)) == pytest.approx(dense / (5 * 5 * 18 + 30))


@settings(max_examples=30, deadline=None)
@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=5), examples=st.integers(1, 4), share=st.integers(1, 10**6)
)
def test_it_is_the_weights_over_those_that_are_kept_where_each_is_used_once(widths, examples, share):
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    model, chance = nn.Sequential(*layers), torch.Generator().manual_seed(share)
    mask = {name: torch.rand(kept.shape, generator=chance) < 0.5 for name, kept in everything(model).items()}
    kept, total = (sum(int(f.sum()) for f in (m if k else torch.ones_like(m) for m in mask.values())) for k in (1, 0))
    if not kept:
        with pytest.raises(ValueError, match="nothing left"):
            sparse_speedup(model, mask, torch.randn(examples, widths[0]))
        return
    assert sparse_speedup(model, mask, torch.randn(examples, widths[0])) == pytest.approx(total / kept)


def test_the_attention_of_a_transformer_counts_and_its_scores_cannot_be_pruned():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    length = 5
    inputs = torch.randn(1, length, 8)
    mask = with_share(model, {"self_attn.in_proj_weight": 24, "linear1.weight": 64})
    packed, out, up, down, scores = length * 24 * 8, length * 64, length * 128, length * 128, 2 * length * length * 8
    wanted = (packed + out + up + down + scores) / (packed / 8 + out + up / 2 + down + scores)
    for training in (True, False):
        model.train(training)
        assert sparse_speedup(model, mask, inputs) == pytest.approx(wanted)
        assert model.training == training
    assert cost(model, inputs).macs == packed + out + up + down + scores


def test_bare_parameters_shared_layers_and_tied_weights_count_where_they_are_used():
    functional = Functional()
    mask = with_share(functional, {"first": 81})
    first, second, last = 64 * 6 * 27, 64 * 5 * 54, 20
    wanted = (first + second + last) / (first / 2 + second + last)
    assert sparse_speedup(functional, mask, torch.randn(2, 3, 8, 8)) == pytest.approx(wanted)

    twice = Net(lambda m, x: m.out(m.one(m.one(x))), one=nn.Linear(4, 4), out=nn.Linear(4, 2))
    assert sparse_speedup(twice, with_share(twice, {"one.weight": 4}), torch.randn(2, 4)) == (2 * 16 + 8) / (2 * 4 + 8)

    tied = Tied()
    mask = with_share(tied, {"one.weight": 9})
    assert sparse_speedup(tied, mask, torch.randn(2, 4)) == (24 + 2 * 36 + 18) / (24 + 2 * 9 + 18)


def test_weights_that_the_mask_does_not_name_count_in_full():
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    mask = {"0.weight": torch.arange(24).view(6, 4) < 6}
    assert sparse_speedup(model, mask, torch.randn(1, 4)) == (24 + 12) / (6 + 12)


def test_the_network_and_the_random_state_are_not_touched():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2))
    before, chance = {name: v.clone() for name, v in model.state_dict().items()}, torch.get_rng_state()
    sparse_speedup(model, everything(model), torch.randn(3, 4, dtype=torch.float64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.set_rng_state(chance)
    assert torch.equal(torch.get_rng_state(), chance)


def test_a_network_without_products_has_no_speedup():
    model = Net(lambda m, x: x.abs())
    assert sparse_speedup(model, {}, torch.randn(2, 3)) == 1.0
