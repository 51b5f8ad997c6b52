"""What a network costs, against counts made by hand."""

import pytest
import torch
from torch import nn

from scratchcard.networks.cost import cost
from scratchcard.networks.zoo import lenet_300_100


def test_lenet_costs_two_flops_per_weight_and_its_backward_pass_twice_that_but_for_the_first_layer():
    found = cost(lenet_300_100(), torch.zeros(4, 1, 28, 28))
    weights, first = 266_200, 784 * 300
    assert found.parameters == 266_610
    assert found.macs == weights
    assert found.forward_flops == 2 * weights
    # backward: the gradient of every weight, and of every layer's inputs but the data
    assert found.training_flops == 2 * weights + 2 * weights + 2 * (weights - first)
    assert found.uncounted == ()


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(("stride", "groups", "out"), [(1, 1, 8), (2, 1, 4), (1, 2, 8), (2, 4, 4)])
def test_a_convolution_costs_its_kernel_at_every_place_of_its_output(stride, groups, out, batch):
    model = nn.Conv2d(4, 12, 3, stride=stride, padding=1, groups=groups)
    found = cost(model, torch.zeros(batch, 4, 8, 8))
    assert found.macs == out * out * 12 * (4 // groups) * 9
    assert found.parameters == 12 * (4 // groups) * 9 + 12


def test_a_second_convolution_costs_three_times_its_forward_pass_to_train():
    conv = 8 * 8 * 4 * 4 * 9
    found = cost(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)), torch.zeros(2, 4, 8, 8))
    assert found.forward_flops == 2 * 2 * conv
    assert found.training_flops == 2 * (2 * conv + 3 * conv)


def test_a_layer_that_is_used_twice_costs_twice_and_has_its_parameters_once():
    shared = nn.Linear(5, 5)
    found = cost(nn.Sequential(shared, nn.ReLU(), shared), torch.zeros(3, 5))
    assert (found.macs, found.parameters) == (50, 30)


def test_an_embedding_is_named_as_uncounted_and_what_is_counted_is_not():
    found = cost(nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 2)), torch.zeros(2, 3, dtype=torch.int64))
    assert found.uncounted == ("0",)
    assert found.macs == 3 * 4 * 2


def test_attention_counts_its_projections_and_both_products():
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attend(x, x, x)[0]

    t, d = 5, 8
    found = cost(Attend(), torch.zeros(2, t, d))
    assert found.macs == t * d * 3 * d + 2 * t * t * d + t * d * d
    assert found.uncounted == ()


def test_a_network_that_looks_at_its_values_is_counted_on_the_cpu():
    class Looks(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum().item() >= 0 else x

    assert cost(Looks(4, 4), torch.zeros(2, 4)).macs == 16


def test_inputs_given_by_name_or_position_are_counted_alike():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, a, b):
            return {"sum": self.layer(a + b)}

    x = torch.zeros(4, 3)
    assert cost(Two(), (x, x)).macs == cost(Two(), {"a": x, "b": x}).macs == 6
    assert cost(Two(), (x, x)).training_flops == 2 * 6 * 2


def test_counting_touches_neither_the_network_nor_the_global_random_state():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).eval()
    before, chance = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    cost(model, torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), chance)
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
