"""What a study or a command may be asked for: values of the right kind, and no counts that nobody means.

Looked at before anything as long as such a count is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scratchcard.fields import check_fields, seen
from scratchcard.methods.levels import ROUNDS

RUNS = 1_000_000
"""Trainings of one study beyond which a number is a slip of the hand."""
_SEED = 2**63
"""Seeds are below it, as torch's are."""
_WORKERS = 1024
"""No system of one machine lends more processes of half a gigabyte each."""
_VERBS = ("label", "densities", "find", "check")
"""Some of what every method has."""


def check_workers(workers: Any) -> int:
    """The number of worker processes, if it is one that can be meant.

    Raises:
        ValueError: it is no whole number, below 1, or absurd.
    """
    if not isinstance(workers, int) or isinstance(workers, bool):
        raise ValueError(f"workers must be a whole number, got {seen(workers)}")
    if workers < 1:
        raise ValueError(f"a study needs at least one worker, got {workers}")
    if workers > _WORKERS:
        raise ValueError(
            f"each worker is a process of its own, and {_WORKERS:,} are the most, got {workers}; "
            "give about as many as there are cores"
        )
    return workers


def chosen_seeds(seeds: Any, who: str = "a study") -> tuple[int, ...]:
    """The seeds that a number of them, or a list, stands for.

    Raises:
        ValueError: none, more than a study can have, an entry that is no seed, or one twice.
    """
    if isinstance(seeds, bool | str | bytes) or not isinstance(seeds, int | Sequence):
        raise ValueError(f"{who}'s seeds must be a number or a list of numbers, got {seen(seeds)}")
    if (seeds if isinstance(seeds, int) else len(seeds)) > RUNS:
        raise ValueError(f"{who} has at most {RUNS:,} seeds, each of which is trained; got {seen(seeds)}")
    chosen: tuple[Any, ...] = tuple(range(seeds) if isinstance(seeds, int) else seeds)
    wrong = [seed for seed in chosen if not isinstance(seed, int) or isinstance(seed, bool)]
    if wrong:
        raise ValueError(f"{who}'s seeds must be whole numbers, got {seen(wrong[0])} among them")
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0 or max(chosen) >= _SEED:
        few = list(chosen) if len(chosen) <= 10 else f"{len(chosen)} of them, from {min(chosen)} to {max(chosen)}"
        raise ValueError(
            f"{who} needs one or more different seeds, each 0 or higher and below 2^63; got {few or 'none'}"
        )
    return chosen


def check_kinds(study: Any) -> None:
    """Refuse a study's fields of a wrong type, whatever else is wrong with them.

    Raises:
        ValueError: naming the field, what was seen and what is needed.
    """
    check_fields(study, ("margin", "primary", "store", "name", "command"))
    for method in study.methods if isinstance(study.methods, list | tuple) else ():
        if isinstance(method, type) or not all(hasattr(method, verb) for verb in _VERBS):
            raise ValueError(f"a study's methods must be objects such as sc.IMP(), got {seen(method)} among them")
    given: Sequence[Any] = study.arms if isinstance(study.arms, list | tuple) else ()
    for arm in (arm for arm in given if not isinstance(arm, str)):
        if isinstance(arm, type) or not all(hasattr(arm, verb) for verb in ("label", "replicates", "__call__")):
            raise ValueError(
                f"a study's controls must be objects such as sc.FreshInit(), or labels, got {seen(arm)} among them"
            )
        check_fields(arm)
        if arm.replicates < 1:
            raise ValueError(f"{arm.label} has replicates of at least 1, got replicates={arm.replicates}")
    levels = study.control_levels
    if levels is not None and (isinstance(levels, str) or not isinstance(levels, Sequence)):
        raise ValueError(f"a study's control_levels must be a list of numbers or None, got {seen(levels)}")
    if beyond := [level for level in levels or () if isinstance(level, int) and level > ROUNDS]:
        raise ValueError(f"control_levels are numbers of pruning rounds, at most {ROUNDS:,}; got {seen(beyond[0])}")


def check_size(seeds: Sequence[int], methods: Sequence[Any], arms: Sequence[Any]) -> None:
    """Refuse a plan of more trainings than anybody means, reckoned without making it.

    Raises:
        ValueError: with about how many there would be.
    """
    each = 1 + sum(arm.replicates for arm in arms)
    runs = len(seeds) * (1 + sum(getattr(method, "rounds", 1) * each for method in methods))
    if runs > RUNS:
        raise ValueError(
            f"this study would have up to {runs:,} trainings, {RUNS:,} are the most; give fewer seeds, rounds, "
            "methods, controls or replicates"
        )
