"""The controls: what is done to a ticket before it is trained, differing from it in one thing only.

Source: Frankle & Carbin 2019: random reinitialisation (sections 2-4) and random sparse networks (App. E). The paper
does not say whether its random masks keep the counts of each layer, so both are here, by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from scratchcard.masks.select import Scope, shuffle
from scratchcard.methods.ticket import Arm, Fresh, Ticket
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive

_FRESH = "fresh-init"


@dataclass(frozen=True)
class FreshInit:
    """The ticket's mask with freshly drawn weights: is it the structure alone?"""

    # how many are drawn does not change any one of them
    replicates: int = field(default=3, metadata={"identity": False})

    @property
    def label(self) -> str:
        """The name in rows: "fresh-init"."""
        return _FRESH

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int) -> Iterator[tuple[Ticket, Recipe]]:
        """Yield the ticket with other weights, one per replicate."""
        for replicate in range(self.replicates):
            fresh = Fresh(derive(seed, _FRESH, ticket.level, replicate))
            yield replace(ticket, start=fresh, arm=self, replicate=replicate), recipe


@dataclass(frozen=True)
class RandomMask:
    """As many weights at random places, freshly drawn: is it the number of weights alone?

    Against the fresh-init arm only the places differ. "layer": every layer keeps its own count; "global": only the
    total is kept.
    """

    scope: Scope = "layer"
    replicates: int = field(default=1, metadata={"identity": False})

    @property
    def label(self) -> str:
        """The name in rows, which says what the mask keeps: the layers' counts, or only the total."""
        return "random-mask-layerwise" if self.scope == "layer" else "random-mask-global"

    def __call__(self, ticket: Ticket, recipe: Recipe, seed: int) -> Iterator[tuple[Ticket, Recipe]]:
        """Yield the ticket with a shuffled mask and other weights, one per replicate."""
        for replicate in range(self.replicates):
            chance = derive(seed, self.label, ticket.level, replicate)
            shuffled = shuffle(
                ticket.subnetwork.mask, ticket.prunable, self.scope, torch.Generator().manual_seed(chance)
            )
            # the weights of the fresh-init arm, so that the two differ in the places alone
            fresh = Fresh(derive(seed, _FRESH, ticket.level, replicate))
            yield (
                replace(ticket, subnetwork=MaskedWeights(shuffled), start=fresh, arm=self, replicate=replicate),
                recipe,
            )


ARMS: dict[str, Arm] = {arm.label: arm for arm in (FreshInit(), RandomMask("layer"), RandomMask("global"))}
"""Every control by its label, with its usual number of replicates."""
