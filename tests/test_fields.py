"""Values of other types than a dataclass declares are refused in one sentence that names every such field."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

import scratchcard as sc
from scratchcard.fields import check_fields, fits

RIGHT: list[tuple[Any, Any]] = [
    (3, int),
    (3, float),
    (0.5, float),
    (math.nan, float),
    (True, bool),
    ("a", str),
    ("b", Literal["a", "b"]),
    (None, int | None),
    (("a",), tuple[str, ...]),
    (["a"], tuple[str, ...]),
    ((), tuple[int, ...]),
    ((("a", 1.0),), tuple[tuple[str, float], ...]),
    ({"conv": 0.1}, float | Mapping[str, float]),
    (print, str | Callable[[int], int]),
    ([], object),
]
WRONG: list[tuple[Any, Any]] = [
    (True, int),
    (3.0, int),
    ("3", int),
    (False, float),
    ("0.1", float),
    (None, float),
    (10**400, float),
    (1, bool),
    (3, str),
    (b"a", str),
    (3, Literal["a"]),
    ("a", int | None),
    ("flip", tuple[str, ...]),
    (("a", 1), tuple[str, ...]),
    (5, tuple[int, ...]),
    ({1}, tuple[int, ...]),
    ({"conv": "0.1"}, float | Mapping[str, float]),
    ({1: 0.1}, Mapping[str, float]),
    (3, Callable[[int], int]),
]


@pytest.mark.parametrize(("value", "hint"), RIGHT)
def test_a_value_of_the_declared_type_fits(value: Any, hint: Any) -> None:
    assert fits(value, hint)


@pytest.mark.parametrize(("value", "hint"), WRONG)
def test_a_value_of_another_type_does_not(value: Any, hint: Any) -> None:
    assert not fits(value, hint)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: sc.Recipe(lr="0.1", steps=1.5), ["lr must be a number, got '0.1' (str)", "steps must be a whole"]),
        (lambda: sc.Recipe(steps=True), ["steps", "True (bool)"]),
        (lambda: sc.Recipe(steps=10**30), ["steps", "at most 1,000,000,000"]),
        (lambda: sc.Recipe(steps=10**9, eval_every=1), ["eval_every", "1,000,000 evaluations"]),
        (lambda: sc.Recipe(augment="flip"), ["augment must be a list whose entries are a text", "'flip'"]),
        (lambda: sc.Recipe(milestones=3), ["milestones must be a list whose entries are a whole number"]),
        (lambda: sc.Recipe(optimizer=3), ["optimizer must be a text or a function"]),
        (lambda: sc.Recipe(schedule=[]), ["schedule must be one of 'constant', 'step', 'cosine'"]),
        (lambda: sc.Recipe(nesterov=1), ["nesterov must be True or False"]),
        (lambda: sc.Recipe(device=0), ["device must be a text"]),
        (lambda: sc.Recipe(lr=math.nan, weight_decay=math.inf), ["lr=nan", "weight_decay=inf"]),
        (lambda: sc.IMP(rounds="3"), ["IMP", "rounds", "'3' (str)"]),
        (lambda: sc.IMP(rounds=10**6), ["rounds=1000000", "at most 1,000"]),
        (lambda: sc.IMP(rate="0.2"), ["rate must be a number or a dict of a text to a number"]),
        (lambda: sc.IMP(rate={"conv": None}), ["rate", "{'conv': None} (dict)"]),
        (lambda: sc.IMP(rate=math.nan), ["rate=nan"]),
        (lambda: sc.IMP(keep="output"), ["keep must be a list whose entries are a text"]),
        (lambda: sc.IMP(rewind=1.5, one_shot="no"), ["rewind", "one_shot"]),
        (lambda: sc.AtInit(3), ["score must be a text"]),
        (lambda: sc.AtInit("snip", examples=0.5), ["examples must be a whole number"]),
        (lambda: sc.Slimming(rate=None), ["Slimming", "rate must be a number, got None"]),
        (lambda: sc.Slimming(rounds=10**9), ["1,000", "rounds=1000000000"]),
        (lambda: sc.EarlyBird(patience="5"), ["EarlyBird", "patience"]),
        (lambda: sc.FilterPruning("l1", smallest="yes"), ["smallest must be True or False"]),
        (lambda: sc.SoftFilterPruning(every=2.5), ["every must be a whole number or None"]),
    ],
)
def test_a_wrong_field_is_named_with_what_was_seen_and_what_is_needed(
    make: Callable[[], object], told: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        make()
    assert all(word in str(caught.value) for word in told), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_whose_annotations_lead_nowhere_is_left_alone() -> None:
    @dataclass
    class Own:
        field: Nowhere  # noqa: F821  # pyright: ignore[reportUndefinedVariable]

    check_fields(Own(3))
