"""The gate: no small network is handed out before it has been shown to compute what the silenced large one does.

Every output is compared on its own scale, with the given weights and with others (`redrawn`), on the batch given, on a
drawn one and on one of another length, in evaluation and in training mode. The silenced network (`silenced`) has to be
the network itself while nothing is silenced, or another way of silencing is taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
ROUNDINGS = 8
"""An output this many roundings of 1 away is equal, however small its numbers: what cancels leaves noise."""


class Different(ValueError):
    """The small network computes something else, or cannot run."""


@dataclass(frozen=True)
class Cut:
    """A small network's way from the large one, as far as the gate has to know it."""

    sites: Sites
    unit_mask: UnitMask
    spec: ShrinkSpec
    gone: Mapping[str, Gone]

    def references(self, large: nn.Module, batch: Tensors) -> Iterator[Callable[[], Reference]]:
        """Ways to silence the large network, the fastest first; making one may fail with a ValueError."""
        yield lambda: Graph(self.sites, self.unit_mask)
        yield lambda: Graph.again(large, self.sites, self.unit_mask, batch)
        yield lambda: ByWeights(self.sites, self.unit_mask, self.spec, self.gone)

    @property
    def lost(self) -> set[str]:
        """Parameters of the large network that went with whole branches."""
        return {name for branch in self.gone.values() for name in branch.bare}


@dataclass
class _Ground:
    """A copy of the large network in one type, and a way to silence it."""

    large: nn.Module
    reference: Reference
    precise: bool

    @property
    def limit(self) -> float:
        return TOLERANCE if self.precise and not self.reference.narrow else TOLERANCE_SINGLE

    @property
    def noise(self) -> float:
        return ROUNDINGS * torch.finfo(torch.float64 if self.limit == TOLERANCE else torch.float32).eps

    @functools.cached_property
    def redrawn(self) -> nn.Module:
        """The large network with other weights."""
        other = copied(self.large)
        redraw(other)
        return other


class Gate:
    """Compares small networks made in one way; what the large one gives is calculated once."""

    def __init__(self, model: nn.Module, cut: Cut, example_inputs: Tensors, redrawn: bool, full: bool) -> None:
        """Make it ready.

        Args:
            model: the large network; it is not touched.
            cut: how the small ones are made.
            example_inputs: one batch.
            redrawn: compare with other weights too.
            full: ask of the reference that it is the model first; try another number of examples, and training mode.
        """
        self._model, self._cut, self._inputs = model, cut, example_inputs
        self._redrawn, self._full = redrawn or full, full
        self._wanted: dict[tuple[int, str], list[Tensor]] = {}

    def __call__(self, small: nn.Module) -> float:
        """The largest difference of an output, relative to its largest finite number.

        Raises:
            ValueError: the small network cannot run, they differ, or nothing is shown by what they give.
        """
        with torch.random.fork_rng(devices=[]):
            if not self._full and "_ground" not in vars(self):
                try:
                    return self._compared(self._first, small)
                except (RuntimeError, Different):  # the small one's fault, or that of the graph, which is found out now
                    pass
            return self._compared(self._ground, small)

    @functools.cached_property
    def _first(self) -> _Ground:
        return _Ground(_prepared(self._model, True), Graph(self._cut.sites, self._cut.unit_mask), True)

    @functools.cached_property
    def _ground(self) -> _Ground:
        """The first way to silence the network that is the network itself while nothing is silenced."""
        told = ""
        for precise in (True, False):
            large = _prepared(self._model, precise)
            batch = as_fits(self._inputs, large)
            try:
                own = _ran(lambda: leaves(call(large, batch)))  # noqa: B023 - called at once
            except Exception as error:  # a network with types written into it, most of all; of any kind
                told = told or f"the network itself cannot run in float{64 if precise else 32} ({_short(error)})"
                continue
            for make in self._cut.references(large, batch):
                try:
                    ground = _Ground(large, make(), precise)
                    same = _ran(lambda: ground.reference.outputs(large, batch, silent=False))  # noqa: B023
                except Exception as error:  # of any kind: the graph in another type than it was made in
                    told = told or _short(error)
                    continue
                gap = _difference(own, same, ground.noise)
                if gap <= (TOLERANCE if precise else TOLERANCE_SINGLE):
                    return ground
                told = f"what torch.export makes of it differs from it by {gap:.2g}"
        raise ValueError(
            "it cannot be shown that the small network computes what the silenced one does, since the network could "
            f"not be silenced to compare with: with nothing silenced yet, {told}. The small network may be right; the "
            "comparison is at fault"
        )

    def _compared(self, ground: _Ground, small: nn.Module) -> float:
        little, worst = self._in_all_digits(small, ground), 0.0
        given = as_fits(self._inputs, ground.large)
        shown: list[bool] = []
        looks = [("the example batch", given, False), ("a drawn batch", _drawn(given), False)]
        looks += [("a drawn batch and redrawn weights", _drawn(given), True)] if self._redrawn else []
        for words, batch, redrawn in looks:
            large = ground.redrawn if redrawn else ground.large
            if redrawn:
                hand_over(large, little, self._cut.spec, self._cut.lost)
            wanted = self._wanted.get((id(ground), words))
            if wanted is None:
                wanted = _ran(lambda: ground.reference.outputs(large, batch))  # noqa: B023
                self._wanted[id(ground), words] = wanted
            worst = max(worst, self._look(little, batch, wanted, ground, f"on {words}"))
            finite = [bool(leaf.isfinite().any()) or not leaf.numel() for leaf in wanted]
            shown = [a or b for a, b in zip(shown, finite, strict=True)] if shown else finite
        if not all(shown):
            raise Different(
                f"nothing is shown by output {shown.index(False) + 1}: not one of its numbers is finite, on no batch; "
                "give a batch on which the network gives numbers"
            )
        if self._full:
            self._other_batch(ground, little, given)
            self._training(ground, little, given)
        return worst

    def _in_all_digits(self, small: nn.Module, ground: _Ground) -> nn.Module:
        """The small network as it is compared, what cutting puts into other weights not rounded to its own type."""
        little = _prepared(small, ground.precise)
        rounding = max(
            (torch.finfo(own.dtype).eps for own in small.parameters() if own.is_floating_point()), default=0.0
        )
        if wrong := badly_fitted(ground.large, little, self._cut.spec, rounding):
            raise Different(
                f"the small network has other lengths of its weights than cutting gives: {', '.join(wrong)}"
            )
        fit_lengths(ground.large, little, self._cut.spec)
        return little

    def _look(
        self, little: nn.Module, batch: Tensors, wanted: list[Tensor], ground: _Ground, words: str, times: float = 1.0
    ) -> float:
        try:
            found = _ran(lambda: leaves(call(little, batch)))
        except Exception as error:  # of many kinds: a literal size in the user's code that no longer fits
            raise Different(
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

    def _other_batch(self, ground: _Ground, little: nn.Module, given: Tensors) -> None:
        """One example more, where the network itself takes it."""
        longer = _drawn(_longer(given))
        try:
            _ran(lambda: call(ground.redrawn, longer))
            try:
                reference: Reference = ByWeights(self._cut.sites, self._cut.unit_mask, self._cut.spec, self._cut.gone)
            except ValueError:
                reference = Graph.again(ground.large, self._cut.sites, self._cut.unit_mask, longer)
            wanted = _ran(lambda: reference.outputs(ground.redrawn, longer))
        except Exception:  # a number of examples that is written into the network, or that means something else
            return
        self._look(little, longer, wanted, ground, "on another number of examples")

    def _training(self, ground: _Ground, little: nn.Module, given: Tensors) -> None:
        """A step of training: it runs, and where no random numbers are drawn it gives what the silenced one gives."""
        try:
            reference = ByWeights(self._cut.sites, self._cut.unit_mask, self._cut.spec, self._cut.gone)
        except ValueError:
            reference = None
        large = _without_chance(copied(ground.redrawn) if reference is None else reference.silenced(ground.redrawn))
        little = _without_chance(copied(little))
        try:
            wanted = _trained(copied(large), given)
        except Exception:  # it cannot be trained on this batch as it is: of one example, without targets
            return
        try:
            found = _trained(little, given)
        except Exception as error:  # of many kinds: a layer that only training runs reads what was cut
            raise Different(
                f"the small network cannot be trained ({_short(error)}): what runs in training mode only reads units "
                "that were cut, or has their number written into its code; keep that part whole"
            ) from error
        if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in found]:
            raise Different("the small network gives something of another shape in training mode; keep that part whole")
        again = _trained(copied(large), given, seed=1)
        limit, noise = IN_TRAINING * ground.limit, IN_TRAINING * ground.noise
        if reference is None or not ground.precise or not _difference(wanted, again, noise) <= limit:
            return
        gap = _difference(wanted, found, noise)
        if not gap <= limit:
            raise Different(
                f"in training mode the small network computes something else than the silenced one: they differ by "
                f"{gap:.2g} of the largest number of an output, allowed is {limit:g}; what runs in training mode only "
                "reads units that were cut: keep that part whole"
            )


def _trained(net: nn.Module, batch: Tensors, seed: int = 0) -> list[Tensor]:
    """What a network gives in training mode, after the gradients of it have been calculated."""
    with torch.enable_grad():
        torch.manual_seed(seed)
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


def _ran(run: Callable[[], Any], seed: int = 0) -> Any:
    """What a network gives, its random numbers always the same ones."""
    torch.manual_seed(seed)
    with torch.no_grad():
        return run()


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
