"""The figures of linear mode connectivity as files: one page, or a picture each."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scratchcard.evidence.connectivity import advice
from scratchcard.evidence.draw import Format, picture
from scratchcard.evidence.figures.connectivity import instability_figure, lines_figure
from scratchcard.row import Connectivity

SUFFIXES = (".html", ".svg", ".png", ".pdf")


def plate(found: Connectivity, path: str | Path) -> list[Path]:
    """Draw what was found: a page with both figures and their tables, or two pictures beside each other.

    Args:
        found: What the lines between networks showed.
        path: Ends in .html for a page; else in one of `SUFFIXES`: rewind.png gives rewind-instability.png and
            rewind-lines.png.

    Returns:
        The files written.

    Raises:
        ValueError: If a file cannot be written.
    """
    path, written = Path(path), []
    figures = [instability_figure(found), lines_figure(found)]
    try:
        if path.suffix == ".html":
            pictures = [picture(figure, "svg").decode() for figure in figures]
            environment = Environment(
                loader=FileSystemLoader(Path(__file__).parent),
                autoescape=True,
                undefined=StrictUndefined,
                trim_blocks=True,
                lstrip_blocks=True,
            )
            page = environment.get_template("plate.html.jinja").render(
                found=found,
                advice=advice(found),
                figures=list(zip(figures, pictures, strict=True)),
            )
            path.write_text(page, encoding="utf-8")
            return [path]
        format: Format = path.suffix.removeprefix(".")  # pyright: ignore[reportAssignmentType]
        for figure in figures:
            own = path.with_name(f"{path.stem}-{figure.name}{path.suffix}")
            own.write_bytes(picture(figure, format))
            written.append(own)
    except OSError as error:
        raise ValueError(f"the figure cannot be written to {path}: {error.strerror}; give another place") from error
    return written
