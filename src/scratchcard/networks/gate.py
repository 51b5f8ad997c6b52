"""The gate: no small network is handed out before it has been shown to compute what the silenced large one does.

Every output is compared on its own scale, with the given weights and with others (`redrawn`), on the batch given, on a
drawn one and on one of another length, in evaluation and in training mode. The silenced network (`silenced`) has to be
the network itself while nothing is silenced, or another way of silencing is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.networks.branches import Gone
from scratchcard.networks.copies import copied
from scratchcard.networks.cuts import ShrinkSpec
from scratchcard.networks.forward import as_fits, call
from scratchcard.networks.lengths import badly_fitted, fit_lengths
from scratchcard.networks.redrawn import hand_over, redraw
from scratchcard.networks.silenced import ByWeights, Graph, Reference, leaves
from scratchcard.networks.sites import Sites
from scratchcard.types import Tensors, UnitMask

TOLERANCE = 1e-12
"""Largest difference to the silenced network, relative to the largest finite number of an output, in float64."""
TOLERANCE_SINGLE = 1e-5
"""The same for networks that run in float32 only, or in a part of them."""
IN_TRAINING = 1e4
"""So many times that is allowed in training mode, where statistics of a small batch stand under a root."""
LARGEST_DOUBLE = 500_000_000
"""Networks of more parameters are compared in their own types: several copies in float64 would fill the memory."""
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


class Originals:
    """Copies of a large network in evaluation mode, made once for any number of gates."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._made: dict[tuple[bool, bool], nn.Module] = {}

    @property
    def digits(self) -> tuple[bool, ...]:
        """Whether to compare in float64, or in the types that the network has: what to try, in order."""
        numbers = sum(parameter.numel() for parameter in self._model.parameters())
        return (True, False) if numbers <= LARGEST_DOUBLE else (False,)

    def copy(self, precise: bool, redrawn: bool) -> nn.Module:
        """One in float64 or in its own types, with its own weights or with others."""
        if (precise, redrawn) not in self._made:
            made = _prepared(self.copy(precise, False) if redrawn else self._model, precise)
            if redrawn:
                redraw(made)
            self._made[precise, redrawn] = made
        return self._made[precise, redrawn]


@dataclass
class _Ground:
    """A copy of the large network in one type, and a way to silence it."""

    originals: Originals
    reference: Reference
    precise: bool
    wanted: dict[str, list[Tensor]] = field(default_factory=dict)
    """Look -> what the silenced network gives."""

    @property
    def limit(self) -> float:
        return TOLERANCE if self.precise and not self.reference.narrow else TOLERANCE_SINGLE

    @property
    def noise(self) -> float:
        return ROUNDINGS * torch.finfo(torch.float64 if self.limit == TOLERANCE else torch.float32).eps

    @property
    def large(self) -> nn.Module:
        return self.originals.copy(self.precise, redrawn=False)

    @property
    def redrawn(self) -> nn.Module:
        return self.originals.copy(self.precise, redrawn=True)


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
            large = self._originals.copy(precise, redrawn=False)
            batch, own, some = as_fits(self._inputs, large), None, False
            for make in self._cut.references(large, batch):
                try:
                    ground = _Ground(self._originals, make(), precise)
                    if not ground.reference.itself:
                        own = _ran(lambda: leaves(call(large, batch))) if own is None else own  # noqa: B023
                        same = _ran(lambda: ground.reference.outputs(large, batch, silent=False))  # noqa: B023
                        gap = _difference(own, same, ground.noise)
                        if not gap <= (TOLERANCE if precise else TOLERANCE_SINGLE):
                            self._told = f"what torch.export makes of it differs from it by {gap:.2g}"
                            continue
                    self._wanted(ground, _EXAMPLE, large, batch)
                except Exception as error:  # of any kind: a network, or a graph, with types written into it
                    self._told = self._told or _short(error)
                    continue
                some = True
                yield ground
                if not ground.reference.itself:  # another program shows nothing more
                    return
            if some:  # nor do fewer digits
                return

    def _wanted(self, ground: _Ground, look: str, large: nn.Module, batch: Tensors) -> list[Tensor]:
        """What the silenced network gives."""
        if look not in ground.wanted:
            ground.wanted[look] = _ran(lambda: ground.reference.outputs(large, batch))
        return ground.wanted[look]

    def _compared(self, ground: _Ground, small: nn.Module) -> float:
        little, given = self._in_all_digits(small, ground), as_fits(self._inputs, ground.large)
        wanted = self._wanted(ground, _EXAMPLE, ground.large, given)
        worst = self._look(little, given, wanted, ground, f"on {_EXAMPLE}")
        shown = [_shows(leaf) for leaf in wanted]
        for look, large, batch in self._other_looks(ground, given):
            if large is not ground.large:
                hand_over(large, little, self._cut.spec, self._cut.lost)
            wanted = ground.wanted[look]
            try:
                worst = max(worst, self._look(little, batch, wanted, ground, f"on {look}"))
            except Different as error:  # this way of silencing was right on the example batch
                raise Wrong(str(error)) from error
            shown = [before or _shows(leaf) for before, leaf in zip(shown, wanted, strict=True)]
        if not all(shown):
            raise Wrong(
                f"nothing is shown by output {shown.index(False) + 1}: not one of its numbers is finite, on no batch; "
                "give a batch on which the network gives numbers"
            )
        if self._full:
            self._training(ground, little, given)
        return worst

    def _other_looks(self, ground: _Ground, given: Tensors) -> Iterator[tuple[str, nn.Module, Tensors]]:
        """Drawn batches; with other weights on another number of examples, where the network takes it."""
        if not self._full:
            drawn = _drawn(given)
            self._wanted(ground, _DRAWN, ground.large, drawn)
            yield _DRAWN, ground.large, drawn
        if self._full:
            longer = _drawn(_longer(given))
            try:
                reference = ground.reference.of_length(ground.redrawn, longer)
                ground.wanted[_LONGER] = _ran(lambda: reference.outputs(ground.redrawn, longer))
            except Exception:  # a number of examples that is written into the network, or that means something else
                pass
            else:
                yield _LONGER, ground.redrawn, longer
                return
        if self._redrawn:
            drawn = _drawn(given)
            self._wanted(ground, _REDRAWN, ground.redrawn, drawn)
            yield _REDRAWN, ground.redrawn, drawn

    def _in_all_digits(self, small: nn.Module, ground: _Ground) -> nn.Module:
        """The small network as it is compared, what cutting puts into other weights not rounded to its own type."""
        little = _prepared(small, ground.precise)
        rounding = max(
            (torch.finfo(own.dtype).eps for own in small.parameters() if own.is_floating_point()), default=0.0
        )
        if wrong := badly_fitted(ground.large, little, self._cut.spec, rounding):
            raise Wrong(f"the small network has other lengths of its weights than cutting gives: {', '.join(wrong)}")
        fit_lengths(ground.large, little, self._cut.spec)
        return little

    def _look(
        self, little: nn.Module, batch: Tensors, wanted: list[Tensor], ground: _Ground, words: str, times: float = 1.0
    ) -> float:
        try:
            found = _ran(lambda: leaves(call(little, batch)))
        except Exception as error:  # of many kinds: a literal size in the user's code that no longer fits
            raise Wrong(
                f"the small network cannot run {words} ({_short(error)}); a size that is written into its code may no "
                "longer fit: take it from the tensor, or keep that part"
            ) from error
        gap = _difference(wanted, found, times * ground.noise)
        if not gap <= times * ground.limit:
            raise Different(
                f"the small network computes something else than the silenced one: they differ by {gap:.2g} of the "
                f"largest number of an output {words}, allowed is {times * ground.limit:g}; nothing was made. A size "
                "or position written into the code is the usual cause: take it from the tensor, or keep that part "
                "whole" + self._by_chance(ground, batch)
            )
        return gap

    def _by_chance(self, ground: _Ground, batch: Tensors) -> str:
        """What is to be said of a network that draws random numbers; empty of another."""
        try:
            one, other = (_ran(lambda: leaves(call(ground.large, batch)), seed) for seed in (0, 1))
        except Exception:  # what fails has been said
            return ""
        if _difference(one, other, ground.noise) <= ground.limit:
            return ""
        return ". It draws random numbers, perhaps one for each unit: then fewer units draw other ones, keep that part"

    def _in_training(self, ground: _Ground) -> Reference | None:
        """A way to silence the network in training mode; None where only a program can be silenced."""
        if ground.reference.itself or not self._cut.gone:
            return ground.reference if ground.reference.itself else None
        try:
            return self._cut.by_weights()
        except ValueError:
            return None

    def _training(self, ground: _Ground, little: nn.Module, given: Tensors) -> None:
        """A step of training: it runs, and where no random numbers are drawn it gives what the silenced one gives."""
        reference = self._in_training(ground)
        own = copied if reference is None else reference.silenced
        large, little = _without_chance(own(ground.redrawn)), _without_chance(copied(little))
        try:
            wanted = _trained(large, given)
        except Exception:  # it cannot be trained on this batch as it is: of one example, without targets
            return
        try:
            found = _trained(little, given)
        except Exception as error:  # of many kinds: a layer that only training runs reads what was cut
            raise Wrong(
                f"the small network cannot be trained ({_short(error)}): what runs in training mode only reads units "
                "that were cut, or has their number written into its code; keep that part whole"
            ) from error
        if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in found]:
            raise Wrong("the small network gives something of another shape in training mode; keep that part whole")
        limit, noise = IN_TRAINING * ground.limit, IN_TRAINING * ground.noise
        gap = _difference(wanted, found, noise)
        if gap <= limit or reference is None or not ground.precise:
            return
        if (
            _difference(wanted, _trained(_without_chance(own(ground.redrawn)), given, seed=1), noise) <= limit
        ):  # no random numbers are to blame
            raise Wrong(
                f"in training mode the small network computes something else than the silenced one: they differ by "
                f"{gap:.2g} of the largest number of an output, allowed is {limit:g}; what runs in training mode only "
                "reads units that were cut: keep that part whole"
            )


def _trained(net: nn.Module, batch: Tensors, seed: int = 0) -> list[Tensor]:
    """What a network gives in training mode, after the gradients of it have been calculated."""
    with torch.enable_grad():
        _seed(seed)
        outputs = leaves(call(net.train(), batch))
        losses = [leaf.square().mean() for leaf in outputs if leaf.requires_grad and leaf.numel()]
        if losses:
            torch.stack([loss.to(losses[0]) for loss in losses]).sum().backward()
    return [leaf.detach() for leaf in outputs]


def _without_chance(net: nn.Module) -> nn.Module:
    """The network itself, its layers that leave out units by chance told to leave out none."""
    for module in net.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and "drop" in name:
                setattr(module, name, 0.0)
    return net


def _shows(output: Tensor) -> bool:
    """Whether there is a number in it to compare, or nothing at all."""
    return bool(output.isfinite().any()) or not output.numel()


def _ran(run: Callable[[], Any], seed: int = 0) -> Any:
    """What a network gives, its random numbers always the same ones."""
    _seed(seed)
    with torch.no_grad():
        return run()


def _seed(seed: int) -> None:
    """As `torch.manual_seed`, which takes a millisecond to ask for devices that are not there."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def _prepared(net: nn.Module, precise: bool) -> nn.Module:
    twin = copied(net).eval()
    return twin.double() if precise else twin


def _drawn(inputs: Tensors) -> Tensors:
    """Another batch of the same shapes: normal numbers where there are numbers to calculate with."""
    chance = torch.Generator().manual_seed(0)
    return tree_map(
        lambda leaf: (
            torch.randn(leaf.shape, generator=chance, dtype=torch.float64).to(leaf)
            if isinstance(leaf, Tensor) and leaf.is_floating_point()
            else leaf
        ),
        inputs,
    )


def _longer(inputs: Tensors) -> Tensors:
    """The batch and its first example once more, in every tensor that has as many rows as most."""
    tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.dim()]
    examples = len(tensors[0]) if tensors else 0
    return tree_map(
        lambda leaf: (
            torch.cat([leaf, leaf[:1]])
            if isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == examples and examples
            else leaf
        ),
        inputs,
    )


def _difference(wanted: list[Tensor], found: list[Tensor], noise: float) -> float:
    """The largest difference of an output, each relative to its own largest finite number; less than noise is none.

    Infinite where shapes differ, or anything that is not finite is not the same at the same place.
    """
    if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in found]:
        return float("inf")
    worst = 0.0
    for one, other in zip(wanted, found, strict=True):
        if not one.is_floating_point() and not one.is_complex():
            worst = max(worst, 0.0 if torch.equal(one, other) else float("inf"))
            continue
        finite = one.isfinite()
        if not torch.equal(finite, other.isfinite()):
            return float("inf")
        if not torch.equal(one[~finite].nan_to_num(0.5), other[~finite].to(one).nan_to_num(0.5)):
            return float("inf")
        here, there = one[finite], other[finite]
        gap = float((here - there).abs().max()) if here.numel() else 0.0
        worst = max(worst, gap / float(here.abs().max()) if gap > noise else 0.0)
    return worst


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
