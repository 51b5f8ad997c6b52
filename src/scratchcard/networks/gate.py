"""The gate: no small network is handed out before it has been shown to compute what the silenced large one does.

Every output is compared on its own scale, with the given weights and with others (`redrawn`), on the batch given, on a
drawn one and on one of another length, in evaluation and in training mode. The silenced network (`silenced`) has to be
the network itself while nothing is silenced, or another way of silencing is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scratchcard.networks.branches import Gone
from scratchcard.networks.compared import difference, in_short, ran, shows, trained, varied, without_chance
from scratchcard.networks.copies import copied
from scratchcard.networks.cuts import ShrinkSpec
from scratchcard.networks.forward import as_fits, call
from scratchcard.networks.lengths import badly_fitted, fit_lengths
from scratchcard.networks.originals import Originals, drawn_batch, longer_batch, prepared
from scratchcard.networks.redrawn import hand_over
from scratchcard.networks.silenced import ByWeights, Graph, Reference, leaves
from scratchcard.networks.sites import Sites
from scratchcard.types import Tensors, UnitMask

TOLERANCE = 1e-12
"""Largest difference to the silenced network, relative to the largest finite number of an output, in float64."""
TOLERANCE_SINGLE = 1e-5
"""The same for networks that run in float32 only, or in a part of them."""
IN_TRAINING = 1e6
"""So many times that is allowed in training mode, where statistics of a small batch, perhaps of two numbers that are
nearly the same, stand under a root in every layer."""
ROUNDINGS = 8
"""An output this many roundings of 1 away is equal, however small its numbers: what cancels leaves noise."""


_EXAMPLE, _DRAWN = "the example batch", "a drawn batch"
_REDRAWN = "a drawn batch and redrawn weights"
_LONGER = "a drawn batch of one example more and redrawn weights"


class Different(ValueError):
    """The small network computes something else than the large one as it was silenced in one of several ways."""


class Wrong(ValueError):
    """The small network cannot run, or differs whatever it is compared with."""


@dataclass(frozen=True)
class Cut:
    """A small network's way from the large one, as far as the gate has to know it."""

    sites: Sites
    unit_mask: UnitMask
    spec: ShrinkSpec
    gone: Mapping[str, Gone]

    def references(self, large: nn.Module, batch: Tensors) -> Iterator[Callable[[], Reference]]:
        """Ways to silence the large network, the surest first; making one may fail with a ValueError."""
        if not self.gone:  # what a branch adds is made 0 in a program alone, not by any weight
            yield self.by_weights
        yield lambda: Graph(self.sites, self.unit_mask)
        yield lambda: Graph.again(large, self.sites, self.unit_mask, batch)

    def by_weights(self) -> ByWeights:
        """The model's own code, its reading weights 0.

        Raises:
            ValueError: a cut unit is read by something else.
        """
        return ByWeights(self.sites, self.unit_mask, self.spec, self.gone)

    @property
    def lost(self) -> set[str]:
        """Parameters of the large network that went with whole branches."""
        return {name for branch in self.gone.values() for name in branch.bare}


class Sight(NamedTuple):
    """Where a small network is looked at, and what it has to give there."""

    words: str
    large: nn.Module
    batch: Tensors
    wanted: list[Tensor]


@dataclass
class _Ground:
    """A copy of the large network in one type, and a way to silence it."""

    originals: Originals
    reference: Reference
    precise: bool
    sights: dict[tuple[str, int], Sight] = field(default_factory=dict)
    """What has been calculated already, by its words and its network."""

    @property
    def limit(self) -> float:
        return TOLERANCE if self.precise and not self.reference.narrow else TOLERANCE_SINGLE

    @property
    def noise(self) -> float:
        return ROUNDINGS * torch.finfo(torch.float64 if self.limit == TOLERANCE else torch.float32).eps

    @property
    def large(self) -> nn.Module:
        return self.originals.copy(self.precise)


class Gate:
    """Compares small networks made in one way; what the large one gives is calculated once."""

    def __init__(self, originals: Originals, cut: Cut, example_inputs: Tensors, redrawn: bool, full: bool) -> None:
        """Make it ready.

        Args:
            originals: of the large network.
            cut: how the small ones are made.
            example_inputs: one batch.
            redrawn: compare with other weights too.
            full: and on another number of examples, and in training mode.
        """
        self._originals, self._cut, self._inputs = originals, cut, example_inputs
        self._redrawn, self._full = redrawn or full, full
        self._told = ""
        """Why the network could not be silenced, as far as it could not."""
        self._found: list[_Ground] = []
        self._waiting = self._grounds()

    def __call__(self, small: nn.Module) -> float:
        """The largest difference of an output, relative to its largest finite number.

        Raises:
            ValueError: the small network cannot run, they differ, nothing is shown by what they give, or there is
                nothing to compare with.
        """
        refused: Different | None = None
        with torch.random.fork_rng(devices=[]):
            for ground in self._every_ground():
                try:
                    return self._compared(ground, small)
                except Different as error:  # or this way of silencing is none for this network, which another shows
                    refused = refused or error
        if refused is not None:
            raise refused
        raise ValueError(
            "it cannot be shown that the small network computes what the silenced one does, since the network could "
            f"not be silenced to compare with: with nothing silenced yet, {self._told}. The small network may be "
            "right; the comparison is at fault"
        )

    def _every_ground(self) -> Iterator[_Ground]:
        """Those that were made before, then others."""
        yield from self._found
        for ground in self._waiting:
            self._found.append(ground)
            yield ground

    def _grounds(self) -> Iterator[_Ground]:
        """The ways to silence the network that are the network itself while nothing is silenced."""
        for precise in self._originals.digits:
            large = self._originals.copy(precise)
            batch, own, some = as_fits(self._inputs, large), None, False
            for make in self._cut.references(large, batch):
                try:
                    ground = _Ground(self._originals, make(), precise)
                    if ground.reference.code is None:
                        own = ran(lambda: leaves(call(large, batch))) if own is None else own  # noqa: B023
                        same = ran(lambda: ground.reference.outputs(large, batch, silent=False))  # noqa: B023
                        gap = difference(own, same, ground.noise)
                        if not gap <= (TOLERANCE if precise else TOLERANCE_SINGLE):
                            self._told = f"what torch.export makes of it differs from it by {gap:.2g}"
                            continue
                    self._sight(ground, _EXAMPLE, large, batch)
                except Exception as error:  # of any kind: a network, or a graph, with types written into it
                    self._told = self._told or in_short(error)
                    continue
                some = True
                yield ground
                if ground.reference.code is None:  # another program shows nothing more
                    return
            if some:  # nor do fewer digits
                return

    def _sight(self, ground: _Ground, words: str, large: nn.Module, batch: Tensors) -> Sight:
        """What the silenced network gives, which is calculated once."""
        if (words, id(large)) not in ground.sights:
            reference = ground.reference
            if words == _LONGER:  # a program is of one length, and making another takes longer than all else
                reference = self._by_code(ground) or reference.of_length(large, batch)
            wanted = ran(lambda: reference.outputs(large, batch))
            ground.sights[words, id(large)] = Sight(f"on {words}", large, batch, wanted)
        return ground.sights[words, id(large)]

    def _compared(self, ground: _Ground, small: nn.Module) -> float:
        little, given = self._in_all_digits(small, ground), as_fits(self._inputs, ground.large)
        sight = self._sight(ground, _EXAMPLE, ground.large, given)
        worst, shown = self._look(little, sight, ground), [shows(leaf) for leaf in sight.wanted]
        for sight in self._other_sights(ground, given):
            if sight.large is not ground.large:
                hand_over(sight.large, little, self._cut.spec, self._cut.lost)
            try:
                worst = max(worst, self._look(little, sight, ground))
            except Different as error:  # this way of silencing was right on the example batch
                raise Wrong(str(error)) from error
            shown = [before or shows(leaf) for before, leaf in zip(shown, sight.wanted, strict=True)]
        if not all(shown):
            raise Wrong(
                f"nothing is shown by output {shown.index(False) + 1}: not one of its numbers is finite, on no batch; "
                "give a batch on which the network gives numbers"
            )
        if self._full:
            self._training(ground, little, sight.large, given)
        return worst

    def _other_sights(self, ground: _Ground, given: Tensors) -> Iterator[Sight]:
        """Other batches; other weights, drawn until what the network gives depends on its input.

        Of units that are all switched off nothing is seen, whatever is wrong with them.
        """
        if not self._full:
            yield self._sight(ground, _DRAWN, ground.large, drawn_batch(given))
        told: list[bool] = []
        for seed in range(self._originals.redraws) if self._redrawn else ():
            sight = self._redrawn_sight(ground, given, seed)
            yield sight
            now = varied(sight.wanted, ground.limit)
            told = [a or b for a, b in zip(told, now, strict=True)] if told else now
            if all(told) or (any(told) and seed) or not any(varied(leaves(sight.batch), 0.0)):
                return

    def _redrawn_sight(self, ground: _Ground, given: Tensors, seed: int) -> Sight:
        """Of other weights, on another number of examples where the network takes it and all is to be shown."""
        large = ground.originals.copy(ground.precise, seed)
        if self._full:
            try:
                return self._sight(ground, _LONGER, large, drawn_batch(longer_batch(given)))
            except Exception:  # a number of examples that is written into the network, or that means something else
                pass
        return self._sight(ground, _REDRAWN, large, drawn_batch(given))

    def _in_all_digits(self, small: nn.Module, ground: _Ground) -> nn.Module:
        """The small network as it is compared, what cutting puts into other weights not rounded to its own type."""
        little = prepared(small, ground.precise)
        rounding = max(
            (torch.finfo(own.dtype).eps for own in small.parameters() if own.is_floating_point()), default=0.0
        )
        if wrong := badly_fitted(ground.large, little, self._cut.spec, rounding):
            raise Wrong(f"the small network has other lengths of its weights than cutting gives: {', '.join(wrong)}")
        fit_lengths(ground.large, little, self._cut.spec)
        return little

    def _look(self, little: nn.Module, sight: Sight, ground: _Ground) -> float:
        try:
            found = ran(lambda: leaves(call(little, sight.batch)))
        except Exception as error:  # of many kinds: a literal size in the user's code that no longer fits
            raise Wrong(
                f"the small network cannot run {sight.words} ({in_short(error)}); a size that is written into its "
                "code may no longer fit: take it from the tensor, or keep that part"
            ) from error
        gap = difference(sight.wanted, found, ground.noise)
        if not gap <= ground.limit:
            raise Different(
                f"the small network computes something else than the silenced one: they differ by {gap:.2g} of the "
                f"largest number of an output {sight.words}, allowed is {ground.limit:g}; nothing was made. A size "
                "or position written into the code is the usual cause: take it from the tensor, or keep that part "
                "whole" + self._by_chance(ground, sight.batch)
            )
        return gap

    def _by_chance(self, ground: _Ground, batch: Tensors) -> str:
        """What is to be said of a network that draws random numbers; empty of another."""
        try:
            one, other = (ran(lambda: leaves(call(ground.large, batch)), seed) for seed in (0, 1))
        except Exception:  # what fails has been said
            return ""
        if difference(one, other, ground.noise) <= ground.limit:
            return ""
        return ". It draws random numbers, perhaps one for each unit: then fewer units draw other ones, keep that part"

    def _by_code(self, ground: _Ground) -> ByWeights | None:
        """A way to silence the network that any batch and any mode can have; None where only a program can be silenced.

        Of whole branches it shows less than a program does: they are taken out in the same way as of the small network.
        """
        if not self._cut.gone:
            return ground.reference.code
        try:
            return self._cut.by_weights()
        except ValueError:
            return None

    def _training(self, ground: _Ground, little: nn.Module, redrawn: nn.Module, given: Tensors) -> None:
        """A step of training: it runs, and where no random numbers are drawn it gives what the silenced one gives."""
        reference = self._by_code(ground)
        own = copied if reference is None else reference.silenced
        large, little = without_chance(own(redrawn)), without_chance(copied(little))
        try:
            wanted = trained(large, given)
        except Exception:  # it cannot be trained on this batch as it is: of one example, without targets
            return
        try:
            found = trained(little, given)
        except Exception as error:  # of many kinds: a layer that only training runs reads what was cut
            raise Wrong(
                f"the small network cannot be trained ({in_short(error)}): what runs in training mode only reads units "
                "that were cut, or has their number written into its code; keep that part whole"
            ) from error
        if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in found]:
            raise Wrong("the small network gives something of another shape in training mode; keep that part whole")
        limit, noise = IN_TRAINING * ground.limit, IN_TRAINING * ground.noise
        gap = difference(wanted, found, noise)
        if gap <= limit or reference is None or not ground.precise:
            return
        if (
            difference(wanted, trained(without_chance(own(redrawn)), given, seed=1), noise) <= limit
        ):  # no random numbers are to blame
            raise Wrong(
                f"in training mode the small network computes something else than the silenced one: they differ by "
                f"{gap:.2g} of the largest number of an output, allowed is {limit:g}; what runs in training mode only "
                "reads units that were cut: keep that part whole"
            )
