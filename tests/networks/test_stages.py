"""Sparsity patterns by stage are what one would count by hand, and are applied with exact counts."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scratchcard.networks.sites import read_sites
from scratchcard.networks.stages import (
    guided_positions,
    guided_widths,
    position_pattern,
    stages,
    width_pattern,
)
from scratchcard.networks.weights import everything
from scratchcard.networks.zoo import resnet_20, vgg_16
from scratchcard.networks.zoo.preresnet import _preresnet


@functools.cache
def vgg():
    model = vgg_16(width=0.125)
    return model, read_sites(model, torch.randn(2, 3, 32, 32))


@functools.cache
def resnet():
    model = resnet_20(width=0.5)
    return model, read_sites(model, torch.randn(2, 3, 16, 16))


def cut(sites, kept):
    """A mask that keeps so many units of each site."""
    return {name: torch.arange(len(sites[name])) < units for name, units in kept.items()}


def convs(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


def test_stages_of_a_vgg_are_what_lies_between_its_poolings():
    model, sites = vgg()
    where = stages(sites)
    assert [where[f"{name}.weight"] for name in convs(model)] == [0] * 2 + [1] * 2 + [2] * 3 + [3] * 3 + [4] * 3
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert {where[f"{name}.weight"] for name in linear} == {5}


def test_stages_of_a_resnet_are_its_three_resolutions():
    model, sites = resnet()
    where = stages(sites)
    for name in convs(model):
        assert where[f"{name}.weight"] == (0 if name == "conv" else int(name[5]) - 1), name
    assert where["output.weight"] == 3


def test_the_pattern_of_a_vgg_is_the_mean_share_of_its_layers():
    model, sites = vgg()
    names = convs(model)
    kept = dict(zip(names, (1, 3, 4, 16, 8, 16, 32, 16, 64, 4, 2, 2, 64), strict=True))
    assert [len(sites[name]) for name in names] == [8, 8, 16, 16, 32, 32, 32, *[64] * 6]
    pattern = width_pattern(sites, cut(sites, kept))
    by_hand = [(1 + 3) / 16, (4 + 16) / 32, (8 + 16 + 32) / 96, (16 + 64 + 4) / 192, (2 + 2 + 64) / 192, 1.0]
    assert [share for (share,) in pattern] == pytest.approx(by_hand)


def test_the_pattern_of_a_resnet_counts_a_stream_where_it_begins():
    _, sites = resnet()
    assert set(sites.ordinary) == {"conv", "stage2.0.conv2", "stage3.0.conv2"} | {
        f"stage{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(3)
    }
    kept = {name: len(sites[name]) for name in sites.ordinary}
    kept |= {"conv": 2, "stage1.0.conv1": 4, "stage1.1.conv1": 6, "stage1.2.conv1": 8, "stage3.0.conv2": 8}
    pattern = width_pattern(sites, cut(sites, kept))
    by_hand = [(2 + 4 + 6 + 8) / (4 * 8), 1.0, (8 / 32 + 1 + 1 + 1) / 4, 1.0]
    assert [share for (share,) in pattern] == pytest.approx(by_hand)


def test_a_choice_is_of_the_stage_of_whoever_reads_it():
    model = _preresnet(1, 10, 0.25, "slimming")
    sites = read_sites(model, torch.randn(2, 3, 16, 16))
    mask = {name: torch.arange(len(sites[name])) % 2 == 0 for name in sites.choices}
    assert mask
    for name in mask:
        single = width_pattern(sites, {name: mask[name]})
        at = stages(sites)[f"{sites.choices[name].readers[0]}.weight"]
        assert [share for (share,) in single] == [0.5 if stage == at else 1.0 for stage in range(len(single))]


@settings(max_examples=40, deadline=None)
@given(shares=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_guided_widths_have_their_stages_share_at_every_site_and_one_unit_at_least(shares):
    model, sites = vgg()
    mask = guided_widths(sites, convs(model), tuple((share,) for share in shares))
    where = stages(sites)
    for name, kept in mask.items():
        share = shares[min(where[f"{name}.weight"], len(shares) - 1)]
        assert int(kept.sum()) == max(1, round(share * len(kept)))
        assert bool(kept[: int(kept.sum())].all())


def test_a_pattern_taken_from_guided_widths_is_the_pattern_again():
    model, sites = vgg()
    pattern = ((0.25,), (0.5,), (0.75,), (0.125,), (1.0,), (1.0,))
    assert width_pattern(sites, guided_widths(sites, convs(model), pattern)) == pattern


def test_the_pattern_of_a_weight_mask_is_counted_at_every_position_of_the_kernels():
    model, sites = resnet()
    mask = everything(model)
    among = ["conv.weight", "stage1.0.conv1.weight", "stage2.0.shortcut.conv.weight", "stage2.0.conv1.weight"]
    assert mask["stage2.0.shortcut.conv.weight"].shape == (16, 8, 1, 1)
    mask["conv.weight"] = torch.zeros(8, 3, 3, 3, dtype=torch.bool)
    mask["conv.weight"][:, :, 1, 1] = True  # centres alone
    mask["stage1.0.conv1.weight"] = torch.zeros(8, 8, 3, 3, dtype=torch.bool)
    mask["stage1.0.conv1.weight"][:2, :, 0] = True  # a quarter of the entries of the first rows
    mask["stage2.0.conv1.weight"][:4, :, 2, 2] = False
    pattern = position_pattern(sites, mask, among)
    row = (0.125,) * 3
    assert pattern[0] == pytest.approx((*row, 0, 0.5, 0, 0, 0, 0))
    # of a stage with a 1 x 1 and a 3 x 3 layer it is the larger kernels that count
    assert pattern[1] == pytest.approx((1,) * 8 + (0.75,))
    assert pattern[2:] == ((1.0,), (1.0,))


def test_the_most_common_kernel_of_a_stage_makes_its_pattern():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 3, padding=1))
    sites, mask = read_sites(model, torch.randn(2, 3, 5, 5)), everything(model)
    mask["1.weight"][:2] = False
    assert position_pattern(sites, mask, list(mask)) == ((0.75,),)


@settings(max_examples=30, deadline=None)
@given(shares=st.lists(st.floats(0, 1), min_size=9, max_size=9), seed=st.integers(0, 1000))
def test_guided_positions_have_exact_counts_at_every_position_and_leave_the_rest(shares, seed):
    model, sites = resnet()
    whole = everything(model)
    among = [name for name in whole if name != "output.weight" and not name.startswith("stage3")]
    pattern = (tuple(shares), (0.25,), tuple(shares[::-1]))
    made = guided_positions(sites, whole, among, pattern, torch.Generator().manual_seed(seed))
    again = guided_positions(sites, whole, among, pattern, torch.Generator().manual_seed(seed))
    where = stages(sites)
    assert made.keys() == whole.keys()
    for name, kept in made.items():
        assert torch.equal(kept, again[name])
        assert kept.shape == whole[name].shape
        if name not in among:
            assert torch.equal(kept, whole[name])
            continue
        own, area = pattern[where[name]], kept.shape[2:].numel()
        wanted = own if len(own) == area else (sum(own) / len(own),) * area
        counts = kept.flatten(2).sum((0, 1)).tolist()
        entries = kept.shape[0] * kept.shape[1]
        exact = [round(share * entries) for share in wanted]
        assert counts == exact or (not any(exact) and sum(counts) == 1)


def test_guided_positions_are_drawn_by_chance_and_over_the_whole_layer():
    model, sites = resnet()
    whole, pattern = everything(model), (((0.5,) * 9),) * 4
    one, two = (
        guided_positions(sites, whole, ["stage3.1.conv1.weight"], pattern, torch.Generator().manual_seed(seed))
        for seed in (0, 1)
    )
    kept = one["stage3.1.conv1.weight"]
    assert not torch.equal(kept, two["stage3.1.conv1.weight"])
    for dim in (0, 1):  # no output and no input is left out, which half of 288 entries would be by anything but plan
        assert bool(kept.sum([d for d in range(4) if d != dim]).gt(0).all())


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Conv1d(4, 5, 3, stride=2), nn.Flatten(), nn.Linear(15, 2)), (2, 3, 10)),
        (
            (nn.Conv3d(3, 4, 1), nn.ReLU(), nn.Conv3d(4, 5, 2, stride=2), nn.Flatten(), nn.Linear(40, 2)),
            (2, 3, 4, 4, 4),
        ),
        ((nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), (2, 6)),
    ],
)
def test_networks_of_other_dimensions_have_stages_too(layers, shape):
    model = nn.Sequential(*layers)
    sites = read_sites(model, torch.randn(shape))
    where = stages(sites)
    assert list(where.values()) == ([0, 1, 2] if len(layers) == 5 else [0, 0])
    mask = everything(model)
    pattern = position_pattern(sites, mask, list(mask))
    assert all(set(stage) == {1.0} for stage in pattern)
    made = guided_positions(sites, mask, list(mask), pattern, torch.Generator())
    assert all(bool(kept.all()) for kept in made.values())
    assert set(width_pattern(sites, sites.whole())) == {(1.0,)}
