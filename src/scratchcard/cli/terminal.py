"""The one place through which a command's words reach the terminal: whatever could command it is written out."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.text import Text

from scratchcard.words import one_line, printable


def say(text: object, err: bool = False) -> None:
    """Print an answer, or with `err` what goes to the other stream."""
    typer.echo(printable(str(text)), err=err)


def tell(error: object) -> None:
    """Say what went wrong, as one line."""
    typer.echo(f"scratchcard: {one_line(str(error))}", err=True)


class Terminal(Console):
    """A console for tables, whose cells and lines are printable whatever is in them."""

    def render_str(self, text: str, **options: object) -> Text:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Every text passes here: what is printed, cells, headings and titles of tables."""
        # names of layers are no markup
        plain = {**options, "markup": False, "emoji": False}
        return super().render_str(printable(text), **plain)  # pyright: ignore[reportArgumentType]
