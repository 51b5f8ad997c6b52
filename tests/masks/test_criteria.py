"""Every criterion ranks trained weights by the formula of its name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchcard.masks.criteria import CRITERIA, random_scores
from scratchcard.masks.select import select

quick = settings(deadline=None, max_examples=100)

#                         larger  flipped  shrunk   zero   from 0  equal to the first
INITIAL = torch.tensor([[1.0, -2.0, 4.0], [0.0, 0.0, -1.0]])
FINAL = torch.tensor([[3.0, 1.0, 0.5], [0.0, -2.5, -3.0]])
WITHIN = torch.ones(2, 3, dtype=torch.bool)
BY_HAND = {
    "large_final": [3, 1, 0.5, 0, 2.5, 3],
    "small_final": [-3, -1, -0.5, 0, -2.5, -3],
    "large_init": [1, 2, 4, 0, 0, 1],
    "small_init": [-1, -2, -4, 0, 0, -1],
    # of six: ranks of |initial| 4 5 6 2 2 4, of |final| 6 3 2 1 4 6; the smaller of each two
    "large_init_large_final": [4 / 6, 3 / 6, 2 / 6, 1 / 6, 2 / 6, 4 / 6],
    # ranks of -|initial| 4 2 1 6 6 4, of -|final| 2 4 5 6 3 2
    "small_init_small_final": [2 / 6, 2 / 6, 1 / 6, 6 / 6, 3 / 6, 2 / 6],
    "magnitude_increase": [2, -1, -3.5, 0, 2.5, 2],
    "movement": [2, 3, 3.5, 0, 2.5, 2],
    "large_final_same_sign": [3, 0, 0.5, 0, 0, 3],
    "large_final_diff_sign": [0, 1, 0, 0, 2.5, 0],
    "magnitude_increase_same_sign": [2, 0, -3.5, 0, 0, 2],
    "magnitude_increase_diff_sign": [0, -1, 0, 0, 2.5, 0],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_is_its_formula_on_numbers_worked_out_by_hand(name, dtype):
    initial, final = INITIAL.to(dtype), FINAL.to(dtype)
    scores = CRITERIA[name](initial, final, WITHIN)
    assert scores.shape == INITIAL.shape
    torch.testing.assert_close(scores.double().flatten(), torch.tensor(BY_HAND[name], dtype=torch.float64))
    assert torch.equal(initial, INITIAL.to(dtype))
    assert torch.equal(final, FINAL.to(dtype)), "what is given is not changed"


def test_every_criterion_was_worked_out():
    assert BY_HAND.keys() == CRITERIA.keys()


@pytest.mark.parametrize("name", CRITERIA)
def test_weights_that_are_cut_play_no_part_in_the_scores_of_the_others(name):
    within = torch.tensor([[True, False, True], [True, True, False]])
    elsewhere = torch.where(within, FINAL, 100.0), torch.where(within, INITIAL, -100.0)
    scores = CRITERIA[name](INITIAL, torch.where(within, FINAL, 0.0), within)
    others = CRITERIA[name](elsewhere[1], elsewhere[0], within)
    assert torch.equal(scores[within], others[within])
    assert scores.isfinite().all()
    assert others.isfinite().all()


def test_ranks_are_among_the_survivors_only():
    within = torch.tensor([[True, True, False], [True, True, False]])
    # of four: ranks of |initial| 3 4 . 2 2, of |final| 4 2 . 1 3
    scores = CRITERIA["large_init_large_final"](INITIAL, FINAL, within)
    assert scores[within].tolist() == [3 / 4, 2 / 4, 1 / 4, 2 / 4]


def test_a_tensor_in_which_nothing_is_left_has_finite_scores():
    for criterion in CRITERIA.values():
        assert criterion(INITIAL, FINAL, torch.zeros_like(WITHIN)).isfinite().all()


@pytest.mark.parametrize("name", [name for name in CRITERIA if "final" in name or "mag" in name or name == "movement"])
def test_a_weight_that_is_not_a_number_is_refused_and_never_ranked(name):
    final = FINAL.clone()
    final[0, 1] = float("nan")
    scores = CRITERIA[name](INITIAL, final, WITHIN)
    with pytest.raises(ValueError, match=r"score of w is not a number.*diverge"):
        select({"w": scores}, {"w": 3}, {"w": WITHIN})


@st.composite
def trainings(draw):
    """Initial and final weights, and a mask with something left in it; with many ties, or with none."""
    chance = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    kinds = draw(st.sampled_from([1, 2, 5, None]))

    def values():
        if kinds is None:
            return torch.randn(shape, generator=chance)
        return torch.randint(-kinds, kinds + 1, shape, generator=chance).float()

    within = torch.rand(shape, generator=chance) < draw(st.sampled_from([0.4, 0.8, 1.0]))
    within.view(-1)[0] = True
    return values(), values(), within


@quick
@given(trainings(), st.sampled_from([("large_init_large_final", 1), ("small_init_small_final", -1)]), st.data())
def test_a_joint_criterion_keeps_what_one_percentile_threshold_on_both_magnitudes_keeps(training, criterion, data):
    """Zhou et al.'s program: for a percentile p, keep what is at or above the p-th percentile in both."""
    initial, final, within = training
    name, sign = criterion
    left = within.nonzero().tolist()
    pairs = [(sign * abs(float(initial[*i])), sign * abs(float(final[*i]))) for i in left]
    place = data.draw(st.integers(0, len(left) - 1))
    at_start, at_end = (sorted(column)[place] for column in zip(*pairs, strict=True))
    both = [tuple(i) for i, (start, end) in zip(left, pairs, strict=True) if start >= at_start and end >= at_end]
    if both:  # a high threshold on both may leave nothing
        mask = select({"w": CRITERIA[name](initial, final, within)}, {"w": len(both)}, {"w": within})["w"]
        assert [tuple(i) for i in mask.nonzero().tolist()] == both


@quick
@given(trainings())
def test_opposites_are_opposite_and_the_two_signs_share_out_the_whole(training):
    scores = {name: criterion(*training).double() for name, criterion in CRITERIA.items()}
    assert torch.equal(scores["small_final"], -scores["large_final"])
    assert torch.equal(scores["small_init"], -scores["large_init"])
    for name in ("large_final", "magnitude_increase"):
        assert torch.equal(scores[f"{name}_same_sign"] + scores[f"{name}_diff_sign"], scores[name])
        assert not (scores[f"{name}_same_sign"] * scores[f"{name}_diff_sign"]).any()


@quick
@given(trainings(), st.integers(0, 10**6))
def test_random_scores_are_a_function_of_the_seed_alone(training, seed):
    *_, within = training
    torch.manual_seed(seed + 1)
    before = torch.get_rng_state()
    scores = random_scores({"v": within, "w": ~within}, seed)
    assert torch.equal(torch.get_rng_state(), before)
    again = random_scores({"v": ~within, "w": within}, seed)
    other = random_scores({"v": within, "w": within}, seed + 1)
    assert all(torch.equal(scores[name], again[name]) for name in scores)
    assert not torch.equal(scores["v"], other["v"])
    assert not torch.equal(scores["v"], scores["w"])
    assert all(score.shape == within.shape and 0 <= score.min() <= score.max() < 1 for score in scores.values())
