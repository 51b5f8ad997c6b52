"""The anatomy of a ticket counts every weight and every unit once, in the bin it belongs to."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchcard.networks.anatomy import INITIAL_EDGES, MOVEMENT_EDGES, anatomy

quick = settings(deadline=None, max_examples=60)


def in_bins(values, edges):
    """By the definition: [edge, next edge), and what lies beyond the ends in the first and last bin."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[sum(value >= edge for edge in edges[1:-1])] += 1
    return counts


def doubling(numbers):
    """By the definition: none, 1, 2, 3 to 4, 5 to 8, ..."""
    bins = [0]
    for number in numbers:
        place, top = (0, 0) if number == 0 else (1, 1)
        while number > top:
            place, top = place + 1, top * 2
        bins += [0] * (place + 1 - len(bins))
        bins[place] += 1
    return bins


@st.composite
def layers(draw):
    """(kept, initial, end) of a linear or convolutional weight, some of them extreme."""
    chance = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    kernel = draw(st.sampled_from([(), (1,), (3,), (2, 3), (1, 1, 2)]))
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 20)), *kernel)
    initial = torch.randn(shape, generator=chance) * draw(st.sampled_from([1e-3, 1.0, 50.0]))
    end = initial + torch.randn(shape, generator=chance) * draw(st.sampled_from([0.0, 1e-4, 1.0, 1e4]))
    kept = torch.rand(shape, generator=chance) < draw(st.sampled_from([0.0, 0.1, 0.6, 1.0]))
    return kept, initial, end


@quick
@given(layers())
def test_every_weight_is_counted_once_and_in_its_bin(layer):
    kept, initial, end = layer
    found = anatomy({"w": kept}, ("w",), {"w": initial}, {"w": end})["w"]
    values = initial.double()
    sigma = math.sqrt(float((values - values.mean()).pow(2).mean()))
    assert found.sigma == pytest.approx(sigma, rel=1e-12)
    if sigma == 0:  # one weight alone has no spread
        assert found.initial is None
        assert found.movement is None
    else:
        moved = (end.double() - values).abs() / found.sigma
        assert found.initial.edges == INITIAL_EDGES
        assert found.initial.counts == in_bins((values[kept] / found.sigma).tolist(), INITIAL_EDGES)
        assert found.movement.kept.counts == in_bins(moved[kept].tolist(), MOVEMENT_EDGES)
        assert found.movement.cut.counts == in_bins(moved[~kept].tolist(), MOVEMENT_EDGES)
        assert sum(found.initial.counts) == sum(found.movement.kept.counts) == kept.sum()
        assert sum(found.movement.cut.counts) == (~kept).sum()
    into, out_of = found.connections.incoming, found.connections.outgoing
    assert into == doubling([int(row.sum()) for row in kept])
    assert out_of == doubling([int(kept[:, column].sum()) for column in range(kept.shape[1])])
    assert (sum(into), sum(out_of)) == kept.shape[:2], "every unit once"


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 8, 9, 1024, 1025, 4096, 4097])
def test_units_are_binned_by_doubling_numbers_of_connections(most):
    """One unit with each number of connections from 0 to `most`: the bins hold 1, 1, 1, 2, 4, 8 ... of them."""
    kept = torch.arange(most)[None] < torch.arange(most + 1)[:, None]
    found = anatomy({"w": kept}, ("w",), {"w": torch.randn(kept.shape)}, None)["w"]
    wanted = [1, 1] + [1] * (most > 1)
    while sum(wanted) < most + 1:
        wanted.append(min(2 ** (len(wanted) - 2), most + 1 - sum(wanted)))
    assert found.connections.incoming == wanted
    assert found.connections.outgoing == doubling(range(1, most + 1))


def test_a_convolution_is_connected_by_all_places_of_its_kernels():
    kept = torch.zeros(2, 3, 3, 3, dtype=torch.bool)
    kept[0, 0], kept[0, 1, 0, 0], kept[1, 1, 2] = True, True, True  # 9; 1; 3
    found = anatomy({"w": kept}, ("w",), {"w": torch.randn(kept.shape)}, None)["w"].connections
    assert found.incoming == [0, 0, 0, 1, 0, 1]  # 10 and 3
    assert found.outgoing == [1, 0, 0, 1, 0, 1]  # 9, 4 and none


def test_edges_are_round_numbers_and_values_on_them_belong_above():
    assert [round(-4 + i / 5, 1) for i in range(41)] == INITIAL_EDGES
    assert len(MOVEMENT_EDGES) == 26
    assert (MOVEMENT_EDGES[0], MOVEMENT_EDGES[15], MOVEMENT_EDGES[-1]) == (0.001, 1.0, 100.0)
    assert all(b / a == pytest.approx(10**0.2, rel=1e-6) for a, b in pairwise(MOVEMENT_EDGES))
    initial = torch.tensor([[-1.0, 1.0, -1.0, 1.0]])  # sigma 1: on the edges -1 and 1
    found = anatomy({"w": torch.ones(1, 4, dtype=torch.bool)}, ("w",), {"w": initial}, {"w": initial * 2})["w"]
    assert found.sigma == 1.0
    assert {i: n for i, n in enumerate(found.initial.counts) if n} == {15: 2, 25: 2}
    assert {i: n for i, n in enumerate(found.movement.kept.counts) if n} == {15: 4}


def test_what_was_not_seen_or_has_no_spread_is_left_out():
    kept = torch.ones(3, 4, dtype=torch.bool)
    weights = {"varied": torch.randn(3, 4), "constant": torch.full((3, 4), 0.5), "elsewhere": torch.randn(3, 4)}
    mask = dict.fromkeys(weights, kept)
    unseen = anatomy(mask, ("varied",), weights, None)
    assert unseen.keys() == {"varied"}
    assert unseen["varied"].movement is None
    assert unseen["varied"].initial is not None
    constant = anatomy(mask, ("constant",), weights, weights)["constant"]
    assert (constant.sigma, constant.initial, constant.movement) == (0.0, None, None)
    assert constant.connections.incoming == [0, 0, 0, 3]


def test_the_order_of_magnitude_of_a_movement_is_where_it_is_drawn():
    initial = torch.tensor([[3.0, -3.0] * 3])
    moved = torch.tensor([[0.0, 3e-4, 0.45, 3.3, 33.0, 3e5]])  # 0, 1e-4, 0.15, 1.1, 11 and 1e5 sigmas
    kept = torch.tensor([[True, True, True, False, False, False]])
    found = anatomy({"w": kept}, ("w",), {"w": initial.double()}, {"w": (initial + moved).double()})["w"].movement
    assert {i: n for i, n in enumerate(found.kept.counts) if n} == {0: 2, 10: 1}
    assert {i: n for i, n in enumerate(found.cut.counts) if n} == {15: 1, 20: 1, 24: 1}
