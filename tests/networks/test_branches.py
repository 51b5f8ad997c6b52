"""A branch that is cut adds 0, and its weights and operations are gone."""

import functools
import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from shrinkable import CATALOGUE, ConvNeXtBlock, made, trained_like
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.cost import cost
from scratchcard.networks.exported import export_onnx, export_program
from scratchcard.networks.forward import call, read_state, state_digest
from scratchcard.networks.saved import load, save
from scratchcard.networks.sites import read_sites
from scratchcard.networks.units import SmallUnits, unit_magnitudes

CUT, KEPT = torch.tensor([False]), torch.tensor([True])


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(width), Attention(width, 2), Scale(width)
        self.norm2, self.mlp, self.drop = nn.LayerNorm(width), Mlp(width), nn.Dropout(0.1)

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.positions = nn.Parameter(torch.ones(1, 4, 8))
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.blocks(self.embed(x).flatten(2).transpose(1, 2) + self.positions).mean(1))


class InPlaceBlock(nn.Module):
    """As torchvision's: one activation for all, and the sum is written into the branch's own result."""

    def __init__(self, channels, out, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            None if stride == 1 else nn.Sequential(nn.Conv2d(channels, out, 1, stride), nn.BatchNorm2d(out))
        )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


def in_place():
    stem = [nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()]
    blocks = [InPlaceBlock(6, 6), InPlaceBlock(6, 8, 2), InPlaceBlock(8, 8)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


@functools.cache
def net(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "ViT":
            return trained_like(Vit()), torch.randn(2, 3, 8, 8).double()
        if name == "in place":
            return trained_like(in_place()), torch.randn(2, 3, 8, 8).double()
        if name == "ConvNeXt blocks":
            blocks = nn.Sequential(nn.Conv2d(3, 6, 1), ConvNeXtBlock(6), ConvNeXtBlock(6), nn.Conv2d(6, 2, 1))
            return trained_like(blocks), torch.randn(2, 3, 8, 8).double()
        return made(name)


@functools.cache
def sites_of(name):
    return read_sites(*net(name))


def without(model, inputs, sites, names):
    """What the large network gives with 0 from the last module of each branch: by hooks, owing the code nothing."""
    handles = []
    for name in names:
        last = model.get_submodule(sites.branches[name].modules[-1])
        handles.append(last.register_forward_hook(lambda _, __, out: torch.zeros_like(out)))
    try:
        with torch.enable_grad():  # TransformerEncoder's fast path would not look at the hooks
            return call(model, inputs).detach()
    finally:
        for handle in handles:
            handle.remove()


NAMED = {
    "ResNet-20": [
        *("stage1.0", "stage1.1", "stage1.2"),
        *("stage2.0", "stage2.0.shortcut", "stage2.1", "stage2.2"),
        *("stage3.0", "stage3.0.shortcut", "stage3.1", "stage3.2"),
    ],
    "PreResNet": [part for s in (1, 2, 3) for part in (f"stage{s}.0", f"stage{s}.0.shortcut", f"stage{s}.1")],
    "ViT": [f"blocks.{block}.{part}" for block in (0, 1) for part in ("attn", "mlp")],
    "ConvNeXt": ["one", "two"],
    "MobileNetV2": ["one", "two"],
    "TransformerEncoder": ["layers.0.self_attn", "layers.0", "layers.1.self_attn", "layers.1"],
    "in place": ["3", "4", "4.downsample", "5"],
}


@pytest.mark.parametrize("name", NAMED)
def test_the_branches_of_a_network_are_those_counted_by_hand(name):
    assert list(sites_of(name).branches) == NAMED[name]
    assert all(len(sites_of(name)[branch]) == 1 for branch in NAMED[name])
    assert not set(NAMED[name]) & set(sites_of(name).ordinary), "a search takes branches only where they are named"


@pytest.mark.parametrize("name", ["VGG-19", "DenseNet", "Inception", "U-Net", "SE gate", "LSTM", "two outputs"])
def test_where_nothing_is_added_to_a_stream_there_is_no_branch(name):
    assert not sites_of(name).branches


@pytest.mark.parametrize("name", [name for name in NAMED if name != "in place"])
def test_a_cut_branch_adds_0_and_takes_its_weights_and_operations_along(name):
    model, inputs = net(name)
    sites = sites_of(name)
    before = cost(model, inputs)
    for branch in NAMED[name][:4]:
        compacted = compact(model, {branch: CUT}, inputs, sites)
        assert compacted.error <= 1e-12
        assert list(compacted.branches) == [branch]
        with torch.no_grad():
            found, large = compacted.module(inputs), call(model, inputs)
        if name != "ConvNeXt":  # its last step is no module
            wanted = without(model, inputs, sites, [branch])
            assert float((wanted - found).abs().max()) <= 1e-12 * float(wanted.abs().max())
        assert not torch.allclose(found, large), "the branch did nothing"
        gone = {n for n, _ in model.named_parameters()} - {n for n, _ in compacted.module.named_parameters()}
        assert gone == {n for n, _ in model.named_parameters() if n in sites.branches[branch].unit}
        after = cost(compacted.module, inputs)
        assert before.parameters - after.parameters == sum(dict(model.named_parameters())[n].numel() for n in gone)
        assert after.forward_flops < before.forward_flops


def test_the_floating_point_operations_that_go_are_those_of_the_branch():
    model, inputs = net("ResNet-20")
    small = compact(model, {"stage1.1": CUT}, inputs).module
    assert cost(model, inputs).macs - cost(small, inputs).macs == 2 * 8 * 8 * 9 * 4 * 4


@pytest.mark.parametrize("name", ["ResNet-20", "PreResNet", "ViT", "ConvNeXt", "MobileNetV2"])
def test_any_mix_of_branches_channels_and_choices_is_the_silenced_network(name):
    model, inputs = net(name)
    sites = sites_of(name)

    @settings(max_examples=6, deadline=None, database=None)
    @given(st.integers(0, 2**16), st.sampled_from([0.3, 0.7]))
    def check(seed, share):
        chance = torch.Generator().manual_seed(seed)
        mask = {site: torch.rand(len(own), generator=chance) < share for site, own in sites.sites.items()}
        for site, kept in mask.items():
            if site in sites.branches:
                kept[0] = bool(kept[0]) or "shortcut" in site  # one side of each addition stays
            else:
                kept[0] = True
        if CATALOGUE.get(name) is None:
            mask = {site: kept for site, kept in mask.items() if site not in sites.heads}
        assert compact(model, mask, inputs, sites).error <= 1e-12

    check()


def test_a_site_may_be_emptied_where_its_whole_branch_goes_and_else_it_is_said_which():
    model, inputs = net("ViT")
    none = {"blocks.0.mlp.fc1": torch.zeros(12, dtype=torch.bool)}
    with pytest.raises(ValueError, match=r"keeps none of its 12 units.* whole branch is cut too \(blocks\.0\.mlp\)"):
        compact(model, none, inputs)
    with pytest.raises(ValueError, match=r"whole branch is cut too \(blocks\.0\.mlp\)"):
        compact(model, {**none, "blocks.1.mlp": CUT, "blocks.0.mlp": KEPT}, inputs)
    both = compact(model, {**none, "blocks.0.mlp": CUT}, inputs)
    alone = compact(model, {"blocks.0.mlp": CUT}, inputs)
    assert state_digest(read_state(both.module)) == state_digest(read_state(alone.module))
    stem, batch = net("ResNet-20")
    with pytest.raises(ValueError, match=r"which cuts the network in two$"):
        compact(stem, {"conv": torch.zeros(4, dtype=torch.bool)}, batch)


def test_both_sides_of_an_addition_cannot_go():
    model, inputs = net("ResNet-20")
    with pytest.raises(ValueError, match=r"stage2\.0 and stage2\.0\.shortcut are all that is added there"):
        compact(model, {"stage2.0": CUT, "stage2.0.shortcut": CUT}, inputs)


def test_a_sum_that_is_written_into_the_branch_is_no_hindrance_where_the_sizes_are_equal():
    model, inputs = net("in place")
    assert [branch.written for branch in sites_of("in place").branches.values()] == [True, True, False, True]
    for names in (["3"], ["5"], ["3", "5"], ["4.downsample"]):
        small = compact(model, dict.fromkeys(names, CUT), inputs)
        assert small.error <= 1e-12
        again = read_sites(small.module, inputs)
        assert "0" in again.sites, "the stream can be cut afterwards too"
        assert compact(small.module, {"0": torch.arange(6) < 2}, inputs, again).error <= 1e-12
    with pytest.raises(ValueError, match=r"cannot run.*the branches 4: .* adds to it in place, can go only where"):
        compact(model, {"4": CUT}, inputs)


def test_a_reshape_in_the_code_around_a_branch_is_refused():
    model, inputs = net("attention")
    with pytest.raises(ValueError, match=r"cannot run.*the branches q: one whose code reshapes"):
        compact(model, {"q": CUT}, inputs)


def test_a_branch_inside_another_goes_by_itself_or_with_it():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            y = self.first(x)
            return y + torch.tanh(self.second(y))

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.inner, self.out = nn.Linear(4, 6), Inner(), nn.Linear(6, 2)

        def forward(self, x):
            x = self.stem(x)
            return self.out(x + self.inner(x))

    with torch.random.fork_rng(devices=[]):
        model, x = trained_like(Outer()), torch.randn(3, 4).double()
    assert list(read_sites(model, x).branches) == ["inner.second", "inner"]
    left = {
        names: {n for n, _ in compact(model, dict.fromkeys(names, CUT), x).module.named_parameters()}
        for names in (("inner",), ("inner.second",), ("inner", "inner.second"))
    }
    assert left["inner",] == left["inner", "inner.second"] == {"stem.weight", "stem.bias", "out.weight", "out.bias"}
    assert left["inner.second",] == left["inner",] | {"inner.first.weight", "inner.first.bias"}


def test_a_branch_that_is_called_twice_or_has_its_weights_read_elsewhere_stays():
    class Shared(nn.Module):
        def __init__(self, tied):
            super().__init__()
            self.stem, self.one, self.other, self.out = (nn.Linear(n, m) for n, m in ((4, 6), (6, 6), (6, 6), (6, 2)))
            self.tied = tied

        def forward(self, x):
            x = self.stem(x)
            x = x + torch.relu(self.one(x))
            x = x + torch.relu(F.linear(x, self.one.weight) if self.tied else self.one(x))
            return self.out(x + torch.relu(self.other(x)))

    for tied in (False, True):
        with torch.random.fork_rng(devices=[]):
            model, x = trained_like(Shared(tied)), torch.randn(3, 4).double()
        assert list(read_sites(model, x).branches) == ["other"]
        assert compact(model, {"other": CUT}, x).error <= 1e-12


def test_a_function_that_is_not_0_at_0_is_found_out():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.inner, self.out = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            x = self.stem(x)
            return self.out(x + torch.sigmoid(self.inner(x)))

    with torch.random.fork_rng(devices=[]):
        model, x = trained_like(Gated()), torch.randn(3, 4).double()
    assert list(read_sites(model, x).branches) == ["inner"]
    with pytest.raises(ValueError, match="computes something else than the silenced one"):
        compact(model, {"inner": CUT}, x)


@pytest.mark.parametrize("name", ["ResNet-20", "PreResNet", "ViT", "ConvNeXt"])
def test_the_small_network_trains_and_loses_more_afterwards(name):
    model, inputs = net(name)
    first, *_, last = sites_of(name).branches
    small = compact(model, {first: CUT}, inputs).module.train()
    call(small, inputs).square().mean().backward()
    assert all(p.grad is not None for p in small.parameters())
    again = read_sites(small, inputs)
    rival = [f"{first}.shortcut"] if f"{first}.shortcut" in sites_of(name).branches else []
    assert len(again.branches) == len(sites_of(name).branches) - len([first, *rival]), "what is left alone must stay"
    mask = {site: torch.arange(len(again[site])) % 2 == 0 for site in (*again.ordinary, *again.choices)}
    twice = compact(small, {**mask, last: CUT}, inputs, again)
    assert twice.error <= 1e-12
    assert last in twice.branches


@pytest.mark.parametrize(("name", "kind"), [("ViT", Vit), ("ConvNeXt", None), ("ResNet-20", None)])
def test_it_is_saved_and_loaded_bit_for_bit(name, kind, tmp_path):
    model, inputs = net(name)
    sites = sites_of(name)
    branch = list(sites.branches)[1]
    others = {site: torch.arange(len(sites[site])) % 2 == 0 for site in sites.ordinary}
    small = compact(model, {**others, branch: CUT}, inputs, sites)
    save(small, tmp_path)
    again = load(tmp_path, lambda: (kind or CATALOGUE[name].factory)())
    assert again.branches == small.branches
    assert str(again.module) == str(small.module)
    assert state_digest(read_state(again.module)) == state_digest(read_state(small.module))
    with torch.no_grad():
        assert torch.equal(again.module(inputs), small.module.eval()(inputs))
    with pytest.raises(ValueError, match=r"is not in it|the network has no module"):
        load(tmp_path, lambda: nn.Sequential(nn.Linear(2, 2)))
    path = json.loads((tmp_path / "manifest.json").read_text())["branches"][branch]["modules"]
    assert list(path) == list(sites.branches[branch].modules)


@pytest.mark.parametrize("name", ["ViT", "in place", "ConvNeXt blocks"])
def test_other_programs_run_it(name, tmp_path):
    pytest.importorskip("onnxruntime", reason="pip install 'scratchcard[export]'")
    model, inputs = net(name)
    small = compact(model, {next(iter(sites_of(name).branches)): CUT}, inputs).module.float()
    assert export_onnx(small, inputs.float(), tmp_path / "small.onnx").error <= 1e-5
    assert export_program(small, inputs.float(), tmp_path / "small.pt2").error <= 1e-5


def test_the_original_network_runs_with_zeros_where_a_branch_was():
    model, inputs = net("PreResNet")
    sites = sites_of("PreResNet")
    units = SmallUnits({"stage2.1": CUT, "bn->output": torch.arange(64) % 2 == 0}, sites, inputs)
    small = units.trainable(model)
    state = units.view(small)
    assert {n: t.shape for n, t in state.items()} == {n: t.shape for n, t in model.state_dict().items()}
    assert all(not state[name].any() for name in sites.branches["stage2.1"].unit)
    left = units.layers({"stage2.1.conv1.weight": model.state_dict()["stage2.1.conv1.weight"] != 0})
    assert left["stage2.1.conv1.weight"][0] == 0
    scores = unit_magnitudes(sites, read_state(model))
    weights = [p.detach() for n, p in model.stage2[1].named_parameters() if p.dim() > 1]
    mean = sum(float(w.abs().sum()) for w in weights) / sum(w.numel() for w in weights)
    assert float(scores["stage2.1"]) == pytest.approx(mean)


def test_heads_inside_a_branch_that_goes_may_go_with_it():
    model, inputs = net("ViT")
    sites = sites_of("ViT")
    heads = [site for site in sites.heads if site.startswith("blocks.0")]
    mask = {**{site: torch.tensor([True, False]) for site in heads}, "blocks.0.attn": CUT}
    assert heads
    assert compact(model, mask, inputs, sites).error <= 1e-12
    assert compact(model, {**dict.fromkeys(heads, torch.zeros(2, dtype=torch.bool)), **mask}, inputs, sites).edits == {}
