"""How a training ends without a result, and what it was in words."""

from __future__ import annotations

from typing import Literal

from scratchcard.methods.ticket import Ticket

Lost = Literal["diverged", "failed"]


class Stopped(Exception):
    """A training that a method needed ended without a result."""

    def __init__(self, status: Lost, cause: str, what: str) -> None:
        """`what` was trained, and why it ended: the cause is the same sentence wherever the same thing happens."""
        super().__init__(f"{what} {status}: {cause}")
        self.status: Lost = status
        self.cause = cause


class Unrepeatable(ValueError):
    """The user's code gave something else the second time, so nothing it gives can be compared."""


def described(ticket: Ticket) -> str:
    """A ticket's training in words, for a sentence about what became of it."""
    if ticket.method is None:
        return f"the {ticket.arm_label} training of seed {ticket.seed}"
    return f"{ticket.arm_label} {ticket.replicate} of {ticket.method.label} level {ticket.level}, seed {ticket.seed},"
