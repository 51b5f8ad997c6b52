"""`scratchcard report STORE|FILE`: the verdict and the report of a study, from its rows alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from scratchcard.cli.terminal import say
from scratchcard.evidence.draw import FORMATS, check_format, draw
from scratchcard.evidence.report import report as write_report
from scratchcard.evidence.rows_file import SUFFIX, read_rows
from scratchcard.evidence.summary import markdown
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows
from scratchcard.study.study import read
from scratchcard.words import unknown


def check_place(path: Path) -> None:
    """Refuse a place for the report that cannot take it, before anything long is run.

    Raises:
        ValueError: its folder does not exist, or it is a folder itself.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        what = "is a folder" if path.is_dir() else "is in no folder that exists"
        raise ValueError(f"the report cannot be written to {path}, which {what}; give a file's name with --report")


@contextlib.contextmanager
def of_one_piece(rows: Rows) -> Iterator[None]:
    """Rows are read from anybody's files, and each may be sound while they do not belong together.

    Raises:
        ValueError: what was read of them cannot be reckoned with.
    """
    try:
        yield
    except (ArithmeticError, LookupError) as error:
        raise ValueError(
            f"the rows of study {rows.study.name!r} do not fit what it declared ({type(error).__name__}: {error}); "
            "take them from their source again, or run the study again in a new store"
        ) from error


def report(
    store: Annotated[
        Path,
        typer.Argument(
            metavar="STORE", help=f"Folder of finished runs, as given to study --store, or a {SUFFIX} file of rows."
        ),
    ],
    name: Annotated[str | None, typer.Option("--study", help="Which study, by name; default: the latest.")] = None,
    to: Annotated[Path, typer.Option("--report", help="Where the report goes.")] = Path("report.html"),
    figures: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(FORMATS), help="Write every figure as a file too, in a folder beside the report."
        ),
    ] = None,
    table: Annotated[bool, typer.Option("--markdown", help="Print the table of results as Markdown too.")] = False,
) -> None:
    """Judge a study again and write its report; needs no task code and trains nothing."""
    check_place(to)
    if figures is not None:
        check_format(figures)
    one_file = store.is_file() or store.name.endswith(SUFFIX)
    studies = [read_rows(store)] if one_file else read(store)
    if not studies:
        raise ValueError(f"the store {store} has no study in it yet; run scratchcard study TASK --store {store} first")
    names = [rows.study.name for rows in studies]
    if name is not None and name not in names:
        raise ValueError(unknown("study", name, names))
    rows = studies[0 if name is None else names.index(name)]
    with of_one_piece(rows):
        say(judge(rows))
        if table:
            say(f"\n{markdown(rows)}")
        say(f"\nreport: {write_report(rows, to)}")
        if figures is None:
            return
        folder = to.with_name(f"{to.stem}-figures")
        written = draw(rows, folder, check_format(figures))
        say(f"figures in {folder}:\n" + "\n".join(f"  {path.name}" for path in written))
