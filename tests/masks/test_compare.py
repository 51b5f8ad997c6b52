"""Masks count, differ, nest and are recognised exactly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scratchcard.masks.compare import counts, density, digest, distance, nested


def mask(*bits, name="w"):
    return {name: torch.tensor(bits, dtype=torch.bool)}


booleans = st.lists(st.booleans(), min_size=6, max_size=6)


def test_density_weighs_every_weight_the_same_whatever_its_layer():
    both = mask(1, 0, 0, 0, 0, 0, 0, 0) | mask(1, 1, name="v")
    assert counts(both) == {"w": (1, 8), "v": (2, 2)}
    assert density(both) == 3 / 10


@given(booleans, booleans, booleans)
def test_distance_is_a_metric_over_positions(a, b, c):
    a, b, c = mask(*a), mask(*b), mask(*c)
    assert distance(a, b) == distance(b, a) == sum(a["w"] != b["w"]) / 6
    assert distance(a, a) == 0
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-12


@given(booleans, booleans)
def test_nested_means_that_nothing_was_revived(inner, outer):
    assert nested(mask(*inner), mask(*outer)) == all(o or not i for i, o in zip(inner, outer, strict=True))


@pytest.mark.parametrize("compare", [distance, nested])
@pytest.mark.parametrize("other", [mask(1, 1, 1), mask(1, 1, name="v"), mask(1, 1) | mask(1, name="v")])
def test_masks_of_different_networks_are_not_compared(compare, other):
    with pytest.raises(ValueError, match=r"masks of one network were needed.*(w|v) .* / "):
        compare(mask(1, 1), other)


def test_the_digest_is_of_content_and_not_of_order_or_layout():
    square = torch.tensor([[1, 0, 0], [1, 1, 0]], dtype=torch.bool)
    there = digest({"a": square, "b": torch.ones(2, dtype=torch.bool)})
    assert there == digest({"b": torch.ones(2, dtype=torch.bool), "a": square.T.contiguous().T})
    one_bit_off = square.clone()
    one_bit_off[0, 1] = True
    for other in ({"a": one_bit_off}, {"a": square.reshape(3, 2)}, {"c": square}, {}):
        assert digest({"a": square}) != digest(other)


def test_the_digest_is_the_same_on_every_machine_and_in_every_version():
    assert digest(mask(1, 0, 1)) == "c25927ae73b3da976ecbf4d4a17ee0a7ef50779ba3579c7340ba0cd3b94bbc0d"
