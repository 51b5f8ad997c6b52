"""Trainings backed by a store: asking for one that exists returns it, iterating a new one to its end leaves a row."""

from __future__ import annotations

import platform
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, is_dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch import nn

from scratchcard.masks.compare import counts, digest
from scratchcard.methods.ticket import End, Fresh, Handed, Method, Narrow, Redrawn, Scratch, Ticket
from scratchcard.networks.anatomy import anatomy
from scratchcard.networks.compact import shrink_spec
from scratchcard.networks.cost import Cost, cost
from scratchcard.networks.forward import read_state, state_digest, with_state
from scratchcard.networks.initialise import with_factors
from scratchcard.networks.lengths import find_lengths
from scratchcard.networks.narrow import width_for
from scratchcard.networks.redraw import redrawn
from scratchcard.networks.scratch import Layer, rescaled
from scratchcard.networks.sites import Sites
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits
from scratchcard.networks.weights import everything
from scratchcard.row import VERSION, Anatomy, Artefact, Row, Search, Timing
from scratchcard.study.lost import Stopped, Unrepeatable, described
from scratchcard.study.size import Size, size_of, timing_of
from scratchcard.study.spec import Causes, RunSpec
from scratchcard.study.store import Damaged, Store, StoreError
from scratchcard.study.tickets import kept
from scratchcard.training.loop import placed
from scratchcard.training.measure import Diverged, Measurement
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task
from scratchcard.types import Snapshot, State


class Trainings:
    """The trainings of one task by one recipe, each done once and kept in a store."""

    def __init__(self, task: Task, recipe: Recipe, store: Store, causes: Causes) -> None:
        self.task, self.recipe, self.store, self._causes = task, recipe, store, causes
        self._cost: Cost | None = None
        self._failed: set[str] = set()
        self._whole: MaskedWeights | None = None

    def spec(self, ticket: Ticket) -> RunSpec:
        """The identity of training this ticket."""
        return self._causes.spec_of(ticket)

    def train(self, ticket: Ticket, stops: Collection[int] = ()) -> Iterator[Snapshot]:
        """Yield the snapshots at `stops`, from the store where they are, else by training.

        A row without one of the snapshots, or with a damaged one, is replayed, and must come out bit for bit as it was
        recorded.

        Raises:
            Stopped: the training diverged or failed; its row says so and is written.
            StoreError: the store cannot be read or written, or a replay came out differently.
        """
        run = self.spec(ticket).id
        row = self.store.row(run)
        if row is not None and row.status == "diverged" and row.found:
            raise Stopped("diverged", row.message, described(ticket))
        if row is not None and run in self._failed:  # not twice in one session: it would fail again
            raise Stopped("failed", row.message, described(ticket))
        earlier = row if row is not None and row.status == "done" else None
        missing = set() if earlier is None else self.store.missing(earlier)
        given: list[int] = []
        if earlier is not None and not missing and all(_file(step) in earlier.artefacts for step in stops):
            for step in sorted(stops):
                try:
                    state = self.store.tensors(earlier.artefacts[_file(step)])
                except Damaged as error:
                    self.store.say(str(error))
                    break
                yield Snapshot(step, None, lambda state=state: state)
                given.append(step)
            else:
                return
        again = {step for step in (earlier.snapshots if earlier is not None else ()) if _file(step) in missing}
        for snapshot in self._execute(run, ticket, sorted({*stops, *again}), earlier):
            if snapshot.step in stops and snapshot.step not in given:
                yield snapshot

    def start_of(self, ticket: Ticket) -> nn.Module:
        """The dense architecture with the weights the ticket starts from, before anything is cut.

        Raises:
            Unrepeatable: the factory gave other weights than it gave the dense run of the same seed.
        """
        start = ticket.start
        if isinstance(start, Fresh):
            return placed(self.task.fresh(start.seed), self.recipe)
        if isinstance(start, Handed):
            assert ticket.weights is not None, "weights that a search left come with the ticket"
            return with_state(placed(self.task.fresh(0), self.recipe), ticket.weights)
        if isinstance(start, Scratch):
            model = placed(self.task.fresh(start.seed), self.recipe)
            drawn = with_state(
                model, rescaled(read_state(model), self._layers(ticket, read_state(model)), find_lengths(model))
            )
            return drawn if start.factor is None else with_factors(drawn, start.factor)
        if isinstance(start, Narrow):
            width = width_for(self.task.model, start.weights)
            return placed(self.task.fresh(start.seed, width), self.recipe)
        if isinstance(start, Redrawn):
            model = self.start_of(replace(ticket, start=start.of))
            initial, fresh = (read_state(self.task.at_start(ticket.seed)), read_state(self.task.fresh(start.seed)))
            state = redrawn(
                read_state(model), ticket.subnetwork.mask, initial, fresh, start.how, start.scale, start.seed
            )
            return with_state(model, state)
        if isinstance(start, End):
            return with_state(placed(self.task.fresh(0), self.recipe), self._end(ticket, start))
        dense = self.dense(ticket.seed)
        if start.step > 0:
            state = next(self.train(dense, (start.step,))).state()
            return with_state(placed(self.task.fresh(0), self.recipe), state)
        model = placed(self.task.at_start(ticket.seed), self.recipe)
        row = self.store.row(self.spec(dense).id)
        if row is not None and 0 in row.snapshots and row.snapshots[0] != state_digest(read_state(model)):
            raise Unrepeatable(
                f"the model factory of task {self.task.name!r} gives other weights for seed {ticket.seed} than when "
                "its dense network was trained, so nothing can be rewound; draw all chance from torch's random state"
            )
        return model

    def dense(self, seed: int) -> Ticket:
        """The dense network of a seed, as a ticket with nothing cut."""
        if self._whole is None:
            self._whole = MaskedWeights(everything(self.task.fresh(0)))
        return Ticket(None, seed, 0, self._whole, ())

    def recipe_of(self, ticket: Ticket) -> Recipe:
        """How the ticket is trained: the study's recipe, with what the ticket changes."""
        return replace(self.recipe, **ticket.changes)

    def _end(self, ticket: Ticket, start: End) -> State:
        """The weights that an earlier level's training of the same method and seed ended with."""
        assert ticket.method is not None, "only methods have levels"
        earlier = self.spec(replace(ticket, level=start.level, arm=None, replicate=0))
        found = kept(self.store, earlier.id, ticket.method, self.task, lambda: self.sites)
        if start.continued:
            (own,) = ticket.method.own_arms(start.level)
            (found,) = own(found, self.recipe, ticket.seed, self.task)
        state = next(self.train(found, (self.recipe_of(found).steps,))).state()
        return found.subnetwork.enlarged(state) if isinstance(found.subnetwork, SmallUnits) else state

    def lose(self, method: Method, seed: int, level: int, density: float, stopped: Stopped) -> None:
        """Leave a row of a ticket that was planned and never found, since what its method needed had no result.

        Its density is the planned one; nothing was trained, and of the whole network nothing was cut.
        """
        ticket = replace(self.dense(seed), method=method, level=level)
        run = self.spec(ticket).id
        row = self.store.row(run)
        if row is None or (row.status == "failed" and not row.found):  # not the row of a ticket that crashed itself
            nothing = Measurement(self.task, self.recipe, seed)
            size = replace(self._size(ticket, None), density=density, layers={}, train_flops=0.0)
            lost = self._row(run, ticket, nothing, stopped.status, stopped.cause, {}, {}, size, 0.0, None)
            self.store.write_row(lost.model_copy(update={"found": False, "trained_steps": None}))

    def _execute(self, run: str, ticket: Ticket, stops: list[int], earlier: Row | None) -> Iterator[Snapshot]:
        began = time.perf_counter()
        seconds = 0.0
        given = ticket.method is None and ticket.arm is None and self.task.start is not None
        recipe = self.recipe_of(ticket)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # so that a run is the same, bit for bit, in one process and in many
        order = ticket.seed if ticket.order is None else ticket.order
        measurement = Measurement(self.task, recipe, order, ticket.start_step)
        snapshots: dict[int, str] = {}
        artefacts: dict[str, Artefact] = {}
        size: Size | None = None
        timing: Timing | None = None
        status: Literal["done", "diverged", "failed"] = "done"
        message = ""
        try:
            model = ticket.subnetwork.trainable(self.start_of(ticket))
            size = self._size(ticket, model)
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
            seconds = time.perf_counter() - began
            timing = timing_of(ticket, model, self.task)
        except Diverged as error:
            status, message = "diverged", f"{error}; a lower learning rate may help"
        except (StoreError, Unrepeatable, Stopped):
            raise
        except Exception as error:  # whatever the user's model, loss or data raise: a row, and the study goes on
            status, message = "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
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
                size or self._size(ticket, None),
                time.perf_counter() - began if timing is None else seconds,
                timing,
            )
        )
        if status == "failed":
            self._failed.add(run)
        if status != "done":
            raise Stopped(status, message, described(ticket))

    def _trained_steps(self, ticket: Ticket) -> int:
        """For how many steps a ticket is to be trained: none of a dense network that was brought trained."""
        given = ticket.method is None and ticket.arm is None and self.task.start is not None
        return 0 if given else self.recipe_of(ticket).steps - ticket.start_step

    def _size(self, ticket: Ticket, model: nn.Module | None) -> Size:
        batch = min(self.recipe_of(ticket).batch_size, len(self.task.data.train))
        whole = self.dense(0).subnetwork.mask
        return size_of(ticket, model, self.task, self.cost, whole, batch * self._trained_steps(ticket))

    def _layers(self, ticket: Ticket, fresh: State) -> dict[str, Layer]:
        """The layers of a ticket's structure, as fresh weights of the large network are to be scaled for."""
        mask, outputs = self.dense(0).subnetwork.mask, self._outputs
        if not isinstance(ticket.subnetwork, SmallUnits):
            found = counts(ticket.subnetwork.mask)
            return {
                name: Layer(
                    fresh[name], tuple(entries.shape), outputs.get(name, 0), max(found[name][0], 1) / found[name][1]
                )
                for name, entries in mask.items()
            }
        spec = shrink_spec(ticket.subnetwork.sites, ticket.subnetwork.mask)
        return {
            name: Layer(
                fresh[name],
                tuple(
                    len(spec[name][dim]) if dim in spec.get(name, {}) else size
                    for dim, size in enumerate(entries.shape)
                ),
                outputs.get(name, 0),
            )
            for name, entries in mask.items()
        }

    @cached_property
    def _outputs(self) -> dict[str, int]:
        """The dimension of each weight that its outputs are; {} for a network that cannot be exported: the first."""
        try:
            return self.sites.outputs
        except ValueError:
            return {}

    def _anatomy(self, ticket: Ticket) -> dict[str, Anatomy]:
        """What a method's ticket looks like inside; nothing for the dense network and for controls."""
        if ticket.method is None or ticket.arm is not None or not isinstance(ticket.subnetwork, MaskedWeights):
            return {}
        row = self.store.row(self.spec(self.dense(ticket.seed)).id)
        # a dense model that was given was not seen on its way
        seen = row is not None and self.task.start is None and _file(self.recipe.steps) in row.artefacts
        end = next(self.train(self.dense(ticket.seed), (self.recipe.steps,))).state() if seen else None
        return anatomy(ticket.subnetwork.mask, ticket.prunable, read_state(self.task.at_start(ticket.seed)), end)

    @property
    def sites(self) -> Sites:
        """Of the task's network."""
        return self.task.sites

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
        size: Size,
        seconds: float,
        timing: Timing | None,
    ) -> Row:
        return Row(
            version=VERSION,
            id=run,
            task=self.task.name,
            task_digest=self._causes.task,
            recipe=self.recipe_of(ticket).fields(),
            method=ticket.method.label if ticket.method is not None else "dense",
            method_fields=plain_fields(ticket.method),
            seed=ticket.seed,
            level=ticket.level,
            arm=ticket.arm_label,
            replicate=ticket.replicate,
            status=status,
            message=message,
            density=size.density,
            layers=size.layers,
            parameters=size.parameters,
            nonzero=size.nonzero,
            macs=size.macs,
            widths=size.widths,
            latency=timing,
            mask_digest=digest(ticket.subnetwork.mask),
            anatomy=self._anatomy(ticket) if measurement.curve.steps else {},
            curve=measurement.curve,
            early_stop=measurement.early_stop,
            end=measurement.end if status == "done" else None,
            train_metric=measurement.train_metric,
            train_flops=size.train_flops,
            search_flops=ticket.search_flops,
            trained_steps=self._trained_steps(ticket),
            seconds=round(seconds, 3),
            training_seconds=measurement.training_seconds,
            search=ticket.search if ticket.arm is None else Search(),
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


def _check_cut(state: State, ticket: Ticket, task: Task) -> None:
    if not isinstance(ticket.subnetwork, MaskedWeights):
        return  # what is gone cannot grow
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
        raise StoreError(
            f"run {earlier.id} was replayed and came out differently at step {', '.join(map(str, differing))}: "
            f"it was recorded with torch {earlier.machine.get('torch')} on {earlier.machine.get('device')}, "
            f"now torch {torch.__version__}; "
            "use the recorded versions, or begin a new store"
        )
    return {**earlier.snapshots, **snapshots}, {**earlier.artefacts, **artefacts}
