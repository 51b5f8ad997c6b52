"""A folder of finished runs. Existence means completion: artefacts first, the row last, each by atomic rename.

    store.json                      the format's version
    rows/ID.json                    one finished run
    tickets/ID.json, ID.safetensors one found ticket: where it came from, and its mask
    snapshots/ID/STEP.safetensors   weights and buffers of a run at a step
    studies/ID.json                 what a study declared before it ran
    claims/ID.json                  who is at work on what (`study/claims.py`)
    proofs/DIGEST.json              which sites of a network can be cut (`study/proofs.py`)
    damaged/                        what was not as it was written, set aside

ID is the digest of a run's causes, so two writers of one ID write the same content. Everything has a digest
(`study/sealed.py`); digests detect damage, not attackers. What is damaged is set aside, never removed, and its run is
done again. What the system does not give is not damaged. Nothing is ever pickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from scratchcard.earlier import as_today
from scratchcard.row import FORMAT, VERSION, Artefact, Frozen, Row, Rows, StudySpec
from scratchcard.study import disk
from scratchcard.study.disk import Damaged, Gone, StoreError, is_leftover
from scratchcard.study.sealed import Kind, Spoilt, in_short, newer, seal, understood, unseal
from scratchcard.study.spec import RunSpec
from scratchcard.types import State


class Declaration(Frozen):
    """A study as it was declared before it ran."""

    id: str = ""
    """Empty in studies declared before this was recorded."""
    declared: int = 0
    """Higher than that of every study declared before it; 0 from before this was recorded."""
    spec: StudySpec
    runs: list[str]


class Store:
    """Rows, tickets, snapshots and study declarations in one folder, safe to be killed at any moment."""

    def __init__(self, folder: str | Path, create: bool = True, say: Callable[[str], None] | None = None) -> None:
        """Open a store, or begin one. `say` is told what was set aside, in sentences; None: as warnings.

        Raises:
            StoreError: the folder is no store, of a newer version, cannot be read or written, or (with create=False)
                absent.
        """
        self.folder = Path(folder)
        self.say = say or (lambda sentence: warnings.warn(sentence, stacklevel=3))
        manifest = self.folder / "store.json"
        content = disk.read_whole(manifest)
        if content is None and not create:
            raise StoreError(
                f"{self.folder} is not a store of scratchcard (it has no store.json); "
                "give the folder named by --store of a study"
            )
        if content is None and any(not is_leftover(name) for name in self._names("")):
            content = disk.read_whole(manifest)  # of another process that has begun it in the meantime
            if content is None:
                raise StoreError(
                    f"{self.folder} holds other things and no store.json; give a new or empty folder as the store"
                )
        if content is None:
            self._write_manifest()
        else:
            self._check_manifest(manifest, content)

    # rows

    def row(self, run: str) -> Row | None:
        """The row of a finished run; None when there is none, or none as it was written: that is set aside.

        Raises:
            StoreError: it was written by a newer scratchcard, or cannot be read.
        """
        path = self.folder / "rows" / f"{run}.json"
        content = disk.read_whole(path)
        if content is None:
            return None
        try:
            record = unseal(content)
            row = understood(Row, path, record, may_be_bare=record.values.get("version", 1) == 1)
            if row.id != run:
                raise Spoilt(f"it is of another run, {row.id}")
        except Spoilt as error:
            self.say(self._set_aside(path, content, str(error)))
            return None
        return row

    def row_ids(self) -> set[str]:
        """The ids of all rows, finished or failed."""
        return self._ids("rows")

    def finished(self, run: str) -> bool:
        """True when the run needs no further training: it is done, or it diverged; a failed one is tried again."""
        row = self.row(run)
        return row is not None and row.status != "failed"

    def settled(self, specs: Sequence[RunSpec]) -> set[str]:
        """The ids of runs that need no training: finished ones, and those whose ticket could never be found.

        A failed run, what depends on one, and one that left something which was set aside, is tried again.
        """
        rows = {spec.id: row for spec in specs if (row := self.row(spec.id)) is not None}
        unfound = {run for run, row in rows.items() if row.status == "diverged" and not row.found}
        lacking = {PurePosixPath(PurePosixPath(file).parts[1]).stem for file in self._lacking() if "/" in file}
        done = {run for run, row in rows.items() if row.status != "failed"} - lacking
        return done | {spec.id for spec in specs if spec.method is not None and spec.ticket.id in unfound}

    def older(self) -> int:
        """How many of its rows are of an earlier version of the identity of runs."""
        return sum(1 for run in self.row_ids() if (row := self.row(run)) is not None and row.version < VERSION)

    def write_row(self, row: Row) -> None:
        """Mark a run as finished: the last thing written about it."""
        self._write(f"rows/{row.id}.json", seal(row.model_dump_json(indent=1)))

    # tickets

    def write_ticket(self, run: str, facts: dict[str, Any], tensors: State) -> None:
        """Keep a ticket: a few JSON facts, its masks at one bit per entry, and weights that come with it."""
        masks = {name: tensor for name, tensor in tensors.items() if tensor.dtype == torch.bool}
        packed = {name: torch.from_numpy(np.packbits(kept.numpy())) for name, kept in masks.items()}
        artefact = self._write_tensors(f"tickets/{run}.safetensors", {**tensors, **packed})
        shapes = {name: list(kept.shape) for name, kept in masks.items()}
        whole = {"id": run, **facts, "shapes": shapes, "mask": artefact.model_dump()}
        self._write(f"tickets/{run}.json", seal(json.dumps(whole)))

    def ticket_ids(self) -> set[str]:
        """The ids of all tickets found so far."""
        return self._ids("tickets")

    def ticket(self, run: str, kind: type[Kind]) -> tuple[Kind, State]:
        """A ticket's facts, masks and weights.

        Args:
            run: the id of its run.
            kind: what its facts are.

        Raises:
            Gone: there is none, or a part of it is not there.
            Damaged: it was not what was kept, and was set aside.
            StoreError: it was written by a newer scratchcard, or cannot be read.
        """
        path = self.folder / "tickets" / f"{run}.json"
        content = disk.read_whole(path)
        if content is None:
            raise Gone(f"{path} is not there; the study's command finds that ticket again")
        try:
            record = unseal(content)
            shapes, mask = record.values.pop("shapes", None), record.values.pop("mask", None)
            if (own := record.values.pop("id", None if record.sealed else run)) != run:
                raise Spoilt(f"it is of another run, {own}")
            facts = understood(kind, path, record, may_be_bare=self._is_of_an_earlier_version(run))
            packed = self.tensors(Artefact.model_validate(mask))
            masks = {
                name: torch.from_numpy(np.unpackbits(packed[name].numpy(), count=int(np.prod(shape))))
                .bool()
                .view(shape)
                for name, shape in shapes.items()
            }
        except Damaged as error:
            self._set_aside(path, content, str(error))  # one without its tensors is none
            raise
        except StoreError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise Damaged(self._set_aside(path, content, in_short(error))) from error
        # a file of tensors forgets their order, and a random mask is drawn in that of the ticket's
        return facts, {**masks, **{name: packed[name] for name in sorted(packed) if name not in masks}}

    def spoilt_ticket(self, run: str, why: str) -> str:
        """Set a ticket aside that says one thing in its facts and is another; the sentence about it."""
        path = self.folder / "tickets" / f"{run}.json"
        return self._set_aside(path, disk.read_whole(path) or b"", why)

    def _is_of_an_earlier_version(self, run: str) -> bool:
        row = self.row(run)
        return row is not None and row.version == 1

    # snapshots

    def write_snapshot(self, run: str, step: int, state: State) -> Artefact:
        """Keep a run's weights and buffers at a step."""
        return self._write_tensors(f"snapshots/{run}/{step}.safetensors", state)

    def tensors(self, artefact: Artefact) -> State:
        """Read an artefact, once it is certain that it is what was written.

        Raises:
            Gone: the file is not there.
            Damaged: it has other bytes; it was set aside.
            StoreError: its name leads out of the store, or it cannot be read.
        """
        name = PurePosixPath(artefact.file)
        # by its words alone: a person may keep a folder of the store elsewhere, by a link
        if name.is_absolute() or ".." in name.parts or not name.parts or "\0" in artefact.file:
            raise StoreError(
                f"the store names a file outside of itself, {artefact.file!r}: it was tampered with; "
                "take it from its source again"
            )
        path = self.folder / name
        content = disk.read_whole(path)
        if content is None:
            raise Gone(f"{path} should be there and is not; its run is done again by the study's command")
        if hashlib.sha256(content).hexdigest() != artefact.sha256:
            raise Damaged(self._set_aside(path, content, "it has other bytes than were written"))
        try:
            return safetensors.torch.load(content)
        except safetensors.SafetensorError as error:
            raise Damaged(self._set_aside(path, content, f"it is no safetensors file: {in_short(error)}")) from error

    def missing(self, row: Row) -> set[str]:
        """The names of a row's artefacts that were set aside and are not there again."""
        lacking = self._lacking()
        return {name for name, artefact in row.artefacts.items() if artefact.file in lacking}

    # studies

    def write_study(self, study: str, spec: StudySpec, runs: list[str]) -> None:
        """Declare a study and the ids of all its runs, before it runs; it is the latest then."""
        numbers = {run: self._number(run) for run in self._ids("studies")}
        own = self._declaration(study)
        others = max((number for run, number in numbers.items() if run != study), default=0)
        number = own.declared if own is not None and own.declared > others else others + 1
        declared = Declaration(id=study, declared=number, spec=spec, runs=runs)
        if declared != own:
            self._write(f"studies/{study}.json", seal(declared.model_dump_json(indent=1)))

    def studies(self) -> list[Rows]:
        """All declared studies with the rows they have so far, the latest first; earlier versions under today's names.

        What is not as it was written is set aside and left out.

        Raises:
            StoreError: something was written by a newer scratchcard, or cannot be read.
        """
        declared = [(study, found) for study in self._ids("studies") if (found := self._declaration(study)) is not None]
        declared.sort(key=lambda pair: (pair[1].declared, self._written(*pair), pair[0]), reverse=True)
        return [
            as_today(Rows([row for run in one.runs if (row := self.row(run)) is not None], one.spec, str(self.folder)))
            for _, one in declared
        ]

    def _declaration(self, study: str) -> Declaration | None:
        path = self.folder / "studies" / f"{study}.json"
        content = disk.read_whole(path)
        if content is None:
            return None
        try:
            record = unseal(content)
            spec = record.values.get("spec")
            bare = isinstance(spec, dict) and spec.get("version", 1) == 1
            found = understood(Declaration, path, record, may_be_bare=bare)
            if record.sealed and found.id != study:
                raise Spoilt(f"it is another study, {found.id}")
        except Spoilt as error:
            self.say(self._set_aside(path, content, str(error)))
            return None
        return found

    def _number(self, study: str) -> int:
        """When a study was declared, whoever wrote it."""
        with contextlib.suppress(Spoilt):
            number = unseal(disk.read_whole(self.folder / "studies" / f"{study}.json") or b"").values.get("declared")
            return number if isinstance(number, int) else 0
        return 0

    def _written(self, study: str, found: Declaration) -> float:
        """Among studies from before they were numbered, the time of the file; clocks decide nothing else."""
        return (self.folder / "studies" / f"{study}.json").stat().st_mtime if found.declared == 0 else 0.0

    # files

    def clear_leftovers(self) -> None:
        """Remove what a killed writer left half-written (nothing refers to it), but not what a living one writes."""
        disk.clear_leftovers(self.folder)

    def _names(self, kind: str) -> list[str]:
        path = self.folder / kind
        try:
            return os.listdir(path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise disk.unreadable(path, error) from error

    def _ids(self, kind: str) -> set[str]:
        return {name.removesuffix(".json") for name in self._names(kind) if name.endswith(".json") and name[0] != "."}

    def _write_tensors(self, file: str, tensors: State) -> Artefact:
        content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
        self._write(file, content)
        return Artefact(file=file, sha256=hashlib.sha256(content).hexdigest())

    def _write(self, file: str, content: bytes) -> None:
        with disk.writing(self.folder):
            disk.write_whole(self.folder / file, content)

    # damage

    def _set_aside(self, path: Path, content: bytes, why: str) -> str:
        """Move a file that is not as it was written out of the way; the sentence about it."""
        told = f"{path} is not as it was written ({why})"
        target = self.folder / "damaged" / path.relative_to(self.folder)
        target = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)  # also where a link has led to another disk
            if target.read_bytes() != content:  # another process had just written it anew
                shutil.move(target, path)
        except FileNotFoundError:  # another process has set it aside
            pass
        except OSError as error:
            return f"{told} and is passed over; it could not be moved away ({error.strerror or error})"
        return f"{told}: it was set aside in {self.folder / 'damaged'}, and the study's command does its run again"

    def _lacking(self) -> set[str]:
        """The files of the store that were set aside and have not been written again."""
        aside = self.folder / "damaged"
        if not aside.is_dir():
            return set()
        files = {path.relative_to(aside).with_suffix("").as_posix() for path in aside.rglob("*") if path.is_file()}
        return {file for file in files if not (self.folder / file).exists()}

    def _write_manifest(self) -> None:
        self._write("store.json", seal(json.dumps({"format": FORMAT, "what": "runs of scratchcard"})))

    def _check_manifest(self, manifest: Path, content: bytes) -> None:
        try:
            record = unseal(content)
            if not record.sealed and not record.values.keys() <= {"format", "what"}:
                raise Spoilt("its digest is gone")
            version = record.values.get("format")
            if not isinstance(version, int) or isinstance(version, bool) or version < FORMAT:
                raise Spoilt(f"its format is {version!r}, of all that there ever were none")
        except Spoilt as error:
            if not (self._ids("rows") or self._ids("studies")):  # perhaps not ours at all
                raise Damaged(
                    f"{manifest} is not the beginning of a store of scratchcard ({error}); give another folder"
                ) from error
            told = f"{manifest} is not as it was written ({error})"
            try:
                aside = self.folder / "damaged" / f"store.json.{secrets.token_hex(4)}"
                aside.parent.mkdir(exist_ok=True)
                shutil.copy2(manifest, aside)
                self._write_manifest()
            except (OSError, StoreError):
                self.say(f"{told}; rows and studies are read all the same")
            else:
                self.say(f"{told}: it was set aside in {self.folder / 'damaged'} and written again")
            return
        if version != FORMAT:
            raise newer(manifest, f"format {version}, this one reads format {FORMAT}")
