"""The numbers of heads written into a network's code, changed until the small network computes the right thing.

Attention modules keep how many heads they have, and how wide they are, as plain numbers. Which of them must change with
the tensors is found by trying the likely ones first; the gate of `compact.py` decides. Modules of torch are known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, linear, normalization, sparse

from scratchcard.networks.counts import Count, numbers_of, tell
from scratchcard.networks.heads import Heads
from scratchcard.networks.labels import Labels

AttributeEdits = dict[str, dict[str, int]]
"""Module path -> attribute -> its new value; plain numbers, so that a manifest can carry it."""
TRIALS = 128
"""So many ways to change the numbers of heads written into a network are tried before its heads are kept whole."""
_RETOLD = (
    *(getattr(linear, name) for name in linear.__all__),
    *(getattr(normalization, name) for name in normalization.__all__),
    conv._ConvNd,
    batchnorm._NormBase,
    sparse.Embedding,
)
"""Layers that are told their sizes when their tensors are cut."""
_OF_ONE_HEAD = (
    "head_dim",
    "head_size",
    "attention_head_size",
    "dim_head",
    "d_head",
    "head_width",
    "d_k",
    "d_v",
    "groups",
)
"""Attributes that are likely not to change, should their number happen to be one that counts heads."""


def settled(
    small: nn.Module,
    heads: dict[str, Heads],
    kept: dict[str, Labels],
    gate: Callable[[nn.Module], float],
    counts: Iterable[tuple[Count, int]] = (),
    fewest: bool = False,
) -> tuple[AttributeEdits, float]:
    """Change the numbers of heads that a network with fewer of them has written into its modules, until it is right.

    `nn.MultiheadAttention` refuses fewer heads at an unchanged width: it becomes `FewerHeads`. In other modules every
    whole number that equals a size of the heads is a candidate; the likely ones are changed first, and what the gate
    passes stands.

    Args:
        small: the network with smaller tensors; its attributes are changed.
        heads: site -> its heads, of all the network.
        kept: site -> labels of the heads that are kept; only sites of which some are cut.
        gate: the network's difference to the silenced one; raises ValueError where that is too large.
        counts: other numbers that count units which are cut, and what they are now.
        fewest: leave as it was whatever the gate passes without.

    Returns:
        What was changed, and the difference.

    Raises:
        ValueError: as the gate, naming the sites, where no change of the numbers makes the network right.
    """
    fixed: AttributeEdits = {}
    ways = _Ways()
    owners = [known.owner for known in heads.values()]
    for site, left in kept.items():
        known = heads[site]
        sizes = {size: int(np.isin(labels, left).sum()) for size, labels in known.spans.items()}
        if isinstance(small.get_submodule(known.owner), nn.MultiheadAttention):
            fixed[known.owner] = {"num_heads": len(left)}
            continue
        for path, name, value in _numbers(small, known.owner, owners, sizes):
            module = small.get_submodule(path)
            fits = any(value in own.shape for own in module.parameters(recurse=False))
            likely = not fits and name.strip("_") not in _OF_ONE_HEAD
            ways.add((type(module).__qualname__, *_between(path, known.owner)), path, name, sizes[value], likely)
    for count, now in counts:
        if count.attribute:
            fixed.setdefault(count.module, {})[count.attribute] = now
            continue
        module = small.get_submodule(count.module)
        for name in (name for name, value in numbers_of(module).items() if value == count.number):
            ways.add((type(module).__qualname__, "counted"), count.module, name, now, count.sure)
    apply_edits(small, fixed)
    refused: ValueError | None = None
    for changed in itertools.islice(ways.flips(), TRIALS):
        try:
            edits, error = _tried(small, ways.edits(fixed, changed), gate)
        except ValueError as why:
            refused = refused or why
            continue
        for alike in changed if fewest else ():
            rest = [other for other in changed if other != alike]
            try:
                edits, error = _tried(small, ways.edits(fixed, rest), gate)
            except ValueError:
                continue
            changed = rest
        apply_edits(small, edits)
        return edits, error
    assert refused is not None, "at least one way is tried"
    if not kept:
        raise refused
    raise ValueError(
        f"heads of {', '.join(kept)} cannot be removed: {refused}. No change of the attributes that hold the number of "
        "heads or their rows made it right; let the code take both from attributes or tensors, or keep the heads whole"
    ) from refused


class _Ways:
    """What could be changed, and what of it is likely to have to be."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, ...], dict[tuple[str, str], int]] = {}
        """Attributes that are alike - the same of the same class in every block - change together."""
        self._likely: dict[tuple[str, ...], bool] = {}

    def add(self, where: tuple[str, ...], path: str, name: str, value: int, likely: bool) -> None:
        """One more attribute of a module; `where` is the same for those that are alike."""
        for time in itertools.count():  # two sizes may be one number today, and two when units are cut
            alike = (*where, name, str(time))
            if self._values.setdefault(alike, {}).setdefault((path, name), value) == value:
                self._likely[alike] = self._likely.get(alike, True) and likely
                return

    def flips(self) -> Iterable[list[tuple[str, ...]]]:
        """Which to change: the likely ones, then one more or fewer, then two."""
        for number in range(len(self._likely) + 1):
            for flipped in itertools.combinations(self._likely, number):
                yield [name for name in self._likely if self._likely[name] != (name in flipped)]

    def edits(self, fixed: AttributeEdits, changed: Iterable[tuple[str, ...]]) -> AttributeEdits:
        """These changes beside those that have to be."""
        edits = {path: dict(attributes) for path, attributes in fixed.items()}
        for alike in changed:
            for (path, name), value in self._values[alike].items():
                edits.setdefault(path, {})[name] = value
        return edits


def _tried(small: nn.Module, edits: AttributeEdits, gate: Callable[[nn.Module], float]) -> tuple[AttributeEdits, float]:
    """What the gate says of some changes; the network is as it was afterwards.

    Raises:
        ValueError: as the gate.
    """
    before = {
        path: {name: numbers_of(small.get_submodule(path))[name] for name in names} for path, names in edits.items()
    }
    apply_edits(small, edits)
    try:
        return edits, gate(small)
    finally:
        for path, attributes in before.items():
            for name, value in attributes.items():
                tell(small.get_submodule(path), name, value)


def _between(path: str, owner: str) -> tuple[str, ...]:
    """Where a module is, seen from the owner of some heads: the same for every block of a network."""
    above = len(owner.split(".")) - len(path.split(".")) if owner != path and not path.startswith(f"{owner}.") else 0
    return ("^" * above, path.removeprefix(owner) if not above else "")


def _numbers(small: nn.Module, path: str, owners: list[str], sizes: dict[int, int]) -> list[tuple[str, str, int]]:
    """(module, attribute, value) of every whole number, around some heads, that equals one of the sizes.

    Looked at are the owner, what is in it, and what it is in as long as no other heads are in that too.
    """
    modules = [
        ".".join(part for part in (path, inner) if part) for inner, _ in small.get_submodule(path).named_modules()
    ]
    above = path.rpartition(".")[0]
    while above and sum(other.startswith(f"{above}.") for other in owners) == 1:
        modules.append(above)
        above = above.rpartition(".")[0]
    found = []
    for where in modules:
        module = small.get_submodule(where)
        if isinstance(module, (*_RETOLD, nn.MultiheadAttention)):
            continue
        for name, value in numbers_of(module).items():
            if sizes.get(value, value) != value:
                found.append((where, name, value))
    return found


def apply_edits(model: nn.Module, edits: AttributeEdits) -> None:
    """Tell a network its numbers of heads; the modules are changed in place.

    Raises:
        ValueError: a module or attribute that is not there, or an attribute that is no whole number.
    """
    for path, attributes in edits.items():
        try:
            module = model.get_submodule(path)
        except AttributeError:
            raise ValueError(f"the network has no module {path}; it is not the one that these edits are of") from None
        for name, value in attributes.items():
            if name not in numbers_of(module) or type(value) is not int:
                raise ValueError(f"{path}.{name} is no whole number that could become {value!r}")
            tell(module, name, value)
        if isinstance(module, nn.MultiheadAttention) and not isinstance(module, FewerHeads):
            free_of_width(model, module)


def free_of_width(model: nn.Module, attention: nn.MultiheadAttention) -> None:
    """Turn an attention of a network into one whose heads need not be as wide as its input, in place.

    Raises:
        ValueError: as `FewerHeads.become`.
    """
    FewerHeads.become(attention)
    for other in model.modules():  # the shortcut through nested tensors asks for all heads
        if isinstance(other, nn.TransformerEncoder) and attention in other.modules():
            other.use_nested_tensor = False


class FewerHeads(nn.MultiheadAttention):
    """`nn.MultiheadAttention` with fewer heads than its width has room for; names, arguments and results are the same.

    The module of torch demands that its heads together are as wide as its input, so that none can go.
    """

    @classmethod
    def become(cls, attention: nn.MultiheadAttention) -> None:
        """Turn an attention into this one, in place: its parameters stay where they are.

        Raises:
            ValueError: it adds learnt or zero keys, which is not known here.
        """
        if attention.bias_k is not None or attention.bias_v is not None or attention.add_zero_attn:
            raise ValueError(
                "nn.MultiheadAttention with add_bias_kv or add_zero_attn cannot lose heads; keep them whole"
            )
        attention._qkv_same_embed_dim = False  # keeps torch's own layers from passing this forward by
        attention.__class__ = cls

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            query: [length, batch, width], or [batch, length, width] if `batch_first`, or [length, width].
            key: the same, of another length and perhaps width.
            value: as the key.
            key_padding_mask: [batch, keys], True or -inf where a key is not looked at.
            need_weights: return the attention too.
            attn_mask: [queries, keys] or [batch * heads, queries, keys], True or -inf where it is not looked.
            average_attn_weights: over the heads.
            is_causal: a hint that `attn_mask` is the causal one; it is not needed here.

        Returns:
            What was attended to, shaped like the query, and the attention [batch, (heads,) queries, keys] or None.
        """
        single = query.dim() == 2
        if single:
            query, key, value = (part.unsqueeze(0 if self.batch_first else 1) for part in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        if not self.batch_first:
            query, key, value = (part.transpose(0, 1) for part in (query, key, value))
        separate = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        weights = separate if self.in_proj_weight is None else self.in_proj_weight.chunk(3)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(part, weight, bias).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for part, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        mask = _added(attn_mask, q)
        if mask is not None and mask.dim() == 3:
            mask = mask.unflatten(0, (len(q), self.num_heads))
        padding = _added(key_padding_mask, q)
        if padding is not None:
            padding = padding[:, None, None, :]
            mask = padding if mask is None else mask + padding
        dropped = self.dropout if self.training else 0.0
        attention = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            attention = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropped)
            attended = attention @ v
            attention = attention.mean(1) if average_attn_weights else attention
        else:
            attended = F.scaled_dot_product_attention(q, k, v, mask, dropped)
        result = self.out_proj(attended.transpose(1, 2).flatten(2))
        result = result if self.batch_first else result.transpose(0, 1)
        if single:
            result = result.squeeze(0 if self.batch_first else 1)
            attention = None if attention is None else attention.squeeze(0)
        return result, attention


def _added(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """A mask as what is added to the scores."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))
