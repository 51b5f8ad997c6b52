"""Numbers that count units and are told apart from tensors: groups, channels of what has no weights, sizes of views.

They stand in the attributes of modules - which can be changed - or in the code alone. torch's own layers say where;
in others every attribute that equals the number is a candidate, and the gate decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from scratchcard.networks.labels import Labels, Unions

SURE = ("num_groups", "groups")
"""What a layer has to be told whatever its weights are: a number of groups that stays is wrong when a group goes."""


@dataclass(frozen=True)
class Count:
    """A number that an operator was called with, which counts units."""

    module: str
    """Path of the innermost module whose code calls the operator."""
    attribute: str
    """Of a layer of torch: where the number is told; empty where it has to be found."""
    number: int
    labels: Labels
    """One of each unit that is counted."""
    sure: bool = False
    """Whether it has to change when such units go; sizes of views may come from the tensors themselves."""

    def left(self, unions: Unions, cut: Callable[[Labels], np.ndarray]) -> int:
        """The number that is left of the units that are not cut."""
        return int((~cut(unions.roots(self.labels))).sum())


def numbers_of(module: nn.Module) -> dict[str, int]:
    """The whole numbers among a module's attributes: by name, those of a tuple or list by name and place (sizes.0)."""
    found: dict[str, int] = {}
    for name, value in vars(module).items():
        if type(value) is int:
            found[name] = value
        elif isinstance(value, tuple | list):
            found.update({f"{name}.{at}": number for at, number in enumerate(value) if type(number) is int})
    return found


def tell(module: nn.Module, name: str, number: int) -> None:
    """Change a whole number of a module, in place; the name is one that `numbers_of` gives.

    Raises:
        ValueError: there is no such number.
    """
    if name not in numbers_of(module):
        raise ValueError(f"{name} is no whole number that could become {number!r}")
    own, _, place = name.partition(".")
    held = getattr(module, own)
    if not place:
        setattr(module, own, number)
        return
    changed = [number if at == int(place) else other for at, other in enumerate(held)]
    setattr(module, own, type(held)(changed) if type(held) in (tuple, list) else type(held)(*changed))


def as_one_count(counted: Iterable[Count], unions: Unions, modules: Mapping[str, nn.Module]) -> None:
    """Make units one that are counted by one number of one module, however often it is called.

    Args:
        counted: of a whole network; those whose place is to be found are left as they are.
        unions: what becomes one here.
        modules: of the network, by all their paths.
    """
    same: dict[tuple[int, str], list[Count]] = defaultdict(list)
    for count in counted:
        if count.attribute:
            same[id(modules[count.module]), count.attribute].append(count)
    for first, *others in same.values():
        for other in others:
            if len(first.labels) == len(other.labels):
                unions.unite(first.labels, other.labels, "counted together with something that is kept")
            else:
                for labels in (first.labels, other.labels):
                    unions.keep(labels, "counted by one number of a module that is called with other sizes too")
