"""Sentences for people: what was seen where a name is not known, and texts of strangers made safe to print."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

_HARMLESS = frozenset("\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}\N{SOFT HYPHEN}")
"""Of the characters without a picture: what breaks lines, and what several scripts and emoji are written with."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """One sentence about a name that is not known, e.g. "unknown optimizer 'adan'; did you mean 'adam'? ..."."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {name!r}; {hint}known: {', '.join(names)}"


def printable(text: str) -> str:
    """The text with every character that could command a terminal written out, e.g. as \\x1b.

    Escapes can move the cursor, hide lines, set a window's title or type into the shell; marks of direction show a text
    in another order than it has. Whoever sends a store chooses the names in it. Newlines and tabs stay.
    """
    return "".join(one if one in _HARMLESS else _written_out(one) for one in text)


def one_line(text: str, most: int = 4000) -> str:
    """The text as one printable line of at most so many characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else f"{line[:most]} ... ({len(line):,} characters)"


def _written_out(character: str) -> str:
    # Cc: control, Cf: invisible marks, Cs: halves of characters, which no stream can encode, Zl and Zp: breaks of lines
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return ascii(character)[1:-1]
    return character
