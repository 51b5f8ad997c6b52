"""What a store survives: kills, many who begin it, containers with equal process ids, machines on a share, damage.

python benchmarks/faults.py measure
python benchmarks/faults.py

The first command does to a tiny study all that the page says, and writes docs/results/rows, then the page; the second
writes the page again. `tests/study/test_faults.py` does the same, fewer times.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from pages import main, records_page, table

from scratchcard.study import claims, place
from scratchcard.study.named import named_study
from scratchcard.study.store import Damaged, Store
from scratchcard.study.study import Study, read
from scratchcard.study.tickets import Facts
from scratchcard.training import measure

TASK = """
import torch
from torch import nn
import scratchcard as sc

chance = torch.Generator().manual_seed(0)

def examples(n):
    inputs = torch.randn(n, 4, generator=chance)
    return inputs, (inputs[:, 0] > 0).long()

def network():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

task = sc.Task("tiny", network, sc.Data.from_tensors("tiny", examples(60), examples(30), examples(30)))
recipe = sc.Recipe(steps=30, batch_size=10, eval_every=10, lr=0.01)
methods = [sc.IMP(rounds=2, rewind=10), sc.IMP(rounds=1, scope="global")]
"""
SEEDS = 2
ARMS = ["fresh-init", "random-mask-layerwise"]
FORK = multiprocessing.get_context("fork")


class Bench:
    """A task file in a folder, and what its study leaves when nothing goes wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "tiny.py"
        self.file.write_text(TASK)
        torch.set_num_threads(1)  # processes are forked from this one
        self._study = replace(named_study(str(self.file)), seeds=SEEDS, arms=ARMS)
        self.run(folder / "untouched")
        self.wanted = left(folder / "untouched")
        self.runs = len(list((folder / "untouched" / "rows").iterdir()))

    def study(self, store: Path) -> Study:
        """The study in a store of its own."""
        return replace(self._study, store=store)

    def run(self, store: Path) -> None:
        """Run it in this process."""
        self.study(store).run(workers=1, progress=False)

    def judged(self, store: Path, whole: bool = True) -> Counter[str]:
        """How many rows and files are lost (if the store should be `whole`), doubled or wrong."""
        found = left(store)
        lost = len(self.wanted.keys() - found.keys()) if whole else 0
        wrong = sum(self.wanted.get(name) != content for name, content in found.items() if name in self.wanted)
        return Counter(lost=lost, doubled=len(found.keys() - self.wanted.keys()), wrong=wrong)


def left(store: Path) -> dict[str, Any]:
    """All that a store keeps of its runs, but for seconds; snapshots as their bytes."""
    found: dict[str, Any] = {}
    for path in sorted(store.glob("rows/[!.]*")):
        row = json.loads(path.read_bytes())
        timed = ("seconds", "training_seconds", "latency", "digest", "search")
        found[path.name] = {name: value for name, value in row.items() if name not in timed}
    for path in [*store.glob("snapshots/*/[!.]*"), *store.glob("tickets/[!.]*.safetensors")]:
        found[path.relative_to(store).as_posix()] = path.read_bytes()
    return found


def killed(bench: Bench, times: int, commands: int, seed: int) -> dict[str, Any]:
    """A study is killed at random moments and started again; begun anew in a fresh store whenever it got to its end.

    Args:
        bench: what is run.
        times: kills in all.
        commands: so many of them of the command with two workers, the others of one process.
        seed: of the moments.
    """
    chance, faults, finished = random.Random(seed), Counter[str](), 0
    store = bench.folder / "killed-0"
    began = time.monotonic()
    child = FORK.Process(target=bench.run, args=(bench.folder / "timed",))
    child.start()
    child.join()
    alone = time.monotonic() - began
    for at in range(times):
        if at < commands:
            words = ["study", str(bench.file), "--seeds", str(SEEDS), "--controls", ",".join(ARMS), "--workers", "2"]
            process = subprocess.Popen(
                [sys.executable, "-m", "scratchcard", *words, "--store", str(store), "--report", os.devnull],
                cwd=bench.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, 3 * alone + 4))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            child = FORK.Process(target=bench.run, args=(store,))
            child.start()
            child.join(chance.uniform(0, alone / 3))
            child.kill()
            child.join()
        if (store / "rows").is_dir():
            faults += bench.judged(store, whole=False)
        if len(list(store.glob("rows/*.json"))) == bench.runs:
            bench.run(store)
            faults += bench.judged(store)
            finished += 1
            store = bench.folder / f"killed-{finished}"
    bench.run(store)
    faults += bench.judged(store)
    what = f"{times} SIGKILLs at random moments, {commands} of them of the command with two workers"
    return {"what": what, "times": times, "runs": bench.runs * (finished + 1), **_plain(faults)}


def begun(bench: Bench, stores: int, processes: int = 4) -> dict[str, Any]:
    """Several processes begin one fresh store at once, declare a study in it and write a row; again and again."""
    rows = list(read(bench.folder / "untouched")[0])[:processes]
    spec = bench.study(bench.folder).spec
    gate, refused = FORK.Barrier(processes), FORK.Value("i", 0)

    def begin(own: int) -> None:
        for at in range(stores):
            gate.wait()
            try:
                store = Store(bench.folder / f"begun-{at}")
                store.clear_leftovers()
                store.write_study(f"{own:024d}", spec, [row.id for row in rows])
                store.write_row(rows[own])
                store.write_row(rows[0])
            except ValueError as error:
                print(error)
                with refused.get_lock():
                    refused.value += 1

    _together([lambda own=own: begin(own) for own in range(processes)])
    faults = Counter(wrong=refused.value)
    for at in range(stores):
        found = read(bench.folder / f"begun-{at}")
        faults["lost"] += sum(len(rows) - len(found_in) for found_in in found) + processes - len(found)
    what = f"{processes} processes begin one fresh store at once, {stores} times"
    return {"what": what, "times": stores * processes, "runs": stores * processes, **_plain(faults)}


def logged(bench: Bench, store: Path, name: str) -> None:
    """Run the study, and write down how many trainings were begun."""
    with mock.patch.object(measure, "train", wraps=measure.train) as train:
        bench.run(store)
    (bench.folder / f"{store.name}-{name}.log").write_text(str(train.call_count))


def trained(bench: Bench, store: Path) -> int:
    """How many trainings all have begun."""
    return sum(int(path.read_text()) for path in bench.folder.glob(f"{store.name}-*.log"))


def contained(bench: Bench, stores: int, containers: int = 3) -> dict[str, Any]:
    """Several containers with equal process ids work on one store: by `unshare` where it may be, else as if."""
    real = subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode == 0
    faults: Counter[str] = Counter()
    for at in range(stores):
        store = bench.folder / f"contained-{at}"

        def inside(own: int, store: Path = store) -> None:
            if real:
                os.unshare(os.CLONE_NEWPID) if hasattr(os, "unshare") else _unshare()
                if child := os.fork():  # the first child is process 1 of the new namespace
                    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                assert os.getpid() == 1, "a container of its own"
                logged(bench, store, str(own))
                os._exit(0)
            with mock.patch("os.getpid", return_value=7), mock.patch.object(place, "_namespace", return_value=str(own)):
                logged(bench, store, str(own))

        _together([lambda own=own: inside(own) for own in range(containers)])
        faults += bench.judged(store)
        faults["twice"] += trained(bench, store) - bench.runs
    what = f"{containers} containers {'' if real else '(played) '}whose processes have equal ids share a store"
    return {"what": what, "times": stores * containers, "runs": stores * bench.runs, **_plain(faults)}


def shared(bench: Bench, stores: int, hosts: int = 2) -> dict[str, Any]:
    """Machines of different names work on one store; in every second one, one of them is killed on its way."""
    faults: Counter[str] = Counter()
    for at in range(stores):
        store = bench.folder / f"shared-{at}"

        def on(own: int, store: Path = store) -> None:
            with mock.patch.object(place, "host", return_value=f"host {own}"), mock.patch.object(claims, "WINDOW", 6.0):
                logged(bench, store, str(own))

        _together([lambda own=own: on(own) for own in range(hosts)], kill=1.0 if at % 2 else None)
        faults += bench.judged(store)
        if at % 2 == 0:
            faults["twice"] += trained(bench, store) - bench.runs
    what = f"{hosts} hosts share a store; in {stores // 2} of {stores} stores one is killed and the other goes on"
    return {"what": what, "times": stores * hosts, "runs": stores * bench.runs, **_plain(faults)}


KINDS = ("rows/*.json", "studies/*.json", "tickets/*.json", "tickets/*.safetensors", "snapshots/*/*", "store.json")


def damaged(bench: Bench, times: int, seed: int) -> dict[str, Any]:
    """A file of a finished store is damaged or edited, and some rows taken away that may need it; then the study runs.

    What nothing needed is read afterwards: it must be refused, and be right after one more run.
    """
    chance, faults, how = random.Random(seed), Counter[str](), Counter[str]()
    store = bench.folder / "damaged"
    bench.run(store)
    for at in range(times):
        path = chance.choice(sorted(store.glob(KINDS[at % len(KINDS)])))
        before = path.read_bytes()
        name, after = chance.choice([*_damages(path, before, chance)])
        path.write_bytes(after)
        how[name] += 1
        for row in chance.sample(sorted(store.glob("rows/*.json")), 3):
            if row != path:
                row.unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if chance.random() < 0.5:
                read(store)
            bench.run(store)
            if path.suffix == ".safetensors" and path.read_bytes() != before:  # nothing needed it
                faults["wrong"] += not _is_refused(store, path)
                bench.run(store)
        faults += bench.judged(store)
        faults["lost"] += len(read(store)) != 1
    what = "files damaged or edited: " + ", ".join(f"{n} {name}" for name, n in sorted(how.items()))
    return {"what": what, "times": times, "runs": bench.runs, **_plain(faults)}


def _damages(path: Path, content: bytes, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """What can happen to a file, by name."""
    at = chance.randrange(len(content))
    yield "truncated", content[:at]
    yield "bits flipped", content[:at] + bytes([content[at] ^ (1 << chance.randrange(8))]) + content[at + 1 :]
    others = [other for other in path.parent.glob(f"*{path.suffix}") if other != path]
    if others:
        yield "another's", chance.choice(others).read_bytes()
    if path.suffix == ".json":
        places = [at for at, byte in enumerate(content) if chr(byte).isdigit()]
        at = chance.choice(places)
        other = str((int(chr(content[at])) + chance.randrange(1, 10)) % 10).encode()
        yield "digits edited", content[:at] + other + content[at + 1 :]
        values = json.loads(content)
        yield "fields added", json.dumps(values | {"surprise": 1}).encode()
        if path.name != "store.json":  # of earlier versions it has none, and is taken as it is
            values.pop("digest")
            yield "digests removed", json.dumps(values).encode()


def _is_refused(store: Path, path: Path) -> bool:
    """Whether a damaged file of tensors is seen by whoever reads it, by the row or ticket that names it."""
    opened = Store(store)
    name = path.relative_to(store).as_posix()
    rows = [row for run in opened.row_ids() if (row := opened.row(run)) is not None]
    artefacts = [artefact for row in rows for artefact in row.artefacts.values() if artefact.file == name]
    try:
        if path.parent.name == "tickets":
            opened.ticket(path.stem, Facts)
        for artefact in artefacts:
            opened.tensors(artefact)
    except Damaged:
        return True
    return not artefacts and path.parent.name != "tickets"


def _together(jobs: Sequence[Callable[[], None]], kill: float | None = None) -> None:
    """Run each in a process of its own, all at once; `kill` the first after so many seconds."""
    children = [FORK.Process(target=job) for job in jobs]
    for child in children:
        child.start()
    if kill is not None:
        children[0].join(kill)
        children[0].kill()
    for child in children:
        child.join()
    bad = [child.exitcode for child in children[0 if kill is None else 1 :] if child.exitcode]
    if bad:
        raise RuntimeError(f"a process ended with {bad}")


def _unshare() -> None:
    """What os.unshare does from Python 3.12 on."""
    import ctypes

    new_pid = 0x20000000
    if ctypes.CDLL(None, use_errno=True).unshare(new_pid):
        raise OSError(ctypes.get_errno(), "unshare")


def _plain(faults: Counter[str]) -> dict[str, int]:
    return {name: faults[name] for name in ("lost", "doubled", "wrong", "twice")}


def everything(folder: Path, share: float = 1.0, seed: int = 0) -> Iterator[dict[str, Any]]:
    """All of it, or a share of each; what each found."""

    def times(number: int) -> int:
        return max(2, round(share * number))

    bench = Bench(folder)
    yield killed(bench, times(60), times(12), seed)
    yield begun(bench, times(50))
    yield contained(bench, times(5))
    yield shared(bench, times(6))
    yield damaged(bench, times(100), seed)


def collect(_: str) -> list[list[dict[str, Any]]]:
    seed = random.SystemRandom().randrange(10**6)
    records: list[dict[str, Any]] = [{"seed": seed, "torch": torch.__version__}]
    with tempfile.TemporaryDirectory() as folder:
        for record in everything(Path(folder), seed=seed):
            print(record, flush=True)
            records.append(record)
    return [records]


def write(records: Sequence[dict[str, Any]]) -> str:
    """The page in Markdown."""
    asked, *done = records
    shown = ("times", "runs", "lost", "doubled", "wrong", "twice")
    lines = [[record["what"], *(f"{record[name]:,}" for name in shown)] for record in done]
    parts = [
        "# What a store survives",
        "A tiny study is hurt in many ways; then the same command is run to its end, and everything in its store "
        "compared, bit for bit but for times, with the store of a study that nothing happened to: rows with their "
        'curves and digests, bytes of snapshots and of masks. "Twice" counts trainings that were done more often than '
        "once by processes that shared a store and were not killed.",
        table(["what was done", "times", "runs compared", "lost", "doubled", "wrong", "trained twice"], lines),
        f"```\n{PAGE.command} measure\n{PAGE.command}\n```",
        f"Seed of the moments and places: `{asked['seed']}`. torch {asked['torch']}. Not measured on a real share of "
        "several machines: hosts are processes of different host names.",
    ]
    return "\n\n".join(parts) + "\n"


def answer(records: Sequence[dict[str, Any]]) -> str:
    """Whether anything was lost."""
    faults = sum(record[name] for record in records[1:] for name in ("lost", "doubled", "wrong", "twice"))
    times = sum(record["times"] for record in records[1:])
    return f"After {times:,} kills, races and damaged files, {faults or 'none'} of the rows lost, doubled or wrong."


PAGE = records_page(
    name="faults",
    question="Are rows lost, doubled or wrong after kills, races and damage?",
    command="python benchmarks/faults.py",
    rows=["faults"],
    write=write,
    answer=answer,
)

if __name__ == "__main__":
    main(PAGE, collect)
