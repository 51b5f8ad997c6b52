"""What the names mean by which a person keeps or cuts parts of a network: those that `inspect` prints, or patterns.

A name is first looked for as it is, among names of every sort in turn, and only then as a pattern ("stage1.*").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from scratchcard.words import unknown

WHAT = "site, layer, weight or kind"


@dataclass(frozen=True)
class Names:
    """Names of one sort, and what each of them stands for."""

    stand_for: Mapping[str, Collection[str]]
    patterns: bool = True
    """Whether they can be asked for by a pattern; kinds are few, and named whole."""


def meant(entries: Collection[str], sorts: Sequence[Names], every: bool = False) -> dict[str, set[str]]:
    """What each of some names or patterns stands for.

    Args:
        entries: as a person gave them.
        sorts: what they may be, the first that has such a name counts.
        every: a name or pattern stands for all that any sort has of such names, as where all of it is to be left
            alone; otherwise for what the first sort has.

    Raises:
        ValueError: one that fits nothing; all of them are told, and all names there are.
    """
    found = {entry: _one(entry, sorts, every) for entry in entries}
    idle = [entry for entry, of in found.items() if of is None]
    if idle:
        known = {name for sort in sorts for name in sort.stand_for}
        more = f"; neither is there {' or '.join(map(repr, idle[1:]))}" if idle[1:] else ""
        raise ValueError(unknown(WHAT, idle[0], known) + more)
    return {entry: of or set() for entry, of in found.items()}


def fits(entry: str, sorts: Sequence[Names]) -> bool:
    """Whether a name or pattern fits anything."""
    return _one(entry, sorts, every=False) is not None


def _one(entry: str, sorts: Sequence[Names], every: bool) -> set[str] | None:
    whole = [sort for sort in sorts if entry in sort.stand_for]
    found = [set(sort.stand_for[entry]) for sort in whole if sort.patterns == whole[0].patterns] or [
        {one for name in names for one in sort.stand_for[name]}
        for sort in sorts
        if sort.patterns and (names := [name for name in sort.stand_for if fnmatchcase(name, entry)])
    ]
    if not found:
        return None
    return set().union(*found) if every else found[0]
