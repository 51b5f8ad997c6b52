"""A ticket on disk: what it takes to make a found ticket again in another process or on another day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

from scratchcard.masks.compare import digest
from scratchcard.methods.ticket import Dense, End, Handed, Method, Ticket
from scratchcard.networks.sites import Sites
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits
from scratchcard.row import Frozen, Search
from scratchcard.study.store import Damaged, Gone, Store
from scratchcard.training.task import Task


class Facts(Frozen):
    """What is kept of a ticket besides its mask."""

    method: str
    units: Literal["weights", "channels"]
    """What its mask is of."""
    seed: int
    level: int
    prunable: tuple[str, ...]
    start: dict[str, int | bool | float | None]
    """Fields of the `Dense`, `End` or `Handed` whose weights it starts from."""
    handed: bool = False
    """Whether its weights lie here too: those that a search left."""
    start_step: int
    changes: dict[str, Any]
    """Fields of the recipe in which its training differs."""
    search_flops: float
    """What finding it cost, standalone."""
    search: Search = Search()
    mask_digest: str
    inverse_digest: str | None


_INVERSE, _WEIGHTS = "inverse of ", "weights of "


def keep(store: Store, run: str, ticket: Ticket) -> None:
    """Keep a method's ticket under the id of its run; one that is there already is left as it is.

    One that is damaged was set aside; it is said, and the ticket kept anew.
    """
    assert ticket.method is not None, "a ticket was found by a method"
    assert isinstance(ticket.start, Dense | End | Handed), (
        "a method's ticket starts from weights that its trainings left"
    )
    facts = Facts(
        method=ticket.method.label,
        units="channels" if isinstance(ticket.subnetwork, SmallUnits) else "weights",
        seed=ticket.seed,
        level=ticket.level,
        prunable=ticket.prunable,
        start=asdict(ticket.start),
        handed=ticket.weights is not None,
        start_step=ticket.start_step,
        changes={name: list(value) if isinstance(value, tuple) else value for name, value in ticket.changes.items()},
        search_flops=ticket.search_flops,
        search=ticket.search,
        mask_digest=digest(ticket.subnetwork.mask),
        inverse_digest=None if ticket.inverse is None else digest(ticket.inverse),
    )
    inverse = {_INVERSE + name: kept for name, kept in (ticket.inverse or {}).items()}
    weights = {_WEIGHTS + name: value for name, value in (ticket.weights or {}).items()}
    try:
        same = _untimed(store.ticket(run, Facts)[0]) == _untimed(facts)
    except Gone:
        same = False
    except Damaged as error:
        store.say(str(error))
        same = False
    if not same:
        store.write_ticket(run, facts.model_dump(mode="json"), {**ticket.subnetwork.mask, **inverse, **weights})


def _untimed(facts: Facts) -> dict[str, Any]:
    """What makes a ticket the same when it is found again: all but how long that took."""
    return facts.model_copy(update={"search": facts.search.model_copy(update={"seconds": 0.0})}).model_dump(mode="json")


def kept(store: Store, run: str, method: Method, task: Task, sites: Callable[[], Sites]) -> Ticket:
    """The ticket kept under a run's id.

    Args:
        store: where it was kept.
        run: the id of its run.
        method: that found it.
        task: that it was found for.
        sites: gives those of the task's network, asked for if its mask is of units.

    Raises:
        Gone: it is not there.
        Damaged: it is not what was kept, and was set aside.
    """
    facts, tensors = store.ticket(run, Facts)
    inverse, weights = (
        {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)} or None
        for prefix in (_INVERSE, _WEIGHTS)
    )
    mask = {name: kept for name, kept in tensors.items() if not name.startswith((_INVERSE, _WEIGHTS))}
    try:
        kind = End if "level" in facts.start else Handed if facts.handed else Dense
        start = kind(**facts.start)  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise Damaged(store.spoilt_ticket(run, f"it starts from {facts.start}")) from error
    if digest(mask) != facts.mask_digest or (None if inverse is None else digest(inverse)) != facts.inverse_digest:
        raise Damaged(store.spoilt_ticket(run, "its mask is another one"))
    return Ticket(
        method,
        facts.seed,
        facts.level,
        MaskedWeights(mask) if facts.units == "weights" else SmallUnits(mask, sites(), task.example_inputs()),
        facts.prunable,
        start,
        facts.start_step,
        {name: tuple(value) if isinstance(value, list) else value for name, value in facts.changes.items()},
        inverse=inverse,
        search_flops=facts.search_flops,
        weights=weights,
        search=facts.search,
    )
