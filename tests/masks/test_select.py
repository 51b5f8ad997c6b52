"""Scores become masks with exactly the asked number of entries, whatever the scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchcard.masks.compare import counts, nested
from scratchcard.masks.select import select, shuffle

quick = settings(deadline=None, max_examples=60)


@st.composite
def problems(draw, names="abcd"):
    """Scores with many ties, and a mask so far with something left in every tensor; "d" has no scores."""
    chance = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    kinds = draw(st.integers(1, 6))  # 1: all scores equal
    scores, within = {}, {}
    for name in names[: draw(st.integers(1, 3))] + "d":
        shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
        within[name] = torch.rand(shape, generator=chance) < draw(st.sampled_from([0.3, 0.7, 1.0]))
        within[name].view(-1)[int(torch.randint(within[name].numel(), (1,), generator=chance))] = True
        scores[name] = torch.randint(0, kinds, shape, generator=chance).float() - 2.0
    del scores["d"]
    return scores, within


def best(scores, within, keep):
    """The definition: the highest scores among what is left, the earlier of equals first."""
    left = [i for i, kept in enumerate(within.flatten().tolist()) if kept]
    return sorted(sorted(left, key=lambda i: -float(scores.flatten()[i]))[:keep])


def places(mask):
    return mask.flatten().nonzero().flatten().tolist()


@quick
@given(problems(), st.data())
def test_layerwise_keeps_exactly_the_highest_and_the_earlier_of_equals(problem, data):
    scores, within = problem
    keep = {name: data.draw(st.integers(1, int(within[name].sum()))) for name in scores}
    before = {name: kept.clone() for name, kept in within.items()}
    mask = select(scores, keep, within)
    for name in scores:
        assert places(mask[name]) == best(scores[name], within[name], keep[name])
    assert mask.keys() == within.keys()
    assert nested(mask, within)
    assert torch.equal(mask["d"], within["d"])
    assert all(torch.equal(within[name], before[name]) for name in within)


@quick
@given(problems(), st.data())
def test_a_global_choice_keeps_exactly_the_highest_and_empties_no_tensor(problem, data):
    scores, within = problem
    left = sum(int(within[name].sum()) for name in scores)
    keep = data.draw(st.integers(len(scores), left))
    mask = select(scores, keep, within)
    ranked = sorted(
        (-float(scores[name].flatten()[i]), rank, i, name)
        for rank, name in enumerate(scores)
        for i in places(within[name])
    )
    wanted = {(name, best(scores[name], within[name], 1)[0]) for name in scores}
    for _, _, i, name in ranked:
        if len(wanted) < keep:
            wanted.add((name, i))
    assert {(name, i) for name in scores for i in places(mask[name])} == wanted
    assert nested(mask, within)
    assert torch.equal(mask["d"], within["d"])


@pytest.mark.parametrize("keep", [{"w": 3}, 3])
def test_when_all_scores_are_equal_the_first_entries_are_kept(keep):
    mask = select({"w": torch.zeros(2, 4)}, keep, {"w": torch.ones(2, 4, dtype=torch.bool)})
    assert places(mask["w"]) == [0, 1, 2]


def test_a_global_choice_may_take_everything_but_one_from_a_weak_tensor():
    scores = {"weak": torch.tensor([1.0, 2.0, 1.5]), "strong": torch.arange(10.0, 20.0)}
    mask = select(scores, 5, {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()})
    assert places(mask["weak"]) == [1]
    assert places(mask["strong"]) == [6, 7, 8, 9]


def test_tensors_that_no_count_is_given_for_stay_as_they_are():
    within = {"a": torch.tensor([True, False, True]), "b": torch.ones(3, dtype=torch.bool)}
    mask = select({"a": torch.rand(3), "b": torch.rand(3)}, {"b": 1}, within)
    assert torch.equal(mask["a"], within["a"])
    assert int(mask["b"].sum()) == 1


def test_infinite_scores_can_be_ranked_and_what_is_cut_may_be_anything():
    scores = {"w": torch.tensor([float("-inf"), float("inf"), float("nan"), 1.0])}
    mask = select(scores, {"w": 2}, {"w": torch.tensor([True, True, False, True])})
    assert places(mask["w"]) == [1, 3]


@pytest.mark.parametrize(
    ("scores", "keep", "sentence"),
    [
        ({"v": torch.rand(4)}, 1, r"given for v.*its names are: w, x"),
        ({"w": torch.rand(2, 2)}, 1, r"score of w has shape \(2, 2\), its mask \(4,\)"),
        ({"w": torch.tensor([1.0, 2.0, 3.0, float("nan")])}, 1, r"score of w is not a number.*diverge"),
        ({"w": torch.rand(4), "x": torch.rand(4)}, 1, r"asked to keep 1 of the 7 .* from 2 .* to 7"),
        ({"w": torch.rand(4), "x": torch.rand(4)}, 8, r"asked to keep 8 of the 7"),
        ({"w": torch.rand(4)}, {"w": 0}, r"asked to keep 0 of the 4 entries left in w.*at least 1"),
        ({"x": torch.rand(4)}, {"x": 4}, r"asked to keep 4 of the 3 entries left in x"),
        ({"w": torch.rand(4)}, {"x": 1}, r"asked to keep 1 .* in x.*that have scores"),
    ],
)
def test_what_cannot_be_selected_is_refused_in_a_sentence(scores, keep, sentence):
    within = {"w": torch.ones(4, dtype=torch.bool), "x": torch.tensor([True, True, True, False])}
    with pytest.raises(ValueError, match=sentence):
        select(scores, keep, within)


@quick
@given(problems(), st.sampled_from(["layer", "global"]), st.integers(0, 10**6))
def test_a_shuffle_keeps_the_counts_it_promises_and_touches_nothing_else(problem, scope, seed):
    scores, mask = problem
    shuffled = shuffle(mask, tuple(scores), scope, torch.Generator().manual_seed(seed))
    again = shuffle(mask, tuple(scores), scope, torch.Generator().manual_seed(seed))
    before, after = counts(mask), counts(shuffled)
    assert all(torch.equal(shuffled[name], again[name]) for name in mask)
    assert torch.equal(shuffled["d"], mask["d"])
    assert sum(kept for kept, _ in after.values()) == sum(kept for kept, _ in before.values())
    assert all(kept >= 1 for kept, _ in after.values())
    if scope == "layer":
        assert after == before


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_shuffle_gives_every_place_the_same_chance(scope):
    mask = {"w": torch.arange(20) < 10, "v": torch.arange(20) < 10}
    total = torch.zeros(2, 20)
    for seed in range(400):
        shuffled = shuffle(mask, ("w", "v"), scope, torch.Generator().manual_seed(seed))
        total += torch.stack([shuffled["w"], shuffled["v"]])
    assert (total / 400 - 0.5).abs().max() < 0.125  # 5 standard errors


def test_a_global_shuffle_moves_weights_between_tensors():
    mask = {"full": torch.ones(50, dtype=torch.bool), "sparse": torch.arange(50) < 2}
    shuffled = shuffle(mask, ("full", "sparse"), "global", torch.Generator().manual_seed(0))
    assert 15 < int(shuffled["sparse"].sum()) < 37
