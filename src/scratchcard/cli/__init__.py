"""The command line: one file per verb. A user's mistake is one sentence and exit code 2, nothing lost."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from scratchcard.cli.ends import ended
from scratchcard.words import unknown

VERBS = {
    "study": "Find smaller networks for a task, run the controls that say why they work, and give a verdict.",
    "report": "Judge a study again and write its report; needs no task code and trains nothing.",
    "inspect": "Show the weights of a task's network, which of them can be pruned, and what the network costs.",
    "export": "Write a run's network: safetensors, .pt2, ONNX, a model card, and a load.py that needs torch alone.",
    "lottery": "Compare tickets' original weights with fresh ones: single weights and filters, large and small rate.",
}
"""What each file of this folder does, the first line of its function's own help."""


class Verbs(TyperGroup):
    """The verbs, each imported when it is asked for: help and mistakes in typing never wait for torch."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A verb as help lists it."""
        return TyperCommand(cmd_name, help=VERBS[cmd_name]) if cmd_name in VERBS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The verb that was typed, as it runs."""
        name, *rest = args
        if name not in VERBS:
            raise ValueError(unknown("command", name, VERBS))
        one = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        one.command(name)(getattr(import_module(f"scratchcard.cli.{name}"), name))
        return name, typer.main.get_command(one), rest


app = typer.Typer(
    cls=Verbs,
    help="Is there a smaller network as good as yours? Finds tickets, runs the controls, gives a verdict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _verbs() -> None:
    """Needed by typer: the group has commands that it does not know of."""


def main() -> None:
    """Run the command line."""
    sys.exit(ended(lambda: app(prog_name="scratchcard", standalone_mode=False)))
