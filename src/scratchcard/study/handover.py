"""A run's network as a folder that a stranger can use: the small model, a card that says what it is, how to load it."""

from __future__ import annotations

import importlib.util
import shlex
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path

import torch
from torch import nn

from scratchcard.methods.arms import ARMS
from scratchcard.networks.compact import Compacted, compact
from scratchcard.networks.cost import cost
from scratchcard.networks.dead import dead_units
from scratchcard.networks.exported import export_onnx
from scratchcard.networks.forward import with_state
from scratchcard.networks.latency import latencies
from scratchcard.networks.saved import save
from scratchcard.networks.units import SmallUnits
from scratchcard.row import Row, Rows
from scratchcard.study.execute import Trainings
from scratchcard.study.named import named_study
from scratchcard.study.spec import task_digest
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.study.tickets import kept


@dataclass(frozen=True)
class HandedOver:
    """What lies in the folder now."""

    folder: Path
    files: dict[str, int]
    """File -> bytes."""
    small: Compacted
    row: Row


def find_run(store: Store, run: str) -> tuple[Row, Rows]:
    """The row of a run, by the beginning of its id, and the latest study that it belongs to.

    Raises:
        ValueError: no run, or several, begin so; the run is not of a ticket or has no trained weights.
    """
    fitting = sorted(name for name in store.row_ids() if name.startswith(run))
    if len(fitting) != 1:
        told = "none" if not fitting else f"{len(fitting)}, e.g. {', '.join(fitting[:3])}"
        raise ValueError(f"one run whose id begins with {run!r} was needed, the store has {told}; give more of the id")
    row = store.row(fitting[0])
    assert row is not None, "a row that is listed is there"
    if not can_be_handed_over(row):
        raise ValueError(
            f"run {row.id} is {row.arm}, {row.status}; dense networks, tickets, and small networks of known controls "
            "that are done can be handed over"
        )
    rows = next((rows for rows in store.studies() if any(own.id == row.id for own in rows)), None)
    if rows is None:
        raise ValueError(f"run {row.id} belongs to no study that is declared in the store; run the study again")
    return row, rows


def can_be_handed_over(row: Row) -> bool:
    """Whether a run has a network of its own: the dense one, a ticket, or a control trained in its small form."""
    small_control = bool(row.widths) and row.arm in ARMS
    return row.status == "done" and row.end is not None and (row.arm in ("ticket", "dense") or small_control)


def study_of_command(command: str) -> Study:
    """The study that a recorded command names, with the options of its data.

    Raises:
        ValueError: the command was not typed on the command line, or its task is not there any more.
    """
    words = shlex.split(command)
    if words[:1] != ["scratchcard"] or words[1:2] not in (["study"], ["lottery"]) or len(words) < 3:
        raise ValueError("the study was not run from the command line, so its task is not known; name it with --task")
    pairs = [after for word, after in pairwise(words) if word == "--data"]
    return named_study(words[2], dict(pair.split("=", 1) for pair in pairs))


def hand_over(store: Store, run: str, folder: Path, study: Study | None = None, verdict: str = "") -> HandedOver:
    """Write the trained network of a run: small.safetensors' folder, ONNX where it can be, a card and an example.

    Args:
        store: where the run is.
        run: the beginning of its id.
        folder: a new or empty one.
        study: the study's task; None: as the recorded command names it.
        verdict: what the study says, for the card.

    Raises:
        ValueError: as `find_run`, `study_of_command`, `compact` and `save`; the task has changed since.
    """
    row, rows = find_run(store, run)
    study = study or study_of_command(rows.study.command)
    task = study.task
    if task_digest(task) != row.task_digest:
        raise ValueError(
            f"task {task.name!r} is not what it was when run {row.id} was made (code or data have changed); "
            "give the task as it was with --task"
        )
    end = row.artefacts.get(f"step-{row.recipe['steps']}")
    if end is None:
        raise ValueError(f"run {row.id} kept no trained weights; run the study again in a new store")
    state, dense = store.tensors(end), task.fresh(0)
    small = _small(store, row, rows, study, state)
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"model/{name}": size for name, size in save(small, folder / "model").bytes.items()}
    inputs = task.example_inputs(8)
    if importlib.util.find_spec("onnx") is not None and importlib.util.find_spec("onnxruntime") is not None:
        files["model.onnx"] = export_onnx(small.module, inputs, folder / "model.onnx").bytes
    timed = latencies([dense, small.module], inputs)
    card = _card(row, rows, small, dense, [str(one) for one in timed], files, verdict, task.example_inputs(2))
    for name, text in (("README.md", card), ("load.py", _example(rows))):
        (folder / name).write_text(text, encoding="utf-8")
        files[name] = len(text.encode())
    return HandedOver(folder, files, small, row)


def _small(store: Store, row: Row, rows: Rows, study: Study, state: dict[str, torch.Tensor]) -> Compacted:
    """The trained network, physically small where units were cut, or are not read any more."""
    task = study.task
    trainings = Trainings(task, study.recipe, store, study.causes)
    inputs = task.example_inputs()
    if row.arm != "dense":
        of = next(r for r in rows if (r.method, r.seed, r.level, r.arm) == (row.method, row.seed, row.level, "ticket"))
        # its mask and weights are in the store; the method that found it plays no part here
        ticket = kept(store, of.id, study.methods[0], task, lambda: trainings.sites)
        if row.arm != "ticket":
            ticket = next(islice(ARMS[row.arm](ticket, study.recipe, row.seed, task), row.replicate, None))
        if isinstance(ticket.subnetwork, SmallUnits):
            made = compact(task.fresh(0), ticket.subnetwork.mask, inputs, trainings.sites)
            return replace(made, module=with_state(made.module, state).eval())
    model = with_state(task.fresh(0), state)
    try:
        sites = trainings.sites
    except ValueError as error:  # a network that cannot be read is handed over whole
        return Compacted(model.eval(), {}, {}, {"the whole network": str(error)}, 0.0)
    dead = dead_units(model, sites, inputs)
    made = compact(with_state(model, {**state, **dead.folded}), dead.mask, inputs, sites)
    kept_whole = {**made.kept_whole, **{f"{site} (dead units)": why for site, why in dead.kept.items()}}
    return replace(made, kept_whole=kept_whole, error=max(made.error, dead.error))


def _card(
    row: Row,
    rows: Rows,
    small: Compacted,
    dense: nn.Module,
    timed: list[str],
    files: dict[str, int],
    verdict: str,
    x: object,
) -> str:
    study = rows.study
    costs = [cost(net, x) for net in (dense, small.module)]  # pyright: ignore[reportArgumentType]
    assert row.end is not None, "a run that is done has an end"
    shown = f"{100 * row.end.test_metric:.2f} %" if study.metric_is_fraction else f"{row.end.test_metric:.4g}"
    kept_whole = "\n".join(f"- {layer}: {reason}" for layer, reason in small.kept_whole.items()) or "- nothing"
    return f"""# {study.task}: {row.arm} of {row.method}, level {row.level}, seed {row.seed}

Test {study.metric} at the end of training: **{shown}** (one run, n = 1; the study has {len(study.seeds)} seeds).
Data: {study.data}. Found by {row.method} ({_fields(row)}), density {100 * row.density:.4g} % of the weights.

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

Kept whole:

{kept_whole}

## What the study says

```
{verdict or "not judged"}
```

Run {row.id}, made by `{study.command}`. Digests detect damage, not attackers.
"""


def _fields(row: Row) -> str:
    """The method's hyper-parameters that say something, in words."""
    said = {name: value for name, value in row.method_fields.items() if value not in (None, "", (), [], False)}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in said.items()) or "without hyper-parameters"


def _example(rows: Rows) -> str:
    words = shlex.split(rows.study.command)
    told = words[:1] == ["scratchcard"] and words[1:2] in (["study"], ["lottery"]) and len(words) > 2
    task = words[2] if told else "TASK"
    return f'''"""Load the network that lies beside this file, and run it on one batch."""

from pathlib import Path

import scratchcard as sc

study = sc.named_study({task!r})  # the task: its model factory, its data
network = sc.load(Path(__file__).parent / "model", model=study.task.model).module
print(network(study.task.example_inputs(4)))
'''
