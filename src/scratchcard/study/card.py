"""What lies beside a handed-over network in words: a card that says what it is, and a program that loads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from scratchcard.networks.compact import Compacted
from scratchcard.networks.cost import cost
from scratchcard.row import Row, Rows
from scratchcard.study.named import named_study
from scratchcard.study.study import Study
from scratchcard.words import one_line, printable


@dataclass(frozen=True)
class Asked:
    """A task as it is given on the command line; in load.py, whose reader may have it elsewhere."""

    task: str = ""
    """Empty where the study is an object of a Python program."""
    data: dict[str, str] = field(default_factory=dict)

    def study(self) -> Study:
        """What it stands for."""
        return named_study(self.task, self.data)


def card_of(
    row: Row,
    rows: Rows,
    small: Compacted,
    dense: nn.Module,
    timed: list[str],
    files: dict[str, int],
    without: str,
    verdict: str,
    x: object,
) -> str:
    """The model card, in Markdown; what the store says is printable and stays within its lines."""
    study = rows.study
    fence = "```"
    said = verdict.replace(fence, "'''") or "not judged"
    no_onnx = f"\nThere is no ONNX file: {one_line(without)}\n" if without else ""
    costs = [cost(net, x) for net in (dense, small.module)]  # pyright: ignore[reportArgumentType]
    assert row.end is not None, "a run that is done has an end"
    shown = f"{100 * row.end.test_metric:.2f} %" if study.metric_is_fraction else f"{row.end.test_metric:.4g}"
    kept_whole = "\n".join(f"- {layer}: {reason}" for layer, reason in small.kept_whole.items()) or "- nothing"
    title = one_line(f"{study.task}: {row.arm} of {row.method}")
    found = f"{row.method} ({_fields(row)}), density {100 * row.density:.4g} % of the weights."
    measured = f"Test {one_line(study.metric)} at the end of training"
    return printable(f"""# {title}, level {row.level}, seed {row.seed}

{measured}: **{shown}** (one run, n = 1; the study has {len(study.seeds)} seeds).
Data: {one_line(study.data)}. Found by {one_line(found)}

| | dense | this network |
| --- | --- | --- |
| parameters | {costs[0].parameters:,} | {costs[1].parameters:,} |
| of these not zero | {costs[0].parameters:,} | {row.nonzero:,} |
| MACs per example | {costs[0].macs:,.0f} | {costs[1].macs:,.0f} |
| activations alive at once, bytes per example | {costs[0].activation_bytes:,.0f} | {costs[1].activation_bytes:,.0f} |
| latency | {timed[0]} | {timed[1]} |

Files: {", ".join(f"{name} ({size:,} bytes)" for name, size in files.items())}. The small network was compared with the
masked large one: relative difference {small.error:.1g} in float64. Not counted in MACs:
{", ".join(costs[1].uncounted) or "nothing"}.
{no_onnx}
Kept whole:

{kept_whole}

## What the study says

{fence}
{said}
{fence}

Run {row.id}, made by `{one_line(study.command).replace("`", "'")}`. Digests detect damage, not attackers.
""")


def _fields(row: Row) -> str:
    """The method's hyper-parameters that say something, in words."""
    said = {name: value for name, value in row.method_fields.items() if value not in (None, "", (), [], False)}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in said.items()) or "without hyper-parameters"


def example_of(asked: Asked) -> str:
    """The program beside the network; nothing that only a store says is run by it."""
    given = f"(sys.argv[1:] or [{asked.task!r}])[0]" if asked.task else "sys.argv[1]"
    usage = "[TASK]" if asked.task else "TASK"
    data = f", {asked.data!r}" if asked.data else ""
    return f'''"""Load the network that lies beside this file, and run it on one batch: python load.py {usage}."""

import sys
from pathlib import Path

import scratchcard as sc

# TASK is a built-in name, path/to/file.py[:name] or package.module:name; it has the model's factory and the data
study = sc.named_study({given}{data})
network = sc.load(Path(__file__).parent / "model", model=study.task.model).module
print(network(study.task.example_inputs(4)))
'''
