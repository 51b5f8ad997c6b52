"""The figures of one question as files: one page, or a picture each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scratchcard.atomic import written_whole
from scratchcard.evidence.connectivity import advice
from scratchcard.evidence.draw import Format, picture
from scratchcard.evidence.figures.chart import Figure
from scratchcard.evidence.figures.connectivity import instability_figure, lines_figure
from scratchcard.row import Connectivity

SUFFIXES = (".html", ".svg", ".png", ".pdf")


@dataclass(frozen=True)
class Plate:
    """Figures with what they say in words, and how they were made."""

    title: str
    answer: str
    """One or a few sentences."""
    note: str
    """Data, metric, conditions."""
    figures: Sequence[Figure]
    command: str = ""
    machine: Mapping[str, str] = field(default_factory=dict)


def plate(found: Connectivity, path: str | Path) -> list[Path]:
    """Draw linear mode connectivity: `write_plate` of the instability at each step and the lines between networks."""
    note = (
        f"{found.data}. Metric: validation {found.metric}; normalisation statistics {found.statistics} between the "
        f"ends. Stable: instability below {100 * found.threshold:g} %."
    )
    title = f"{found.task}: from which step to rewind"
    figures = [instability_figure(found), lines_figure(found)]
    return write_plate(Plate(title, advice(found), note, figures, found.command, found.machine), path)


def write_plate(made: Plate, path: str | Path) -> list[Path]:
    """Draw figures as a page with their tables, or as pictures.

    Args:
        made: What is drawn.
        path: Ends in .html for a page; else in one of `SUFFIXES`: of several figures, rewind.png gives
            rewind-instability.png and rewind-lines.png.

    Returns:
        The files written.

    Raises:
        ValueError: If a file cannot be written.
    """
    path, written = Path(path), []
    try:
        if path.suffix == ".html":
            pictures = [picture(figure, "svg").decode() for figure in made.figures]
            environment = Environment(
                loader=FileSystemLoader(Path(__file__).parent),
                autoescape=True,
                undefined=StrictUndefined,
                trim_blocks=True,
                lstrip_blocks=True,
            )
            page = environment.get_template("plate.html.jinja").render(
                made=made, figures=list(zip(made.figures, pictures, strict=True))
            )
            with written_whole(path) as part:
                part.write_text(page, encoding="utf-8")
            return [path]
        format: Format = path.suffix.removeprefix(".")  # pyright: ignore[reportAssignmentType]
        for figure in made.figures:
            own = path if len(made.figures) == 1 else path.with_name(f"{path.stem}-{figure.name}{path.suffix}")
            with written_whole(own) as part:
                part.write_bytes(picture(figure, format))
            written.append(own)
    except OSError as error:
        raise ValueError(f"the figure cannot be written to {path}: {error.strerror}; give another place") from error
    return written
