"""Sites are the units that people would name by hand, and whatever is kept says why."""

import copy
import warnings
from collections import defaultdict

import numpy as np
import pytest
import torch
from shrinkable import CATALOGUE, Net, made
from torch import nn

from scratchcard.networks.proved import find_sites
from scratchcard.networks.sites import read_sites

NAMES = [name for name in CATALOGUE if not name.startswith("HF")]
PLAIN = ["Conv-4", "VGG-19", "ResNet-20", "PreResNet", "DenseNet", "DenseNet-BC", "ImageNet ResNet-18",
         "ImageNet ResNet-50", "MobileNetV2", "U-Net", "Inception", "SE gate"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_sites_are_those_counted_by_hand_and_the_rest_says_why(name):
    case = CATALOGUE[name]
    model, inputs = made(name)
    sites = read_sites(model, inputs)
    if case.sites is not None:
        assert len(sites.ordinary) == case.sites
        if case.reads is not None:
            assert set(sites.ordinary) == {
                part for parts in case.reads.values() for part in parts if isinstance(part, str)
            }
    assert all(sites.kept.values()), f"kept without a reason: {[k for k, v in sites.kept.items() if not v]}"
    for layer, reason in case.kept.items():
        assert reason in sites.kept[layer]
    tensors = model.state_dict().keys()
    for site in sites.sites.values():
        assert len(site) == len(sites.labels[site.name])
        for unit in site.units:
            assert unit, f"a unit of {site.name} has no places"
            assert unit.keys() <= tensors
    layers = {layer for site in sites.sites.values() for layer in site.layers}
    weighted = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Conv1d | nn.Conv3d | nn.Linear)}
    assert weighted <= layers | set(sites.kept), "a layer is neither removable nor kept"


def test_what_is_added_together_is_one_site():
    model, inputs = made("ResNet-20")
    sites = read_sites(model, inputs)
    assert sites["conv"].layers == ("conv", "stage1.0.conv2", "stage1.1.conv2", "stage1.2.conv2")
    unit = sites["conv"].units[2]
    assert unit["conv.weight"] == {0: [2]}
    assert unit["bn.running_var"] == {0: [2]}
    assert unit["stage2.0.conv1.weight"] == {1: [2]}
    assert unit["stage2.0.shortcut.conv.weight"] == {1: [2]}
    assert "stage3.0.conv1.weight" not in unit


def test_padded_channels_are_kept_and_the_others_go_through_all_stages():
    model, inputs = made("ResNet-20 pad")
    sites = read_sites(model, inputs)
    unit = sites["conv"].units[1]
    assert unit["stage1.1.conv1.weight"] == unit["stage3.2.conv1.weight"] == {1: [1]}
    assert unit["output.weight"] == {1: [1]}
    assert sites.kept["stage2.0.conv2"]


def test_flattened_channels_take_their_pixels_along():
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 4, 2))
        sites = read_sites(model, torch.zeros(1, 1, 4, 4))
    assert sites["0"].units[1] == {"0.weight": {0: [1]}, "0.bias": {0: [1]}, "2.weight": {1: [4, 5, 6, 7]}}


def test_concatenated_channels_keep_their_places():
    model, inputs = made("U-Net")
    unit = read_sites(model, inputs)["b"].units[0]
    assert unit["d.weight"] == {1: [7]}
    assert unit["c.weight"] == {1: [0]}


def test_whole_groups_go():
    model, inputs = made("ResNeXt")
    sites = read_sites(model, inputs)
    assert len(sites["c1"]) == 4
    assert sites["c1"].units[1]["c2.weight"] == {0: [3, 4, 5]}
    model, inputs = made("GroupNorm")
    assert len(read_sites(model, inputs)["a"]) == 4


def test_equal_chunks_lose_the_same_units():
    model, inputs = made("chunks")
    assert read_sites(model, inputs)["a"].units[2]["a.weight"] == {0: [2, 8]}


def test_tied_weights_are_one_under_all_their_names():
    model, inputs = made("tied weights")
    unit = read_sites(model, inputs)["into"].units[4]
    assert unit["one.weight"] == unit["other.weight"] == {0: [4], 1: [4]}


class Undecided(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, x):
        if x.sum() > 0:  # depends on the data
            return self.one(x)
        return self.other(x)


def test_control_flow_that_depends_on_data_is_refused_with_its_line():
    with torch.random.fork_rng(devices=[]):
        model = Undecided()
    line = Undecided.forward.__code__.co_firstlineno + 1
    with pytest.raises(ValueError, match="Undecided cannot be read by") as refusal:
        read_sites(model, torch.ones(2, 3))
    assert "test_sites.py" in str(refusal.value)
    assert str(line) in str(refusal.value)
    assert "control flow that depends on data" in str(refusal.value)


def several_outputs(x):
    values, _ = torch.topk(x, 3, 1)
    return values


KEPT_FORMS = {
    "topk": (several_outputs, 3, "topk"),
    "reflected": (lambda x: nn.functional.pad(x, (2, 2), mode="reflect"), 10, "taken apart"),
    "sorted": (lambda x: x.sort(1)[0], 6, "sort"),
    "unequal chunks": (lambda x: torch.cat(x[:, :5].chunk(2, 1), 1), 5, "taken apart"),
    "unbound": (lambda x: torch.stack(x.unbind(1)[:2], 1), 2, "position"),
    "rolled": (lambda x: x.roll(1, 1), 6, "order"),
    "rolled flat": (lambda x: x.roll(1), 6, "order"),
    "flipped": (lambda x: x.flip(1), 6, "order"),
    "split unevenly": (lambda x: torch.cat(x.split([2, 4], 1), 1), 6, "sizes"),
    "every other one": (lambda x: x[:, ::2], 3, "position"),
    "one half only": (lambda x: x[:, :3], 3, "position"),
    "chosen": (lambda x: x[:, [0, 2, 1]], 3, "position"),
    "averaged": (lambda x: x.mean(1, keepdim=True).expand(-1, 6) * 2, 6, "neighbours"),
    "added up to a written size": (lambda x: x.sum(1, keepdim=True).expand(-1, 6) + x, 6, "cutting it was tried"),
    "added up in order": (lambda x: x.cumsum(1), 6, "before it"),
    "largest": (lambda x: x.max(1, keepdim=True)[0] * x, 6, "neighbours"),
    "slid over": (lambda x: nn.functional.max_pool1d(x[:, None], 2)[:, 0], 3, "slides"),
    "convolved along": (lambda x: nn.functional.conv1d(x[:, None], torch.ones(1, 1, 3))[:, 0], 4, "slides"),
    "grouped by a literal": (lambda x: nn.functional.group_norm(x, 2), 6, "number of groups"),
}


@pytest.mark.parametrize("form", KEPT_FORMS)
def test_what_is_mixed_or_taken_by_position_is_kept(form):
    how, width, reason = KEPT_FORMS[form]
    with torch.random.fork_rng(devices=[]):
        model = Net(lambda m, x: m.out(how(torch.tanh(m.a(x)))), a=nn.Linear(4, 6), out=nn.Linear(width, 2))
        sites = find_sites(model, torch.zeros(3, 4))
    assert "a" not in sites.sites
    assert reason in sites.kept["a"]


@pytest.mark.parametrize(
    "how",
    [
        lambda x: x.roll(1, 0).flip(0),
        lambda x: torch.stack([x, 2 * x], 1).sum(1),
        lambda x: torch.cat([part for part in x.split(1, 0)], 0),
        lambda x: x[:, :, None].expand(-1, -1, 3).amax(2),
        lambda x: nn.functional.adaptive_max_pool1d(x[:, :, None].expand(-1, -1, 4), 1)[:, :, 0],
        lambda x: torch.stack([x, x.tanh()], 2).unbind(2)[1],
    ],
)
def test_what_happens_beside_the_units_leaves_them_removable(how):
    with torch.random.fork_rng(devices=[]):
        model = Net(lambda m, x: m.out(how(torch.tanh(m.a(x)))), a=nn.Linear(4, 6), out=nn.Linear(6, 2))
        assert len(read_sites(model, torch.zeros(3, 4))["a"]) == 6


@pytest.mark.parametrize("name", PLAIN)
def test_groups_are_those_of_torch_pruning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruning = pytest.importorskip(
            "torch_pruning", reason="an oracle for plain CNNs: pip install torch-pruning==1.6.1"
        )
    model, inputs = made(name)
    sites = read_sites(model, inputs)
    theirs = copy.deepcopy(model)
    for parameter in theirs.parameters():
        parameter.requires_grad_(True)
    names = {module: layer for layer, module in theirs.named_modules()}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        graph = pruning.DependencyGraph().build_dependency(theirs, inputs)
        for site in map(sites.__getitem__, sites.ordinary):
            module = theirs.get_submodule(site.name)
            own_dim = 1 if isinstance(module, nn.ConvTranspose2d) else 0
            for unit in site.units:
                (index,) = unit[f"{site.name}.weight"][own_dim]
                group = graph.get_pruning_group(module, graph.get_pruner_of_module(module).prune_out_channels, [index])
                expected = defaultdict(set)
                for dependency, indices in group:
                    target = dependency.target.module
                    if target not in names or getattr(target, "weight", None) is None:
                        continue
                    transposed = isinstance(target, nn.ConvTranspose2d)
                    depthwise = isinstance(target, nn.Conv2d) and target.groups > 1
                    out = graph.is_out_channel_pruning_fn(dependency.handler) or target.weight.dim() == 1 or depthwise
                    expected[names[target], int(out == transposed)] |= set(np.array(indices).tolist())
                found = {
                    (tensor.removesuffix(".weight"), dim): set(places)
                    for tensor, dims in unit.items()
                    if tensor.endswith(".weight")
                    for dim, places in dims.items()
                }
                assert found == dict(expected)


def test_a_parameter_of_no_entries_is_in_nobodys_way():
    with torch.random.fork_rng(devices=[]):
        model = Net(
            lambda m, x: m.out(torch.cat([torch.tanh(m.a(x)), m.a.none.expand(len(x), 0)], 1)),
            a=nn.Linear(4, 6),
            out=nn.Linear(6, 2),
        )
        model.a.none = nn.Parameter(torch.zeros(1, 0))
        sites = read_sites(model, torch.zeros(3, 4))
    assert list(sites.sites) == ["a"]
    assert len(sites["a"]) == 6
