"""Trained, viewed and shipped are one function; what is cut is zero, to the bit, and stays so."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from scratchcard.networks.forward import read_state, state_digest, with_state
from scratchcard.networks.subnetwork import MaskedWeights, hold

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1),
    "adam fused": lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.1, fused=True),
}


def make(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()


def draw_mask(model, seed=0, density=0.4):
    chance = torch.Generator().manual_seed(seed)
    return {f"{i}.weight": torch.rand(model[i].weight.shape, generator=chance) < density for i in (0, 3)}


def steps(model, optimizer, number=4):
    chance = torch.Generator().manual_seed(1)
    for _ in range(number):
        x = torch.randn(16, 6, generator=chance, dtype=torch.float64)
        optimizer.zero_grad()
        (model(x) - x[:, :3]).square().mean().backward()
        optimizer.step()


def bits(tensor):
    return tensor.detach().contiguous().view(torch.uint8).clone()


def assert_bitwise_zero(state, mask):
    for name, kept in mask.items():
        assert not bits(state[name][~kept]).any(), f"{name} has cut weights that are not +0.0"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_zeros_are_still_zeros_after_training(optimizer):
    model = make()
    mask = draw_mask(model)
    trained = MaskedWeights(mask).trainable(model)
    steps(trained, OPTIMIZERS[optimizer](trained.parameters()))
    assert_bitwise_zero(trained.state_dict(), mask)
    moved = {name: trained.state_dict()[name][kept] != model.state_dict()[name][kept] for name, kept in mask.items()}
    assert all(bool(kept.all()) for kept in moved.values()), "what is kept is trained"


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.floats(0.05, 1))
def test_trained_viewed_and_shipped_compute_the_same_function(seed, density):
    model = make(seed)
    found = MaskedWeights(draw_mask(model, seed, density))
    trained = found.trainable(model)
    steps(trained, torch.optim.SGD(trained.parameters(), 0.05, momentum=0.9))
    x = torch.randn(9, 6, dtype=torch.float64)
    wanted = trained.eval()(x)
    shipped = found.ship(trained)
    torch.testing.assert_close(shipped(x), wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(functional_call(model.eval(), found.view(trained), x), wanted, rtol=1e-12, atol=0)
    assert_bitwise_zero(shipped.state_dict(), found.mask)


def test_what_is_kept_starts_bitwise_from_the_models_own_weights():
    model = make()
    mask = draw_mask(model)
    start = MaskedWeights(mask).trainable(model).state_dict()
    for name, tensor in model.state_dict().items():
        kept = mask.get(name, torch.ones_like(tensor, dtype=torch.bool))
        assert torch.equal(bits(start[name][kept]), bits(tensor[kept]))
    assert_bitwise_zero(start, mask)


def test_the_users_model_is_untouched_by_trainable_view_and_ship():
    model = make()
    steps(model, torch.optim.SGD(model.parameters(), 0.1))  # leaves gradients
    before, gradients = state_digest(model.state_dict()), [p.grad.clone() for p in model.parameters()]
    found = MaskedWeights(draw_mask(model))
    trained = found.trainable(model)
    steps(trained, torch.optim.SGD(trained.parameters(), 0.1))
    during = state_digest(trained.state_dict())
    found.view(trained)
    found.ship(trained)
    assert state_digest(trained.state_dict()) == during
    assert state_digest(model.state_dict()) == before
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


def test_what_is_shipped_is_a_plain_module_that_trains_freely():
    found = MaskedWeights(draw_mask(make()))
    trained = found.trainable(make())
    steps(trained, torch.optim.SGD(trained.parameters(), 0.1))
    shipped = found.ship(trained)
    assert all(p.grad is None and not p._post_accumulate_grad_hooks for p in shipped.parameters())
    assert shipped.state_dict().keys() == make().state_dict().keys()
    steps(shipped, torch.optim.SGD(shipped.parameters(), 0.1))
    assert shipped[0].weight[~found.mask["0.weight"]].any()


def test_infinite_and_negative_weights_are_cut_to_plus_zero():
    model = make()
    mask = {"0.weight": torch.zeros(8, 6, dtype=torch.bool)}
    with torch.no_grad():
        model[0].weight[:4] = -1.0
        model[0].weight[4:] = float("inf")
    assert_bitwise_zero(MaskedWeights(mask).trainable(model).state_dict(), mask)


def test_a_masked_network_trains_after_it_was_moved_to_another_precision():
    model = make().float()
    mask = draw_mask(model)
    trained = MaskedWeights(mask).trainable(model).double()
    steps(trained, torch.optim.AdamW(trained.parameters(), 0.1, weight_decay=0.1))
    assert_bitwise_zero(trained.state_dict(), mask)


def test_gradients_are_masked_on_whichever_device_the_network_was_moved_to():
    trained = MaskedWeights(draw_mask(make())).trainable(make())
    (hook,) = trained[0].weight._post_accumulate_grad_hooks.values()
    with FakeTensorMode(allow_non_fake_inputs=True):  # a CUDA device that computes nothing: it checks what meets where
        moved = nn.Parameter(torch.ones(8, 6, device="cuda"))
        moved.grad = torch.ones_like(moved)
        hook(moved)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_masked_network_trains_after_it_was_moved_to_another_device():
    model = make()
    mask = draw_mask(model)
    trained = MaskedWeights(mask).trainable(model).to("cuda")
    trained(torch.randn(4, 6, dtype=torch.float64, device="cuda")).sum().backward()
    assert not trained[0].weight.grad.cpu()[~mask["0.weight"]].any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_hold_keeps_zeros_zero_under_an_optimizer_that_has_momentum_for_them(optimizer):
    model = make()
    mask = draw_mask(model)
    mine = OPTIMIZERS[optimizer](model.parameters())
    steps(model, mine)
    hold(model, mask, mine)
    assert_bitwise_zero(model.state_dict(), mask)
    steps(model, mine)
    assert_bitwise_zero(model.state_dict(), mask)


def test_hold_lets_go_when_it_is_told_to():
    model = make()
    mask = draw_mask(model)
    mine = torch.optim.SGD(model.parameters(), 0.1)
    held = hold(model, mask, mine)
    steps(model, mine)
    held.remove()
    steps(model, mine)
    assert model[0].weight[~mask["0.weight"]].any()


@pytest.mark.parametrize("use", [lambda m, mask: MaskedWeights(mask).trainable(m), lambda m, mask: hold(m, mask, SGD)])
def test_a_mask_of_another_network_is_refused_before_anything_is_touched(use):
    model = make()
    before = state_digest(model.state_dict())
    strange = {"0.weight": torch.zeros(8, 6) > 0, "3.weight": torch.zeros(2, 2) > 0, "9.weight": torch.zeros(1) > 0}
    with pytest.raises(ValueError, match=r"3\.weight \(2, 2\) \(the.*is \(3, 8\)\).*9\.weight.*no such parameter"):
        use(model, strange)
    assert state_digest(model.state_dict()) == before


SGD = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)


def test_with_state_gives_a_copy_and_leaves_model_and_state_alone():
    model, other = make(0), make(1)
    state = read_state(other)
    before = state_digest(model.state_dict())
    copied = with_state(model, state)
    assert state_digest(copied.state_dict()) == state_digest(state)
    with torch.no_grad():
        copied[0].weight.zero_()
    assert state_digest(model.state_dict()) == before
    assert state_digest(state) == state_digest(other.state_dict())


def test_weights_of_another_network_are_refused_naming_all_that_differs():
    state = read_state(make())
    state["4.bias"] = state.pop("3.bias")
    state["0.weight"] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"missing \['3\.bias'\], unknown \['4\.bias'\].*0\.weight \(2, 2\) for"):
        with_state(make(), state)


def test_the_digest_of_a_state_sees_every_bit_type_and_name():
    state = {"w": torch.tensor([0.0, 1.0]), "n": torch.tensor(3)}
    others = [{**state, "w": torch.tensor([-0.0, 1.0])}, {**state, "w": state["w"].double()}]
    others += [{**state, "w": state["w"][:, None]}, {"v": state["w"], "n": state["n"]}, {"w": state["w"]}]
    assert len({state_digest(s) for s in [state, *others]}) == 6
    assert state_digest(dict(reversed(copy.deepcopy(state).items()))) == state_digest(state)
