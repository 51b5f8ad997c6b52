"""The papers' networks have exactly the weights the papers describe, and the initialisation they state."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scratchcard.networks.forward import read_state, state_digest
from scratchcard.networks.initialise import glorot_normal_, kaiming_normal_
from scratchcard.networks.zoo import conv_2, conv_4, conv_6, lenet_300_100, resnet_20

CONVS = (conv_2, conv_4, conv_6)


def weights(model, kind=(nn.Conv2d, nn.Linear), within=""):
    return sum(m.weight.numel() for name, m in model.named_modules() if isinstance(m, kind) and within in name)


@pytest.mark.parametrize(
    ("make", "total", "convolutional"),
    [
        (lenet_300_100, 266_200, 0),
        (conv_2, 4_300_992, 38_592),
        (conv_4, 2_425_024, 259_776),
        (conv_6, 2_261_184, 1_144_512),
        (resnet_20, 270_896, 270_256),
    ],
)
def test_weights_without_biases_are_exactly_those_of_the_paper(make, total, convolutional):
    model = make()
    assert weights(model) == total
    assert weights(model, nn.Conv2d) == convolutional


def test_a_projection_shortcut_costs_2560_weights_and_a_padding_one_none():
    assert weights(resnet_20(), within="shortcut") == 2_560
    assert weights(resnet_20(shortcut="pad")) == 270_896 - 2_560


@pytest.mark.parametrize(
    ("choices", "digest"),
    [
        ({}, "7217a3bb854aedeb"),
        ({"shortcut": "pad"}, "0ba1cb8c6868f23a"),
        ({"init": "kaiming"}, "5b9de884f2b07f3d"),
        ({"width": 0.3, "classes": 7}, "d5a18f3173c5a1f4"),
    ],
)
@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="processors without AVX2 draw Gaussians that differ in the last bit",
)
def test_the_resnet_of_a_seed_is_bitwise_the_one_that_studies_were_run_with(choices, digest):
    torch.manual_seed(0)
    assert state_digest(read_state(resnet_20(**choices))).startswith(digest)


@pytest.mark.parametrize("make", [lenet_300_100, *CONVS, resnet_20])
def test_every_network_maps_images_to_ten_finite_logits_and_every_parameter_gets_a_gradient(make):
    model = make()
    images = torch.randn((4, 1, 28, 28) if make is lenet_300_100 else (4, 3, 32, 32))
    logits = model(images)
    assert logits.shape == (4, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.any() for p in model.parameters() if p.ndim > 1)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(CONVS), st.integers(8, 33), st.integers(1, 4), st.integers(1, 7), st.floats(0.01, 0.2))
def test_the_conv_nets_take_any_image_size_channels_classes_and_width(make, size, channels, classes, width):
    model = make(classes=classes, size=size, channels=channels, width=width)
    assert model(torch.randn(2, channels, size, size)).shape == (2, classes)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.sampled_from(["projection", "pad"]), st.integers(1, 7), st.floats(0.01, 0.5))
def test_the_resnet_takes_any_image_size_shortcut_classes_and_width(size, shortcut, classes, width):
    model = resnet_20(classes=classes, shortcut=shortcut, width=width).eval()
    assert model(torch.randn(2, 3, size, size)).shape == (2, classes)


def test_a_padding_shortcut_hands_on_every_second_pixel_and_zeros_for_the_new_channels():
    x = torch.randn(2, 16, 6, 6)
    out = resnet_20(shortcut="pad").stage2[0].shortcut(x)
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2])
    assert out.shape == (2, 32, 3, 3)
    assert not out[:, 16:].any()


def fans(weight):
    field = weight[0, 0].numel()
    return weight.shape[1] * field, weight.shape[0] * field


@pytest.mark.parametrize("init", ["glorot", "kaiming"])
def test_weights_are_gaussian_with_the_variance_of_the_initialisation_and_not_truncated(init):
    torch.manual_seed(0)
    model = conv_6(init=init)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in, fan_out = fans(module.weight)
            sigma = math.sqrt(2 / (fan_in + fan_out if init == "glorot" else fan_in))
            z = module.weight.detach().flatten() / sigma
            n = z.numel()
            assert abs(z.mean()) < 5 / math.sqrt(n)
            assert abs(z.square().mean() - 1) < 5 * math.sqrt(2 / n)
            assert abs(z.pow(4).mean() - 3) < 5 * math.sqrt(96 / n)
            assert not module.bias.any()
            if n > 100_000:  # a normal truncated at two standard deviations has none beyond
                assert 0.04 < (z.abs() > 2).float().mean() < 0.051


@pytest.mark.parametrize("initialise", [glorot_normal_, kaiming_normal_])
def test_initialising_touches_only_convolutions_and_linear_layers_and_returns_the_model(initialise):
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Embedding(4, 5), nn.Linear(5, 6, bias=False))
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.5)
    assert initialise(model) is model
    conv, norm, embedding, linear = model
    assert all((p == 0.5).all() for m in (norm, embedding) for p in m.parameters())
    assert not (conv.weight == 0.5).any()
    assert not (linear.weight == 0.5).any()
    assert not conv.bias.any()


def test_the_same_seed_gives_the_same_network_and_another_seed_another():
    def first(seed):
        torch.manual_seed(seed)
        return lenet_300_100().fc1.weight

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_names_that_are_not_known_and_images_too_small_are_refused():
    with pytest.raises(ValueError, match="did you mean 'glorot'"):
        lenet_300_100(init="gloro")
    with pytest.raises(ValueError, match="did you mean 'projection'"):
        resnet_20(shortcut="project")
    with pytest.raises(ValueError, match="size=7 cannot be halved 3 times"):
        conv_6(size=7)
