"""A search: a training that its method watches, changes and leaves at will, and of which no row is kept."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace

import torch

from scratchcard.methods.ticket import Ticket
from scratchcard.study.execute import Stopped, Trainings, Unrepeatable
from scratchcard.study.store import StoreError
from scratchcard.training.besides import check_heard
from scratchcard.training.loop import train
from scratchcard.types import Snapshot


def search(trainings: Trainings, ticket: Ticket, stops: Collection[int]) -> Iterator[Snapshot]:
    """Yield live snapshots at `stops` of training a ticket.

    Args:
        trainings: of the study.
        ticket: the network that is searched in, and what its training changes in the recipe.
        stops: steps, from the ticket's first to its last.

    Raises:
        Stopped: the training diverged or failed; it has no row of its own, the tickets that it was to find have.
    """
    assert ticket.method is not None, "a search is a method's"
    task, recipe = trainings.task, trainings.recipe_of(ticket)
    found_by = f"the search of {ticket.method.label}, level {ticket.level}, seed {ticket.seed},"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in every run, so that what is found does not depend on where
    try:
        model = ticket.subnetwork.trainable(trainings.start_of(ticket))
        loop = task.loop or train
        for snapshot in loop(model, task.data, task.loss_of, recipe, ticket.seed, sorted(stops), ticket.start_step):
            check_heard(snapshot, recipe, ticket.start_step, task.name)
            state = snapshot.state()
            broken = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
            if broken or (snapshot.train_loss is not None and not math.isfinite(snapshot.train_loss)):
                raise Stopped(
                    "diverged",
                    f"by step {snapshot.step} its loss was {snapshot.train_loss}"
                    + (f" and {broken[0]} no longer finite" if broken else "")
                    + "; a lower learning rate may help",
                    found_by,
                )
            yield replace(snapshot, state=lambda state=state: state)
    except (StoreError, Unrepeatable, Stopped):
        raise
    except Exception as error:  # whatever the user's model, loss or data raise: the study goes on without this search
        raise Stopped("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", found_by) from error
    finally:
        torch.set_num_threads(threads)
