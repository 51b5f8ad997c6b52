"""A network's sites in about ten lines: alike names are one line, and every line says how much of the network it is.

Names are alike that differ in numbers only; the more sites there are, the more of their numbers are left out. What is
printed for several is a pattern that `keep` and `only` of any method take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import floor, prod

from scratchcard.networks.labelling import Places

_LINES = 7
"""Lines of sites, beyond which the smallest are told in one."""
_REASONS = 3
"""Lines of kept layers, likewise."""
_NAMED = 3
"""So many names or patterns are told, of more the first two and the last."""
_WIDE = 32
"""Names that take no more characters than these are told as they are."""
Shapes = Mapping[str, tuple[int, ...]]


def site_table(
    sites: Mapping[str, tuple[Places, ...]],
    besides: Mapping[str, Sequence[str]],
    kept: Mapping[str, str],
    shapes: Shapes,
) -> str:
    """The table: how much lies in units, a line for alike sites, what there is besides, what is kept and why.

    Args:
        sites: those that searches take, name -> units.
        besides: what others are -> their names.
        kept: layer -> why.
        shapes: of every parameter of the network, each under one name.
    """
    all_units = [unit for units in sites.values() for unit in units]
    lines = [
        f"{len(all_units):,} units at {len(sites)} sites: {percent(share_inside(all_units, shapes))} of "
        f"{sum(map(prod, shapes.values())):,} parameters lie in them; below, one that lies "
        "between two sites counts at both",
        *(_site_lines(sites, shapes) if sites else ()),
    ]
    everyone = [*sites, *(name for names in besides.values() for name in names)]
    lines += [f"where named, also {len(of)} {what}: {short(of, everyone)}" for what, of in besides.items() if of]
    return "\n".join([*lines, *_kept_lines(kept)])


def share_inside(units: Iterable[Places], shapes: Shapes) -> float:
    """The share of the entries of some tensors that lie in at least one of some units, each counted once.

    Args:
        units: the places of each.
        shapes: of the tensors that are counted, by name; others are not.
    """
    within: dict[str, dict[int, set[int]]] = {name: {} for name in shapes}
    for unit in units:
        for name in unit.keys() & shapes.keys():
            for dim, indices in unit[name].items():
                within[name].setdefault(dim, set()).update(indices)
    inside = total = 0
    for name, shape in shapes.items():
        total += prod(shape)
        inside += prod(shape) - prod(size - len(within[name].get(dim, ())) for dim, size in enumerate(shape))
    return inside / max(total, 1)


def _site_lines(sites: Mapping[str, tuple[Places, ...]], shapes: Shapes) -> list[str]:
    groups = _groups(list(sites))
    shares = {
        what: share_inside((unit for name in names for unit in sites[name]), shapes) for what, names in groups.items()
    }
    largest = sorted(groups, key=lambda what: -shares[what])[:_LINES]
    rest = [name for what, names in groups.items() if what not in largest for name in names]
    rows = [(short(names, sites), names) for what, names in groups.items() if what in largest]
    rows += [(f"and {len(rest)} smaller ones", rest)] if rest else []
    cells = [("site", "sites", "units of each", "of the parameters")]
    for what, names in rows:
        share = share_inside((unit for name in names for unit in sites[name]), shapes)
        cells.append((what, str(len(names)), _range([len(sites[name]) for name in names]), percent(share)))
    widths = [max(len(row[at]) for row in cells) for at in range(4)]
    return [f"{row[0]:<{widths[0]}}" + "".join(f"  {row[at]:>{widths[at]}}" for at in (1, 2, 3)) for row in cells]


def _kept_lines(kept: Mapping[str, str]) -> list[str]:
    """One line for each reason why layers are kept, the most frequent first."""
    by_reason: dict[str, list[str]] = {}
    for layer, reason in kept.items():
        by_reason.setdefault(reason, []).append(layer)
    reasons = sorted(by_reason, key=lambda reason: -len(by_reason[reason]))
    lines = [f"kept: {short(by_reason[reason], kept)} ({reason})" for reason in reasons[:_REASONS]]
    if rest := reasons[_REASONS:]:
        layers = sum(len(by_reason[reason]) for reason in rest)
        lines.append(f"kept: {layers} other layers, for {len(rest)} other reasons")
    return lines


def percent(share: float) -> str:
    """A share with one decimal, never rounded up: what is not all is not called 100 %."""
    return f"{floor(share * 1000) / 10:.1f} %"


def short(names: Sequence[str], among: Iterable[str]) -> str:
    """Some names in short: patterns that fit them and no others, or themselves; of many, the first and the last.

    Args:
        names: what is told.
        among: all names of their kind.
    """
    if len(", ".join(names)) <= _WIDE:
        return ", ".join(names)
    others = [name for name in among if name not in set(names)]
    told: list[str] = list(names)
    for alike in _LEVELS:
        patterns = {name: alike(name) for name in names}
        fine = {
            pattern
            for pattern in patterns.values()
            if any(map(str.isalpha, pattern)) and not any(fnmatchcase(other, pattern) for other in others)
        }
        found = list(dict.fromkeys(patterns[name] if patterns[name] in fine else name for name in names))
        told = min(told, found, key=len)
    return ", ".join(told) if len(told) <= _NAMED else f"{', '.join(told[:2])} ... {told[-1]}"


def _groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Alike names together, by what they have in common; as much of them as gives few groups."""
    found: dict[str, list[str]] = {}
    for alike in _LEVELS:
        found = {}
        for name in names:
            found.setdefault(alike(name), []).append(name)
        if len(found) <= _LINES:
            break
    return found


def _without(pattern: str) -> Callable[[str], str]:
    return lambda name: re.sub(pattern, "*", name)


_LEVELS = (
    _without(r"(?<![^.])\d+(?![^.:])"),  # parts of a path that are numbers
    _without(r"(?<![^.])\d+(?![^.:])|\d+(?=\.)"),  # and numbers at the end of the others, but of the last
    _without(r"\d+"),
)


def _range(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
