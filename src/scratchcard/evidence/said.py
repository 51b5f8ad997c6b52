"""What the methods said about their searches, and what the numbers of a report count, in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from scratchcard.evidence.summary import finished
from scratchcard.evidence.tradeoff import timing_conditions, units_were_cut
from scratchcard.row import Rows


def notes(rows: Rows, method: str, levels: Callable[[int], bool]) -> list[str]:
    """Each sentence that a method left about its search once, with the seeds and levels it was said of.

    Args:
        rows: The rows of one study.
        method: Label of the method.
        levels: Which levels' tickets are asked.
    """
    places: dict[str, dict[int, set[int]]] = {}
    for row in sorted(rows, key=lambda row: (row.level, row.seed)):
        if (row.method, row.arm) == (method, "ticket") and levels(row.level):
            for note in row.search.notes:
                places.setdefault(note, defaultdict(set))[row.level].add(row.seed)
    said = []
    for note, at_levels in places.items():
        by_seeds: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for level, seeds in at_levels.items():
            by_seeds[tuple(sorted(seeds))].append(level)
        where = "; ".join(f"{_named('seed', seeds)} at {_named('level', at)}" for seeds, at in by_seeds.items())
        said.append(f"{note.removesuffix('.')} ({where}).")
    return said


def unsettled(rows: Rows, method: str, level: int) -> list[str]:
    """What a method's tickets are where its search had no early bird; empty where each of its searches had one.

    Args:
        rows: The rows of one study; tickets whose training was lost have no accuracy to speak of.
        method: Label of the method.
        level: Whose tickets are asked.
    """
    place = (method, level, "ticket")
    tickets = {row.seed: row for row in finished(rows) if (row.method, row.level, row.arm) == place}
    searches = {seed: row.search.emergence for seed, row in sorted(tickets.items())}
    never = [seed for seed, search in searches.items() if search is not None and search.emerged is None]
    if not never:
        return []
    were, whose = ("those tickets were", "their") if len(never) > 1 else ("that ticket was", "its")
    seeds = f"{len(tickets)} seed{'s' if len(tickets) > 1 else ''} ({', '.join(map(str, never))})"
    return [
        f"In {len(never)} of {seeds} the masks had not settled by the end of the search: {were} cut there and not "
        f"trained on, so that {whose} accuracy is that of cutting alone."
    ]


def counted(rows: Rows) -> list[str]:
    """What parameters, operations, latency and widths of this page are counts of; empty where no units were cut."""
    if not units_were_cut(rows):
        return []
    sentences = [
        "Parameters: every learnable number of the network as it was trained, biases and normalisation included, "
        "without those that a mask holds at zero.",
        "Widths: units (channels, neurons, heads) that are left of those a site had; a site is one group of layers "
        "whose units can only be cut together.",
    ]
    if any(row.macs is not None for row in rows):
        sentences.append(
            "Multiply-accumulates: of one forward pass of one example, one for each product; weights that are masked "
            "but still there count as dense ones. Many papers call twice this number FLOPs."
        )
    sentences.append(
        "Operations of trainings (FLOP): two for each multiply-accumulate, forward and backward, all steps; the "
        "optimizer, evaluation and data loading are left out. Search is everything that was trained before the ticket."
    )
    sentences.append(
        "Seconds of a search and of a training: of their steps alone, evaluation left out; of the processor where they "
        "ran on a CPU, of the wall on a GPU."
    )
    if conditions := timing_conditions(rows):
        sentences.append(
            f"Latency: median of forward passes in evaluation mode ({'; '.join(conditions)}), of the network as it was "
            "trained, beside whatever else the machine did."
        )
    return sentences


def _named(what: str, numbers: list[int] | tuple[int, ...]) -> str:
    """One or several numbers of a kind: seed 3; seeds 0, 1, 4."""
    return f"{what}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
