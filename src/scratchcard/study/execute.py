"""Trainings backed by a store: asking for one that exists returns it, iterating a new one to its end leaves a row."""

from __future__ import annotations

import platform
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch import nn

from scratchcard.masks.compare import counts, density, digest
from scratchcard.methods.ticket import Fresh, Ticket
from scratchcard.networks.cost import Cost, cost
from scratchcard.networks.forward import read_state, state_digest, with_state
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.row import Artefact, Row
from scratchcard.study.spec import Causes, RunSpec
from scratchcard.study.store import Damaged, Store, StoreError
from scratchcard.training.loop import placed
from scratchcard.training.measure import Diverged, Measurement
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Snapshot, State


class Stopped(Exception):
    """A training that a method needed ended without a result: its row says why."""


class Unrepeatable(ValueError):
    """The user's code gave something else the second time, so nothing it gives can be compared."""


class Trainings:
    """The trainings of one task by one recipe, each done once and kept in a store."""

    def __init__(self, task: Task, recipe: Recipe, store: Store, causes: Causes) -> None:
        self.task, self.recipe, self.store, self._causes = task, recipe, store, causes
        self._cost: Cost | None = None

    def spec(self, ticket: Ticket) -> RunSpec:
        """The identity of training this ticket."""
        return self._causes.spec_of(ticket)

    def train(self, ticket: Ticket, stops: Collection[int] = (), search_flops: float = 0.0) -> Iterator[Snapshot]:
        """Yield the snapshots at `stops`, from the store where they are, else by training.

        A row without one of the snapshots is replayed, and must come out bit for bit as it was recorded.

        Raises:
            Stopped: the training diverged or failed; its row says so and is written.
            StoreError: the store cannot be written, is damaged, or a replay came out differently.
        """
        run = self.spec(ticket).id
        row = self.store.row(run)
        if row is not None and row.status == "diverged":
            raise Stopped(row.message)
        if row is not None and row.status == "done" and all(_file(step) in row.artefacts for step in stops):
            for step in sorted(stops):
                artefact = row.artefacts[_file(step)]
                yield Snapshot(step, None, lambda artefact=artefact: self.store.tensors(artefact))
            return
        yield from self._execute(
            run, ticket, sorted(stops), search_flops, earlier=row if row and row.status == "done" else None
        )

    def start_of(self, ticket: Ticket) -> nn.Module:
        """The dense architecture with the weights the ticket starts from, before anything is cut.

        Raises:
            Unrepeatable: the factory gave other weights than it gave the dense run of the same seed.
        """
        if isinstance(ticket.start, Fresh):
            return placed(self.task.fresh(ticket.start.seed), self.recipe)
        dense = Ticket(None, ticket.seed, 0, _whole(ticket), ticket.prunable)
        if ticket.start.step > 0:
            state = next(self.train(dense, (ticket.start.step,))).state()
            return with_state(placed(self.task.fresh(0), self.recipe), state)
        model = placed(self.task.at_start(ticket.seed), self.recipe)
        row = self.store.row(self.spec(dense).id)
        if row is not None and 0 in row.snapshots and row.snapshots[0] != state_digest(read_state(model)):
            raise Unrepeatable(
                f"the model factory of task {self.task.name!r} gives other weights for seed {ticket.seed} than when "
                "its dense network was trained, so nothing can be rewound; draw all chance from torch's random state"
            )
        return model

    def _execute(
        self, run: str, ticket: Ticket, stops: list[int], search_flops: float, earlier: Row | None
    ) -> Iterator[Snapshot]:
        began = time.perf_counter()
        given = ticket.method is None and self.task.start is not None
        recipe = self.recipe
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # so that a run is the same, bit for bit, in one process and in many
        measurement = Measurement(self.task, recipe, ticket.seed, ticket.start_step)
        snapshots: dict[int, str] = {}
        artefacts: dict[str, Artefact] = {}
        status: Literal["done", "diverged", "failed"] = "done"
        message = ""
        try:
            model = ticket.subnetwork.trainable(self.start_of(ticket))
            # a given dense model is measured, not trained: it is its own start and end
            running = (
                measurement.without_training(model)
                if given
                else measurement.snapshots(model, sorted({*stops, ticket.start_step, recipe.steps}))
            )
            for snapshot in running:
                state = snapshot.state()
                snapshots[snapshot.step] = state_digest(state)
                if snapshot.step in stops:
                    _check_cut(state, ticket, self.task)
                    artefacts[_file(snapshot.step)] = self.store.write_snapshot(run, snapshot.step, state)
                    yield Snapshot(snapshot.step, snapshot.train_loss, lambda state=state: state)
        except Diverged as error:
            status, message = "diverged", f"{_described(ticket)} diverged: {error}; a lower learning rate may help"
        except (StoreError, Unrepeatable, Stopped):
            raise
        except Exception as error:  # whatever the user's model, loss or data raise: a row, and the study goes on
            status, message = (
                "failed",
                f"{_described(ticket)} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            )
        finally:
            torch.set_num_threads(threads)
        if earlier is not None:
            snapshots, artefacts = _merged(earlier, snapshots, artefacts)
        self.store.write_row(
            self._row(
                run,
                ticket,
                measurement,
                status,
                message,
                snapshots,
                artefacts,
                0.0 if given else self._flops(ticket),
                search_flops,
                time.perf_counter() - began,
            )
        )
        if status != "done":
            raise Stopped(message)

    def _flops(self, ticket: Ticket) -> float:
        examples = min(self.recipe.batch_size, len(self.task.data.train))
        return self.cost.training_flops * examples * (self.recipe.steps - ticket.start_step)

    @property
    def cost(self) -> Cost:
        """What the dense network costs per example."""
        if self._cost is None:
            self._cost = cost(self.task.fresh(0), self.task.example_inputs())
        return self._cost

    def _row(
        self,
        run: str,
        ticket: Ticket,
        measurement: Measurement,
        status: Literal["done", "diverged", "failed"],
        message: str,
        snapshots: dict[int, str],
        artefacts: dict[str, Artefact],
        train_flops: float,
        search_flops: float,
        seconds: float,
    ) -> Row:
        mask = ticket.subnetwork.mask
        layers = counts(mask)
        cut = sum(total - kept for kept, total in layers.values())
        return Row(
            id=run,
            task=self.task.name,
            task_digest=self._causes.task,
            recipe=self.recipe.fields(),
            method=ticket.method.label if ticket.method is not None else "dense",
            method_fields=plain_fields(ticket.method),
            seed=ticket.seed,
            level=ticket.level,
            arm=ticket.arm_label,
            replicate=ticket.replicate,
            status=status,
            message=message,
            density=density(mask),
            layers=layers,
            parameters=self.cost.parameters,
            nonzero=self.cost.parameters - cut,
            mask_digest=digest(mask),
            curve=measurement.curve,
            early_stop=measurement.early_stop,
            end=measurement.end if status == "done" else None,
            train_metric=measurement.train_metric,
            train_flops=train_flops,
            search_flops=search_flops,
            seconds=round(seconds, 3),
            snapshots=snapshots,
            artefacts=artefacts,
            machine={
                "scratchcard": version("scratchcard"),
                "torch": torch.__version__,
                "python": platform.python_version(),
                "processor": platform.machine(),
                "device": self.recipe.device
                if self.recipe.device == "cpu"
                else torch.cuda.get_device_name(self.recipe.device)
                if self.recipe.device.startswith("cuda")
                else self.recipe.device,
                "threads": "1",
            },
        )


def plain_fields(value: Any) -> dict[str, Any]:
    """A dataclass as plain data for records; {} for None."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else {}


def _file(step: int) -> str:
    return f"step-{step}"


def _whole(ticket: Ticket) -> MaskedWeights:
    return MaskedWeights({name: torch.ones_like(kept) for name, kept in ticket.subnetwork.mask.items()})


def _described(ticket: Ticket) -> str:
    if ticket.method is None:
        return f"the dense training of seed {ticket.seed}"
    return f"{ticket.arm_label} {ticket.replicate} of {ticket.method.label} level {ticket.level}, seed {ticket.seed},"


def _check_cut(state: State, ticket: Ticket, task: Task) -> None:
    grown = [name for name, kept in ticket.subnetwork.mask.items() if name in state and bool(state[name][~kept].any())]
    if grown:
        raise ValueError(
            f"cut weights of {', '.join(grown)} are no longer zero: the optimizer or loop of task {task.name!r} moves "
            "weights whose gradients are zero; use one that does not, or call sc.hold in it"
        )


def _merged(
    earlier: Row, snapshots: dict[int, str], artefacts: dict[str, Artefact]
) -> tuple[dict[int, str], dict[str, Artefact]]:
    """What a replay adds to a row, once it is certain that it is the same training."""
    differing = [
        step for step in earlier.snapshots.keys() & snapshots.keys() if earlier.snapshots[step] != snapshots[step]
    ]
    if differing:
        raise Damaged(
            f"run {earlier.id} was replayed and came out differently at step {', '.join(map(str, differing))}: "
            f"it was recorded with torch {earlier.machine.get('torch')} on {earlier.machine.get('device')}, "
            f"now torch {torch.__version__}; "
            "use the recorded versions, or begin a new store"
        )
    return {**earlier.snapshots, **snapshots}, {**earlier.artefacts, **artefacts}
