"""The card beside a handed-over network: what it is, how to use it, what it costs, what the study says of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from torch import nn

from scratchcard.networks.compact import Compacted
from scratchcard.networks.cost import cost
from scratchcard.networks.latency import Latency
from scratchcard.row import Row, Rows
from scratchcard.study.named import named_study
from scratchcard.study.study import Study
from scratchcard.types import Tensors
from scratchcard.words import one_line, printable


@dataclass(frozen=True)
class Asked:
    """A task as it is given on the command line; in load.py for whoever wants the module."""

    task: str = ""
    """Empty where the study is an object of a Python program."""
    data: dict[str, str] = field(default_factory=dict)

    def study(self) -> Study:
        """What it stands for."""
        return named_study(self.task, self.data)


FENCE = "```"
WHAT = {
    "load.py": "loads and runs the network with torch alone; says at its end how to get the module to train on",
    "model.pt2": "the network for `torch.export.load`",
    "model.onnx": "the network for ONNX Runtime and others",
    "manifest.json": "how the task's network is cut to fit the weights: `scratchcard.load`",
    "README.md": "this card",
}
"""File -> what it is; others are weights."""


@dataclass(frozen=True)
class Carded:
    """What a card tells."""

    row: Row
    rows: Rows
    """Of the latest study that the row belongs to."""
    small: Compacted
    dense: nn.Module
    batch: Tensors
    latency: tuple[Latency, Latency]
    """Of the dense network and the small one."""
    files: dict[str, int]
    """File -> bytes."""
    call: str
    """How the network is called, in Python."""
    inputs: list[str]
    """What it is called with, in lines."""
    notes: list[str]
    verdict: str


def names_of(rows: Rows) -> dict[str, str]:
    """Id of a run -> its name, by method, arm, which of several draws, level and seed."""
    draws = Counter(map(_drawn, rows))
    return {row.id: _name(row, draws[_drawn(row)]) for row in rows}


def _drawn(row: Row) -> tuple[str, str, int, int]:
    """What the draws of a control have in common."""
    return row.method, row.arm, row.level, row.seed


def _name(row: Row, draws: int) -> str:
    draw = f", draw {row.replicate + 1} of {draws}" if draws > 1 else ""
    return (
        f"dense, seed {row.seed}"
        if row.arm == "dense"
        else (f"{row.method} {row.arm}{draw}, level {row.level}, seed {row.seed}")
    )


def about(row: Row, rows: Rows) -> list[str]:
    """What a network is, in a title and a sentence; printable lines without marks."""
    assert row.end is not None, "a run that is done has an end"
    shown = f"{100 * row.end.test_metric:.2f} %" if rows.study.metric_is_fraction else f"{row.end.test_metric:.4g}"
    seeds = f"{len(rows.study.seeds)} seed{'s' if len(rows.study.seeds) != 1 else ''}"
    return [
        one_line(f"{rows.study.task}: {names_of(rows)[row.id]}"),
        one_line(f"Test {rows.study.metric} at the end of training: {shown} (one run, n = 1; the study has {seeds})."),
    ]


def card_of(told: Carded) -> str:
    """The model card, in Markdown; what the store says is printable and stays within its lines."""
    row, study, small = told.row, told.rows.study, told.small
    title, measured = about(row, told.rows)
    kept_whole = "\n".join(f"- {layer}: {reason}" for layer, reason in small.kept_whole.items()) or "- nothing"
    found = "Nothing was cut from it on purpose."
    if row.arm != "dense":
        what = "Found by" if row.arm == "ticket" else f"The control {row.arm} of a ticket found by"
        found = f"{what} {row.method} ({_fields(row)}), density {100 * row.density:.4g} % of the weights."
    runs = "`python load.py` runs it; nothing but torch is needed." if "model.pt2" in told.files else ""
    use = f"{FENCE}python\nfrom load import model\n\noutputs = {told.call}\n{FENCE}\n\n" if runs else ""
    return printable(f"""# {title}

{measured}
Data: {one_line(study.data)}.
{one_line(found)}

## Use it

{runs}

{use}{_listed(told.inputs)}

{_paragraphs(told.notes)}| file | bytes | |
| --- | --- | --- |
{_files(told.files)}

{_shown(told.files)}Digests detect damage, not attackers.

## What it costs

{_costs(told)}

Kept whole, and why:

{kept_whole}

## What the study says

{FENCE}
{told.verdict.replace(FENCE, "'''") or "not judged"}
{FENCE}

Run {row.id}, made by `{one_line(study.command).replace("`", "'")}`.
""")


def _listed(lines: list[str]) -> str:
    return "\n".join(f"- {one_line(line)}" for line in lines)


def _paragraphs(lines: list[str]) -> str:
    return "".join(f"{one_line(line)}\n\n" for line in lines)


def _files(files: dict[str, int]) -> str:
    what = {name: WHAT.get(name.rpartition("/")[2], "the weights, as safetensors") for name in files}
    lines = [f"| {name} | {size:,} | {what[name]} |" for name, size in files.items()]
    return "\n".join([*lines, f"| README.md | | {WHAT['README.md']} |"])


def _shown(files: dict[str, int]) -> str:
    run = " and ".join(name for name in ("model.pt2", "model.onnx") if name in files)
    return f"Read again, run and compared with the network before they were put here: {run}.\n" if run else ""


def _costs(told: Carded) -> str:
    """Dense and small beside each other."""
    dense, small = (cost(net, told.batch) for net in (told.dense, told.small.module))
    zeros = sum(int((one == 0).sum()) for one in told.small.module.parameters())
    times = [
        f"{1000 * one.median:.3g} ms [{', '.join(f'{1000 * q:.3g}' for q in one.quartiles)}]" for one in told.latency
    ]
    timed, error = told.latency[0], told.small.error
    lines = [
        "| | dense | this network |",
        "| --- | --- | --- |",
        f"| parameters | {dense.parameters:,} | {small.parameters:,} |",
        f"| of these 0 | | {zeros:,} |",
        f"| multiply-accumulates (MACs) | {dense.macs:,.0f} | {small.macs:,.0f} |",
        f"| bytes of activations alive at once | {dense.activation_bytes:,.0f} | {small.activation_bytes:,.0f} |",
        f"| latency | {times[0]} | {times[1]} |",
        "",
        f"MACs and bytes are of one example; not counted in MACs: {', '.join(small.uncounted) or 'nothing'}. "
        f"Latency: a batch of {timed.batch}, {timed.device}, {timed.threads} thread{'s' * (timed.threads != 1)}, "
        f"median and quartiles of {timed.runs} runs, where this was written.",
        "",
        "The small network was compared with the large one whose units are silenced: they "
        + (f"differ by {error:.1g} of the largest number of an output." if error else "are equal."),
    ]
    if told.row.nonzero < told.row.parameters:
        lines += ["", "Single weights were cut: they are zeros in its tensors, and are multiplied like other numbers."]
    return "\n".join(lines)


def _fields(row: Row) -> str:
    """The method's hyper-parameters that say something, in words."""
    said = {name: value for name, value in row.method_fields.items() if value not in (None, "", (), [], False)}
    return ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in said.items()) or (
        "without hyper-parameters"
    )


def _value(value: object) -> str:
    """A number, a name, or shares of several kinds of layers."""
    if isinstance(value, dict):
        return " and ".join(f"{one} of {name} layers" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
