"""A small network for every rule about an operator: units on both sides of it, and who reads what, written by hand.

`a` makes 8 units, the operator does something to them, `b` reads the result and makes 6 units that `out` reads. What is
known of each by hand is which unit every column of a reader comes from: a reference that owes the rules nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from shrinkable import Net
from torch import Tensor, nn

from scratchcard.networks.compact import compact
from scratchcard.networks.operators import RULES

Column = tuple[str, int, int] | None
"""The weight that makes a column's unit, the dimension of that weight's outputs, and the unit; None: nobody does."""
Reads = dict[str, tuple[int, list[Column]]]
"""Weight -> the dimension that it is read along, and where each of its columns comes from."""


@dataclass(frozen=True)
class Exercise:
    """A network whose rules are known by hand."""

    model: nn.Module
    inputs: Any
    reads: Reads


def made(
    forward: Callable[..., Tensor], inputs: Callable[[], Any], reads: Reads, **parts: Callable[[], Any]
) -> Exercise:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net(forward)
        for name, make in parts.items():
            setattr(net, name, make())
        return Exercise(net.eval(), inputs(), reads)


def from_(weight: str, units: Iterable[int] = range(8), dim: int = 0) -> list[Column]:
    return [(f"{weight}.weight", dim, unit) for unit in units]


def silent(weight: str, units: Iterable[int] = range(8)) -> Reads:
    """Units that others than a weight read too are 0 for all of them where the layer that makes them gives 0."""
    return {f"{weight}.{part}": (0, from_(weight, units)) for part in ("weight", "bias")}


class Flipped(nn.Module):
    """A linear layer whose weight lies the other way, as GPT-2's do."""

    def __init__(self, nx: int, nf: int) -> None:
        super().__init__()
        self.nx, self.nf = nx, nf
        self.weight = nn.Parameter(torch.randn(nx, nf) / 2)
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


def flat(
    how: Callable[..., Tensor],
    columns: list[Column] | None = None,
    mixed: bool = False,
    width: int = 8,
    shape: tuple[int, ...] = (4, 5),
    more: Reads | None = None,
    **parts: Callable[[], Any],
) -> Callable[[], Exercise]:
    """Layers of neurons around an operator; where it mixes units, they are silent where they are made."""
    columns = columns if columns is not None else from_("a")
    own = {
        "a": lambda: nn.Linear(5, width),
        "b": lambda: nn.Linear(len(columns), 6),
        "out": lambda: nn.Linear(6, 3),
        **parts,
    }
    reads: Reads = {"b.weight": (1, columns), "out.weight": (1, from_("b", range(6))), **(more or {})}
    reads |= silent("a", range(width)) if mixed else {}
    return lambda: made(lambda m, x: m.out(F.gelu(m.b(how(m, m.a(x), x)))), lambda: torch.randn(*shape), reads, **own)


def maps(
    how: Callable[..., Tensor],
    dims: int = 2,
    columns: list[Column] | None = None,
    more: Reads | None = None,
    **parts: Callable[[], Any],
) -> Callable[[], Exercise]:
    """Convolutions around an operator."""
    columns = columns if columns is not None else from_("a")
    conv = getattr(nn, f"Conv{dims}d")
    own = {
        "a": lambda: conv(2, 8, 3, padding=1),
        "b": lambda: conv(len(columns), 6, 1),
        "out": lambda: nn.Linear(6, 3),
        **parts,
    }
    reads: Reads = {"b.weight": (1, columns), "out.weight": (1, from_("b", range(6))), **(more or {})}
    over = tuple(range(2, 2 + dims))
    return lambda: made(
        lambda m, x: m.out(F.gelu(m.b(how(m, m.a(x), x))).mean(over)),
        lambda: torch.randn(2, 2, *(4,) * dims),
        reads,
        **own,
    )


def aten(name: str, *more: Any) -> Callable[..., Tensor]:
    """An operator by the name it has in programs, of one tensor."""
    return lambda m, h, x: getattr(torch.ops.aten, name)(h, *more)


def at() -> nn.Buffer:
    return nn.Buffer(torch.tensor([1, 3]))


def places() -> nn.Buffer:
    return nn.Buffer(torch.tensor([[5, 0, 3]] * 4))


def two(how: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], Exercise]:
    """An operator of two tensors that units of two layers go through."""
    return flat(lambda m, h, x: how(h, m.c(x), x), c=lambda: nn.Linear(5, 8))


def beside_attention(how: Callable[..., Tensor], **parts: Callable[[], Any]) -> Callable[[], Exercise]:
    """Two heads of 4 that what is cut belongs to; `b` reads what `v` makes."""
    return flat(
        how,
        columns=from_("v"),
        shape=(2, 3, 5),
        k=lambda: nn.Linear(5, 8),
        v=lambda: nn.Linear(5, 8),
        **parts,
    )


def heads(m: Any, h: Tensor, x: Tensor) -> Tensor:
    parts = [part.view(*x.shape[:2], -1, 4).transpose(1, 2) for part in (h, m.k(x), m.v(x))]
    return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)


def split_heads(how: Callable[[Any, Tensor], Iterable[Tensor]]) -> Callable[[], Exercise]:
    """Queries, keys and values of one projection, as many rows of each as the network has written down."""

    def forward(m: Any, h: Tensor, x: Tensor) -> Tensor:
        parts = [part.view(*x.shape[:2], -1, 4).transpose(1, 2) for part in how(m, h)]
        return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)

    return flat(forward, columns=from_("a", range(16, 24)), width=24, shape=(2, 3, 5), rows=lambda: 8)


def product(times: Callable[[Tensor, Tensor], Tensor], *shape: int) -> Callable[[], Exercise]:
    return flat(
        lambda m, h, x: times(times(h, m.k(x).transpose(-2, -1)), m.v(x)),
        columns=from_("v"),
        shape=shape,
        k=lambda: nn.Linear(5, 8),
        v=lambda: nn.Linear(5, 8),
    )


def transposed(dims: int, groups: int = 1) -> Callable[[], Exercise]:
    layer = getattr(nn, f"ConvTranspose{dims}d")
    return maps(
        lambda m, h, x: m.t(h),
        dims,
        columns=from_("t", range(4), dim=1) if groups == 1 else from_("a", [0, 0, 4, 4]),
        more={"t.weight": (0, from_("a"))},
        t=lambda: layer(8, 4, 2, groups=groups),
    )


def grouped(dims: int, groups: int) -> Callable[[], Exercise]:
    """Whole groups go: a column of a reader inside a group is one of several that share it."""
    layer = getattr(nn, f"Conv{dims}d")
    return maps(lambda m, h, x: m.g(h), dims, columns=from_("g"), g=lambda: layer(8, 8, 3, padding=1, groups=groups))


def embedded(layer: nn.Module | None = None) -> Exercise:
    return made(
        lambda m, x: m.out(F.gelu(m.b(m.e(x)))),
        lambda: torch.randint(0, 11, (4, 3)),
        {"b.weight": (1, from_("e", dim=1)), "out.weight": (1, from_("b", range(6)))},
        e=lambda: layer or nn.Embedding(11, 8),
        b=lambda: nn.Linear(8, 6),
        out=lambda: nn.Linear(6, 3),
    )


def flipped_layers() -> Exercise:
    return made(
        lambda m, x: m.out(F.gelu(m.b(F.gelu(m.a(x))))),
        lambda: torch.randn(4, 5),
        {"b.weight": (0, from_("a", dim=1)), "out.weight": (1, from_("b", range(6), dim=1))},
        a=lambda: Flipped(5, 8),
        b=lambda: Flipped(8, 6),
        out=lambda: nn.Linear(6, 3),
    )


def chosen() -> Exercise:
    """A small network whose BatchNorm already reads some channels of a stream, by the positions written down in it."""
    parts = {"a": (5, 8), "b": (8, 6), "c": (8, 6), "out": (6, 3)}
    large = made(
        lambda m, x: m.out((m.b(m.norm(h := m.a(x)).relu()) + m.c(h)).relu()),
        lambda: torch.randn(4, 5),
        {},
        norm=lambda: nn.BatchNorm1d(8),
        **{name: lambda sizes=sizes: nn.Linear(*sizes) for name, sizes in parts.items()},
    )
    stays = torch.tensor([True, False, True, True, False, True, True, False])
    small = compact(large.model, {"norm->b": stays}, large.inputs).module
    reads: Reads = {
        "b.weight": (1, from_("a", stays.nonzero().flatten().tolist())),
        "c.weight": (1, from_("a")),
        "out.weight": (1, from_("b", range(6))),
    }
    return Exercise(small, large.inputs, reads)


def flattened(how: Callable[[Tensor], Tensor]) -> Callable[[], Exercise]:
    """A channel's pixels are neighbours."""
    return lambda: made(
        lambda m, x: m.out(F.gelu(m.b(how(m.a(x))))),
        lambda: torch.randn(2, 2, 3, 3),
        {
            "b.weight": (1, [column for column in from_("a") for _ in range(9)]),
            "out.weight": (1, from_("b", range(6))),
        },
        a=lambda: nn.Conv2d(2, 8, 3, padding=1),
        b=lambda: nn.Linear(72, 6),
        out=lambda: nn.Linear(6, 3),
    )


def positive(name: str, *more: Any) -> Callable[..., Tensor]:
    return lambda m, h, x: getattr(torch.ops.aten, name)(h.abs() + 0.5, *more)


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "threshold": (0.1, 0.0),
    "clamp": (-0.5, 0.5),
    "clamp_min": (-0.3,),
    "clamp_max": (0.3,),
    **dict.fromkeys(("dropout", "dropout_", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"), (0.3, False)),
}
"""Of operators of one tensor, what else they take."""
UNARY: dict[str, Callable[..., Tensor]] = {
    **{name: positive(name) for name in ("log", "sqrt", "rsqrt", "log1p", "reciprocal")},
    "pow": positive("pow", 2),
    "masked_fill": lambda m, h, x: h.masked_fill(x[:, :1] > 0, 0.5),
    **{name: lambda m, h, x, name=name: h + getattr(torch, name)(h) for name in ("zeros_like", "ones_like")},
    "full_like": lambda m, h, x: h + torch.full_like(h, 0.5),
    "zero": lambda m, h, x: h + torch.ops.aten.zero(h),
    "type_as": lambda m, h, x: h.type_as(x),
    "to": lambda m, h, x: torch.ops.aten.to(h, x.dtype, False, True),
    "detach": lambda m, h, x: h.detach() + h,
    "alias": lambda m, h, x: torch.ops.aten.alias(h),
}
"""Operators of one tensor that are called otherwise than by it alone."""
NOT_HERE = {"_grouped_mm", "lift_fresh"}
"""Operators of other devices, and what no program has; names of which torch has no operator are not shown either."""
BINARY: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    **{
        name: lambda h, other, x, name=name: getattr(torch.ops.aten, name)(h, other)
        for name in ("add", "add_", "sub", "sub_", "mul", "mul_", "maximum", "minimum", "rsub")
    },
    "addcdiv": lambda h, other, x: torch.addcdiv(h, other, h.abs() + 1),
    "div": lambda h, other, x: h / (other.abs() + 1),
    "div_": lambda h, other, x: h.div_(other.abs() + 1),
    "where": lambda h, other, x: torch.where(x[:, :1] > 0, h, other),
    "addcmul": lambda h, other, x: torch.addcmul(h, other, h),
    "lerp": lambda h, other, x: torch.lerp(h, other, 0.3),
}


def pools(name: str) -> Callable[[], Exercise]:
    dims = int(next(letter for letter in name if letter.isdigit()))
    if "upsample" in name:
        mode = name.partition("upsample_")[2].removesuffix("_aa")[:-2].replace("_", "-")
        return maps(lambda m, h, x: F.interpolate(h, scale_factor=2, mode=mode, antialias=name.endswith("_aa")), dims)
    return maps(lambda m, h, x: getattr(torch.ops.aten, name)(h, [2] * dims), dims)


def pools_with_places(name: str) -> Callable[[], Exercise]:
    dims = int(next(letter for letter in name if letter.isdigit()))
    return maps(lambda m, h, x: getattr(torch.ops.aten, name)(h, [2] * dims)[0], dims)


def reduced(how: Callable[[Tensor, Any], Tensor], beside: Any = (2, 3)) -> dict[str, Callable[[], Exercise]]:
    """One of many, with the dimensions kept: over units, and over what is beside them."""
    return {
        "over units": flat(lambda m, h, x: h + how(h, 1), mixed=True),
        "beside them": maps(lambda m, h, x: h - how(h, beside)),
    }


def without_correction(name: str) -> Callable[[Tensor, Any], Tensor]:
    """Of a spread, the form that says nothing but the dimensions."""

    def how(h: Tensor, over: Any) -> Tensor:
        found = getattr(torch.ops.aten, name).dim(h, [over] if isinstance(over, int) else list(over))
        return found.unsqueeze(1) if over == 1 else found[:, :, None, None]

    return how


def recurrent(make: Callable[..., nn.Module], cell: bool = False) -> Callable[[], Exercise]:
    """Units of the state are read by the layer itself too."""
    last = "" if cell else "_l0"
    units = [(f"r.weight_hh{last}", 0, unit) for unit in range(6)]

    def how(m: Any, h: Tensor, x: Tensor) -> Tensor:
        found = m.r(h)
        return found[0] if isinstance(found, tuple) else found

    return flat(
        how,
        columns=units,
        shape=(4, 5) if cell else (2, 3, 5),
        more={f"r.weight_ih{last}": (1, from_("a")), f"r.weight_hh{last}": (1, units)},
        r=lambda: make(8, 6) if cell else make(8, 6, batch_first=True),
    )


def by_parameter(
    how: Callable[[Any, Tensor, Tensor], Tensor], *shape: int, reads: int, makes: int | None = None
) -> Callable[[], Exercise]:
    """A layer that is spelled as a product with a parameter `w`."""
    columns: list[Column] = [None] if makes is None else [("w", makes, unit) for unit in range(shape[makes])]
    more: Reads = {"w": (reads, from_("a"))}
    return flat(how, columns=columns, more=more, w=lambda: nn.Parameter(torch.randn(*shape)))


SHOWN: dict[str, dict[str, Callable[[], Exercise]]] = {
    "linear": {"plain": flat(lambda m, h, x: h)},
    "addmm": {"plain": flipped_layers},
    "prelu": {
        "a slope for each": flat(lambda m, h, x: m.slope(h), slope=lambda: nn.PReLU(8)),
        "one slope": flat(lambda m, h, x: m.slope(h), slope=nn.PReLU),
    },
    "embedding": {"plain": embedded},
    "scaled_dot_product_attention": {"plain": beside_attention(heads)},
    "batch_norm": {
        "neurons": flat(lambda m, h, x: m.norm(h), norm=lambda: nn.BatchNorm1d(8)),
        "channels": maps(lambda m, h, x: m.norm(h), norm=lambda: nn.BatchNorm2d(8)),
    },
    "instance_norm": {"channels": maps(lambda m, h, x: m.norm(h), norm=lambda: nn.InstanceNorm2d(8, affine=True))},
    "layer_norm": {"neurons": flat(lambda m, h, x: m.norm(h), mixed=True, norm=lambda: nn.LayerNorm(8))},
    "rms_norm": {"neurons": flat(lambda m, h, x: m.norm(h), mixed=True, norm=lambda: nn.RMSNorm(8))},
    "group_norm": {
        "of four": maps(lambda m, h, x: m.norm(h), norm=lambda: nn.GroupNorm(4, 8)),
        "of neurons": flat(lambda m, h, x: m.norm(h), norm=lambda: nn.GroupNorm(4, 8)),
    },
    "softmax": {"over units": flat(lambda m, h, x: h.softmax(1), mixed=True)},
    "log_softmax": {"over units": flat(lambda m, h, x: h.log_softmax(1), mixed=True)},
    "matmul": {"of matrices": product(torch.matmul, 2, 3, 5)},
    "bmm": {"of matrices": product(torch.bmm, 2, 3, 5)},
    "mm": {"of matrices": product(torch.mm, 4, 5)},
    **{f"conv{dims}d": {"plain": maps(lambda m, h, x: h, dims)} for dims in (1, 3)},
    "conv2d": {
        "plain": maps(lambda m, h, x: h),
        "of groups": grouped(2, 4),
        "depthwise": grouped(2, 8),
    },
    **{f"conv_transpose{dims}d": {"plain": transposed(dims)} for dims in (1, 3)},
    "conv_transpose2d": {"plain": transposed(2), "of groups": transposed(2, groups=2)},
    **{
        name: reduced(lambda h, over, name=name: getattr(torch, name)(h, over, keepdim=True))
        for name in ("mean", "sum", "amax", "amin", "logsumexp", "nanmean")
    },
    **{name: reduced(without_correction(name)) for name in ("std", "var")},
    **{
        name: reduced(lambda h, over, name=name: getattr(torch, name)(h, over, keepdim=True)[0])
        for name in ("std_mean", "var_mean")
    },
    "prod": reduced(lambda h, over: torch.prod(h, over, keepdim=True), 2),
    "norm": reduced(lambda h, over: torch.ops.aten.norm(h, 2, [over] if over == 1 else list(over), True)),
    "linalg_vector_norm": reduced(lambda h, over: torch.linalg.vector_norm(h, dim=over, keepdim=True)),
    **{
        name: {
            "of units": flat(lambda m, h, x, name=name: getattr(torch, name)(h, 1), mixed=True),
            "beside units": flat(lambda m, h, x, name=name: getattr(torch, name)(h, 0)),
        }
        for name in ("cumsum", "cumprod", "logcumsumexp")
    },
    "cosine_similarity": {
        "over units": flat(
            lambda m, h, x: h * F.cosine_similarity(h, m.c(x), 1)[:, None],
            mixed=True,
            more=silent("c"),
            c=lambda: nn.Linear(5, 8),
        )
    },
    "_softmax": {"over units": flat(aten("_softmax", 1, False), mixed=True)},
    "_log_softmax": {"over units": flat(aten("_log_softmax", 1, False), mixed=True)},
    "mv": {"of a parameter": by_parameter(lambda m, h, x: torch.mv(h, m.w)[:, None], 8, reads=0)},
    "addmv": {"of a parameter": by_parameter(lambda m, h, x: torch.addmv(x[:, 0], h, m.w)[:, None], 8, reads=0)},
    "dot": {"of a parameter": by_parameter(lambda m, h, x: x[:, :1] + torch.dot(h.sum(0), m.w), 8, reads=0)},
    "inner": {"of a parameter": by_parameter(lambda m, h, x: torch.inner(h, m.w), 7, 8, reads=1, makes=0)},
    "tensordot": {
        "of a parameter": by_parameter(lambda m, h, x: torch.tensordot(h, m.w, ([1], [0])), 8, 7, reads=0, makes=1)
    },
    "einsum": {
        "of a parameter": by_parameter(lambda m, h, x: torch.einsum("ni,oi->no", h, m.w), 7, 8, reads=1, makes=0)
    },
    "outer": {"of units": flat(lambda m, h, x: torch.outer(x[:, 0], h[0]))},
    "baddbmm": {"of matrices": product(lambda a, b: torch.baddbmm(a.new_zeros(1, 1, 1), a, b), 2, 3, 5)},
    "bilinear": {
        "with what is given": flat(
            lambda m, h, x: m.two(h, x),
            columns=from_("two", range(4)),
            more={"two.weight": (1, from_("a"))},
            two=lambda: nn.Bilinear(8, 5, 4),
        )
    },
    "lstm": {"plain": recurrent(nn.LSTM)},
    "gru": {"plain": recurrent(nn.GRU)},
    "rnn_tanh": {"plain": recurrent(nn.RNN)},
    "rnn_relu": {"plain": recurrent(lambda *sizes, **how: nn.RNN(*sizes, nonlinearity="relu", **how))},
    "lstm_cell": {"plain": recurrent(nn.LSTMCell, cell=True)},
    "gru_cell": {"plain": recurrent(nn.GRUCell, cell=True)},
    "rnn_tanh_cell": {"plain": recurrent(nn.RNNCell, cell=True)},
    "rnn_relu_cell": {"plain": recurrent(lambda *sizes: nn.RNNCell(*sizes, nonlinearity="relu"), cell=True)},
    "_weight_norm": {
        "plain": flat(
            lambda m, h, x: h,
            columns=[("a.parametrizations.weight.original1", 0, unit) for unit in range(8)],
            a=lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 8)),
        )
    },
    "tensor_split": {
        "equal": flat(lambda m, h, x: (p := h.tensor_split(2, 1))[0] * p[1].sigmoid(), columns=from_("a", range(4)))
    },
    "hsplit": {"equal": flat(lambda m, h, x: (p := h.hsplit(2))[0] * p[1].sigmoid(), columns=from_("a", range(4)))},
    "vsplit": {"beside units": flat(lambda m, h, x: h.vsplit(2)[1])},
    "dsplit": {"beside units": maps(lambda m, h, x: h.dsplit(2)[1])},
    **{
        name: {
            "beside units": flat(
                lambda m, h, x, name=name: getattr(h, name)(0, m.at, m.c(x)[:2]), at=at, c=lambda: nn.Linear(5, 8)
            ),
            "of units": flat(lambda m, h, x, name=name: getattr(h, name)(1, m.at, x[:, :2]), at=at, mixed=True),
        }
        for name in ("index_copy", "index_add")
    },
    **{
        name: {"of units": flat(lambda m, h, x, name=name: getattr(h, name)(1, m.at, x), at=places, mixed=True)}
        for name in ("scatter", "scatter_add")
    },
    "index": {
        "of units": flat(lambda m, h, x: h[:, m.at], columns=from_("a", [1, 3]), at=at),
        "beside units": flat(lambda m, h, x: h[m.at], at=at),
    },
    "gather": {"of units": flat(lambda m, h, x: h.gather(1, m.at), columns=from_("a", [5, 0, 3]), at=places)},
    "channel_shuffle": {
        "plain": maps(lambda m, h, x: F.channel_shuffle(h, 2), columns=from_("a", [0, 4, 1, 5, 2, 6, 3, 7]))
    },
    "pixel_shuffle": {"plain": maps(lambda m, h, x: F.pixel_shuffle(h, 2), columns=from_("a", [0, 4]))},
    "pixel_unshuffle": {
        "plain": maps(lambda m, h, x: F.pixel_unshuffle(h, 2), columns=[c for c in from_("a") for _ in range(4)])
    },
    "im2col": {
        "plain": maps(lambda m, h, x: F.unfold(h, 2)[..., None], columns=[c for c in from_("a") for _ in range(4)])
    },
    "col2im": {"plain": maps(lambda m, h, x: F.fold(h.flatten(2), 5, 2), columns=from_("a", [0, 4]))},
    "unfold": {
        "of units": flat(lambda m, h, x: h.unfold(1, 2, 1).mean(2), columns=[None] * 7, mixed=True),
        "beside units": maps(lambda m, h, x: h.unfold(2, 2, 2).amax(-1)),
    },
    "ravel": {"of units": flat(lambda m, h, x: h.ravel().view(len(h), -1), mixed=True)},
    "view_as": {"of another": two(lambda h, other, x: h.view_as(other) + other)},
    "reshape_as": {"of another": two(lambda h, other, x: h.reshape_as(other) + other)},
    "repeat": {"of units": flat(lambda m, h, x: h.repeat(1, 2), columns=from_("a") * 2)},
    "tile": {"of units": flat(lambda m, h, x: torch.tile(h, (1, 2)), columns=from_("a") * 2)},
    "t": {"twice": flat(lambda m, h, x: torch.t(torch.t(h)))},
    "numpy_T": {"twice": flat(lambda m, h, x: h.T.T)},
    "mT": {"twice": flat(lambda m, h, x: h.mT.mT)},
    "tril": {"of units": flat(lambda m, h, x: h.tril())},
    "triu": {"of units": flat(lambda m, h, x: h.triu())},
    "vstack": {"beside units": flat(lambda m, h, x: torch.vstack([h, m.c(x)]), c=lambda: nn.Linear(5, 8))},
    "hstack": {
        "of two": flat(
            lambda m, h, x: torch.hstack([h, m.c(x)]), columns=[*from_("a"), *from_("c")], c=lambda: nn.Linear(5, 8)
        )
    },
    "dstack": {
        "beside units": maps(lambda m, h, x: torch.dstack([h, m.c(x)]), c=lambda: nn.Conv2d(2, 8, 3, padding=1))
    },
    "movedim": {"plain": flat(lambda m, h, x: h[:, :, None].movedim(1, 2))},
    "broadcast_tensors": {"of two": two(lambda h, other, x: torch.add(*torch.broadcast_tensors(h, other[:1])))},
    "copy": {"of another": flat(lambda m, h, x: torch.ops.aten.copy(h, m.c(x)), from_("c"), c=lambda: nn.Linear(5, 8))},
    **{
        name: {"of a told size": flat(lambda m, h, x, how=how: h * how(m, h), size=lambda: 8)}
        for name, how in {
            "zeros": lambda m, h: torch.zeros(m.size) + 1,
            "ones": lambda m, h: torch.ones(m.size),
            "full": lambda m, h: torch.full((m.size,), 0.5),
            "empty": lambda m, h: torch.empty(m.size).fill_(0.5),
            "new_zeros": lambda m, h: h.new_zeros(m.size) + 1,
            "new_ones": lambda m, h: h.new_ones(m.size),
            "new_full": lambda m, h: h.new_full((m.size,), 0.5),
            "new_empty": lambda m, h: h.new_empty(m.size).fill_(0.5),
        }.items()
    },
    "permute": {"plain": flat(lambda m, h, x: h[:, :, None].permute(0, 2, 1))},
    "transpose": {"plain": flat(lambda m, h, x: h[:, :, None].transpose(1, 2))},
    "cat": {
        "of two": flat(
            lambda m, h, x: torch.cat([h, m.c(x)], 1), columns=[*from_("a"), *from_("c")], c=lambda: nn.Linear(5, 8)
        ),
        "beside units": flat(lambda m, h, x: torch.cat([h, m.c(x)], 0), c=lambda: nn.Linear(5, 8)),
    },
    "unsqueeze": {"plain": flat(lambda m, h, x: h.unsqueeze(1))},
    "squeeze": {"plain": flat(lambda m, h, x: h[:, :, None].squeeze(2))},
    "view": {"channels to neurons": flattened(lambda h: h.view(len(h), -1))},
    "reshape": {"channels to neurons": flattened(lambda h: h.reshape(len(h), -1))},
    "flatten": {"channels to neurons": flattened(lambda h: h.flatten(1))},
    "unflatten": {
        "one and all": flat(lambda m, h, x: h.unflatten(1, (-1, 1))[:, :, 0]),
        "in two": flat(lambda m, h, x: h.unflatten(1, (2, -1)).flatten(1)),
    },
    "expand": {
        "beside units": flat(lambda m, h, x: h[:, :, None].expand(-1, -1, 3).sum(2)),
        "over units": flat(lambda m, h, x: h + m.c(x).expand(-1, m.size), c=lambda: nn.Linear(5, 1), size=lambda: 8),
    },
    "expand_as": {"beside units": flat(lambda m, h, x: h[None].expand_as(x[:3, :1, None] + h[None, :, :]).sum(0))},
    "slice": {
        "of units": flat(lambda m, h, x: h[:, 2:6], columns=from_("a", range(2, 6))),
        "beside units": maps(lambda m, h, x: h[:, :, 1:3]),
    },
    "select": {
        "of units": flat(lambda m, h, x: h + h.select(1, 2).unsqueeze(1), mixed=True),
        "beside units": flat(lambda m, h, x: h.unsqueeze(2).select(2, 0)),
    },
    "narrow": {"of units": flat(lambda m, h, x: h.narrow(1, 2, 4), columns=from_("a", range(2, 6)))},
    **{
        name: {
            "of units": flat(how, columns=[None, None, *from_("a"), None]),
            "beside units": maps(lambda m, h, x, how=how: how(m, h, x)),
        }
        for name, how in {
            "pad": lambda m, h, x: F.pad(h, (2, 1)),
            "constant_pad_nd": lambda m, h, x: torch.ops.aten.constant_pad_nd(h, [2, 1]),
        }.items()
    },
    "split": {
        "of units": flat(lambda m, h, x: h.split(m.half, 1)[1], columns=from_("a", range(4, 8)), half=lambda: 4),
        "of heads": split_heads(lambda m, h: h.split(m.rows, -1)),
    },
    "split_with_sizes": {
        "of units": flat(lambda m, h, x: h.split([3, 5], 1)[1], columns=from_("a", range(3, 8))),
        "of heads": split_heads(lambda m, h: h.split([m.rows] * 3, -1)),
    },
    "index_select": {
        "of positions that compaction wrote": chosen,
        "of others": flat(
            lambda m, h, x: h.index_select(1, m.order),
            columns=from_("a", [5, 0, 3, 2, 7, 6, 1, 4]),
            order=lambda: nn.Buffer(torch.tensor([5, 0, 3, 2, 7, 6, 1, 4])),
        ),
    },
    "chunk": {
        "equal": flat(lambda m, h, x: (p := h.chunk(2, 1))[0] * p[1].sigmoid(), columns=from_("a", range(4))),
        "unequal": flat(lambda m, h, x: h.chunk(3, 1)[0], columns=from_("a", range(3))),
    },
    "unbind": {
        "of units": flat(lambda m, h, x: torch.stack(h.unbind(1)[2:6], 1), columns=from_("a", range(2, 6))),
        "beside units": flat(lambda m, h, x: torch.stack([h, h.tanh()], 2).unbind(2)[1]),
    },
    "stack": {"of two": flat(lambda m, h, x: torch.stack([h, m.c(x)], 1).sum(1), c=lambda: nn.Linear(5, 8))},
    "glu": {"plain": flat(lambda m, h, x: F.glu(h, 1), columns=from_("a", range(4)))},
    "roll": {
        "of units": flat(lambda m, h, x: h.roll(1, 1), columns=from_("a", [7, *range(7)])),
        "beside units": flat(lambda m, h, x: h.roll(1, 0)),
    },
    "flip": {
        "of units": flat(lambda m, h, x: h.flip(1), columns=from_("a", range(7, -1, -1))),
        "beside units": flat(lambda m, h, x: h.flip(0)),
    },
    "repeat_interleave": {
        "plain": flat(lambda m, h, x: h.repeat_interleave(2, 1), columns=[c for c in from_("a") for _ in (0, 1)])
    },
}
"""Rule -> what it is shown on -> the network."""


def joined() -> Exercise:
    """PyTorch's own attention, whose three projections are one weight."""
    return made(
        lambda m, x: m.out(F.gelu(m.b(m.attention(h := m.a(x), h, h, need_weights=False)[0]))),
        lambda: torch.randn(2, 3, 5),
        {
            "attention.in_proj_weight": (1, from_("a")),
            "attention.out_proj.weight": (1, [("attention.in_proj_weight", 0, 16 + at) for at in range(8)]),
            "b.weight": (1, from_("attention.out_proj")),
            "out.weight": (1, from_("b", range(6))),
        },
        a=lambda: nn.Linear(5, 8),
        attention=lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        b=lambda: nn.Linear(8, 6),
        out=lambda: nn.Linear(6, 3),
    )


def networks_of(name: str) -> dict[str, Callable[[], Exercise]]:
    """The networks that a rule is shown on: written down, or by what all operators of its kind do."""
    if name in SHOWN:
        return SHOWN[name]
    kind = RULES[name].__name__
    if kind == "_pooled":
        return {"plain": pools(name)}
    if kind == "_pooled_and_found":
        return {"plain": pools_with_places(name)}
    if name in BINARY:
        return {"of two": two(BINARY[name])}
    if kind in ("_same", "same", "together", "entry_by_entry"):
        how = UNARY.get(name, aten(name, *ARGUMENTS.get(name, ())))
        return {"plain": flat(lambda m, h, x: how(m, h * 1.0, x))}
    return {}
