"""What any network takes and gives, in plain words: every argument by a name, and tensors in tuples, lists and dicts.

A file of a network is to be read where nothing of the network's own library is installed, and torch.export cannot open
dimensions of what `**kwargs` collects.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.types import Tensors


def tensors_of(values: Any) -> list[Tensor]:
    """The tensors of inputs or outputs, in order, whatever they are packed in."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def examples_of(inputs: Tensors) -> int:
    """How many examples a batch has: the length of its first tensor.

    Raises:
        ValueError: it has none.
    """
    first = next(iter(tensors_of(inputs)), None)
    if first is None or not first.dim() or not len(first):
        raise ValueError(
            f"the first input's first dimension must be the examples, got "
            f"{'no tensor' if first is None else f'the shape {tuple(first.shape)}'}; give one batch of at least one"
        )
    return len(first)


def _led(leaf: object, count: int) -> bool:
    """Whether an input has an entry for every example."""
    return isinstance(leaf, Tensor) and bool(leaf.dim()) and len(leaf) == count


def rows_of(inputs: Tensors, rows: Tensor) -> Tensors:
    """A batch of these examples; what does not have one row for each is shared by all."""
    count = examples_of(inputs)
    return tree_map(lambda leaf: leaf[rows].contiguous() if _led(leaf, count) else leaf, inputs)


def arguments_of(batch: Tensors) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments."""
    if isinstance(batch, dict):
        return (), dict(batch)
    return (batch if isinstance(batch, tuple) else (batch,)), {}


def plain_forward(ready: nn.Module, batch: Tensors, any_number: bool, left_out: dict[str, None]) -> Any:
    """Give a network a forward that takes the arguments given, each by a name, and returns plain containers.

    Args:
        ready: the network; it is changed.
        batch: what it is called with.
        any_number: of examples is taken.
        left_out: what of its outputs is left out is written here.

    Returns:
        Of every argument, which dimensions are open.
    """
    inner, (positional, named) = ready.forward, arguments_of(batch)
    names = argument_names(inspect.signature(inner), len(positional))

    def forward(*args: Any, **kwargs: Any) -> Any:
        return _plain(inner(*args, **kwargs), "", left_out)

    # torch.export goes by the signature, and cannot open dimensions of what **kwargs collects
    given = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    given += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in named]
    forward.__signature__ = inspect.Signature(given)  # pyright: ignore[reportFunctionMemberAccess]
    ready.forward = forward
    count, dim = examples_of(batch), torch.export.Dim("batch")
    return tree_map(
        lambda leaf: {0: dim} if any_number and _led(leaf, count) else None,
        {**dict(zip(names, positional, strict=True)), **named},
    )


def argument_names(signature: inspect.Signature, number: int) -> tuple[str, ...]:
    """Names of so many positional arguments; what `*args` collects is numbered."""
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.KEYWORD_ONLY]
    many = next((at for at, one in enumerate(own) if one.kind is inspect.Parameter.VAR_POSITIONAL), number)
    numbered = (f"{own[many].name}_{place}" for place in range(number - many))
    return (*(one.name for one in own[: min(many, number)]), *numbered)


def _plain(value: Any, where: str, left_out: dict[str, None]) -> Any:
    """Tensors in tuples, lists and dicts, which any torch can read; what else there is becomes None and is named."""
    if value is None or isinstance(value, Tensor):
        return value
    if is_dataclass(value) and not isinstance(value, Mapping | type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        plain = {str(name): _plain(one, f"{where}.{name}", left_out) for name, one in value.items()}
        return {name: one for name, one in plain.items() if one is not None}
    if isinstance(value, tuple | list):
        kind = list if isinstance(value, list) else tuple
        return kind(_plain(one, f"{where}.{place}", left_out) for place, one in enumerate(value))
    left_out[f"{where.removeprefix('.') or 'the output'} ({type(value).__name__})"] = None
    return None
