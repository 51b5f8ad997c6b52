"""What has become one stays one, in whatever order it happened, and what is kept says why."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchcard.networks.labels import KEPT, Unions

NUMBER = 12
PAIRS = st.lists(st.tuples(st.integers(0, NUMBER), st.integers(0, NUMBER)), max_size=20)


def classes(pairs):
    """Which labels are connected, by a search over the pairs: nothing is shared with the code."""
    near = {label: {label} for label in range(NUMBER + 1)}
    for a, b in pairs:
        near[a].add(b)
        near[b].add(a)
    found = {}
    for start in near:
        seen, todo = set(), [start]
        while todo:
            label = todo.pop()
            if label not in seen:
                seen.add(label)
                todo += near[label]
        found[start] = frozenset(seen)
    return found


@given(PAIRS)
def test_labels_are_one_exactly_where_a_chain_connects_them(pairs):
    unions = Unions()
    assert unions.new(NUMBER).tolist() == list(range(1, NUMBER + 1))
    for a, b in pairs:
        unions.unite(np.array([a]), np.array([b]), f"{a} with {b}")
    roots = unions.roots(np.arange(NUMBER + 1)).tolist()
    connected = classes(pairs)
    for one in range(NUMBER + 1):
        for other in range(NUMBER + 1):
            assert (roots[one] == roots[other]) == (other in connected[one])
        assert (roots[one] == KEPT) == (KEPT in connected[one])


@given(PAIRS, st.randoms())
def test_the_order_does_not_matter(pairs, chance):
    def partition(order):
        unions = Unions()
        unions.new(NUMBER)
        for a, b in order:
            unions.unite(np.array([a]), np.array([b]))
        roots = unions.roots(np.arange(NUMBER + 1)).tolist()
        return {frozenset(at for at, other in enumerate(roots) if other == root) for root in roots}

    shuffled = list(pairs)
    chance.shuffle(shuffled)
    assert partition(pairs) == partition(shuffled)


@given(PAIRS)
def test_everything_that_is_kept_has_a_reason(pairs):
    unions = Unions()
    unions.new(NUMBER)
    for a, b in pairs:
        unions.unite(np.array([a]), np.array([b]), "beside something that is kept")
    unions.keep(np.array([1, 2]), "an output")
    for label, root in enumerate(unions.roots(np.arange(NUMBER + 1)).tolist()):
        assert bool(unions.reason(label)) == (root == KEPT and label != KEPT)


def test_the_first_reason_travels_with_the_union_and_is_not_overwritten():
    unions = Unions()
    a, b, c = (unions.new(3) for _ in range(3))
    unions.unite(a, b)
    unions.keep(a, "an output of the network")
    unions.keep(b, "said too late")
    unions.unite(b, c, "added to something that is kept")
    assert {unions.reason(label) for label in (*a, *b, *c)} == {"an output of the network"}


def test_pairs_must_be_pairs():
    unions = Unions()
    with pytest.raises(ValueError, match="argument 2"):
        unions.unite(unions.new(3), unions.new(4))


def test_uniting_all_is_one_label():
    unions = Unions()
    labels = unions.new(5)
    unions.unite_all(labels[[0, 2, 4]])
    roots = unions.roots(labels)
    assert roots[0] == roots[2] == roots[4]
    assert len(set(roots.tolist())) == 3
