"""A rows file is one study as one small file, to be committed beside what was read from it, and judged by anyone.

The first line is what the study declared, every further line one run; JSON lines, compressed by gzip. Fields that have
their default are left out, so a field's default belongs to the format.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scratchcard.atomic import written_whole
from scratchcard.earlier import as_today
from scratchcard.row import FORMAT, Frozen, Row, Rows, StudySpec

SUFFIX = ".jsonl.gz"
LEARNING = ("dense", "ticket")
"""Arms whose learning curves are kept in a lean file: no figure draws others."""


def write_rows(rows: Rows, path: str | Path, *, lean: bool = False) -> Path:
    """Write the rows of one study as one file; the same rows give the same bytes.

    Args:
        rows: The rows of one study, finished or not.
        path: Where the file goes, e.g. "mnist.jsonl.gz"; its folder is made, an older file is replaced.
        lean: Leave out what neither verdict nor report reads, so that hundreds of runs fit into 300 kB: the learning
            curves of controls, and which files a run left in its store. Measured on 455 runs of a LeNet with curves of
            41 points: 151 kB in place of 529.

    Returns:
        The path written.

    Raises:
        ValueError: If the file cannot be written.
    """
    kept = (leaned(row) for row in rows) if lean else rows
    return write_lines([_line(rows.study), *map(_line, kept)], path)


def read_rows(path: str | Path) -> Rows:
    """Read the rows of one study again, fit for `judge`, `report` and `draw`.

    Raises:
        ValueError: If there is no such file, or it is no rows file as it was written.
    """
    lines = read_lines(path)
    _check_version(lines[0], path)
    try:
        study = StudySpec.model_validate_json(lines[0])
    except ValidationError as error:
        raise ValueError(
            f"line 1 of {path} is not what a study declared ({_first(error)}); give a file that "
            "scratchcard.write_rows wrote, or the folder of a store"
        ) from error
    return as_today(Rows(list(_runs(lines[1:], path)), study))


def leaned(row: Row) -> Row:
    """A run without what neither verdict nor report reads."""
    curve = row.curve if row.arm in LEARNING else None
    return row.model_copy(update={"snapshots": {}, "artefacts": {}, "curve": curve})


def write_lines(lines: Iterable[str], path: str | Path) -> Path:
    """Write lines as a compressed file whose bytes are a function of the lines alone.

    Raises:
        ValueError: If the file cannot be written.
    """
    path, packed = Path(path), io.BytesIO()
    # neither the name nor the time goes into the file
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            part.write_bytes(packed.getvalue())
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}; give another place") from error
    return path


def read_lines(path: str | Path) -> list[str]:
    """The lines of a compressed file.

    Raises:
        ValueError: If there is no such file, or it is not as it was written.
    """
    try:
        return gzip.decompress(Path(path).read_bytes()).decode().removesuffix("\n").split("\n")
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
        what = "ends too early" if isinstance(error, EOFError) else "is no text packed by gzip, or has changed"
        raise ValueError(f"{path} {what}, but rows are read from whole {SUFFIX} files only; {_AGAIN}") from error
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read: {error.strerror}; give a {SUFFIX} file that scratchcard.write_rows wrote"
        ) from error


_AGAIN = "take it from its source again, or write it again with scratchcard.write_rows"


def _line(record: Frozen) -> str:
    fields = record.model_dump(mode="json", exclude_defaults=True)
    # the format has a default as well, but says how to read all others
    return json.dumps({"format": FORMAT, **fields} if isinstance(record, StudySpec) else fields, separators=(",", ":"))


def _runs(lines: list[str], path: str | Path) -> Iterator[Row]:
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=2):
        try:
            row = Row.model_validate_json(line)
        except ValidationError as error:
            raise ValueError(f"line {number} of {path} is not a run ({_first(error)}); {_AGAIN}") from error
        if row.id in seen:
            raise ValueError(f"line {number} of {path} is the run of line {seen[row.id]} once more; {_AGAIN}")
        seen[row.id] = number
        yield row


def _check_version(line: str, path: str | Path) -> None:
    try:
        found: Any = json.loads(line)
    except ValueError:
        return
    version = found.get("format", FORMAT) if isinstance(found, dict) else FORMAT
    if isinstance(version, int) and version > FORMAT:
        raise ValueError(
            f"{path} has format {version}, this scratchcard reads format {FORMAT}; install a newer scratchcard"
        )


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"
