"""Numbers in a network stay true: those that count units are changed with them, and no others."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.counts import numbers_of, tell
from scratchcard.networks.sites import read_sites


class Functional(nn.Module):
    """Groups in functional calls, told by an attribute of its own; another has the same number by chance."""

    def __init__(self, how):
        super().__init__()
        self.how, self.parts, self.elsewhere = how, 4 if how == "norm" else 8, 7
        self.register_buffer("blur", torch.ones(8, 1, 3, 3) / 9)

    def forward(self, x):
        if self.how == "norm":
            return F.group_norm(x, self.parts)
        return F.conv2d(x, self.blur, padding=1, groups=self.parts)


class Sized(nn.Module):
    """A size that is an attribute: of a view, of a split, of slices, of a map."""

    def __init__(self, how):
        super().__init__()
        self.how, self.units, self.words, self.shape = how, 8, 11, (8, 2, 2)
        self.half = 4
        self.a = nn.Linear(5, 32 if how in ("map", "shape") else 8)
        self.out = nn.Conv2d(8, 3, 2) if how in ("map", "shape") else nn.Linear(4 if how in HALVES else 8, 3)

    def forward(self, x):
        y = self.a(x)
        if self.how == "view":
            y = y.view(-1, self.units)
        elif self.how == "constant":
            y = y * torch.full((self.units,), 2.0)
        elif self.how == "split":
            one, other = y.split(self.half, -1)
            y = one * other.sigmoid()
        elif self.how == "slices":
            y = y[:, : self.half] * y[:, self.half :].sigmoid()
        elif self.how == "map":
            y = y.view(len(x), self.units, 2, 2)
        elif self.how == "shape":
            y = y.view(-1, *self.shape)
        return self.out(y).flatten(1)


HALVES = ("split", "slices")


def maps(layer, inside=8):
    return nn.Sequential(nn.Conv2d(3, 8, 3), layer, nn.ReLU(), nn.Flatten(), nn.Linear(inside * 16, 4))


IMAGES, VECTORS = (2, 3, 6, 6), (4, 5)
NETS = {
    # network, its batch, the site, its units, and what is changed when the first of them stay, two or half
    "GroupNorm without parameters": (
        lambda: maps(nn.GroupNorm(4, 8, affine=False)),
        IMAGES,
        "0",
        4,
        {"1": {"num_groups": 2, "num_channels": 4}},
    ),
    "InstanceNorm without parameters": (lambda: maps(nn.InstanceNorm2d(8)), IMAGES, "0", 8, {"1": {"num_features": 4}}),
    "BatchNorm without anything": (
        lambda: maps(nn.BatchNorm2d(8, affine=False, track_running_stats=False)),
        IMAGES,
        "0",
        8,
        {"1": {"num_features": 4}},
    ),
    "BatchNorm without parameters": (lambda: maps(nn.BatchNorm2d(8, affine=False)), IMAGES, "0", 8, {}),
    "groups of a norm": (lambda: maps(Functional("norm")), IMAGES, "0", 4, {"1": {"parts": 2}}),
    "groups of a convolution": (lambda: maps(Functional("blur")), IMAGES, "0", 8, {"1": {"parts": 4}}),
    "size of a view": (lambda: Sized("view"), VECTORS, "a", 8, {"": {"units": 4}}),
    "size of a constant": (lambda: Sized("constant"), VECTORS, "a", 8, {"": {"units": 4}}),
    "size of a part": (lambda: Sized("split"), VECTORS, "a", 4, {"": {"half": 2}}),
    "ends of slices": (lambda: Sized("slices"), VECTORS, "a", 4, {"": {"half": 2}}),
    "channels of a map": (lambda: Sized("map"), VECTORS, "a", 8, {"": {"units": 4}}),
    "a shape": (lambda: Sized("shape"), VECTORS, "a", 8, {"": {"shape.0": 4}}),
    "Unflatten": (
        lambda: nn.Sequential(nn.Linear(5, 32), nn.Unflatten(1, (8, 2, 2)), nn.ReLU(), nn.Conv2d(8, 3, 2)),
        VECTORS,
        "0",
        8,
        {"1": {"unflattened_size.0": 4}},
    ),
    "ChannelShuffle": (lambda: maps(nn.ChannelShuffle(2)), IMAGES, "0", 4, {}),
}


@pytest.mark.parametrize("name", NETS)
def test_numbers_that_count_units_are_changed_with_them_and_no_others(name):
    factory, shape, site, units, edits = NETS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = factory(), torch.randn(shape)
        sites = read_sites(model, x)
        assert len(sites[site]) == units
        small = compact(model, {site: torch.arange(units) < units // 2}, x, sites)
    assert small.edits == edits
    for path, module in model.named_modules():
        changed = edits.get(path, {})
        if not isinstance(module, nn.Linear | nn.Conv2d | nn.BatchNorm2d):
            own = numbers_of(small.module.get_submodule(path))
            assert own == {**numbers_of(module), **changed}


def test_one_norm_that_is_called_twice_counts_for_both():
    norm = nn.GroupNorm(4, 8, affine=False)
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.Conv2d(8, 8, 3), norm, nn.Conv2d(8, 2, 1))
        x = torch.randn(2, 3, 6, 6)
        sites = read_sites(model, x)
        assert sites.ordinary == ("0",)
        assert sites["0"].layers == ("0", "2")
        assert compact(model, {"0": torch.arange(4) < 3}, x, sites).module[1].num_groups == 3


def test_layers_are_told_every_size_that_they_have():
    layers = nn.ModuleDict(
        {"a": nn.Linear(5, 8), "b": nn.Linear(5, 6), "both": nn.Bilinear(8, 6, 7), "slope": nn.PReLU(7),
         "up": nn.ConvTranspose1d(1, 4, 3), "out": nn.Conv1d(4, 2, 3), "words": nn.Embedding(9, 5)}
    )  # fmt: skip

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = layers

        def forward(self, x):
            one = self.layers
            x = one["words"](x)
            y = one["slope"](one["both"](one["a"](x), one["b"](x)))
            return one["out"](one["up"](y.sum(1, keepdim=True)[:, None]))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = Layers(), torch.tensor([1, 5, 8])
        sites = read_sites(model, x)
        mask = {name: torch.arange(len(sites[name])) > 0 for name in sites.ordinary}
        assert set(mask) == {f"layers.{name}" for name in ("a", "b", "both", "up", "words")}
        small = compact(model, mask, x, sites).module.layers
    assert (small["both"].out_features, small["both"].in1_features, small["both"].in2_features) == (6, 7, 5)
    assert small["slope"].num_parameters == 6
    assert (small["up"].in_channels, small["up"].out_channels, small["out"].in_channels) == (1, 3, 3)
    assert (small["words"].num_embeddings, small["words"].embedding_dim, small["a"].in_features) == (9, 4, 4)


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads, self.head_dim, self.hidden_size, self.all_heads = 4, 3, 12, 12
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x):
        q, k, v = (
            part.view(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return x * self.hidden_size**-0.5 + self.out(attended.reshape(*x.shape[:2], self.all_heads))


def test_a_number_that_makes_no_difference_or_counts_something_else_stays():
    with torch.random.fork_rng(devices=[]):
        model, x = Heads(), torch.randn(2, 3, 12)
        small = compact(model, {"heads": torch.arange(4) < 2}, x)
    assert small.edits == {"": {"num_heads": 2, "all_heads": 6}}
    assert small.module.hidden_size == 12


def test_a_number_is_told_by_name_or_by_name_and_place():
    module = nn.Unflatten(1, (8, 2))
    tell(module, "unflattened_size.0", 5)
    tell(module, "dim", 2)
    assert (module.dim, module.unflattened_size) == (2, (5, 2))
    with pytest.raises(ValueError, match="no whole number"):
        tell(module, "unflattened_size.7", 5)


class Routed(nn.Module):
    """Experts who each read some of the examples: how many depends on the data."""

    def __init__(self):
        super().__init__()
        self.route = nn.Linear(5, 2)
        self.up = nn.ModuleList(nn.Linear(5, 8) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(8, 3) for _ in range(2))

    def forward(self, x):
        chosen, result = self.route(x).argmax(1), x.new_zeros(len(x), 3)
        for number, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            mine = (chosen == number).nonzero().flatten()
            result = result.index_add(0, mine, down(up(x[mine]).relu()))
        return result + x[x > 0].sum()


def test_experts_of_examples_whose_number_depends_on_the_data_lose_their_units():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = Routed(), torch.randn(7, 5)
        sites = read_sites(model, x)
        assert set(sites.ordinary) == {"up.0", "up.1"}
        assert compact(model, {"up.0": torch.arange(8) < 3}, x, sites).error < 1e-12


class Written(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.out = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        y = self.a(x) * 1
        y[:, 0] = 1.0
        return self.out(y)


def test_what_is_written_into_by_position_is_kept():
    with torch.random.fork_rng(devices=[]):
        sites = read_sites(Written(), torch.randn(4, 5))
    assert not sites.ordinary
    assert "position" in sites.kept["a"]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("kind", "told", "sites"),
    [
        (
            "mixtral",
            {"num_local_experts": 2, "num_experts_per_tok": 1, "num_attention_heads": 2, "num_key_value_heads": 2},
            {f"layers.{n}.mlp.experts.gate_up_proj" for n in (0, 1)},
        ),
        ("mamba", {"state_size": 4, "time_step_rank": 4}, {f"layers.{n}.mixer.A_log" for n in (0, 1)}),
    ],
)
def test_experts_and_state_spaces_lose_their_inner_units(kind, told, sites):
    transformers = pytest.importorskip("transformers")
    config = transformers.CONFIG_MAPPING[kind](
        **told, hidden_size=16, intermediate_size=24, num_hidden_layers=2, vocab_size=32, use_cache=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config).eval()
        words = {"input_ids": torch.randint(3, 32, (2, 8))}
        found = read_sites(model, words)
        assert set(found.ordinary) == sites
        mask = {name: torch.arange(len(found[name])) % 2 == 0 for name in sites}
        assert compact(model, mask, words, found).error < 1e-6
