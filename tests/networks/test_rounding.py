"""Rounding keeps more units, never fewer, and the network it gives is exactly that of the larger mask."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scratchcard.networks.latency import latencies, latency
from scratchcard.networks.proved import find_sites
from scratchcard.networks.rounding import CANDIDATES, compact_rounded, round_up


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 17))
def test_every_site_keeps_a_multiple_or_all_and_nothing_that_was_kept_goes(kept, to):
    mask = torch.tensor(kept)
    rounded = round_up({"a": mask}, to)["a"]
    assert int(rounded.sum()) % to == 0 or bool(rounded.all())
    assert not bool((mask & ~rounded).any())
    assert int(rounded.sum()) - int(mask.sum()) < to


def test_the_best_of_what_was_cut_comes_back_first():
    mask = {"a": torch.tensor([True, False, False, True, False, True])}
    scores = {"a": torch.tensor([9.0, 1.0, 3.0, 9.0, 2.0, 9.0])}
    assert round_up(mask, 5, scores)["a"].tolist() == [True, False, True, True, True, True]
    assert round_up(mask, 4)["a"].tolist() == [True, True, False, True, False, True]
    with pytest.raises(ValueError, match="multiple of 1 or more, got 0"):
        round_up(mask, 0)


def small():
    return nn.Sequential(
        nn.Conv2d(3, 20, 3), nn.ReLU(), nn.Conv2d(20, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 4)
    )


def test_a_rounded_network_is_that_of_its_mask():
    model, x = small(), torch.randn(2, 3, 8, 8)
    mask = {"0": torch.arange(20) % 3 == 0, "2": torch.arange(12) < 3}
    made, larger = compact_rounded(model, mask, x, round_to=8)
    assert [int(kept.sum()) for kept in larger.values()] == [8, 8]
    assert made.module[0].out_channels == made.module[2].in_channels == 8
    assert made.error <= 1e-12
    made, larger = compact_rounded(model, mask, x, round_to="measured", runs=3)
    assert [int(kept.sum()) for kept in larger.values()] in [
        [7, 3],
        *([min(-(-7 // to) * to, 20), min(-(-3 // to) * to, 12)] for to in CANDIDATES),
    ]
    assert set(find_sites(model, x).sites) == {"0", "2"}


def test_a_latency_says_what_it_was_measured_under():
    model, x = small(), torch.randn(2, 3, 8, 8)
    threads = torch.get_num_threads()
    found = latency(model, x, runs=5, warm_up=1)
    assert 0 < found.quartiles[0] <= found.median <= found.quartiles[1]
    assert "batch of 2 on cpu, 1 thread(s)" in str(found)
    assert torch.get_num_threads() == threads
    assert len(latencies([model, model], x, runs=3)) == 2
    assert model.training
