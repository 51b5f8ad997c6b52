"""The detector fires when a mask has settled, by either reading, and never where chance alone would do."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchcard.masks.compare import counts, distance
from scratchcard.masks.early_bird import EarlyBirdDetector, kept_overlap, random_distance

READINGS = ["consecutive", "window"]
FEWEST = {"consecutive": 1, "window": 0}
"""Masks beyond `patience` without which a reading never fires."""


def drawn(seed, density=0.5, sizes=((30, 4), (7,), (3, 2, 5))):
    """A random mask with exactly the asked share kept."""
    chance = torch.Generator().manual_seed(seed)
    total = sum(torch.Size(size).numel() for size in sizes)
    flat = torch.zeros(total, dtype=torch.bool)
    flat[torch.randperm(total, generator=chance)[: round(density * total)]] = True
    parts = flat.split([torch.Size(size).numel() for size in sizes])
    return {f"layer {i}": part.view(size) for i, (part, size) in enumerate(zip(parts, sizes, strict=True))}


def sliding(step, by, units=100):
    """Half of a ring of units is kept; each step moves on by so many units: distance 2 x by / units."""
    return {"ring": torch.ones(units, dtype=torch.bool).index_fill_(0, torch.arange(units // 2), False).roll(step * by)}


def fired_after(detector, masks):
    """After how many masks it fired first; None if never."""
    said = [detector.update(mask) for mask in masks]
    assert said == sorted(said), "once it has fired it says so"
    assert detector.epoch == (said.index(True) + 1 if True in said else None)
    return detector.epoch


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=12), st.floats(0.1, 0.9))
def test_the_matrix_holds_the_distance_of_every_pair(seeds, density):
    masks = [drawn(seed, density) for seed in seeds]
    detector = EarlyBirdDetector(epsilon=0.01)
    for mask in masks:
        detector.update(mask)
    matrix = detector.matrix()
    assert matrix.dtype == torch.float64
    assert torch.equal(matrix, matrix.T)
    assert not matrix.diagonal().any()
    assert matrix.tolist() == [[distance(a, b) for b in masks] for a in masks]
    assert detector.distances == matrix.diagonal(1).tolist()


def test_the_matrix_does_not_depend_on_how_much_is_unpacked_at_a_time(monkeypatch):
    detector = EarlyBirdDetector()
    for seed in range(5):
        detector.update(drawn(seed))
    at_once = detector.matrix()
    monkeypatch.setattr("scratchcard.masks.early_bird._AT_ONCE", 300)
    assert torch.equal(detector.matrix(), at_once)
    assert EarlyBirdDetector().matrix().shape == (0, 0)


@given(st.integers(0, 10**6), st.floats(0.1, 0.9), st.integers(1, 8), st.booleans(), st.sampled_from(READINGS))
def test_a_constant_mask_fires_as_soon_as_the_queue_is_full(seed, density, patience, normalised, reading):
    patience = max(patience, 2 - FEWEST[reading])
    detector = EarlyBirdDetector(0.1, patience, reading, normalised)
    assert fired_after(detector, [drawn(seed, density)] * 12) == patience + FEWEST[reading]


@given(st.integers(0, 10**6), st.sampled_from(READINGS), st.booleans())
def test_random_masks_never_fire(seed, reading, normalised):
    assert fired_after(EarlyBirdDetector(0.1, 2, reading, normalised), [drawn(seed + i) for i in range(12)]) is None


@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.05, 0.95, 0.98]), st.sampled_from(READINGS))
def test_random_masks_of_extreme_density_do_not_fire_when_distances_are_normalised(seed, density, reading):
    sizes = ((10_000, 2),)
    masks = [drawn(seed + i, density, sizes) for i in range(8)]
    assert max(distance(a, b) for a in masks for b in masks) < 0.1, "the raw distance would let them all pass"
    detector = EarlyBirdDetector(0.1, 3, reading, normalised=True)
    assert fired_after(detector, masks) is None
    assert min(detector.normalised) > 0.5


def test_a_slow_drift_settles_by_the_papers_reading_and_not_by_the_released_codes():
    drift = [sliding(step, by=3) for step in range(30)]
    consecutive, window = EarlyBirdDetector(), EarlyBirdDetector(reading="window")
    assert fired_after(consecutive, drift) == 6
    assert fired_after(window, drift) is None
    assert consecutive.distances == window.distances == [0.06] * 29
    assert window.matrix()[0, :5].tolist() == [0, 0.06, 0.12, 0.18, 0.24]


def test_a_mask_that_settles_fires_so_many_masks_after_it_has():
    settling = [drawn(seed) for seed in range(7)] + [drawn(6)] * 10
    assert fired_after(EarlyBirdDetector(), settling) == 7 + 5
    assert fired_after(EarlyBirdDetector(reading="window"), settling) == 7 + 4


def test_exactly_epsilon_is_near_enough_for_the_window_only():
    apart = [sliding(0, 0), sliding(1, 5)] * 6
    assert distance(*apart[:2]) == 0.1
    assert fired_after(EarlyBirdDetector(epsilon=0.1, reading="window"), apart) == 5
    assert fired_after(EarlyBirdDetector(epsilon=0.1), apart) is None


def test_one_outlier_starts_the_count_again():
    masks = [drawn(0)] * 5 + [drawn(1)] + [drawn(0)] * 8
    assert fired_after(EarlyBirdDetector(), masks) == 7 + 5
    assert fired_after(EarlyBirdDetector(reading="window"), masks) == 5, "five masks alike came before it"
    assert fired_after(EarlyBirdDetector(reading="window"), masks[1:]) == 5 + 5


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("kept", [4, 96])
def test_a_density_at_which_chance_would_pass_is_refused_with_what_to_do(kept, reading):
    mask = drawn(0, kept / 100, sizes=((100,),))
    with pytest.raises(ValueError, match=r"differ in 0\.0768 of them.*epsilon=0\.1.*below 0\.0768.*normalised=True"):
        EarlyBirdDetector(reading=reading).update(mask)
    assert not EarlyBirdDetector(0.07, reading=reading).update(mask)
    assert not EarlyBirdDetector(reading=reading, normalised=True).update(mask)


@pytest.mark.parametrize("whole", [True, False])
def test_a_mask_that_keeps_all_or_nothing_is_refused(whole):
    for normalised in (True, False):
        with pytest.raises(ValueError, match=f"cuts {'0' if whole else '100'}% is the same as any other"):
            EarlyBirdDetector(normalised=normalised).update({"w": torch.full((9,), whole)})


@pytest.mark.parametrize("other", [{"a": (4,), "b": (3,)}, {"a": (5,)}, {"a": (5,), "c": (3,)}])
def test_a_mask_of_another_network_is_refused_by_name_and_leaves_the_detector_as_it_was(other):
    detector = EarlyBirdDetector()
    detector.update({"a": torch.arange(5) < 2, "b": torch.arange(3) < 2})
    with pytest.raises(ValueError, match=r"differ in name or shape at: [abc] "):
        detector.update({name: torch.arange(shape[0]) < 2 for name, shape in other.items()})
    assert (len(detector.log), detector.distances) == (1, [])


@pytest.mark.parametrize(
    ("mask", "said"),
    [({"a": torch.ones(3)}, "a is torch.float32"), ({}, "no entries"), ({"a": torch.ones(0) > 0}, "no")],
)
def test_what_is_no_mask_is_refused(mask, said):
    with pytest.raises(ValueError, match=f"boolean tensors was needed.*{said}"):
        EarlyBirdDetector().update(mask)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epsilon": 0}, "0 < epsilon < 1"),
        ({"epsilon": 1}, "0 < epsilon < 1"),
        ({"patience": 0}, "patience >= 1"),
        ({"patience": 1, "reading": "window"}, "patience >= 2"),
        ({"reading": "windows"}, "did you mean 'window'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        EarlyBirdDetector(**wrong)


@given(st.integers(1, 70), st.integers(1, 5))
def test_the_log_takes_a_bit_per_entry_and_gives_every_mask_back(units, number):
    masks = [{"a": torch.arange(units) % (2 + i) == 0, "b": torch.tensor([[True], [False]])} for i in range(number)]
    detector = EarlyBirdDetector(0.001)
    for mask in masks:
        detector.update(dict(reversed(mask.items())))
    for at, mask in enumerate(masks, start=1):
        assert detector.log[at - 1].dtype == torch.uint8
        assert len(detector.log[at - 1]) == -(-(units + 2) // 8)
        again = detector.mask(at)
        assert again.keys() == mask.keys()
        assert all(torch.equal(again[name], mask[name]) for name in mask)
    for outside in (0, number + 1):
        with pytest.raises(ValueError, match=f"numbered 1 to {number}"):
            detector.mask(outside)


def test_the_order_of_names_and_later_changes_to_a_mask_do_not_matter():
    mask, detector = drawn(0), EarlyBirdDetector()
    detector.update(mask)
    detector.update(dict(reversed(mask.items())))
    assert detector.matrix().tolist() == [[0, 0], [0, 0]]
    before = drawn(0)
    for kept in mask.values():
        kept.logical_not_()
    assert not detector.update(mask)
    assert detector.distances == [0, 1]
    assert distance(detector.mask(1), before) == 0


@settings(deadline=None, max_examples=20)
@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.integers(0, 1000))
def test_random_masks_lie_as_far_apart_as_expected(density, other, seed):
    sizes = ((40_000,), (100, 100))
    a, b, c = drawn(seed, density, sizes), drawn(seed + 1, density, sizes), drawn(seed + 2, other, sizes)
    assert random_distance(a) == random_distance(counts(a)) == pytest.approx(2 * density * (1 - density), abs=1e-4)
    assert distance(a, b) == pytest.approx(random_distance(a), abs=0.012)
    assert distance(a, c) == pytest.approx(random_distance(a, c), abs=0.012)


def test_the_random_distances_are_those_known_for_the_papers_densities():
    known = {0.3: 0.42, 0.5: 0.5, 0.7: 0.42, 0.1: 0.18, 0.9: 0.18, 0.05: 0.095, 0.95: 0.095}
    for density, expected in known.items():
        assert random_distance(drawn(0, density, ((1000,),))) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_the_overlap_is_of_what_is_kept(pairs):
    a, b = ({"w": torch.tensor(entries)} for entries in zip(*pairs, strict=True))
    either = [x or y for x, y in pairs]
    expected = sum(x and y for x, y in pairs) / sum(either) if any(either) else 1.0
    assert kept_overlap(a, b) == kept_overlap(b, a) == expected
