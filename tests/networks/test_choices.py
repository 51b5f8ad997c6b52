"""A reader can do without channels of a stream that others read whole, and the small network selects them."""

import copy
import json
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shrinkable import made, trained_like
from torch import nn

from scratchcard.networks.apart import SELECTED
from scratchcard.networks.compact import compact, shrink_spec
from scratchcard.networks.exported import export_onnx, export_program
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.networks.saved import load, save
from scratchcard.networks.sites import read_sites
from scratchcard.networks.units import SmallUnits, unit_magnitudes
from scratchcard.networks.zoo.preresnet import _preresnet


class PreBlock(nn.Module):
    """Normalise, activate, map, add; for features, sequences, images and volumes."""

    def __init__(self, norm, layer, act):
        super().__init__()
        self.norm, self.act, self.layer = norm, act, layer

    def forward(self, x):
        return x + self.layer(self.act(self.norm(x)))


class Features(nn.Module):
    """BatchNorm1d on [B, C]."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(5, 8)
        self.one = PreBlock(nn.BatchNorm1d(8), nn.Linear(8, 8), nn.Sigmoid())
        self.two = PreBlock(nn.BatchNorm1d(8), nn.Linear(8, 8), nn.ReLU(inplace=True))
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.two(self.one(self.stem(x))))


class Sequences(Features):
    """BatchNorm1d on [B, C, T]; without scale and shift."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(3, 8, 3)
        self.one = PreBlock(nn.BatchNorm1d(8, affine=False), nn.Conv1d(8, 8, 3, padding=1), nn.GELU())
        self.two = PreBlock(nn.BatchNorm1d(8), nn.Conv1d(8, 8, 3, padding=1), nn.Tanh())
        self.out = nn.Conv1d(8, 3, 1)


class Volumes(Features):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv3d(2, 6, 3, padding=1)
        self.one = PreBlock(nn.BatchNorm3d(6), nn.Conv3d(6, 6, 3, padding=1), nn.ReLU())
        self.two = PreBlock(nn.BatchNorm3d(6), nn.Conv3d(6, 6, 1), nn.Dropout3d(0.1))
        self.out = nn.Conv3d(6, 3, 1)


class Images(nn.Module):
    """A depthwise layer between a choice and its reader, and a reader of flattened channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1, self.conv1, self.short = nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.bn2 = nn.BatchNorm2d(6)
        self.depth, self.bn3 = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6)
        self.point = nn.Conv2d(6, 6, 1)
        self.bn4, self.flat = nn.BatchNorm2d(6), nn.Linear(6 * 4, 5)
        self.bn5, self.pooled = nn.BatchNorm2d(6), nn.Linear(6, 5)
        self.out = nn.Linear(10, 3)

    def forward(self, x):
        y = torch.relu(self.bn1(x := self.stem(x)))
        x = self.conv1(y) + self.short(y)
        x = x + self.point(torch.relu(self.bn3(self.depth(torch.relu(self.bn2(x))))))
        flat = self.flat(torch.nn.functional.adaptive_avg_pool2d(torch.relu(self.bn4(x)), 2).flatten(1))
        pooled = self.pooled(torch.relu(self.bn5(x)).mean((2, 3)))
        return self.out(torch.cat([flat, pooled], 1))


def small_preresnet():
    return _preresnet(2, 10, 0.25, "slimming")


def net(name):
    if name in ("PreResNet", "DenseNet", "DenseNet-BC"):
        return made(name)
    kind, shape = {
        "features": (Features, (6, 5)),
        "sequences": (Sequences, (4, 3, 9)),
        "volumes": (Volumes, (2, 2, 4, 4, 4)),
        "images": (Images, (3, 3, 8, 8)),
    }[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return trained_like(kind()), torch.randn(shape, dtype=torch.float64)


KINDS = ["PreResNet", "DenseNet", "DenseNet-BC", "features", "sequences", "volumes", "images"]


def mixed(sites, seed, density=0.6):
    """Random masks of all sites that leave every BatchNorm at least channel 0."""
    chance = torch.Generator().manual_seed(seed)
    mask = {name: torch.rand(len(site), generator=chance) < density for name, site in sites.sites.items()}
    for kept in mask.values():
        kept[0] = True
    return mask


def silenced_by_hand(model, inputs, sites, mask):
    """The large network with 0 for every weight that multiplies a cut unit where it is read."""
    model = copy.deepcopy(model)
    state = dict(model.state_dict(keep_vars=True))
    with torch.no_grad():
        for site, kept in mask.items():
            for unit in (~kept).nonzero().flatten().tolist():
                for name, dims in sites[site].units[unit].items():
                    for dim, indices in dims.items():
                        if name in sites.outputs and dim != sites.outputs[name]:
                            state[name].index_fill_(dim, torch.tensor(indices), 0.0)
        return model(inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_any_mix_of_channels_and_choices_is_the_silenced_network(kind):
    model, inputs = net(kind)
    sites = read_sites(model, inputs)
    assert sites.choices

    @settings(max_examples=6, deadline=None, database=None)
    @given(st.integers(0, 2**16), st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from(["all", "choices", "others"]))
    def check(seed, density, which):
        mask = mixed(sites, seed, density)
        if which != "all":
            mask = {name: kept for name, kept in mask.items() if (name in sites.choices) == (which == "choices")}
        made = compact(model, mask, inputs, sites)
        assert made.error <= 1e-12
        wanted = silenced_by_hand(model, inputs, sites, mask)
        with torch.no_grad():
            found = made.module(inputs)
        assert float((wanted - found).abs().max()) <= 1e-12 * float(wanted.abs().max())
        spec = shrink_spec(sites, mask)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            shape = [len(spec.get(name, {}).get(dim, range(size))) for dim, size in enumerate(tensor.shape)]
            assert list(made.module.state_dict()[name].shape) == shape

    check()


def test_the_choices_of_a_network_are_those_counted_by_hand():
    def names(kind):
        return list(read_sites(*net(kind)).choices)

    blocks = [f"stage{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1)]
    assert names("PreResNet") == [*(f"{block}.bn1->{block}.conv1" for block in blocks), "bn->output"]
    assert "transition1.bn->transition1.conv" in names("DenseNet")
    assert len(names("DenseNet")) == 9 + 2 + 1
    assert len(names("DenseNet-BC")) == 6 + 2 + 1, "bn2 of a bottleneck is its own site: nobody else reads that"
    assert names("features") == ["one.norm->one.layer", "two.norm->two.layer"]
    assert names("images") == ["bn2->depth", "bn4->flat", "bn5->pooled"], "what bn1 reads is read by nobody else"


@pytest.mark.parametrize("kind", ["ResNet-20", "VGG-19", "MobileNetV2", "EfficientNet", "U-Net", "ResNeXt", "SE gate"])
def test_where_normalised_channels_go_to_everyone_there_is_no_choice(kind):
    assert not read_sites(*made(kind)).choices


def test_a_choice_takes_all_that_goes_with_it_and_leaves_the_stream():
    model, inputs = net("images")
    sites = read_sites(model, inputs)
    assert sites["bn2->depth"].units[1] == {
        **{f"bn2.{own}": {0: [1]} for own in ("weight", "bias", "running_mean", "running_var")},
        **{f"bn3.{own}": {0: [1]} for own in ("weight", "bias", "running_mean", "running_var")},
        "depth.weight": {0: [1]},
        "point.weight": {1: [1]},
    }
    assert sites["bn4->flat"].units[2]["flat.weight"] == {1: [8, 9, 10, 11]}
    small = compact(model, {"bn4->flat": torch.tensor([True, False, True, False, True, True])}, inputs, sites)
    assert small.module.bn4.num_features == 4
    assert small.module.flat.in_features == 16
    assert small.module.conv1.out_channels == small.module.bn5.num_features == 6
    gone = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in small.module.parameters())
    assert gone == 2 * (2 + 4 * 5)
    assert small.selected == {"bn4": [0, 2, 4, 5]}


def test_two_readers_of_one_choice_lose_the_same_channels():
    class Both(Images):
        def forward(self, x):
            x = self.stem(x)
            y = torch.relu(self.bn1(x))
            return (x.mean((2, 3)), self.conv1(y) + self.short(y))

    with torch.random.fork_rng(devices=[]):
        model, inputs = trained_like(Both()), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    sites = read_sites(model, inputs)
    assert sites.choices["bn1->conv1"].readers == ("conv1", "short")
    assert "stem" in sites.kept, "the stream is kept whole, and still not all of it must be read"
    small = compact(model, {"bn1->conv1": torch.arange(8) % 2 == 0}, inputs, sites).module
    assert small.conv1.in_channels == small.short.in_channels == small.bn1.num_features == 4
    assert small.stem.out_channels == 8


def test_masks_that_leave_a_normalisation_nothing_together_are_refused():
    model, inputs = net("features")
    mask = {"stem": torch.arange(8) < 4, "one.norm->one.layer": torch.arange(8) >= 4}
    with pytest.raises(ValueError, match=r"leaves nothing of one\.norm.*keep at least one channel"):
        compact(model, mask, inputs)
    with pytest.raises(ValueError, match=r"mask of one\.norm->one\.layer keeps none of its 8 units"):
        compact(model, {"one.norm->one.layer": torch.zeros(8, dtype=torch.bool)}, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_small_network_trains_and_can_be_compacted_again(kind):
    model, inputs = net(kind)
    small = compact(model, mixed(read_sites(model, inputs), 3), inputs).module
    small.train()
    before = read_state(small)
    small(inputs).square().mean().backward()
    assert all(p.grad is not None for p in small.parameters())
    after = read_state(small)
    means = [name for name in before if name.endswith("running_mean")]
    assert means
    assert not any(torch.equal(before[name], after[name]) for name in means)
    small.eval()
    again = read_sites(small, inputs)
    assert set(again.choices) == set(read_sites(model, inputs).choices)
    for seed in range(3):
        mask = mixed(again, seed)
        twice = compact(small, mask, inputs, again)
        assert twice.error <= 1e-12
        assert sum(p.numel() for p in twice.module.parameters()) < sum(p.numel() for p in small.parameters())
    whole = compact(small, again.whole(), inputs, again)
    assert state_digest(read_state(whole.module)) == state_digest(read_state(small))
    stream = {name: kept for name, kept in mixed(again, 5).items() if name not in again.choices}
    assert compact(small, stream, inputs, again).error <= 1e-12


def test_a_stream_cut_down_to_what_is_read_needs_no_selection_any_more():
    model, inputs = net("features")
    kept = torch.arange(8) % 2 == 0
    chosen = {"one.norm->one.layer": kept}
    small = compact(model, chosen, inputs)
    assert small.selected == {"one.norm": [0, 2, 4, 6]}
    twice = compact(small.module, {"stem": kept}, inputs)
    assert twice.selected == {}
    assert SELECTED not in dict(twice.module.one.norm.named_buffers())
    assert not twice.module.one.norm._forward_pre_hooks
    at_once = compact(model, {**chosen, "stem": kept}, inputs)
    assert state_digest(read_state(at_once.module)) == state_digest(read_state(twice.module))
    with torch.no_grad():
        assert torch.equal(at_once.module(inputs), twice.module(inputs))


def test_a_selection_is_copied_and_moved_with_its_network_and_is_no_part_of_its_state():
    model, inputs = net("PreResNet")
    small = compact(model, mixed(read_sites(model, inputs), 1), inputs).module
    assert not [name for name in small.state_dict() if SELECTED in name]
    copied = copy.deepcopy(small).to(torch.float32)
    with torch.no_grad():
        assert torch.allclose(copied(inputs.float()), small(inputs).float(), atol=1e-4)
    buffers = dict(small.to("meta").named_buffers())
    assert all(tensor.is_meta for name, tensor in buffers.items() if SELECTED in name)


def test_another_process_loads_the_same_bits_and_gives_the_same_numbers(tmp_path):
    model, inputs = made("PreResNet")
    model, inputs = model.float(), inputs.float()
    small = compact(model, mixed(read_sites(model, inputs), 2), inputs)
    save(small, tmp_path / "small")
    torch.save(inputs, tmp_path / "inputs.pt")
    code = f"""
        import torch
        from scratchcard.networks.forward import read_state, state_digest
        from scratchcard.networks.saved import load
        from scratchcard.networks.zoo.preresnet import _preresnet
        torch.set_num_threads(1)
        again = load({str(tmp_path / "small")!r}, lambda: _preresnet(2, 10, 0.25, "slimming"))
        print(state_digest(read_state(again.module)))
        with torch.no_grad():
            print(state_digest({{"out": again.module(torch.load({str(tmp_path / "inputs.pt")!r}))}}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        out = small.module.eval()(inputs)
    torch.set_num_threads(threads)
    assert done.stdout.split() == [state_digest(read_state(small.module)), state_digest({"out": out})]
    again = load(tmp_path / "small", small_preresnet)
    assert again.selected == small.selected
    save(again, tmp_path / "twice")
    assert state_digest(read_state(load(tmp_path / "twice", small_preresnet).module)) == done.stdout.split()[0]


def test_a_selection_that_does_not_fit_is_refused_when_loading(tmp_path):
    from test_saved import tampered

    model, inputs = made("PreResNet")
    small = compact(model, {"bn->output": torch.arange(64) % 2 == 0}, inputs)
    save(small, tmp_path)
    for wrong, told in [
        ({"bn": [*range(31), 64]}, "bn has 64 channels, position 64 was read"),
        ({"bn": list(range(31))}, "bn has 32 channels and must read as many"),
        ({"bn": [*range(30), 40, 39]}, "at rising positions"),
        ({"conv": [0]}, "conv should be a BatchNorm that reads 1 channels, but is a Conv2d"),
        ({"nowhere": [0]}, "but is not in the network"),
    ]:
        text = (tmp_path / "manifest.json").read_text()
        tampered(tmp_path, selected=wrong)
        with pytest.raises(ValueError, match=told):
            load(tmp_path, small_preresnet)
        (tmp_path / "manifest.json").write_text(text)


def test_what_the_format_before_wrote_can_be_read(tmp_path):
    model, inputs = net("features")
    save(compact(model, {"stem": torch.arange(8) < 5}, inputs), tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    from scratchcard.networks.saved import Manifest

    content["format"] = 1
    content["digest"] = Manifest.model_validate(content).own_digest()
    del content["selected"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert load(tmp_path, Features).selected == {}


@pytest.mark.parametrize("kind", ["DenseNet-BC", "images"])
def test_other_programs_run_it(kind, tmp_path):
    pytest.importorskip("onnxruntime", reason="pip install 'scratchcard[export]'")
    model, inputs = net(kind)
    model, inputs = model.float(), inputs.float()
    small = compact(model, mixed(read_sites(model, inputs), 4), inputs)
    assert small.selected
    assert export_onnx(small.module, inputs, tmp_path / "small.onnx").error <= 1e-5
    assert export_program(small.module, inputs, tmp_path / "small.pt2").error <= 1e-5


def test_a_units_worth_is_that_of_the_weights_that_read_it():
    model, inputs = net("images")
    sites = read_sites(model, inputs)
    scores = unit_magnitudes(sites, read_state(model))
    assert torch.allclose(scores["bn4->flat"], model.flat.weight.detach().view(5, 6, 4).abs().mean((0, 2)))
    assert torch.allclose(scores["bn2->depth"], model.point.weight.detach().abs().mean((0, 2, 3)))
    assert scores.keys() == sites.sites.keys()


def test_weights_of_the_small_network_find_their_places_in_the_large_one():
    model, inputs = net("DenseNet")
    sites = read_sites(model, inputs)
    mask = mixed(sites, 6)
    units = SmallUnits(mask, sites, inputs)
    large = units.view(units.trainable(model))
    assert {name: tensor.shape for name, tensor in large.items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    spec = shrink_spec(sites, mask)
    for name, tensor in model.state_dict().items():
        own = large[name]
        for dim, kept in spec.get(name, {}).items():
            own, tensor = own.index_select(dim, kept), tensor.index_select(dim, kept)
        assert torch.equal(own, tensor)


def test_what_is_called_twice_or_mixes_channels_in_another_way_makes_no_choice():
    class Twice(Features):
        def forward(self, x):
            x = self.stem(x)
            return self.out(self.one(self.one(x)))

    class OneReader(Features):
        def forward(self, x):
            x = self.stem(x)
            return self.out(x + self.one.layer(self.one.norm(x)) + self.one.layer(self.two.norm(x).tanh()))

    with torch.random.fork_rng(devices=[]):
        assert not read_sites(trained_like(Twice()), torch.randn(3, 5, dtype=torch.float64)).choices
        assert not read_sites(trained_like(OneReader()), torch.randn(3, 5, dtype=torch.float64)).choices
        both = nn.Sequential(nn.Linear(3, 4), PreBlock(nn.BatchNorm1d(4), nn.Softmax(1), nn.ReLU()), nn.Linear(4, 2))
        assert not read_sites(both, torch.randn(3, 3)).choices
