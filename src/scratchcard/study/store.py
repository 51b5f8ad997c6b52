"""A folder of finished runs. Existence means completion: artefacts first, the row last, each by atomic rename.

    store.json                      the format's version
    rows/ID.json                    one finished run
    tickets/ID.json, ID.safetensors one found ticket: where it came from, and its mask
    snapshots/ID/STEP.safetensors   weights and buffers of a run at a step
    studies/ID.json                 what a study declared before it ran

ID is the digest of a run's causes, so two writers of one ID write the same content. Digests detect damage, not
attackers. Nothing is ever pickled.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError

from scratchcard.earlier import as_today
from scratchcard.row import FORMAT, VERSION, Artefact, Row, Rows, StudySpec
from scratchcard.study.spec import RunSpec
from scratchcard.types import State


class StoreError(ValueError):
    """The store cannot be read or written as needed; the message says what to do."""


class Damaged(StoreError):
    """Something in a store is not what was written there."""


class Store:
    """Rows, tickets, snapshots and study declarations in one folder, safe to be killed at any moment."""

    def __init__(self, folder: str | Path, create: bool = True) -> None:
        """Open a store, or begin one.

        Raises:
            StoreError: the folder is no store, of a newer version, cannot be written, or (with create=False) absent.
        """
        self.folder = Path(folder)
        manifest = self.folder / "store.json"
        if manifest.exists():
            self._check_version(manifest)
        elif not create:
            raise StoreError(
                f"{self.folder} is not a store of scratchcard (it has no store.json); "
                "give the folder named by --store of a study"
            )
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise StoreError(
                f"{self.folder} holds other things and no store.json; give a new or empty folder as the store"
            )
        else:
            self._write("store.json", json.dumps({"format": FORMAT, "what": "runs of scratchcard"}).encode())

    # rows

    def row(self, run: str) -> Row | None:
        """The row of a finished run; None when there is none.

        Raises:
            Damaged: the file is there but is no row of this run.
        """
        path = self.folder / "rows" / f"{run}.json"
        try:
            row = Row.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise Damaged(
                f"{path} is not a row as it was written ({_first(error)}); delete that file and run the study again"
            ) from error
        if row.id != run:
            raise Damaged(f"{path} holds the row of another run ({row.id}); delete that file and run the study again")
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

        A failed run, and what depends on one, is tried again.
        """
        rows = {spec.id: row for spec in specs if (row := self.row(spec.id)) is not None}
        unfound = {run for run, row in rows.items() if row.status == "diverged" and not row.found}
        done = {run for run, row in rows.items() if row.status != "failed"}
        return done | {spec.id for spec in specs if spec.method is not None and spec.ticket.id in unfound}

    def older(self) -> int:
        """How many of its rows are of an earlier version of the identity of runs."""
        return sum(1 for run in self.row_ids() if (row := self.row(run)) is not None and row.version < VERSION)

    def write_row(self, row: Row) -> None:
        """Mark a run as finished: the last thing written about it."""
        self._write(f"rows/{row.id}.json", row.model_dump_json(indent=1).encode())

    # tickets

    def write_ticket(self, run: str, facts: dict[str, Any], tensors: State) -> None:
        """Keep a ticket: a few JSON facts, its masks at one bit per entry, and weights that come with it."""
        masks = {name: tensor for name, tensor in tensors.items() if tensor.dtype == torch.bool}
        packed = {name: torch.from_numpy(np.packbits(kept.numpy())) for name, kept in masks.items()}
        artefact = self._write_tensors(f"tickets/{run}.safetensors", {**tensors, **packed})
        shapes = {name: list(kept.shape) for name, kept in masks.items()}
        self._write(
            f"tickets/{run}.json", json.dumps({**facts, "shapes": shapes, "mask": artefact.model_dump()}).encode()
        )

    def ticket_ids(self) -> set[str]:
        """The ids of all tickets found so far."""
        return self._ids("tickets")

    def ticket(self, run: str) -> tuple[dict[str, Any], State]:
        """A ticket's facts, masks and weights.

        Raises:
            Damaged: what was kept of it has changed.
        """
        path = self.folder / "tickets" / f"{run}.json"
        try:
            facts = json.loads(path.read_bytes())
            shapes: dict[str, list[int]] = facts.pop("shapes")
            packed = self.tensors(Artefact(**facts.pop("mask")))
            masks = {
                name: torch.from_numpy(np.unpackbits(packed[name].numpy(), count=int(np.prod(shape))))
                .bool()
                .view(shape)
                for name, shape in shapes.items()
            }
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, Damaged):
                raise
            raise Damaged(self.spoilt_ticket(run, error)) from error
        # a file of tensors forgets their order, and a random mask is drawn in that of the ticket's
        return facts, {**masks, **{name: packed[name] for name in sorted(packed) if name not in masks}}

    def spoilt_ticket(self, run: str, error: Exception) -> str:
        """The sentence about a ticket that is not as it was written."""
        path = self.folder / "tickets" / f"{run}.json"
        return f"{path} is not a ticket as it was written ({_first(error)}); delete it and run the study again"

    # snapshots

    def write_snapshot(self, run: str, step: int, state: State) -> Artefact:
        """Keep a run's weights and buffers at a step."""
        return self._write_tensors(f"snapshots/{run}/{step}.safetensors", state)

    def tensors(self, artefact: Artefact) -> State:
        """Read an artefact, once it is certain that it is what was written.

        Raises:
            Damaged: the file is gone, has other bytes, or lies outside the store.
        """
        try:
            path = (self.folder / artefact.file).resolve()
            inside = path.is_relative_to(self.folder.resolve())
        except ValueError:  # a null character
            path, inside = self.folder, False
        if not inside:
            raise Damaged(
                f"the store names a file outside of itself, {artefact.file!r}: it was tampered with; "
                "take it from its source again"
            )
        try:
            content = path.read_bytes()
        except OSError as error:
            raise Damaged(
                f"{path} should be there but cannot be read ({error.strerror}); {_again(artefact)}"
            ) from error
        if hashlib.sha256(content).hexdigest() != artefact.sha256:
            raise Damaged(f"{path} has other bytes than were written (truncated or changed); {_again(artefact)}")
        try:
            return safetensors.torch.load(content)
        except safetensors.SafetensorError as error:
            raise Damaged(f"{path} is no safetensors file ({_first(error)}); {_again(artefact)}") from error

    # studies

    def write_study(self, study: str, spec: StudySpec, runs: list[str]) -> None:
        """Declare a study and the ids of all its runs, before it runs."""
        self._write(f"studies/{study}.json", json.dumps({"spec": spec.model_dump(), "runs": runs}, indent=1).encode())

    def studies(self) -> list[Rows]:
        """All declared studies with the rows they have so far, the latest first; earlier versions under today's names.

        Raises:
            Damaged: a declaration or row is not as it was written.
        """
        files = sorted(
            (self.folder / "studies").glob("[!.]*.json"), key=lambda path: path.stat().st_mtime, reverse=True
        )
        found = []
        for path in files:
            try:
                declared = json.loads(path.read_bytes())
                spec, runs = StudySpec.model_validate(declared["spec"]), list(declared["runs"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise Damaged(
                    f"{path} is not a study as it was written ({_first(error)}); delete it and run the study again"
                ) from error
            found.append(as_today(Rows([row for run in runs if (row := self.row(run)) is not None], spec)))
        return found

    # files

    def clear_leftovers(self) -> None:
        """Remove what a killed writer left half-written (nothing refers to it), but not what a living one writes."""
        for path in self.folder.glob("**/.*.part"):
            writer = path.name.split(".")[-2]
            if not (writer.isdigit() and _lives(int(writer))):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()

    def _ids(self, kind: str) -> set[str]:
        try:
            return {
                name.removesuffix(".json")
                for name in os.listdir(self.folder / kind)
                if name.endswith(".json") and name[0] != "."
            }
        except FileNotFoundError:
            return set()

    def _write_tensors(self, file: str, tensors: State) -> Artefact:
        content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
        self._write(file, content)
        return Artefact(file=file, sha256=hashlib.sha256(content).hexdigest())

    def _write(self, file: str, content: bytes) -> None:
        """Write a whole file or nothing: to a temporary name, to the disk, then renamed."""
        path = self.folder / file
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(part, "wb") as handle:
                    handle.write(content)
                    handle.flush()
                    os.fsync(handle.fileno())
                os.replace(part, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reasons = {
                errno.ENOSPC: "the disk is full: free some space",
                errno.EDQUOT: "the disk quota is used up: free some space",
                errno.EROFS: "the disk is read-only: choose another folder with --store",
                errno.EACCES: "it may not be written to: change its permissions or choose another folder with --store",
            }
            what = reasons.get(error.errno or 0, f"{error.strerror}: choose another folder with --store")
            raise StoreError(
                f"the store {self.folder} cannot be written, {what}; finished runs are safe, the same command continues"
            ) from error

    def _check_version(self, manifest: Path) -> None:
        try:
            version = json.loads(manifest.read_bytes())["format"]
            if not isinstance(version, int):
                raise TypeError(f"its format is {version!r}, no whole number")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Damaged(
                f'{manifest} is not as it was written ({_first(error)}); write {{"format": {FORMAT}}} into it, '
                "or give another store"
            ) from error
        if version != FORMAT:
            raise StoreError(
                f"the store {self.folder} has format {version}, this scratchcard reads format {FORMAT}; "
                + (
                    "install a newer scratchcard, or give another folder with --store"
                    if version > FORMAT
                    else "give another folder with --store"
                )
            )


def _again(artefact: Artefact) -> str:
    run = Path(*Path(artefact.file).parts[1:2]).name.removesuffix(".safetensors")
    return f"delete rows/{run}.json and tickets/{run}.json (if any) from the store and run the study again"


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
