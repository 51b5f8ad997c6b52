"""A ticket on disk: what it takes to make a found ticket again in another process or on another day."""

from __future__ import annotations

from pydantic import ValidationError

from scratchcard.masks.compare import digest
from scratchcard.methods.ticket import Dense, Method, Ticket
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.row import Frozen
from scratchcard.study.store import Damaged, Store


class Facts(Frozen):
    """What is kept of a ticket besides its mask."""

    method: str
    seed: int
    level: int
    prunable: tuple[str, ...]
    start: int
    """The step of the dense training whose weights it starts from."""
    start_step: int
    search_flops: float
    """What finding it cost, standalone."""
    mask_digest: str


def keep(store: Store, run: str, ticket: Ticket, search_flops: float) -> None:
    """Keep a method's ticket under the id of its run; one that is there already is left as it is."""
    assert ticket.method is not None, "a ticket was found by a method"
    assert isinstance(ticket.start, Dense), "a method's ticket starts from the weights of its own dense training"
    facts = Facts(
        method=ticket.method.label,
        seed=ticket.seed,
        level=ticket.level,
        prunable=ticket.prunable,
        start=ticket.start.step,
        start_step=ticket.start_step,
        search_flops=search_flops,
        mask_digest=digest(ticket.subnetwork.mask),
    ).model_dump(mode="json")
    if run not in store.ticket_ids() or store.ticket(run)[0] != facts:
        store.write_ticket(run, facts, ticket.subnetwork.mask)


def kept(store: Store, run: str, method: Method) -> tuple[Ticket, float]:
    """The ticket kept under a run's id, and what finding it cost.

    Raises:
        Damaged: it is not what was kept.
    """
    plain, mask = store.ticket(run)
    try:
        facts = Facts.model_validate(plain)
    except ValidationError as error:
        raise Damaged(store.spoilt_ticket(run, error)) from error
    if digest(mask) != facts.mask_digest:
        raise Damaged(store.spoilt_ticket(run, ValueError("its mask is another one")))
    ticket = Ticket(
        method, facts.seed, facts.level, MaskedWeights(mask), facts.prunable, Dense(facts.start), facts.start_step
    )
    return ticket, facts.search_flops
