"""Whole attention heads are removed, and what is left computes what the network with silenced heads did."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scratchcard.networks.compact import compact
from scratchcard.networks.head_counts import FewerHeads, apply_edits
from scratchcard.networks.heads import head_axis
from scratchcard.networks.sites import read_sites

SIZE = 3
"""Of a head."""


class Attention(nn.Module):
    """Attention as people write it, in one of several ways."""

    def __init__(self, kind: str, width: int = 12, heads: int = 4, groups: int | None = None, size: int = SIZE) -> None:
        super().__init__()
        self.kind, self.num_heads, self.head_dim, self.inner = kind, heads, size, heads * size
        self.kv_heads = heads if groups is None else groups
        kv = self.kv_heads * size
        if kind.startswith("fused"):
            self.qkv = nn.Linear(width, self.inner + 2 * kv)
        else:
            self.q, self.k, self.v = nn.Linear(width, self.inner), nn.Linear(width, kv), nn.Linear(width, kv)
        self.out = nn.Linear(self.inner, width)

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:2], self.num_heads, self.head_dim)
        if self.kind == "fused chunk":
            q, k, v = (part.view(shape).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        elif self.kind == "fused split":
            q, k, v = (part.view(shape).transpose(1, 2) for part in self.qkv(x).split(self.inner, -1))
        elif self.kind == "fused reshape":
            q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        elif self.kind == "fused inside heads":
            heads = self.qkv(x).unflatten(-1, (self.num_heads, 3 * self.head_dim)).transpose(1, 2)
            q, k, v = heads.chunk(3, -1)
        else:
            q = self.q(x).view(shape).transpose(1, 2)
            k, v = (
                layer(x).unflatten(-1, (self.kv_heads, self.head_dim)).transpose(1, 2) for layer in (self.k, self.v)
            )
        if self.kind == "grouped, repeated":
            k, v = (part.repeat_interleave(self.num_heads // self.kv_heads, dim=1) for part in (k, v))
        if self.kind == "grouped, expanded":
            k, v = (
                part[:, :, None].expand(-1, -1, self.num_heads // self.kv_heads, -1, -1).flatten(1, 2)
                for part in (k, v)
            )
        if self.kind == "by hand":
            attended = (q @ k.transpose(-2, -1) * self.head_dim**-0.5).softmax(-1) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.kind == "grouped, told")
        return self.out(attended.transpose(1, 2).flatten(2))


class Blocks(nn.Module):
    """Attentions in a row, each added to its input."""

    def __init__(self, *attentions: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"attn": attention}) for attention in attentions)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block["attn"](x)
        return x


def silenced(model: nn.Module, outputs: dict[str, str], mask: dict[str, Tensor]) -> nn.Module:
    """The network with the columns of the output projections zero that read a head which is cut; by hand."""
    reference = copy.deepcopy(model)
    for site, kept in mask.items():
        layer = reference.get_submodule(outputs[site])
        weight = layer.weight.data if isinstance(layer, nn.Linear) else layer.weight.data.T  # GPT-2's lie the other way
        weight[:, ~kept.repeat_interleave(weight.shape[1] // len(kept))] = 0
    return reference


def first(found: Any) -> Tensor:
    return found if isinstance(found, Tensor) else found[0]


def proved(model: nn.Module, outputs: dict[str, str], mask: dict[str, Tensor], inputs: Any) -> nn.Module:
    """Cut heads, and compare with the reference on other inputs than those the network was read by."""
    torch.manual_seed(0)
    for parameter in model.parameters():  # biases and norms are not zero and one by accident
        nn.init.normal_(parameter, std=0.3)
    result = compact(model, mask, inputs)
    small, large = result.module.double().eval(), silenced(model, outputs, mask).double().eval()
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    if isinstance(inputs, dict):
        wanted, found = first(large(**inputs)).detach(), first(small(**inputs)).detach()
    else:
        other = torch.randn(3, *inputs.shape[1:], dtype=torch.float64)
        wanted, found = first(large(other)).detach(), first(small(other)).detach()
    assert float((wanted - found).abs().max() / wanted.abs().max()) <= 1e-12
    assert json.loads(json.dumps(result.edits)) == result.edits  # travels in a manifest
    return small


KINDS = ["separate", "by hand", "fused chunk", "fused split", "fused reshape", "fused inside heads"]


@pytest.mark.parametrize("kind", KINDS)
def test_heads_of_handwritten_attention_go_whole(kind: str) -> None:
    model = Blocks(Attention(kind), Attention(kind))
    sites = read_sites(model, torch.randn(2, 5, 12))
    assert list(sites.heads) == ["blocks.0.attn:heads", "blocks.1.attn:heads"]
    rows = {
        name: {dim: len(at) for dim, at in dims.items()} for name, dims in sites["blocks.0.attn:heads"].units[1].items()
    }
    per_head = {"q": SIZE, "k": SIZE, "v": SIZE} if "fused" not in kind else {"qkv": 3 * SIZE}
    wanted = {f"blocks.0.attn.{layer}.{own}": {0: n} for layer, n in per_head.items() for own in ("weight", "bias")}
    assert rows == {**wanted, "blocks.0.attn.out.weight": {1: SIZE}}
    mask = {
        "blocks.0.attn:heads": torch.tensor([True, False, True, False]),
        "blocks.1.attn:heads": torch.tensor([False, True, True, True]),
    }
    small = proved(model, {site: site.replace(":heads", ".out") for site in mask}, mask, torch.randn(2, 5, 12))
    assert [block["attn"].num_heads for block in small.blocks] == [2, 3]
    assert [block["attn"].out.in_features for block in small.blocks] == [2 * SIZE, 3 * SIZE]
    assert [block["attn"].head_dim for block in small.blocks] == [SIZE, SIZE]


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(KINDS), st.lists(st.booleans(), min_size=2, max_size=5).filter(any), st.integers(1, 5), st.data()
)
def test_any_heads_can_go(kind: str, kept: list[bool], size: int, data: st.DataObject) -> None:
    """Also where as many heads as features of a head make it doubtful which number is which."""
    batch, length = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 5))
    model = Attention(kind, width=len(kept) * size, heads=len(kept), size=size)
    mask = {"heads": torch.tensor(kept)}
    if size == 1 or all(kept):
        return  # heads of one feature are features; nothing cut is nothing smaller
    small = proved(model, {"heads": "out"}, mask, torch.randn(batch, length, len(kept) * size))
    assert small.out.in_features == sum(kept) * size


@pytest.mark.parametrize("kind", ["grouped, repeated", "grouped, expanded", "grouped, told"])
def test_grouped_queries_go_with_their_keys_and_values(kind: str) -> None:
    model = Blocks(Attention(kind, heads=6, groups=3))
    mask = {"blocks.0.attn:heads": torch.tensor([True, False, True])}
    small = proved(model, {"blocks.0.attn:heads": "blocks.0.attn.out"}, mask, torch.randn(2, 5, 12))
    attention = small.blocks[0]["attn"]
    assert (attention.num_heads, attention.kv_heads) == (4, 2)
    assert (attention.q.out_features, attention.k.out_features) == (4 * SIZE, 2 * SIZE)


def test_query_heads_that_share_one_key_go_alone() -> None:
    model = Blocks(Attention("grouped, told", groups=1))
    mask = {"blocks.0.attn:heads": torch.tensor([True, False, False, True])}
    small = proved(model, {"blocks.0.attn:heads": "blocks.0.attn.out"}, mask, torch.randn(2, 5, 12))
    attention = small.blocks[0]["attn"]
    assert (attention.num_heads, attention.kv_heads, attention.k.out_features) == (2, 1, SIZE)


def test_heads_under_a_mask_of_padding_go_too() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(12, 4, 16, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

        def forward(self, x: Tensor, padded: Tensor) -> Tensor:
            return self.encoder(x, src_key_padding_mask=padded)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = Padded().eval(), (torch.randn(3, 5, 12), torch.arange(5) >= torch.tensor([[5], [4], [3]]))
        small = compact(model, {"encoder.layers.0.self_attn:heads": torch.arange(4) < 3}, x)
    assert small.edits == {"encoder.layers.0.self_attn": {"num_heads": 3}}
    assert small.error <= 1e-12


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_encoder(batch_first: bool, norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(12, 4, 16, batch_first=batch_first, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    mask = {f"layers.{at}.self_attn:heads": torch.tensor([True, False, at == 1, True]) for at in range(2)}
    outputs = {site: site.replace(":heads", ".out_proj") for site in mask}
    small = proved(model, outputs, mask, torch.randn(3, 5, 12))
    assert [layer.self_attn.num_heads for layer in small.layers] == [2, 3]
    with torch.no_grad():  # torch's own layers take a shortcut here that asks for all heads
        assert small(torch.randn(3, 5, 12, dtype=torch.float64)).isfinite().all()
    padded = torch.zeros((3, 5) if batch_first else (5, 3), dtype=torch.bool)
    padded[:, -1] = True
    x, reference = torch.randn(3, 5, 12, dtype=torch.float64), silenced(model, outputs, mask).double().eval()
    assert torch.allclose(small(x, src_key_padding_mask=padded), reference(x, src_key_padding_mask=padded), atol=1e-12)
    small.train()(x).sum().backward()
    assert all(p.grad is not None for p in small.parameters())


@settings(max_examples=20, deadline=None)
@given(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["none", "bool", "float", "heads"]))
def test_fewer_heads_with_all_of_them_is_torchs_own(
    batch_first: bool, separate: bool, average: bool, weights: bool, masked: str
) -> None:
    sizes = {"kdim": 5, "vdim": 7} if separate else {}
    torch.manual_seed(1)
    model = nn.MultiheadAttention(8, 4, batch_first=batch_first, **sizes).double().eval()
    mine = copy.deepcopy(model)
    apply_edits(mine, {"": {"num_heads": 4}})
    assert isinstance(mine, FewerHeads)
    q, k, v = (
        torch.randn(2, n, width).double() for n, width in ((3, 8), (6, sizes.get("kdim", 8)), (6, sizes.get("vdim", 8)))
    )
    if not batch_first:
        q, k, v = (part.transpose(0, 1) for part in (q, k, v))
    allowed = torch.rand(3, 6) > 0.7
    mask = {"none": None, "bool": allowed, "float": torch.randn(3, 6).double(), "heads": torch.randn(8, 3, 6).double()}
    named = {"attn_mask": mask[masked], "need_weights": weights, "average_attn_weights": average}
    for wanted, found in zip(model(q, k, v, **named), mine(q, k, v, **named), strict=True):
        assert wanted is found is None or torch.allclose(wanted, found, atol=1e-13, equal_nan=True)


def test_edits_travel_to_a_fresh_network() -> None:
    make = lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 4, 16, batch_first=True), 1)  # noqa: E731
    result = compact(
        make(), {"layers.0.self_attn:heads": torch.tensor([True, False, False, True])}, torch.randn(2, 5, 12)
    )
    fresh = make()
    for name, parameter in result.module.state_dict().items():
        path, _, own = name.rpartition(".")
        setattr(fresh.get_submodule(path), own, nn.Parameter(parameter))
    apply_edits(fresh, json.loads(json.dumps(result.edits)))
    x = torch.randn(2, 5, 12)
    assert torch.equal(fresh.eval()(x), result.module.eval()(x))


@pytest.mark.parametrize(
    "edits", [{"no": {"num_heads": 2}}, {"": {"kind": 2}}, {"": {"num_heads": "2"}}, {"": {"x": 1}}]
)
def test_edits_that_do_not_fit_are_refused(edits: Any) -> None:
    with pytest.raises(ValueError, match=r"no module no|no whole number"):
        apply_edits(Attention("separate"), edits)


class Literal(Attention):
    """The size of a head is the width divided by the number of heads: fewer heads would be larger ones."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).view(*x.shape[:2], self.num_heads, x.shape[2] // self.num_heads).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))


def test_heads_that_the_code_does_not_let_go_are_refused_by_name() -> None:
    model = Literal("separate")
    with pytest.raises(ValueError, match=r"heads of heads cannot be removed.*keep the heads whole"):
        compact(model, {"heads": torch.tensor([True, False, True, False])}, torch.randn(2, 5, 12))
    assert model.num_heads == 4


@pytest.mark.parametrize("mask", [{"e": 7}, {"e": 7, "a:heads": 3}, {"a:heads": 2}])
def test_the_stream_that_an_attention_of_torch_reads_can_be_cut(mask: dict[str, int]) -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.o = nn.Linear(6, 16), nn.Linear(16, 3)
            self.a = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y = self.e(x)
            return self.o(self.a(y, y, y)[0])

    net, x = Bare(), torch.randn(2, 5, 6)
    sites = read_sites(net, x)
    found = compact(net, {name: torch.arange(len(sites[name])) < n for name, n in mask.items()}, x, sites)
    assert found.error <= 1e-12
    assert found.module.get_submodule("a").in_proj_weight.shape == (12 * mask.get("a:heads", 4), mask.get("e", 16))


def test_a_returned_attention_keeps_its_heads() -> None:
    class Returned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 4, batch_first=True)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.attention(x, x, x)

    assert not read_sites(Returned(), torch.randn(2, 5, 12)).heads


def test_a_view_without_attention_has_no_heads() -> None:
    class Split(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(2, 3, 4).softmax(-1)

    graph = torch.export.export(Split(), (torch.randn(2, 12),)).graph
    view = next(node for node in graph.nodes if "view" in str(node.target))
    assert head_axis(view, 1, [3, 4]) is None


def test_transformers_models() -> None:
    transformers = pytest.importorskip("transformers")
    common = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 16}
    ids = {"input_ids": torch.randint(0, 20, (2, 5))}
    gpt2 = {
        "n_embd": 12,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 8,
        "use_cache": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    kept = [torch.tensor([True, False, False, True]), torch.tensor([False, True, True, True])]
    for model, inputs, owner, out in [
        *(
            (
                transformers.BertModel(transformers.BertConfig(vocab_size=20, attn_implementation=how, **common)),
                ids,
                "encoder.layer.{}.attention.self",
                "encoder.layer.{}.attention.output.dense",
            )
            for how in ("sdpa", "eager")
        ),
        (
            transformers.ViTModel(transformers.ViTConfig(image_size=8, patch_size=4, **common)),
            torch.randn(2, 3, 8, 8),
            "{}.attention",
            "{}.attention.o_proj",
        ),
        (transformers.GPT2Model(transformers.GPT2Config(vocab_size=20, **gpt2)), ids, "h.{}.attn", "h.{}.attn.c_proj"),
    ]:
        layers = ["layers.0", "layers.1"] if owner.startswith("{}") else [0, 1]
        mask = {f"{owner.format(layer)}:heads": kept[at] for at, layer in enumerate(layers)}
        outputs = {f"{owner.format(layer)}:heads": out.format(layer) for layer in layers}
        small = proved(model, outputs, mask, inputs)
        assert [small.get_submodule(outputs[site]).weight.numel() for site in mask] == [12 * 6, 12 * 9]
