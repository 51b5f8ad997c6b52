"""Each redraw keeps its promise about the values, touches only what the mask keeps, and is a function of the seed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchcard.networks.redraw import REDRAWS, redrawn

quick = settings(deadline=None, max_examples=40)
every = pytest.mark.parametrize("how", REDRAWS)


@st.composite
def tickets(draw, dtype=None):
    """(start, mask, initial, fresh): two masked weights, a bias, a counter and a weight that no mask names."""
    chance = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    dtype = dtype or draw(st.sampled_from([torch.float32, torch.float64]))
    shapes = {
        "conv.weight": (3, 2, draw(st.integers(1, 3)), 2),
        "last.weight": (draw(st.integers(1, 4)), 5),
        "table": (4, 3),
        "bias": (3,),
    }
    initial = {name: torch.randn(shape, generator=chance, dtype=dtype) for name, shape in shapes.items()}
    mask = {
        name: torch.rand(shapes[name], generator=chance) < draw(st.sampled_from([0.0, 0.3, 1.0]))
        for name in ("conv.weight", "last.weight")
    }
    # rewound: no longer the initial values; what is cut may be anything
    start = {
        name: tensor + torch.randn(tensor.shape, generator=chance, dtype=dtype) for name, tensor in initial.items()
    }
    start["last.weight"].view(-1)[0] = 0.0
    start["steps"] = torch.tensor(7)
    fresh = {name: torch.randn(shape, generator=chance, dtype=torch.float32) for name, shape in shapes.items()}
    return start, mask, initial, fresh


def bits(tensor):
    return tensor.contiguous().view(torch.uint8) if tensor.dim() else tensor


@every
@quick
@given(ticket=tickets(), seed=st.integers(0, 10**6))
def test_what_is_cut_and_all_else_stays_bit_for_bit_and_the_seed_decides_the_rest(how, ticket, seed):
    start, mask, initial, fresh = ticket
    before = {name: tensor.clone() for name, tensor in start.items()}
    torch.manual_seed(1)
    chance = torch.get_rng_state()
    state = redrawn(start, mask, initial, fresh, how, 0.5, seed)
    assert torch.equal(torch.get_rng_state(), chance)
    torch.manual_seed(2)
    again = redrawn(start, mask, initial, fresh, how, 0.5, seed)
    assert state.keys() == start.keys()
    for name, tensor in state.items():
        assert torch.equal(bits(start[name]), bits(before[name])), "what is given is not changed"
        assert torch.equal(bits(tensor), bits(again[name]))
        assert tensor.dtype == start[name].dtype
        assert tensor.shape == start[name].shape
        same = ~mask[name] if name in mask else torch.ones(tensor.shape, dtype=torch.bool)
        assert torch.equal(bits(tensor[same]), bits(start[name][same]))


@every
def test_another_seed_draws_otherwise_where_there_is_chance(how):
    start = {"w": torch.randn(10, 10, generator=torch.Generator().manual_seed(0))}
    mask = {"w": torch.ones(10, 10, dtype=torch.bool)}
    states = [redrawn(start, mask, start, start, how, 1.0, seed)["w"] for seed in (0, 1)]
    assert torch.equal(*states) == (how in ("sign-redrawn", "sign-constant")), "their chance is in the fresh weights"


@quick
@given(ticket=tickets(), seed=st.integers(0, 10**6))
def test_permuted_values_are_the_same_in_another_order_and_resampled_ones_only_the_layers_own(ticket, seed):
    start, mask, initial, fresh = ticket
    permuted, resampled = (redrawn(start, mask, initial, fresh, how, 0.0, seed) for how in ("permute", "resample"))
    for name, kept in mask.items():
        own = start[name][kept]
        assert torch.equal(permuted[name][kept].sort().values, own.sort().values)
        assert torch.isin(resampled[name][kept], own).all()


def test_a_permutation_gives_every_value_every_place_and_a_resampling_draws_with_replacement():
    start = {"w": torch.arange(1.0, 11.0).view(2, 5)}
    mask = {"w": torch.arange(10).view(2, 5) % 2 == 0}
    counts = {how: torch.zeros(5, 5) for how in ("permute", "resample")}
    repeats = 0
    for seed in range(500):
        for how, count in counts.items():
            values = redrawn(start, mask, start, start, how, 0.0, seed)["w"][mask["w"]]
            count += values[:, None] == start["w"][mask["w"]][None]
            repeats += how == "resample" and len(values.unique()) < 5
    for count in counts.values():
        assert (count / 500 - 0.2).abs().max() < 0.09  # 5 standard errors
    assert repeats / 500 > 0.9  # all different: 5! / 5^5 = 4 %


def test_layers_are_redrawn_each_from_its_own_values_and_independently():
    start = {"a": torch.randn(30, 30), "b": 100 + torch.randn(30, 30)}
    mask = {name: torch.ones(30, 30, dtype=torch.bool) for name in start}
    resampled = redrawn(start, mask, start, start, "resample", 0.0, 0)
    assert resampled["a"].max() < 50 < resampled["b"].min()
    noisy = redrawn(start, mask, start, start, "noise", 1.0, 0)
    a, b = ((noisy[name] - start[name]).flatten() for name in start)
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.17  # 5 standard errors


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_noise_is_gaussian_of_so_many_sigmas_of_the_whole_initial_layer(scale):
    chance = torch.Generator().manual_seed(0)
    initial = {"w": 0.02 * torch.randn(300, 300, generator=chance, dtype=torch.float64)}
    start = {"w": 5.0 + torch.randn(300, 300, generator=chance, dtype=torch.float64)}
    mask = {"w": initial["w"] > 0}  # the sigma of the survivors alone would be smaller
    noisy = redrawn(start, mask, initial, start, "noise", scale, 3)
    noise = (noisy["w"] - start["w"])[mask["w"]] / (scale * initial["w"].std(correction=0))
    n = len(noise)
    assert abs(float(noise.mean())) < 5 / math.sqrt(n)
    assert abs(float(noise.std()) - 1) < 5 / math.sqrt(2 * n)
    assert abs(float((noise.abs() < 1).double().mean()) - math.erf(math.sqrt(0.5))) < 5 * math.sqrt(0.22 / n)


@quick
@given(ticket=tickets(), seed=st.integers(0, 10**6))
def test_signs_stay_and_magnitudes_are_new_or_sigma(ticket, seed):
    start, mask, initial, fresh = ticket
    names = ("sign-redrawn", "sign-constant", "random-sign-constant")
    redrawn_, constant, random = (redrawn(start, mask, initial, fresh, how, 0.0, seed) for how in names)
    for name, kept in mask.items():
        # by hand: the root of the mean squared deviation from the mean, over the whole layer
        values = initial[name].double().flatten().tolist()
        mean = sum(values) / len(values)
        sigma = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
        accuracy = {"rtol": 1e-12 if start[name].dtype == torch.float64 else 1e-6, "atol": 0}
        signs = torch.where(start[name] < 0, -1.0, 1.0)[kept].to(start[name].dtype)
        assert torch.equal(redrawn_[name][kept], signs * fresh[name].to(start[name].dtype)[kept].abs())
        torch.testing.assert_close(constant[name][kept], signs * sigma, **accuracy)
        torch.testing.assert_close(random[name][kept].abs(), torch.full_like(signs, sigma), **accuracy)


def test_random_signs_are_fair_and_know_nothing_of_the_ticket_s():
    start = {"w": torch.randn(200, 200, generator=torch.Generator().manual_seed(1))}
    mask = {"w": torch.ones(200, 200, dtype=torch.bool)}
    random = redrawn(start, mask, start, start, "random-sign-constant", 0.0, 0)["w"]
    assert abs(float((random > 0).double().mean()) - 0.5) < 0.0125  # 5 standard errors
    assert abs(float((random.sign() == start["w"].sign()).double().mean()) - 0.5) < 0.0125
