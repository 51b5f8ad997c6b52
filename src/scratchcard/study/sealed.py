"""A record on disk: a JSON object with the digest of all else that it says, so that no edited digit is measured.

The digest is of the canonical JSON of the rest, whatever spaces and order the file has, and this will stay so: what
has another digest is damaged, what has the right one and cannot be understood was written by a newer scratchcard.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from scratchcard.row import FORMAT, Frozen
from scratchcard.study.disk import StoreError

Kind = TypeVar("Kind", bound=Frozen)


class Spoilt(ValueError):
    """A record is not as it was written."""


class Record(NamedTuple):
    """What a record says."""

    values: dict[str, Any]
    sealed: bool
    """Whether it has a digest, and the right one; without one it may be of an earlier version."""


def seal(text: str) -> bytes:
    """A JSON object with its digest in front.

    Args:
        text: a JSON object of at least one field, none of them "digest".
    """
    assert text[0] == "{", "a record is an object"
    return f'{{\n "digest": "{_digest(json.loads(text))}",{text[1:]}'.encode()


def unseal(content: bytes) -> Record:
    """What a record says, without its digest.

    Raises:
        Spoilt: it is no JSON object, or its digest is that of another.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Spoilt(f"it is no JSON: {' '.join(str(error).split())[:120]}") from error
    if not isinstance(values, dict):
        raise Spoilt(f"it holds {type(values).__name__}, not an object")
    digest = values.pop("digest", None)
    if digest is None:
        return Record(values, False)
    if digest != _digest(values):
        raise Spoilt("what it says does not have its digest")
    return Record(values, True)


def _digest(values: dict[str, Any]) -> str:
    # nothing is escaped twice, and numbers are written as they are read
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def understood(kind: type[Kind], path: Path, record: Record, may_be_bare: bool) -> Kind:
    """A record as what it is.

    Raises:
        Spoilt: it has no digest though it should, or cannot be what was written.
        StoreError: it is as it was written, by a newer scratchcard.
    """
    version = record.values.get("format", FORMAT)
    if isinstance(version, int) and version > FORMAT:
        raise newer(path, f"format {version}, this one reads format {FORMAT}")
    if not record.sealed and not may_be_bare:
        raise Spoilt("its digest is gone")
    try:
        return kind.model_validate(record.values)
    except ValidationError as error:
        if record.sealed:
            raise newer(path, in_short(error)) from error
        raise Spoilt(in_short(error)) from error


def newer(path: Path, why: str) -> StoreError:
    """What is to be said of what an older program must leave alone."""
    return StoreError(
        f"{path} was written by a newer scratchcard ({why}); install it, or give another folder with --store"
    )


def in_short(error: Exception) -> str:
    """An error as the end of a sentence."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"
    if isinstance(error, Spoilt):
        return str(error)
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
