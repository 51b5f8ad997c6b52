"""Networks that nobody here wrote: can what is offered be cut, is it right, and how much of them is offered?

python benchmarks/foreign_zoo.py measure WHERE [--minutes 50] [--dry-run]
python benchmarks/foreign_zoo.py WHERE
python benchmarks/foreign_zoo.py
python benchmarks/foreign_zoo.py types

The first appends a row for every network that WHERE (a file of JSON lines) does not have yet, until the minutes are
over: call it again until nothing is left. The second writes docs/results/rows from WHERE, and then the page; the third
writes the page again. The last makes the list of model types anew, which is in tests/networks/foreign.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pages import main, records_page, table

ZOO = Path(__file__).resolve().parent.parent / "tests" / "networks"
"""Where the networks are: the folder `foreign`."""
LIMIT = 150.0
"""Seconds of the clock for one network."""
LARGEST = 300_000
"""A network of more parameters from the small configuration is none: it has sizes of its own."""
Row = dict[str, Any]
TRIED = "cutting it was tried"
"""What the reason of a site says that the gate refused when it was found."""
OUTCOMES = ("exact", "refused", "wrong", "crash")


# measuring


def measure(arguments: Sequence[str]) -> None:
    """Append rows of networks that are not measured yet, in an order that makes a part of them a fair sample."""
    parser = argparse.ArgumentParser(prog="foreign_zoo.py measure")
    parser.add_argument("where", type=Path)
    parser.add_argument("--minutes", type=float, default=50)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    asked = parser.parse_args(arguments)
    _ready()
    from foreign.listed import apart, networks
    from foreign.measured import measured

    every = networks()
    have = {row["name"] for row in read(asked.where)}
    names = [name for name in asked.only or random.Random(0).sample(list(every), len(every)) if name not in have]
    if asked.dry_run:
        print(f"{len(every)} networks, {len(names)} to measure:", *names, sep="\n")
        return
    end = time.monotonic() + 60 * asked.minutes
    with asked.where.open("a", encoding="utf-8") as file:
        for name in names:
            if time.monotonic() > end:
                break
            kind = every[name]
            row = {"name": name, **apart(lambda note, kind=kind: measured(kind.make, kind.inputs, note), LIMIT)}
            file.write(json.dumps(row) + "\n")
            file.flush()


def _ready() -> None:
    """Load what every network needs, once."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})
    sys.path.insert(0, str(ZOO))
    warnings.simplefilter("ignore")
    import torch
    import transformers
    from foreign.small_configs import built

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for kind in ("bert", "vit", "resnet"):
        built(kind)


def types() -> None:
    """Build every model type that there is, and write down which are in the zoo, and why others are not."""
    _ready()
    from foreign.listed import TYPES, apart
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    inside: dict[str, str] = {}
    outside: dict[str, str] = {}
    for name in MODEL_MAPPING_NAMES:
        row = apart(lambda _, name=name: _tried(name), 25)
        if "inputs" in row:
            inside[name] = row["inputs"]
        else:
            outside[name] = row.get("why") or f"it ends {row.get('ended', 'without a word')}"
    listed = {"in": dict(sorted(inside.items())), "out": dict(sorted(outside.items()))}
    TYPES.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def _tried(name: str) -> Row:
    from foreign.measured import outputs
    from foreign.small_configs import built, candidates

    began = time.process_time()
    try:
        model = built(name)
    except Exception as error:  # whatever a library's configuration raises: the reason why it is not in the list
        return {"why": f"its small configuration is refused: {_said(error)}"}
    if time.process_time() - began > 10:
        return {"why": "it does not build in 10 s"}
    size = sum(parameter.numel() for parameter in model.parameters())
    if size > LARGEST:
        return {"why": f"its small configuration has {size:,} parameters"}
    told = ""
    for kind, inputs in candidates(model, 2).items():
        try:
            given = outputs(model, inputs)
        except Exception as error:  # whatever a library's network raises on inputs that are not for it
            told = told or _said(error)
            continue
        if given:
            parts = [part for part in vars(model.config).values() if hasattr(part, "to_dict")]
            if len(parts) > 1 and len(inputs) == 1:
                return {"why": f"it is made of several networks and was called with {kind} alone"}
            return {"inputs": kind}
    return {"why": f"no usual input runs: {told}"}


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:140]}"


def read(where: Path) -> list[Row]:
    """The rows that are there."""
    return [json.loads(line) for line in where.read_text(encoding="utf-8").splitlines()] if where.exists() else []


def collect(where: str) -> list[list[Row]]:
    """All rows in the order of the list, with what they were measured with before them."""
    sys.path.insert(0, str(ZOO))
    import torch
    import transformers
    from foreign.listed import known_types, networks

    found = {row["name"]: row for row in read(Path(where))}
    every = networks()
    head = {"torch": torch.__version__, "transformers": transformers.__version__, "out": known_types()["out"]}
    head["lacking"] = [name for name in every if name not in found]
    return [[head, *(found[name] for name in every if name in found)]]


# the page


def outcome(row: Row) -> str:
    """What became of a network, the worst that any mask of offered sites gave."""
    if row.get("crash") or row.get("failed"):
        return "crash"
    if not row.get("read"):
        return "not read" if "why" in row else "out of time"
    found = {cut["outcome"] for cut in row["cuts"]}
    return next((bad for bad in ("wrong", "crash", "refused") if bad in found), "exact" if found else "nothing offered")


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups = {"transformers": "transformers/", "hand-made": "hand-made/"}
    return {name: [row for row in rows if row["name"].startswith(prefix)] for name, prefix in groups.items()}


def _mean(rows: Sequence[Row]) -> float:
    shares = [row["share"] for row in rows if "share" in row]
    return sum(shares) / max(len(shares), 1)


def _counts(rows: Sequence[Row], told: Callable[[Row], str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in Counter(map(told, rows)).most_common()) or "none"


def _other(row: Row) -> str:
    return row.get("torch_pruning", {}).get("outcome", "not known")


def answer(records: list[Row]) -> str:
    """The figures in one sentence."""
    _, *rows = records
    groups = _groups(rows)
    bad = Counter(map(outcome, rows))
    return (
        f"Of {len(rows)} networks {bad['wrong']} wrong, {bad['crash']} crashes, {bad['refused']} with a refused mask; "
        f"{_mean(groups['transformers']):.2f} of the parameters of transformers lie in units"
    )


def page(records: list[Row]) -> str:
    """The page, from what was measured."""
    head, *rows = records
    parts = []
    for name, own in _groups(rows).items():
        read_ones = [row for row in own if row.get("read")]
        cuts = Counter(cut["outcome"] for row in read_ones for cut in row["cuts"])
        both = [row for row in read_ones if row.get("torch_pruning")]
        parts.append([
            name, str(len(own)), _counts(own, outcome), ", ".join(f"{cuts[what]} {what}" for what in OUTCOMES),
            f"{_mean(own):.2f}", _counts(read_ones, _other),
            f"{sum(row['seconds'] for row in read_ones):.0f} / "
            f"{sum(row['torch_pruning']['seconds'] for row in both):.0f}",
        ])  # fmt: skip
    return f"""# Networks that nobody here wrote

Written by `python benchmarks/foreign_zoo.py` from docs/results/rows; torch {head["torch"]}, transformers
{head["transformers"]}, Torch-Pruning 1.6.1, one thread of a CPU. The networks are every model type of transformers that
builds from a small configuration (hidden 32, 2 layers, 4 heads) in 10 s without a download, but for those below, and
hand-made kinds as strangers write them (tests/networks/foreign); their weights are drawn so that
nothing is 0 or 1 by accident.

{_lacking(head)}
From each network half of every ordinary site goes, another time half of all units with heads and choices, another time
some whole branches.

**Exact**: the small network gives what the large one does whose own weights that read the cut units are 0 and
whose weights that make them are drawn anew, twice, on another number of examples than the sites were found with where
the network takes one. **Refused**: the gate did not hand it out. A network has the worst outcome of its masks.
Torch-Pruning cuts half of every group by magnitude; it is told which layers make outputs and nothing of heads.

{table(["networks", "number", "outcome", "masks", "mean share in units", "Torch-Pruning", "CPU s, sites / it"], parts)}

## What keeps parameters out of units

Mean share of a network's parameters, of the transformers.

{table(["reason", "share", "networks"], _reasons(_groups(rows)["transformers"]))}

## Networks of which nothing is offered

{table(["network", "what keeps most of it"], _nothing(rows))}

## What was refused, or worse

{table(["network", "mask", "outcome", "why"], _bad(rows))}

## Every network

Share: of all parameters in a unit of an ordinary site or of heads. Sites: ordinary, heads, choices, branches.

{table(["network", "parameters", "share", "sites", "outcome", "CPU s", "Torch-Pruning", "CPU s"], map(_line, rows))}

## Types that are not in the list

{table(["type", "why"], [[name, why] for name, why in head["out"].items()])}
"""


def _lacking(head: Row) -> str:
    number = len(head["lacking"])
    told = f"{number} networks of the list are not measured yet; those that are were drawn from it at random."
    return f"**{told}**\n" if number else ""


def _reasons(rows: Sequence[Row]) -> list[list[str]]:
    held: Counter[str] = Counter()
    how_many: Counter[str] = Counter()
    for row in rows:
        told: Counter[str] = Counter()
        for why, number in row.get("kept", {}).items():
            told[TRIED if TRIED in why else why] += number / row["parameters"]
        held.update(told)
        how_many.update(told.keys())
    return [[why[:120], f"{share / len(rows):.3f}", str(how_many[why])] for why, share in held.most_common(25)]


def _nothing(rows: Sequence[Row]) -> list[list[str]]:
    return [
        [row["name"], next(iter(row["kept"]), "it has no weights")[:400]] for row in rows if row.get("share") == 0
    ] or [["none", ""]]


def _bad(rows: Sequence[Row]) -> list[list[str]]:
    found: list[list[str]] = []
    for row in rows:
        if not row.get("read"):
            found.append(
                [row["name"], "", outcome(row), str(row.get("why") or row.get("crash") or row.get("ended"))[:200]]
            )
        found += [
            [
                row["name"],
                cut["cut"],
                cut["outcome"],
                cut.get("why", f"{cut.get('gap', 0):.2g} of what is allowed")[:200],
            ]
            for cut in row.get("cuts", [])
            if cut["outcome"] != "exact"
        ]
    return found or [["none", "", "", ""]]


def _line(row: Row) -> list[str]:
    other = row.get("torch_pruning", {})
    sites = " ".join(str(row.get(kind, "")) for kind in ("ordinary", "heads", "choices", "branches"))
    return [row["name"], f"{row.get('parameters', 0):,}", f"{row['share']:.2f}" if "share" in row else "", sites,
            outcome(row), str(row.get("seconds", "")), _other(row), str(other.get("seconds", ""))]  # fmt: skip


PAGE = records_page(
    name="foreign-zoo",
    question="Can the networks of strangers be made smaller, and is what comes out right?",
    command="python benchmarks/foreign_zoo.py",
    rows=["foreign-zoo"],
    write=page,
    answer=answer,
)

if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2:])
    elif sys.argv[1:2] == ["types"]:
        types()
    else:
        main(PAGE, collect)
