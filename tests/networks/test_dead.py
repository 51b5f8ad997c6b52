"""Units without a path in or out go, their constants are folded, and the network computes what it did."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from shrinkable import made, net, trained_like
from torch import Tensor, nn

from scratchcard.networks.compact import compact
from scratchcard.networks.dead import dead_units
from scratchcard.networks.forward import call, read_state, state_digest, with_state
from scratchcard.networks.operators import RULES
from scratchcard.networks.sites import read_sites

ACTIVATIONS = (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.GELU)


def pruned(model: nn.Module, density: float, seed: int) -> nn.Module:
    """Trained-like in float64, each weight kept with a chance of the density; biases of either sign."""
    model = trained_like(model, seed)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2:
                parameter *= torch.rand(parameter.shape, generator=chance) < density
            elif name.endswith("bias"):
                parameter *= torch.randint(0, 2, parameter.shape, generator=chance) * 2 - 1
    return model


def without_dead(model: nn.Module, inputs: Tensor):
    """The small network, after it has been found to compute what the large one does on inputs nobody has seen."""
    sites = read_sites(model, inputs)
    dead = dead_units(model, sites, inputs)
    assert all(bool(kept.any()) for kept in dead.mask.values())
    assert dead.error <= 1e-12
    small = compact(with_state(model, {**read_state(model), **dead.folded}), dead.mask, inputs, sites).module
    fresh = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(7), dtype=inputs.dtype) * 3
    with torch.no_grad():
        for batch in (inputs, fresh):
            wanted, found = call(model, batch), call(small, batch)
            assert float((wanted - found).abs().max()) <= 1e-12 * float(wanted.abs().max())
    return dead, small


def mlp(activation: type[nn.Module], *widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        layers += [nn.Linear(into, out), activation()]
    return nn.Sequential(*layers[:-1])


def conv_net(activation: type[nn.Module], padding: int, norm: bool, bias: bool) -> nn.Module:
    def block(into: int, out: int, size: int) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Conv2d(into, out, size, padding=padding if size == 3 else 0, bias=bias)]
        return [*layers, *([nn.BatchNorm2d(out)] if norm else []), activation()]

    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * 6, 8), activation(), nn.Linear(8, 3)]
    return nn.Sequential(*block(2, 5, 3), *block(5, 6, 1), *block(6, 6, 3), *head)


class Residual(nn.Module):
    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(2, 6, 1), activation()
        self.a, self.an, self.b = nn.Conv2d(6, 5, 3, bias=False), nn.BatchNorm2d(5), nn.Conv2d(5, 6, 1)
        self.c, self.d, self.out = nn.Conv2d(6, 5, 1), nn.Conv2d(5, 6, 1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x[:, :, 1:-1, 1:-1] + self.b(self.act(self.an(self.a(x))))
        x = x + self.d(self.act(self.c(self.act(x))))
        return self.out(self.act(x).mean((2, 3)))


def on_a_path(model: nn.Sequential) -> list[Tensor]:
    """Of each hidden layer, the units that lie on a path of weights that are not zero from an input to an output."""
    links = [layer.weight.detach() != 0 for layer in model if isinstance(layer, nn.Linear)]
    ahead, behind = [links[0].any(1)], [links[-1].any(0)]
    for link in links[1:-1]:
        ahead.append((link & ahead[-1]).any(1))
    for link in reversed(links[1:-1]):
        behind.append((link & behind[-1][:, None]).any(0))
    return [a & b for a, b in zip(ahead, reversed(behind), strict=True)]


@settings(max_examples=15, deadline=None, database=None)
@given(st.sampled_from(ACTIVATIONS), st.sampled_from([0.1, 0.2, 0.4]), st.integers(0, 2**16))
def test_of_a_multilayer_perceptron_exactly_the_units_on_a_path_from_input_to_output_stay(activation, density, seed):
    model = pruned(mlp(activation, 6, 12, 10, 8, 4), density, seed)
    dead, _ = without_dead(model, torch.randn(3, 6, dtype=torch.float64))
    paths = on_a_path(model)
    for name, wanted in zip(("0", "2", "4"), paths, strict=True):
        kept = dead.mask.get(name, torch.ones(len(wanted), dtype=torch.bool))
        if all(bool(path.any()) for path in paths):
            assert torch.equal(kept, wanted)
        else:  # no path at all: every layer keeps a unit all the same
            assert bool((kept | ~wanted).all())


@settings(max_examples=15, deadline=None, database=None)
@given(
    st.sampled_from(ACTIVATIONS),
    st.sampled_from([0, 1]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.03, 0.1, 0.3]),
    st.integers(0, 2**16),
)
def test_a_convolutional_network_computes_what_it_did(activation, padding, norm, bias, density, seed):
    model = pruned(conv_net(activation, padding, norm, bias), density, seed)
    without_dead(model, torch.randn(2, 2, 8, 8, dtype=torch.float64))


@settings(max_examples=10, deadline=None, database=None)
@given(st.sampled_from(ACTIVATIONS), st.sampled_from([0.05, 0.2, 0.4]), st.integers(0, 2**16))
def test_a_residual_network_computes_what_it_did(activation, density, seed):
    without_dead(pruned(Residual(activation), density, seed), torch.randn(2, 2, 6, 6, dtype=torch.float64))


@pytest.mark.parametrize(
    "name",
    ["ResNet-20", "MobileNetV2", "SE gate", "U-Net", "tied weights", "GroupNorm", "TCN", "DenseNet", "PreResNet"],
)
def test_networks_of_every_kind_compute_what_they_did(name):
    model, inputs = made(name)
    for seed, density in enumerate((0.02, 0.1)):
        without_dead(pruned(model, density, seed), inputs)


def a_unit_without_path_in(before: nn.Module, *after: nn.Module, bias: float = 0.7) -> nn.Sequential:
    """A network the second unit of whose first layer is made by nothing, but has a bias."""
    model = trained_like(nn.Sequential(before, *after))
    with torch.no_grad():
        before.weight[1] = 0.0
        before.bias[1] = bias
    return model


def test_the_constant_of_a_unit_is_folded_into_the_bias_of_its_reader():
    model = a_unit_without_path_in(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    dead, _ = without_dead(model, torch.randn(3, 3, dtype=torch.float64))
    assert dead.mask["0"].tolist() == [True, False, True, True]
    torch.testing.assert_close(dead.folded, {"2.bias": model[2].bias + 0.7 * model[2].weight[:, 1]}, rtol=1e-14, atol=0)
    assert dead.kept == {}


def test_a_constant_of_0_needs_no_folding_even_across_padding():
    model = a_unit_without_path_in(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1), bias=-0.7)
    dead, small = without_dead(model, torch.randn(2, 2, 6, 6, dtype=torch.float64))
    assert dead.mask["0"].tolist() == [True, False, True]
    assert dead.folded == {}
    assert small[2].in_channels == 2


def test_a_constant_across_padding_stays_and_the_reason_names_the_layer():
    model = a_unit_without_path_in(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1))
    dead, _ = without_dead(model, torch.randn(2, 2, 6, 6, dtype=torch.float64))
    assert dead.mask == {}
    assert dead.folded == {}
    assert "1 dead unit(s) stay" in dead.kept["0"]
    assert "at its borders 2 reads zeros" in dead.kept["0"]


def test_a_constant_is_summed_over_the_kernel_where_nothing_is_padded():
    model = a_unit_without_path_in(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3))
    dead, _ = without_dead(model, torch.randn(2, 2, 6, 6, dtype=torch.float64))
    wanted = model[2].bias + 0.7 * model[2].weight[:, 1].sum((1, 2))
    torch.testing.assert_close(dead.folded["2.bias"], wanted.detach(), rtol=1e-14, atol=1e-15)


def test_without_a_bias_the_running_mean_that_follows_takes_it_and_without_that_the_unit_stays():
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    normed = a_unit_without_path_in(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    dead, _ = without_dead(normed, x)
    assert set(dead.folded) == {"3.running_mean"}
    assert not dead.mask["0"][1]
    bare = a_unit_without_path_in(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3, bias=False))
    dead, _ = without_dead(bare, x)
    assert dead.mask == {}
    assert "2 has no bias" in dead.kept["0"]


@pytest.mark.parametrize("how", ["one layer called twice", "two layers with one bias", "a layer with two names"])
def test_a_bias_that_several_readers_share_is_left_alone(how):
    def forward(self, x):
        found = self.second(torch.sigmoid(self.first(x)))
        if how.startswith("a layer"):
            return found
        second = self.third if how.startswith("two") else self.second
        return torch.cat([found, second(torch.sigmoid(self.other(x)))], 1)

    layers = {"first": (3, 6), "other": (3, 6), "second": (6, 2), "third": (6, 2)}
    model = trained_like(net(forward, **{name: lambda size=size: nn.Linear(*size) for name, size in layers.items()})())
    if how.startswith("two"):
        model.third.bias = model.second.bias
    elif how.startswith("a layer"):
        model.third = model.second
    else:
        del model.third
    with torch.no_grad():
        model.first.weight[1] = model.other.weight[1] = 0.0
    dead, _ = without_dead(model, torch.randn(3, 3, dtype=torch.float64))
    assert dead.folded == {}
    assert "has no bias of its own" in dead.kept["first"]


def test_a_unit_that_is_silent_on_every_batch_but_has_a_path_in_stays():
    model = a_unit_without_path_in(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), bias=-1e3)
    with torch.no_grad():
        model[0].weight[1, 0] = 1e-3
    dead, _ = without_dead(model, torch.randn(3, 3, dtype=torch.float64))
    assert dead.mask == {}


def test_whoever_is_fed_by_dead_units_alone_or_read_by_dead_units_alone_is_dead():
    model = trained_like(mlp(nn.Sigmoid, 3, 4, 4, 4, 2))
    with torch.no_grad():
        model[0].weight[1] = 0.0
        model[2].weight[2] = torch.tensor([0.0, 0.5, 0.0, 0.0])  # fed by the one that is dead
        model[6].weight[:, 3] = 0.0
        model[4].weight[:3, 0] = 0.0  # read by the one alone that nobody reads
    dead, _ = without_dead(model, torch.randn(3, 3, dtype=torch.float64))
    gone = {name: (~kept).nonzero().flatten().tolist() for name, kept in dead.mask.items()}
    assert gone == {"0": [1], "2": [0, 2], "4": [3]}


def test_a_depthwise_convolution_passes_on_that_its_channel_is_zero():
    layers = [nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1)]
    model = a_unit_without_path_in(*layers, bias=-1.0)
    dead, _ = without_dead(model, torch.randn(2, 2, 6, 6, dtype=torch.float64))
    assert dead.mask["0"].tolist() == [True, False, True, True]
    assert set(dead.folded) == {"4.bias"}


def test_what_a_padded_constant_becomes_depends_on_the_size_of_the_image_and_is_not_folded():
    layers = [nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = a_unit_without_path_in(*layers, nn.Linear(3, 2))
    with torch.no_grad():
        model[2].weight[0, [0, 2]] = 0.0  # reads the constant alone
    dead, small = without_dead(model, torch.randn(2, 2, 6, 6, dtype=torch.float64))
    larger = torch.randn(2, 2, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(small(larger), model(larger), rtol=1e-12, atol=1e-12)
    assert dead.mask == {}


@pytest.mark.parametrize("layer", ["0", "2"])
def test_a_layer_in_which_everything_is_dead_keeps_one_unit_and_says_so(layer):
    model = trained_like(mlp(nn.Sigmoid, 3, 4, 5, 2))
    with torch.no_grad():
        model.get_submodule(layer).weight.zero_()
    dead, _ = without_dead(model, torch.randn(3, 3, dtype=torch.float64))
    assert int(dead.mask[layer].sum()) == 1
    assert "one at least is left" in dead.kept[layer]


def test_tokens_hide_what_is_computed_from_them():
    model = trained_like(nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)))
    with torch.no_grad():
        model[1].weight[2] = 0.0
    x = torch.full((2, 3), 4)  # the same everywhere, so that only what is known without them tells
    dead = dead_units(model, read_sites(model, x), x)
    assert {name: (~kept).nonzero().flatten().tolist() for name, kept in dead.mask.items()} == {"1": [2]}


def test_constants_that_rounding_would_spoil_stay():
    model = trained_like(mlp(nn.Identity, 3, 4, 2))
    with torch.no_grad():
        model[0].weight[:2] = 0.0
        model[0].bias[:2] = 1e12
        model[2].weight[:, 0], model[2].weight[:, 1] = 1 / 3, -0.3333
        model[2].bias[:] = -1e12 * (1 / 3 - 0.3333)
    x = torch.randn(3, 3, dtype=torch.float64)
    dead = dead_units(model, read_sites(model, x), x)
    if dead.folded:  # sums may come out alike: then it is exact
        assert dead.error <= 1e-12
    else:
        assert "differs by" in dead.kept["the whole network"]
        assert dead.mask == {}


def test_a_network_that_only_runs_in_float32_loses_what_nobody_reads_and_says_why_no_more():
    def forward(self, x):
        return self.second(F.relu(self.first(x))) @ torch.eye(2, dtype=torch.float32)

    model = net(forward, first=lambda: nn.Linear(3, 4), second=lambda: nn.Linear(4, 2))()
    with torch.no_grad():
        model.first.weight[0] = 0.0
        model.second.weight[:, 3] = 0.0
    x = torch.randn(3, 3)
    dead = dead_units(model, read_sites(model, x), x)
    assert dead.mask["first"].tolist() == [True, True, True, False]
    assert "float64" in dead.kept["the whole network"]


def test_float32_networks_are_folded_to_their_own_precision():
    model = a_unit_without_path_in(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)).float()
    x = torch.randn(3, 3)
    dead = dead_units(model, read_sites(model, x), x)
    assert dead.folded["2.bias"].dtype == torch.float32
    small = compact(with_state(model, {**read_state(model), **dead.folded}), dead.mask, x).module
    torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-6)


def test_nothing_is_dead_in_a_network_without_zeros():
    for name in ("LeNet", "Conv-4", "attention"):
        model, inputs = made(name)
        dead = dead_units(model, read_sites(model, inputs), inputs)
        assert (dead.mask, dead.folded, dead.kept) == ({}, {}, {})


def test_the_users_model_and_the_random_state_are_as_they_were():
    model = pruned(conv_net(nn.ReLU, 1, True, True), 0.1, 0).train()
    before = state_digest(read_state(model))
    x = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    held, chance = x.clone(), torch.get_rng_state()
    dead_units(model, read_sites(model, x), x)
    assert state_digest(read_state(model)) == before
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.equal(x, held)
    assert model.training


ONE_ARGUMENT = [
    "relu",
    "gelu",
    "silu",
    "sigmoid",
    "tanh",
    "elu",
    "leaky_relu",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "relu6",
    "mish",
    "softplus",
    "selu",
    "celu",
    "neg",
    "abs",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "square",
    "reciprocal",
    "erf",
    "sin",
    "cos",
    "log1p",
    "expm1",
    "clone",
    "detach",
    "alias",
]


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_no_known_operator_takes_what_is_not_a_number_for_one(name):
    assert name in RULES
    x = torch.full((2, 19), torch.nan, dtype=torch.float64)
    assert bool(getattr(torch.ops.aten, name)(x).isnan().all())
