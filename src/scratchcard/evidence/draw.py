"""Every figure of a study as a file: SVG, PNG or PDF, on white, at the width of a paper's column."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import altair as alt
import vl_convert

from scratchcard.atomic import written_whole
from scratchcard.evidence.figures.chart import Figure, sized
from scratchcard.evidence.figures.gallery import figures_of_method, figures_of_study
from scratchcard.evidence.summary import finished
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows
from scratchcard.words import unknown

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = get_args(Format)

COLUMN, PAGE = 336, 672
"""Pixels of 1/96 inch: 3.5 inches, one column of a paper, and 7, both of them."""
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""The first one comes with the converter and is written into PDF files; it is as wide as the second."""
DOTS = 300
"""Per inch, of PNG."""
POINTS = 72 / 96
"""Of PDF and of the converter's PNG, for each of our pixels."""


def draw(rows: Rows, folder: str | Path, format: Format = "svg") -> list[Path]:
    """Write every figure of the report as a file of its own, fit for a column of a paper.

    Args:
        rows: The rows of one study, finished or not.
        folder: Made where it is not there yet; older figures of the same names are replaced.
        format: "svg", "pdf" (fonts within), or "png" (300 dots per inch).

    Returns:
        The files written, in the order of the report: METHOD_FIGURE.FORMAT, 3.5 inches wide; 7 inches where a figure
        has several charts or a row for each layer.

    Raises:
        ValueError: If no run has finished, the format is unknown, or the folder cannot be written to.
    """
    check_format(format)
    if not finished(rows):
        raise ValueError(f"study {rows.study.name!r} has no finished run, and a figure needs one")
    folder, paths = Path(folder), []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stem, figure in _named(rows):
            path = folder / f"{stem}.{format}"
            with written_whole(path) as part:
                part.write_bytes(picture(figure, format))
            paths.append(path)
    except OSError as error:
        raise ValueError(f"the figures cannot be written to {folder}: {error.strerror}; give another folder") from error
    return paths


def check_format(format: str) -> Format:
    """The format of that name.

    Raises:
        ValueError: There is none.
    """
    for known in FORMATS:
        if format == known:
            return known
    raise ValueError(unknown("format of figures", str(format), FORMATS))


def _named(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Each figure under a name that any file system takes, whatever the method is called."""
    for figure in figures_of_study(rows):
        yield figure.name, figure
    taken: set[str] = set()
    for said in judge(rows).methods:
        plain = re.sub(r"[^a-z0-9]+", "-", said.method.lower()).strip("-")[:40].rstrip("-") or "method"
        while plain in taken:
            plain += "-again"
        taken.add(plain)
        for figure in figures_of_method(rows, said):
            yield f"{plain}_{figure.name}", figure


def picture(figure: Figure, format: Format) -> bytes:
    """One figure as the contents of a file, fit for a column of a paper."""
    spec = for_paper(figure)
    if format == "png":
        return vl_convert.vegalite_to_png(spec, vl_version=vega_lite_version(), scale=POINTS, ppi=DOTS)
    svg = vl_convert.vegalite_to_svg(spec, vl_version=vega_lite_version())
    if format == "svg":
        return svg.encode()
    points = re.sub(r'width="([\d.]+)" height="([\d.]+)"', lambda found: _in_points(*found.groups()), svg, count=1)
    return vl_convert.svg_to_pdf(points)


def _in_points(width: str, height: str) -> str:
    return f'width="{POINTS * float(width):g}" height="{POINTS * float(height):g}"'


def for_paper(figure: Figure) -> dict[str, Any]:
    """The specification of a figure at its width on paper."""
    shown = figure.paper or figure.spec
    wide = "facet" in shown or figure.name in ("layers", "widths")
    spec = _writable(sized(shown, PAGE if wide else COLUMN))
    spec["config"]["font"] = FONT
    return spec


def _writable(part: Any) -> Any:
    """The same without the characters that no XML can hold, on which the converter would abort the whole program."""
    if isinstance(part, str):
        return re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", part)
    if isinstance(part, dict):
        return {_writable(name): _writable(value) for name, value in part.items()}
    return [_writable(value) for value in part] if isinstance(part, list) else part


def vega_lite_version() -> str:
    """The version of Vega-Lite that the specifications are written for, as the converter calls it."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
