"""The network run blind: what of it is known without its input, for its inputs are not numbers (NaN).

Nothing of a NaN passes through a weight that is zero, and everywhere else it spreads; so what comes out as a number all
the same owes nothing to the input, and is the value it has for any.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from scratchcard.networks.operators import lets_through
from scratchcard.networks.recurrent import RECURRENT
from scratchcard.networks.sites import Sites
from scratchcard.networks.spellings import spelled
from scratchcard.types import State, Tensors


@dataclass(frozen=True)
class Reading:
    """An operator that adds up over units - a linear layer, a convolution - and what it was called with."""

    node: Node
    at: int
    """Which argument it adds up."""
    dim: int
    """Over which dimension of it; the outputs lie in the same dimension."""
    roots: list[int]
    """Of the labels along the dimension: which unit each index is."""
    arguments: tuple[Any, ...]

    @property
    def value(self) -> Tensor:
        """What it adds up."""
        return tree_leaves(self.arguments)[self.at]

    @property
    def weight(self) -> int | None:
        """Where its weight stands among the arguments, behind what it weights; None where it is not known to."""
        place = None if self._name == "bilinear" else self._place("weight", "mat2")
        return None if place is None or place == self.at or self.arguments[place].dim() < 2 else place

    @property
    def bias(self) -> int | None:
        """Where its bias stands among the arguments; None without one."""
        place = None if self.weight is None else self._place("bias", "self")
        return None if place == self.at else place

    @property
    def inputs_of_weight(self) -> int:
        """Which dimension of the weight is the units that are read."""
        return 0 if self._name.startswith(("addmm", "mm", "conv_transpose")) else 1

    @property
    def additive(self) -> bool:
        """Whether what it gives is a sum over the units; a recurrent layer adds up inside, and bends the sums."""
        return self._name not in RECURRENT

    @property
    def grouped(self) -> bool:
        """Whether units come out as those they went in as (a depthwise convolution): what it gives goes with them."""
        if not self._name.startswith("conv") or self.weight is None:
            return False
        return self.value.shape[self.dim] != self.arguments[self.weight].shape[self.inputs_of_weight]

    @property
    def padded(self) -> bool:
        """Whether a constant may give less at the borders, where zeros are added up in its place."""
        if self._name.startswith("conv_transpose"):
            return True
        names = self._schema[: len(self.arguments)]
        padding = self.arguments[names.index("padding")] if "padding" in names else 0
        return padding != "valid" and (isinstance(padding, str) or any(tree_leaves(padding)))

    def on(self, value: Tensor, weight: Tensor | None = None) -> Tensor:
        """What it gives for another argument, and another weight, without its bias."""
        if self.weight is None:
            parts, form = tree_flatten(self.arguments)
            parts[self.at] = value
            return self._called(list(tree_unflatten(parts, form)))
        given = list(self.arguments)
        given[self.at] = value
        if self.bias is not None:
            given[self.bias] = torch.zeros_like(given[self.bias])
        if weight is not None:
            given[self.weight] = weight
        return self._called(given)

    def read(self) -> Tensor:
        """Which indices of the dimension are multiplied by a weight that is not zero, [size of the dimension]."""
        if self.weight is None or self.grouped:
            return torch.ones(self.value.shape[self.dim], dtype=torch.bool)
        return along(self.arguments[self.weight] != 0, self.inputs_of_weight).any(1)

    def past_zeros(self) -> Tensor | None:
        """The sums, NaN where something that is not known is in them; None if not even the weights are known."""
        others = [part for at, part in enumerate(self.arguments) if at != self.at]
        if self.weight is None or any(map(_unknown, others)):
            return None
        unknown, weight = self.value.isnan(), self.arguments[self.weight]
        given = list(self.arguments)
        given[self.at] = self.value.masked_fill(unknown, 0.0)
        spoilt = self.on(unknown.to(weight), (weight != 0).to(weight)) > 0.5  # counted in ones, so that none cancel
        if self.padded:  # what a constant gives at the borders depends on where they are: on the size of the input
            spoilt |= (
                along(self.on(given[self.at]) != 0, self.dim)
                .any(1)
                .view([-1 if at == self.dim else 1 for at in range(spoilt.dim())])
            )
        return self._called(given).masked_fill(spoilt, math.nan)

    @property
    def _name(self) -> str:
        return spelled(self.node.target)

    @property
    def _schema(self) -> list[str]:
        return [argument.name for argument in self.node.target._schema.arguments]  # pyright: ignore

    def _place(self, *names: str) -> int | None:
        schema = self._schema[: len(self.arguments)]
        found = [schema.index(name) for name in names if name in schema]
        return next((at for at in found if isinstance(self.arguments[at], Tensor)), None)

    def _called(self, arguments: list[Any]) -> Tensor:
        return self.node.target(*arguments, **self.node.kwargs)  # pyright: ignore[reportCallIssue]


class Run(Interpreter):
    """The exported program, run in float64, and what its adding operators were called with."""

    def __init__(self, sites: Sites, state: State, blind: bool = False) -> None:
        """Make it ready.

        Args:
            sites: of the network.
            state: its weights and buffers, float64.
            blind: whether it sees no more of a batch than its shapes.
        """
        super().__init__(sites.program.graph_module, garbage_collect_values=False)
        self._sites, self._state, self._blind = sites, state, blind
        signature = sites.program.graph_signature
        self.names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        """Placeholder -> parameter or buffer."""
        self.readings: list[Reading] = []
        self._hidden: set[Node] = set()
        """Nodes whose values cannot be NaN (whole numbers, truth) and are not known without the input."""

    def outputs(self, inputs: Tensors) -> list[Tensor]:
        """What the network gives for a batch of float64."""
        program = self._sites.program
        given, arguments = iter(tree_leaves(inputs)), []
        for node in (node for node in program.graph.nodes if node.op == "placeholder"):
            if node.name in self.names:
                name = self.names[node.name]
                value = self._state.get(name, program.constants.get(name))
                assert isinstance(value, Tensor), f"{name} of the exported program is not in the state"
                arguments.append(value.double() if floating(value) else value)
                continue
            value = next(given)
            if self._blind and floating(value):
                value = torch.full_like(value, math.nan)
            elif self._blind:
                self._hidden.add(node)
            arguments.append(value)
        return [leaf for leaf in tree_leaves(self.run(*arguments)) if isinstance(leaf, Tensor)]

    def run_node(self, n: Node) -> Any:
        """Run one operator, noting what it adds up."""
        readings = []
        for consumed in self._sites.consumed.get(n.name, []):
            parts, form = tree_flatten(tuple(self.fetch_args_kwargs_from_env(n)[0]))
            parts[consumed.argument] = parts[consumed.argument].clone()  # it may be changed in place later
            given = tree_unflatten(parts, form)
            roots = self._sites.unions.roots(consumed.labels).tolist()
            readings.append(Reading(n, consumed.argument, consumed.dim, roots, tuple(given)))
        self.readings += readings
        if self._blind and readings and (past := readings[0].past_zeros()) is not None:
            return past
        result = super().run_node(n)
        return self._covered(n, result) if self._blind and n.op == "call_function" else result

    def _covered(self, n: Node, result: Any) -> Any:
        """Nothing known, where an operator may not show that what it was given is not known."""
        sources = n.all_input_nodes
        hidden = any(source in self._hidden for source in sources)
        if not hidden and not any(_unknown(self.env[source]) for source in sources):
            return result
        name, picked = spelled(n.target), n.target is operator.getitem
        nothing = not picked and (hidden or not lets_through(n.target))

        def cover(leaf: Any) -> Any:
            if floating(leaf):
                if not nothing:
                    return leaf
                return leaf.fill_(math.nan) if name.endswith("_") else torch.full_like(leaf, math.nan)
            if leaf is not None:
                self._hidden.add(n)
            return torch.zeros_like(leaf) if isinstance(leaf, Tensor) else leaf

        return tree_map(cover, result)


def along(tensor: Tensor, dim: int) -> Tensor:
    """The tensor as [size of the dimension, everything else]."""
    return tensor.movedim(dim, 0).reshape(tensor.shape[dim], -1)


def floating(leaf: Any) -> bool:
    """Whether it is a tensor of floating-point numbers."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _unknown(value: Any) -> bool:
    return any(floating(leaf) and bool(leaf.isnan().any()) for leaf in tree_leaves(value))
