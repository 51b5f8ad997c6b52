"""The price of a ticket: parameters, operations and seconds beside the dense network's."""

from __future__ import annotations

from collections.abc import Callable

from scratchcard.evidence.summary import Spread, density_text, finished, spread
from scratchcard.row import Row, Rows

NOTHING = "\N{EN DASH}"


def price(rows: Rows, method: str, level: int) -> list[list[str]]:
    """What a ticket is made of and what it cost.

    Args:
        rows: The rows of one study.
        method: Label of the method.
        level: Pruning round.

    Returns:
        Lines of (quantity, dense, ticket): means over finished runs, with the extremes where they differ.
    """
    dense = [row for row in finished(rows) if row.arm == "dense"]
    ticket = [r for r in finished(rows) if (r.method, r.level, r.arm) == (method, level, "ticket")]

    def line(name: str, value: Callable[[Row], float | None], text: Callable[[float], str]) -> list[str]:
        sides = ([(r.seed, number) for r in side if (number := value(r)) is not None] for side in (dense, ticket))
        return [name, *(_span(spread(side), text) for side in sides)]

    cut = [row for row in ticket if row.macs is not None]
    timed = [row for row in ticket if row.latency is not None]
    return [
        ["finished runs (n)", str(len(dense)), str(len(ticket))],
        line("learnable parameters", lambda row: row.parameters, "{:,.0f}".format),
        line("of these, not cut by the mask", lambda row: row.nonzero, "{:,.0f}".format),
        line("density (weights left)", lambda row: row.density, density_text),
        *([line("multiply-accumulates of one example", _macs, count_text)] if cut else []),
        *([line("latency of one forward pass, ms", _milliseconds, "{:.3g}".format)] if timed else []),
        line("its own training (the marginal cost)", lambda row: row.train_flops, flops_text),
        line("search before it, if nothing were shared", lambda row: row.search_flops, flops_text),
        line("both (the standalone cost)", lambda row: row.search_flops + row.train_flops, flops_text),
        line("wall-clock of its own training, s", lambda row: row.seconds, "{:,.3g}".format),
    ]


def _span(found: Spread | None, text: Callable[[float], str]) -> str:
    if found is None:
        return NOTHING
    mean, low, high = text(found.mean), text(found.low), text(found.high)
    return mean if low == high else f"{mean} ({low} to {high})"


def _macs(row: Row) -> float | None:
    return row.macs


def _milliseconds(row: Row) -> float | None:
    return None if row.latency is None else 1000 * row.latency.median


def flops_text(flops: float) -> str:
    """Floating-point operations with three digits and an SI prefix: 382 GFLOP."""
    return f"{count_text(flops)}FLOP" if flops >= 999.5 else f"{count_text(flops)} FLOP"


def count_text(number: float) -> str:
    """A number with three digits and an SI prefix: 20 M."""
    for prefix in ("", " k", " M", " G", " T", " P"):
        if number < 999.5:
            return f"{number:.3g}{prefix}"
        number /= 1000
    return f"{number:,.3g} E"
