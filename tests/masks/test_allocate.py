"""Weights are shared out exactly, in the wanted proportions, and so that masks of falling totals can be nested."""

from itertools import pairwise
from math import prod

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scratchcard.masks.allocate import allocate
from scratchcard.networks.weights import everything
from scratchcard.networks.zoo import resnet_20

thorough = settings(deadline=None, max_examples=100)
either = st.sampled_from(["uniform", "erk"])
shapes_of = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6).map(
    lambda shapes: {f"w{i}": shape for i, shape in enumerate(shapes)}
)
RESNET = {name: tuple(kept.shape) for name, kept in everything(resnet_20()).items()}
WEIGHTS = sum(map(prod, RESNET.values()))


def due(shapes, how):
    """What a tensor's share is in proportion to while it is not full."""
    return {name: prod(shape) if how == "uniform" else sum(shape) for name, shape in shapes.items()}


@thorough
@given(shapes_of, either, st.data())
def test_the_total_is_exact_and_every_tensor_gets_one_at_least_and_all_at_most(shapes, how, data):
    total = data.draw(st.integers(len(shapes), sum(map(prod, shapes.values()))))
    shares = allocate(shapes, total, how)
    assert list(shares) == list(shapes)
    assert sum(shares.values()) == total
    assert all(1 <= share <= prod(shapes[name]) for name, share in shares.items())
    assert all(isinstance(share, int) for share in shares.values())


@settings(deadline=None, max_examples=25)
@given(shapes_of, either)
# quotients that tie: a share that floating point rounds either way was once taken back when the total rose by one
@example({"0": (6, 3, 3), "1": (12, 1), "2": (1, 10, 3), "3": (6, 5), "4": (5, 6, 8), "5": (10, 7)}, "erk")
@example({"0": (6, 3, 1), "1": (6,), "2": (9, 1), "3": (6,)}, "uniform")
@example({"0": (3, 3, 2), "1": (3, 4, 8), "2": (6, 5), "3": (3,), "4": (8, 7), "5": (3,)}, "erk")
def test_a_smaller_total_gives_no_tensor_more(shapes, how):
    whole = sum(map(prod, shapes.values()))
    totals = range(whole, max(len(shapes), whole - 400) - 1, -1)
    for larger, smaller in pairwise(allocate(shapes, total, how) for total in totals):
        assert all(smaller[name] <= larger[name] for name in shapes)


@thorough
@given(shapes_of, either, st.data())
def test_no_share_could_be_given_to_another_tensor_that_is_owed_more(shapes, how, data):
    """Webster's rounding: the last entry given has a claim at least as strong as any entry that was not."""
    total = data.draw(st.integers(len(shapes), sum(map(prod, shapes.values()))))
    shares, owed = allocate(shapes, total, how), due(shapes, how)
    for giver, given_ in shares.items():
        if given_ == 1:
            continue  # every tensor has its first entry, however weak its claim
        for taker, taken in shares.items():
            if taken < prod(shapes[taker]):
                assert (2 * given_ - 1) * owed[taker] <= (2 * taken + 1) * owed[giver]


@thorough
@given(shapes_of, either, st.data())
def test_densities_are_in_the_wanted_proportion_within_rounding(shapes, how, data):
    """Among tensors that are neither full nor at their last entry, share / due is one number to within an entry."""
    total = data.draw(st.integers(len(shapes), sum(map(prod, shapes.values()))))
    shares, owed = allocate(shapes, total, how), due(shapes, how)
    inner = [name for name, share in shares.items() if 1 < share < prod(shapes[name])]
    for a in inner:
        for b in inner:
            assert abs(shares[a] / owed[a] - shares[b] / owed[b]) <= (0.5 / owed[a] + 0.5 / owed[b]) * (1 + 1e-12)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 10))
def test_uniform_shares_that_need_no_rounding_are_the_density_itself(multiples, tenths):
    shapes = {str(i): (10, n) for i, n in enumerate(multiples)}
    shares = allocate(shapes, tenths * sum(multiples), "uniform")
    assert shares == {name: tenths * n for name, (_, n) in shapes.items()}


def test_erk_by_hand():
    # sums of dimensions 20, 110, 16 (3 + 7 + 3 + 3): of half their total each gets half of its sum
    shapes = {"square": (10, 10), "wide": (10, 100), "kernel": (3, 7, 3, 3)}
    assert allocate(shapes, 73, "erk") == {"square": 10, "wide": 55, "kernel": 8}
    # in proportion to 20 and 110 the first would have 161 of its 100 entries: it is full, and the rest rises
    assert allocate({"square": (10, 10), "wide": (10, 100)}, 1050, "erk") == {"square": 100, "wide": 950}


def capped(shapes, total):
    """ERK as published: density = scale x sum / prod of the dimensions; where that is 1 or more the tensor is full."""
    full = set()
    while True:
        owed = {name: sum(shape) for name, shape in shapes.items() if name not in full}
        scale = (total - sum(prod(shapes[name]) for name in full)) / sum(owed.values())
        over = {name for name in owed if scale * owed[name] >= prod(shapes[name])}
        if not over:
            return {name: 1.0 if name in full else scale * sum(s) / prod(s) for name, s in shapes.items()}
        full |= over


@pytest.mark.parametrize(("percent", "full"), [(50, 11), (20, 4), (5, 0), (1, 0)])
def test_resnet_20_is_shared_out_as_published(percent, full):
    total = WEIGHTS * percent // 100
    uniform, erk = (allocate(RESNET, total, how) for how in ("uniform", "erk"))
    densities = capped(RESNET, total)
    assert sum(density == 1 for density in densities.values()) == full
    for name, shape in RESNET.items():
        assert abs(uniform[name] - total / WEIGHTS * prod(shape)) <= 1
        assert abs(erk[name] - densities[name] * prod(shape)) <= 1
    thin, thick = ("stage1.0.conv1.weight", "stage3.1.conv1.weight")
    assert erk[thin] / prod(RESNET[thin]) > 1.9 * erk[thick] / prod(RESNET[thick]), "thin layers stay denser"


@pytest.mark.parametrize(
    ("total", "how", "sentence"),
    [
        (2, "erk", r"share out 2 entries among 3 tensors that have 26; choose a number from one per tensor to all"),
        (27, "uniform", r"share out 27 entries among 3 tensors that have 26"),
        (9, "earl", r"unknown allocation 'earl'; did you mean 'erk'\? known: erk, uniform"),
    ],
)
def test_what_cannot_be_shared_out_is_refused_in_a_sentence(total, how, sentence):
    with pytest.raises(ValueError, match=sentence):
        allocate({"a": (4, 5), "b": (2,), "c": (2, 2)}, total, how)
