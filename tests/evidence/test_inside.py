from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_rows import make_rows

from scratchcard.evidence.inside import inside, layer_densities
from scratchcard.evidence.means import arm_means
from scratchcard.evidence.statistics import t_interval
from scratchcard.evidence.summary import around
from scratchcard.row import Anatomy, Connections, Rows

ROWS = make_rows(levels=9, anatomy=True)
DEEP = make_rows(levels=3, seeds=2, anatomy=True, shapes={f"layer{at}": (8, 8) for at in range(20)})


def test_layer_densities_are_means_over_seeds_in_the_order_of_the_network():
    found = layer_densities(ROWS, "imp")
    assert list(dict.fromkeys(entry.layer for entry in found)) == list(ROWS[0].layers)
    assert len(found) == 3 * 9
    for entry in found:
        shares = [
            row.layers[entry.layer][0] / row.layers[entry.layer][1]
            for row in ROWS
            if (row.arm, row.level) == ("ticket", entry.level)
        ]
        assert entry.kept == pytest.approx(fmean(shares))


def test_histograms_are_added_up_over_seeds():
    found = inside(ROWS, "imp", 7)
    assert found
    for counts in found.initial:
        parts = [
            row.anatomy[counts.layer].initial.counts for row in ROWS if (row.arm, row.level) == ("ticket", counts.level)
        ]
        assert len(parts) == 5
        assert counts.counts == [sum(numbers) for numbers in zip(*parts, strict=True)]
        assert sum(counts.shares) == pytest.approx(1)


def test_few_layers_and_levels_are_shown_the_ends_and_the_primary_level_among_them():
    found = inside(DEEP, "imp", 2)
    assert found
    assert (len(found.layers), found.left_out) == (6, 14)
    assert (found.layers[0], found.layers[-1]) == ("layer0", "layer19")
    found = inside(ROWS, "imp", 7)
    assert found
    assert {counts.level for counts in found.initial} == {1, 4, 7, 9}
    assert {counts.level for counts in found.movement} == {7}


def test_connections_of_seeds_with_fewer_bins_are_added_where_they_belong():
    def ticket(row, incoming):
        anatomy = Anatomy(sigma=1, connections=Connections(incoming=incoming, outgoing=[]))
        return row.model_copy(update={"anatomy": {"w": anatomy}})

    one, other = (row for row in ROWS if (row.arm, row.level) == ("ticket", 1) and row.seed in (0, 1))
    found = inside(Rows([ticket(one, [1, 2]), ticket(other, [3, 0, 0, 5])], ROWS.study), "imp", 1)
    assert found
    assert [counts.counts for counts in found.connections] == [[4, 2, 0, 5]]
    assert found.initial == found.movement == []


def test_tickets_without_anatomy_have_no_inside():
    assert inside(make_rows(levels=2), "imp", 1) is None


@given(st.lists(st.integers(0, 60), unique=True).map(sorted), st.integers(3, 8), st.integers(0, 60))
def test_levels_around_the_primary_one_are_few_rising_and_hold_it_and_the_ends(values, most, middle):
    kept = around(values, most, middle)
    assert kept == sorted(set(kept))
    assert set(kept) <= set(values)
    assert len(kept) == min(len(values), most)
    assert middle in kept or middle not in values
    assert not values or (kept[0], kept[-1]) == (values[0], values[-1])


def test_the_mean_of_an_arm_is_over_seeds_with_the_t_interval_and_dense_stands_first():
    found = arm_means(ROWS, "imp", 7)
    assert [mean.arm for mean in found] == ROWS.study.arms
    for mean in found:
        level = 0 if mean.arm == "dense" else 7
        runs = [row for row in ROWS if (row.arm, row.level, row.status) == (mean.arm, level, "done")]
        seeds = sorted({row.seed for row in runs})
        numbers = [fmean(row.end.test_metric for row in runs if row.seed == seed) for seed in seeds]
        assert mean.n == len(numbers)
        assert (mean.mean, mean.low, mean.high) == pytest.approx((fmean(numbers), *map(float, t_interval(numbers))))
        assert mean.low < mean.mean < mean.high
