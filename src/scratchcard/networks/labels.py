"""Labels of units, and which of them have become one.

Every index of every dimension that could be cut gets a label. Where two tensors meet - an addition, a weight and its
input - their labels become one; `KEPT` stands for what is never cut, and whatever becomes one with it is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Labels = np.ndarray
"""One label per index of a dimension, int64."""
Dims = list[Labels]
"""The labels of every dimension of a tensor, in order."""
KEPT = 0


def among(chosen: Labels) -> Callable[[Labels], np.ndarray]:
    """A look-up of whether labels are among some, which takes no longer the more these are."""
    known = np.zeros(int(chosen.max(initial=0)) + 2, dtype=bool)  # the last stands for all that are larger
    known[chosen] = True
    return lambda labels: known[np.minimum(labels, len(known) - 1)]


class Unions:
    """Labels that have become one (union-find), and for what is kept, why."""

    def __init__(self) -> None:
        self._root = [KEPT]
        self._members: dict[int, list[int]] = {}
        self._reasons: dict[int, str] = {}
        self._spare: set[int] = set()

    def new(self, number: int) -> Labels:
        """So many labels that nothing is known of."""
        first = len(self._root)
        self._root.extend(range(first, first + number))
        return np.arange(first, first + number)

    def spare(self, number: int) -> Labels:
        """So many labels of entries that are all alike and come from no weight: any can go along with what it meets."""
        labels = self.new(number)
        self._spare.update(labels.tolist())
        return labels

    def of_weights(self, labels: Labels) -> bool:
        """Whether any of these can be cut and is more than spare."""
        roots = set(self.roots(labels).tolist()) - {KEPT}
        return any(not self._spare.issuperset(self._those_of(root)) for root in roots)

    def roots(self, labels: Labels) -> Labels:
        """For every label the one that stands for all that have become one with it."""
        return np.array([self._root[label] for label in labels.tolist()], dtype=np.int64)

    def unite(self, one: Labels, other: Labels, reason: str = "") -> None:
        """Make labels one, pair by pair.

        Args:
            one: labels, [n].
            other: labels, [n].
            reason: why, should that keep them and nothing be known of why the other is kept.
        """
        root, members = self._root, self._members  # a large network has hundreds of thousands of pairs
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            x, y = root[a], root[b]
            if x == y:
                continue
            if x == KEPT or y == KEPT:
                known = self._reasons.get(a if x == KEPT else b, "")
                self._keep(max(x, y), known or reason)
                continue
            ours, theirs = members.get(x) or [x], members.get(y) or [y]
            if len(ours) < len(theirs):
                x, y, ours, theirs = y, x, theirs, ours
            for member in theirs:
                root[member] = x
            ours += theirs
            members[x] = ours
            members.pop(y, None)

    def unite_all(self, labels: Labels) -> None:
        """Make all of some labels one."""
        self.unite(labels[1:], labels[:-1])

    def keep(self, labels: Labels, reason: str) -> None:
        """Never cut these, and remember why."""
        for label in labels.tolist():
            if self._root[label] != KEPT:
                self._keep(self._root[label], reason)

    def reason(self, label: int) -> str:
        """Why a label is kept; empty where it is not."""
        return self._reasons.get(label, "")

    def _keep(self, root: int, reason: str) -> None:
        for member in self._those_of(root):
            self._root[member] = KEPT
            self._reasons[member] = reason
        self._members.pop(root, None)

    def _those_of(self, root: int) -> list[int]:
        """All labels that have become one with a root; most are alone, and have no list of their own."""
        return self._members.get(root) or [root]
