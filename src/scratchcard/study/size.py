"""What a run's network has, what training it costs, and how fast it runs: counted, and timed."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from scratchcard.masks.compare import counts, density
from scratchcard.methods.ticket import Narrow, Ticket
from scratchcard.networks.cost import Cost, cost
from scratchcard.networks.latency import latency
from scratchcard.networks.scaling import Scaled
from scratchcard.networks.units import SmallUnits
from scratchcard.row import Timing
from scratchcard.training.task import Task
from scratchcard.types import WeightMask

_BATCH, _RUNS, _WARM_UP = 32, 7, 2


@dataclass(frozen=True)
class Size:
    """What a run's network has, and what training it costs."""

    density: float
    layers: dict[str, tuple[int, int]]
    parameters: int
    nonzero: int
    train_flops: float
    macs: float
    widths: dict[str, tuple[int, int]] = field(default_factory=dict)


def size_of(ticket: Ticket, model: nn.Module | None, task: Task, dense: Cost, whole: WeightMask, examples: int) -> Size:
    """What the ticket's network has and what its training costs, counted.

    Args:
        ticket: what is trained.
        model: as it is trained; None where it failed before it was there.
        task: gives an example batch.
        dense: cost of the dense network.
        whole: the mask of the dense network.
        examples: that its training sees, all steps together.
    """
    inner = ticket.subnetwork.inner if isinstance(ticket.subnetwork, Scaled) else ticket.subnetwork
    if not isinstance(inner, SmallUnits) and not isinstance(ticket.start, Narrow):
        layers = counts(inner.mask)
        cut = sum(total - kept for kept, total in layers.values())
        flops = dense.training_flops * examples
        return Size(density(inner.mask), layers, dense.parameters, dense.parameters - cut, flops, dense.macs)
    if isinstance(inner, SmallUnits):
        layers = inner.layers(whole)
        widths = {site: (int(kept.sum()), len(kept)) for site, kept in inner.mask.items()}
        # gates are multiplied out in the end: they are nothing that the network has
        plain = ticket.subnetwork.ship(model) if model is not None and isinstance(ticket.subnetwork, Scaled) else model
        own = dense if plain is None else cost(plain, task.example_inputs())
    else:
        parameters = {} if model is None else dict(model.named_parameters())
        layers = {
            name: (parameters[name].numel() if name in parameters else 0, entries.numel())
            for name, entries in whole.items()
        }
        widths = {}
        own = Cost(0, 0.0, 0.0, (), 0.0) if model is None else cost(model, task.example_inputs())
    share = sum(kept for kept, _ in layers.values()) / sum(total for _, total in layers.values())
    return Size(share, layers, own.parameters, own.parameters, own.training_flops * examples, own.macs, widths)


def timing_of(ticket: Ticket, model: nn.Module, task: Task) -> Timing | None:
    """How fast the trained network is here, one thread on the CPU; None where zeros are all that a mask made."""
    if not (ticket.method is None or isinstance(ticket.subnetwork, SmallUnits) or isinstance(ticket.start, Narrow)):
        return None
    found = latency(model, task.example_inputs(_BATCH), _RUNS, _WARM_UP)
    return Timing(
        median=found.median,
        quartiles=found.quartiles,
        batch=found.batch,
        threads=found.threads,
        device=found.device,
    )
