"""A narrower network has as nearly as possible the wanted number of weights, at any width there is."""

import functools

import pytest
import torch
from torch import nn

from scratchcard.networks.narrow import takes_width, width_for
from scratchcard.networks.weights import everything
from scratchcard.networks.zoo import conv_2, lenet_300_100, resnet_20
from scratchcard.training.task import Task

small_lenet = functools.partial(lenet_300_100, inputs=64)
small_conv_2 = functools.partial(conv_2, size=8)


def weights_of(factory, width):
    with torch.device("meta"):
        return sum(kept.numel() for kept in everything(factory(width=width)).values())


@functools.cache
def all_sizes(name):
    """Every number of weights that some width gives: all widths at which any layer's units change."""
    factory, layers = {"lenet": (small_lenet, (300, 100)), "conv-2": (small_conv_2, (64, 256))}[name]
    steps = sorted({(2 * k + 1) / (2 * units) for units in layers for k in range(units)})
    between = [steps[0] / 2, *((a + b) / 2 for a, b in zip(steps, [*steps[1:], 1.0], strict=True)), 1.0]
    return sorted({weights_of(factory, width) for width in between})


@pytest.mark.parametrize(("name", "factory"), [("lenet", small_lenet), ("conv-2", small_conv_2)])
def test_no_width_comes_nearer_to_the_wanted_number_of_weights(name, factory):
    sizes = all_sizes(name)
    assert sizes[-1] == weights_of(factory, 1.0)
    share = [0.0001, 0.003, 0.01, 0.036, 0.1, 0.211, 0.5, 0.7, 0.99, 1.0, 1.5]
    between = [(sizes[place] + sizes[place + 1]) // 2 + more for place in (3, 40) for more in (-1, 0, 1)]
    for wanted in [1, *(round(part * sizes[-1]) for part in share), sizes[17], *between]:
        width = width_for(factory, wanted)
        assert 0 < width <= 1
        distance = abs(weights_of(factory, width) - wanted)
        assert distance == min(abs(size - wanted) for size in sizes)


def test_of_two_that_are_as_near_the_one_with_fewer_weights_is_taken():
    def line(width=1.0):
        return nn.Linear(2, round(10 * width), bias=False)

    assert weights_of(line, width_for(line, 7)) == 6
    assert weights_of(line, width_for(line, 9)) == 8
    assert weights_of(line, width_for(line, 8)) == 8


def test_a_width_that_was_given_is_what_the_factor_multiplies():
    half = functools.partial(lenet_300_100, width=0.5)
    assert width_for(half, 10**9) == 0.5, "no wider than the network it stands beside"
    whole = weights_of(lenet_300_100, 0.5)
    width = width_for(half, whole // 4)
    assert 0 < width < 0.5
    assert width == pytest.approx(width_for(lenet_300_100, whole // 4), abs=0.002)
    assert abs(weights_of(lenet_300_100, width) - whole // 4) < 0.01 * whole

    def needs_one(width):
        return nn.Linear(10, max(1, round(8 * width)))

    assert width_for(needs_one, 80) == 1.0


def test_a_task_builds_the_network_that_was_sized(tmp_path):
    from problems import digits

    task = Task("narrow", functools.partial(small_lenet, width=0.5), digits().data)
    model = task.fresh(0, width_for(task.model, 2000))
    sizes = [abs(size - 2000) for size in all_sizes("lenet")]
    assert abs(sum(kept.numel() for kept in everything(model).values()) - 2000) == min(sizes)


def test_sizing_draws_nothing_from_the_global_generator_even_where_weights_are_computed():
    def computed(width=1.0):
        model = nn.Linear(6, max(1, round(20 * width)))
        model.weight.data.copy_(torch.from_numpy(model.weight.detach().numpy() * 2))
        return model

    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert weights_of_real(computed, width_for(computed, 60)) == 60
    assert weights_of(resnet_20, width_for(resnet_20, 60_000)) == pytest.approx(60_000, rel=0.05)
    assert torch.equal(torch.get_rng_state(), state)


def weights_of_real(factory, width):
    with torch.random.fork_rng():
        return factory(width=width).weight.numel()


def test_widths_at_which_there_is_no_network_are_not_chosen():
    def empty(width=1.0):  # rounds down: below 1 / 8 there is a layer without units
        return nn.Sequential(nn.Linear(10, int(8 * width)), nn.ReLU(), nn.Linear(int(8 * width), 3))

    def refuses(width=1.0):
        if 8 * width < 1:
            raise ValueError("too narrow")
        return empty(width)

    def partly(width=1.0):  # its first layer is always there
        return nn.Sequential(nn.Linear(1, 1), nn.ReLU(), empty(width))

    for factory in (empty, refuses, partly):
        assert int(8 * width_for(factory, 1)) == 1
        assert int(8 * width_for(factory, 26)) == 2
        assert int(8 * width_for(factory, 104)) == 8


def test_a_factory_that_fails_at_its_own_width_is_heard():
    def broken(width=1.0):
        raise RuntimeError("no weights here")

    with pytest.raises(RuntimeError, match="no weights here"):
        width_for(broken, 10)


class Callable:
    def __call__(self, width=1.0):
        return nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("factory", "takes"),
    [
        (lenet_300_100, True),
        (functools.partial(lenet_300_100, width=0.5), True),
        (Callable(), True),
        (lambda: nn.Linear(2, 2), False),
        (lambda wide=1.0: nn.Linear(2, 2), False),
        (nn.Linear, False),
        (dict, False),
    ],
)
def test_whether_a_factory_can_be_narrowed_is_read_from_its_parameters(factory, takes):
    assert takes_width(factory) == takes


def test_a_factory_without_width_is_refused_in_a_sentence():
    with pytest.raises(
        ValueError, match=r"narrower network was asked for, but .* takes no `width`; give it a parameter"
    ):
        width_for(lambda: nn.Linear(2, 2), 2)
