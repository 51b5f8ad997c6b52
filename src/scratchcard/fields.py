"""Whether the fields of a dataclass have the types that it declares: all that do not, in one sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
    NoneType: "None",
}


def check_fields(record: Any, names: Collection[str] = ()) -> None:
    """Refuse values of other types than declared, before anything is compared or computed with them.

    A whole number is a number, but True is none; a list is as good as a tuple, and one text is no list of texts. Which
    texts a field may hold is for its owner to say.

    Args:
        record: a dataclass; anything else declares nothing.
        names: of the fields to look at; () for all.

    Raises:
        ValueError: naming every such field, what was seen and what is needed.
    """
    hints = _hints(type(record)) if dataclasses.is_dataclass(record) else {}
    wrong = [
        f"{field.name} must be {needed(hints[field.name])}, got {seen(getattr(record, field.name))}"
        for field in (dataclasses.fields(record) if hints else ())
        if field.name in (names or hints) and not fits(getattr(record, field.name), hints[field.name])
    ]
    if wrong:
        raise ValueError(f"{type(record).__name__} cannot be made of this: {'; '.join(wrong)}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a declared type."""
    kind = get_origin(hint) or hint
    if kind in _TESTS:
        return _TESTS[kind](value, get_args(hint))
    return not isinstance(kind, type) or isinstance(value, kind)


def needed(hint: Any) -> str:
    """A declared type in words."""
    kind, parts = get_origin(hint), [part for part in get_args(hint) if part is not ...]
    if kind is Literal:
        return "one of " + ", ".join(map(repr, parts))
    if kind in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(needed, parts)))
    if kind is tuple:
        return f"a list whose entries are {needed(parts[0])}"
    if kind is Mapping:
        return f"a dict of {needed(parts[0])} to {needed(parts[1])}"
    if kind is Callable:
        return "a function"
    return _NAMES.get(hint, f"a {getattr(hint, '__name__', hint)}")


def seen(value: Any) -> str:
    """A value with its type, at a length that fits a sentence."""
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


@cache
def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except (NameError, TypeError, AttributeError):  # a stranger's class whose annotations lead nowhere
        return {}


def _whole(value: Any, _: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any, _: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 10**300  # beyond it is no float
    return isinstance(value, float)


def _one_of(value: Any, parts: tuple[Any, ...]) -> bool:
    return any(type(value) is type(part) for part in parts)


def _any_of(value: Any, parts: tuple[Any, ...]) -> bool:
    return any(fits(value, part) for part in parts)


def _entries(value: Any, parts: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple | list | range):
        return False
    if parts[-1] is ...:
        return all(fits(entry, parts[0]) for entry in value)
    return len(value) == len(parts) and all(map(fits, value, parts))


def _mapping(value: Any, parts: tuple[Any, ...]) -> bool:
    return isinstance(value, Mapping) and all(fits(key, parts[0]) and fits(v, parts[1]) for key, v in value.items())


_TESTS: dict[Any, Callable[[Any, tuple[Any, ...]], bool]] = {
    int: _whole,
    float: _number,
    Literal: _one_of,
    Union: _any_of,
    UnionType: _any_of,
    tuple: _entries,
    Mapping: _mapping,
    Callable: lambda value, _: callable(value),
}
"""What is more than an instance of a class."""
