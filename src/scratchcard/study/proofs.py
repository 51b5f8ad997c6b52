"""Proofs that sites can be cut, kept in a store: no worker and no later start proves a network again.

proofs/DIGEST.json    the sites of a network that cannot be cut, and why; DIGEST is of all that the proof rests on
"""

from __future__ import annotations

from pathlib import Path

from scratchcard.row import Frozen
from scratchcard.study import disk
from scratchcard.study.sealed import Spoilt, seal, understood, unseal


class Proof(Frozen):
    """What was found when all sites of a network were cut."""

    refused: dict[str, str]


class KeptProofs:
    """The proofs in a store's folder; before a study runs nothing is written."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._found: dict[str, dict[str, str]] = {}
        self._waiting: list[str] = []
        """Digests of what is to be written when the study runs."""
        self._runs = False

    def refused(self, digest: str) -> dict[str, str] | None:
        """The sites of a network that cannot be cut, and why; None where it has not been tried.

        Raises:
            StoreError: it was written by a newer scratchcard, or cannot be read.
        """
        if digest in self._found:
            return self._found[digest]
        path = self._path(digest)
        content = disk.read_whole(path)
        try:
            return None if content is None else understood(Proof, path, unseal(content), may_be_bare=False).refused
        except Spoilt:  # it holds nothing that cannot be found again, and then it is written anew
            return None

    def keep(self, digest: str, refused: dict[str, str]) -> None:
        """Keep what was found; written at once where the study runs.

        Raises:
            StoreError: it cannot be written.
        """
        self._found[digest] = refused
        self._waiting.append(digest)
        if self._runs:
            self.write()

    def write(self) -> None:
        """The study runs: write what was found, and from now on what will be.

        Raises:
            StoreError: it cannot be written.
        """
        self._runs = True
        with disk.writing(self._folder):
            while self._waiting:
                proof = Proof(refused=self._found[self._waiting[-1]])
                disk.write_whole(self._path(self._waiting[-1]), seal(proof.model_dump_json(indent=1)))
                self._waiting.pop()

    def _path(self, digest: str) -> Path:
        return self._folder / "proofs" / f"{digest}.json"
