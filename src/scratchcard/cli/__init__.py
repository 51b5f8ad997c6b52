"""The command line: one file per verb. A user's mistake is one sentence and exit code 2, nothing lost."""

from __future__ import annotations

import sys

import typer

from scratchcard.cli.ends import ended
from scratchcard.cli.export import export
from scratchcard.cli.inspect import inspect
from scratchcard.cli.lottery import lottery
from scratchcard.cli.report import report
from scratchcard.cli.study import study

app = typer.Typer(
    help="Is there a smaller network as good as yours? Finds tickets, runs the controls, gives a verdict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(study)
app.command()(report)
app.command()(inspect)
app.command()(export)
app.command()(lottery)


def main() -> None:
    """Run the command line."""
    sys.exit(ended(lambda: app(prog_name="scratchcard", standalone_mode=False)))
