"""What a recipe adds to a step: a penalty on scaling factors, low precision, another layout in memory."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from scratchcard.networks.forward import read_state, state_digest, with_state, write_state
from scratchcard.networks.proved import find_sites
from scratchcard.networks.scaling import Scaled, find_factors, scaling_factors
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits
from scratchcard.networks.weights import everything
from scratchcard.study.spec import Causes
from scratchcard.training.besides import ScaleL1, asked, what_else
from scratchcard.training.block_floating import quantised
from scratchcard.training.data import Data
from scratchcard.training.evaluate import evaluate
from scratchcard.training.loop import as_precise, placed, train
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task


def images(n=40):
    chance = torch.Generator().manual_seed(n)
    return torch.randn(n, 2, 6, 6, generator=chance), torch.randint(0, 3, (n,), generator=chance)


DATA = Data.from_tensors("images", images(40), images(10), images(12))


def make():
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),  # before that it would draw in the order of memory
        nn.Linear(64, 3),
    )


TASK = Task("images", make, DATA)
SGD = Recipe(steps=8, lr=0.1, optimizer="sgd", batch_size=8, augment=("flip",))
BLOCK8 = replace(SGD, precision="block8", optimizer="sgd", momentum=0.0, lr=0.05)


@pytest.fixture(autouse=True)
def _as_all_runs_are_made():
    """With one thread: more add up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(model, recipe=SGD, seed=0, stops=None, start=0, data=DATA):
    stops = (start, recipe.steps) if stops is None else stops
    return {s.step: s.state() for s in train(model, data, F.cross_entropy, recipe, seed, stops, start)}


def scaled(model=None):
    """A network with both kinds of factors: of batch normalisation, and a gate."""
    model = model or TASK.fresh(0)
    sites = find_sites(model, images(2)[0])
    return Scaled(MaskedWeights(everything(model)), find_factors(model, sites, list(sites.sites)), 0.5)


TRAINABLE = scaled().trainable(TASK.fresh(0))


# ------------------------------------------------------------------------------------------------------- the penalty


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.sampled_from([-2.0, -1e-30, -0.0, 0.0, 1e-30, 0.5, 3.0]), min_size=5, max_size=5),
    strength=st.floats(1e-8, 10),
)
def test_strength_times_sign_is_added_to_the_gradient_of_every_factor_and_nothing_at_zero(values, strength):
    net = copy.deepcopy(TRAINABLE)
    factors = scaling_factors(net)
    assert len(factors) == 2
    bn = net[1].weight
    with torch.no_grad():
        bn.copy_(torch.tensor(values))
    F.cross_entropy(net(images(8)[0]), images(8)[1]).backward()
    before = {name: p.grad.clone() for name, p in net.named_parameters()}
    ScaleL1(net, strength).after_backward(0)
    sign = torch.tensor([(v > 0) - (v < 0) for v in values], dtype=torch.float32)
    assert torch.equal(bn.grad, before["1.weight"] + strength * sign)
    for name, parameter in net.named_parameters():
        if name not in factors:
            assert torch.equal(parameter.grad, before[name]), "only factors are penalised"


def test_the_gradient_is_that_of_the_penalty_in_the_loss():
    net = scaled().trainable(TASK.fresh(0)).double()
    inputs, targets = images(8)
    with torch.no_grad():
        for factor in scaling_factors(net).values():
            factor.mul_(torch.where(torch.arange(len(factor)) % 2 == 0, -1.0, 1.0))
    other = copy.deepcopy(net)
    torch.manual_seed(0)
    F.cross_entropy(net(inputs.double()), targets).backward()
    ScaleL1(net, 0.01).after_backward(0)
    torch.manual_seed(0)
    penalty = sum(factor.abs().sum() for factor in scaling_factors(other).values())
    (F.cross_entropy(other(inputs.double()), targets) + 0.01 * penalty).backward()
    for (name, one), (_, two) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, rtol=1e-12, atol=1e-15), name


def test_a_factor_with_several_readers_is_penalised_once():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.left, self.right = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 2)

        def forward(self, x):
            hidden = F.relu(self.a(x))
            return self.left(hidden) - self.right(hidden)

    net = scaled_of(Two(), torch.randn(2, 4))
    net(torch.randn(3, 4)).sum().backward()
    (factor,) = scaling_factors(net).values()
    before = factor.grad.clone()
    ScaleL1(net, 0.25).after_backward(0)
    assert torch.equal(factor.grad, before + 0.25)


def scaled_of(model, inputs):
    sites = find_sites(model, inputs)
    factors = find_factors(model, sites, list(sites.sites))
    return Scaled(MaskedWeights(everything(model)), factors, 0.5).trainable(model)


def test_a_step_of_the_loop_is_that_of_loss_penalty_and_weight_decay():
    recipe = replace(SGD, steps=1, scale_l1=0.05, weight_decay=0.01, augment=(), lr=0.2)
    model = make().eval()
    model[6] = nn.Identity()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.0, -1.0, 2.0, -0.5, 1.0]))
    without = copy.deepcopy(model)
    after = run(model, recipe)[1]["1.weight"]
    plain = run(without, replace(recipe, scale_l1=0.0))
    expected = plain[1]["1.weight"] - 0.2 * 0.05 * torch.tensor([0.0, -1, 1, -1, 1])
    assert torch.allclose(after, expected, rtol=0, atol=1e-7)
    undecayed = copy.deepcopy(with_state(model, plain[0]))
    bare = run(undecayed, replace(recipe, scale_l1=0.0, weight_decay=0.0))[1]["1.weight"]
    assert torch.allclose(plain[1]["1.weight"], bare - 0.2 * 0.01 * plain[0]["1.weight"], rtol=0, atol=1e-7)


def test_a_strong_penalty_draws_the_factors_towards_zero_and_changes_nothing_else_directly():
    recipe = replace(SGD, steps=30, lr=0.02)
    nets = [scaled().trainable(TASK.fresh(0)) for _ in range(2)]
    run(nets[0], recipe)
    run(nets[1], replace(recipe, scale_l1=0.5))
    for free, drawn in zip(*(scaling_factors(net).values() for net in nets), strict=True):
        assert float(drawn.detach().abs().mean()) < 0.6 * float(free.detach().abs().mean())


def test_a_recipe_that_asks_for_nothing_gets_nothing():
    model = TASK.fresh(0)
    optimizer = SGD.make_optimizer(model.parameters())
    assert what_else(model, optimizer, SGD, 0) == {}
    assert state_digest(run(TASK.fresh(0))[8]) == state_digest(run(TASK.fresh(0), replace(SGD, scale_l1=0.0))[8])
    assert state_digest(run(TASK.fresh(0))[8]) != state_digest(run(TASK.fresh(0), replace(SGD, scale_l1=1e-3))[8])


@pytest.mark.parametrize("scale_l1", [0.0, 1e-4])
@pytest.mark.parametrize("precision", ["float32", "block8", "float64"])
def test_what_a_recipe_asks_for_is_what_the_loop_applies_and_says(scale_l1, precision):
    recipe = replace(SGD, steps=2, scale_l1=scale_l1, precision=precision)
    wanted = {name for name, value in (("scale_l1", scale_l1 > 0), ("precision", precision == "block8")) if value}
    model = TASK.fresh(0)
    assert asked(recipe) == wanted == what_else(model, recipe.make_optimizer(model.parameters()), recipe, 0).keys()
    snapshots = train(TASK.fresh(0), DATA, F.cross_entropy, recipe, 0, (0, 1, 2))
    assert [snapshot.besides for snapshot in snapshots] == [wanted] * 3


def test_factors_that_are_frozen_stay_as_they_are():
    model = TASK.fresh(0)
    model[1].weight.requires_grad_(False)
    before = model[1].weight.clone()
    run(model, replace(SGD, scale_l1=0.1))
    assert torch.equal(model[1].weight, before)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_penalty_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="scale_l1"):
        Recipe(scale_l1=wrong)


@pytest.mark.parametrize(("name", "value"), [("scale_l1", 1e-4), ("channels_last", True), ("precision", "block8")])
def test_what_was_added_to_recipes_counts_only_where_it_is_used(name, value):
    def identity(recipe):
        return Causes.of(TASK, recipe, [], []).spec(None, 0, 0, None, 0).id

    default = {"scale_l1": 0.0, "channels_last": False, "precision": "float32"}[name]
    assert identity(replace(SGD, **{name: default})) == identity(SGD)
    assert identity(replace(SGD, **{name: value})) != identity(SGD)
    text = Causes.of(TASK, SGD, [], []).recipe
    assert "scale_l1" not in text
    assert "channels_last" not in text


# ------------------------------------------------------------------------------------------------------ channels last


def test_channels_last_is_the_same_training_and_evaluation_up_to_rounding():
    recipe = replace(SGD, precision="float64")
    plain, last = TASK.fresh(0), TASK.fresh(0)
    states = run(plain, recipe), run(last, replace(recipe, channels_last=True))
    assert last[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not last[0].weight.is_contiguous()
    for step, state in states[0].items():
        for name, value in state.items():
            other = states[1][step][name]
            assert other.is_contiguous()
            assert torch.allclose(other, value, rtol=1e-9, atol=1e-11), (step, name)
    one = evaluate(plain, TASK, DATA.test, recipe)
    two = evaluate(last, TASK, DATA.test, replace(recipe, channels_last=True))
    assert one == pytest.approx(two, rel=1e-9)


def test_channels_last_is_for_images_and_weights_of_two_dimensions_of_space_alone():
    recipe = replace(SGD, channels_last=True)
    batch = (
        torch.randn(2, 3, 5, 5),
        torch.randn(2, 3, 4),
        torch.arange(16).view(1, 2, 2, 4),
        torch.randn(2, 3, 2, 2, 2),
    )
    image, sequence, integers, volume = as_precise(batch, recipe)
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert all(other is given for other, given in zip((sequence, integers, volume), batch[1:], strict=True))
    assert all(torch.equal(a, b) for a, b in zip((image,), batch, strict=False))
    assert as_precise(batch, SGD) is batch
    for model, shape in (
        (nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten(), nn.Linear(2, 3)), (8, 1, 2, 2, 2)),
        (nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(9, 3)), (8, 2, 4)),
        (nn.Sequential(nn.Linear(4, 3)), (8, 4)),
    ):
        other = (torch.randn(shape), torch.arange(8) % 3)
        data = Data.from_tensors("other", other, other, other)
        before = copy.deepcopy(model)
        one, two = (
            run(model, replace(SGD, channels_last=True, augment=()), data=data),
            run(before, replace(SGD, augment=()), data=data),
        )
        assert state_digest(one[8]) == state_digest(two[8])


def test_channels_last_keeps_hooks_masks_and_gates():
    model = TASK.fresh(0)
    mask = {name: torch.rand(kept.shape) < 0.5 for name, kept in everything(model).items()}
    subnetwork = replace(scaled(model), inner=MaskedWeights(mask))
    net = subnetwork.trainable(model)
    run(net, replace(SGD, channels_last=True, momentum=0.9))
    view = subnetwork.view(net)
    assert all(not bool(view[name][~kept].any()) for name, kept in mask.items())
    assert placed(net, replace(SGD, channels_last=True)) is net


# ---------------------------------------------------------------------------------------------------- low precision


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_in_eight_bits_is_deterministic_and_leaves_nothing_on_the_model(optimizer):
    recipe = replace(BLOCK8, optimizer=optimizer, lr=0.01)
    models = [TASK.fresh(0) for _ in range(3)]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in models[0].modules()]
    states = [run(model, recipe, seed)[8] for model, seed in zip(models, (0, 0, 1), strict=True)]
    assert state_digest(states[0]) == state_digest(states[1]) != state_digest(states[2])
    after = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in models[0].modules()]
    assert after == hooks
    for name, parameter in models[0].named_parameters():
        assert torch.equal(quantised(parameter.detach(), 8), parameter), f"{name} is not of eight bits"
    assert state_digest(states[0]) != state_digest(run(TASK.fresh(0), replace(recipe, precision="float32"))[8])


def test_a_training_in_eight_bits_that_is_left_leaves_nothing_on_the_model():
    model = TASK.fresh(0)
    running = train(model, DATA, F.cross_entropy, BLOCK8, 0, (0, 3, 8))
    for snapshot in running:
        assert all(not module._forward_hooks for module in model.modules()), "none at a snapshot either"
        if snapshot.step == 3:
            break
    running.close()
    assert all(not module._forward_hooks for module in model.modules())


def test_activations_and_errors_are_rounded_too():
    class Listens(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.heard = nn.Linear(72, 9), nn.Linear(9, 3), []

        def forward(self, x):
            hidden = self.one(x.flatten(1))
            self.heard.append(hidden.detach().clone())
            hidden.register_hook(lambda error: self.heard.append(error.clone()))
            return self.two(hidden)

    model = Listens()
    run(model, replace(BLOCK8, steps=2))
    assert len(model.heard) == 4
    for heard in model.heard[::2]:
        assert torch.equal(quantised(heard, 8), heard), "activations have eight bits, an example a block"
    plain = Listens()
    run(plain, replace(SGD, steps=2))
    assert not torch.equal(quantised(plain.heard[0], 8), plain.heard[0])


@pytest.mark.parametrize("k", [1, 3, 7])
def test_rounding_at_a_step_is_the_same_whoever_comes_there(k):
    model = TASK.fresh(0)
    whole = run(model, BLOCK8, stops=(0, k, 8))
    resumed = with_state(TASK.fresh(0), whole[k])
    assert state_digest(run(resumed, BLOCK8, start=k)[8]) == state_digest(whole[8])


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
def test_cut_weights_stay_zero_in_eight_bits(optimizer):
    recipe = replace(BLOCK8, optimizer={"momentum": "sgd"}.get(optimizer, optimizer), weight_decay=0.01, lr=0.01)
    recipe = replace(recipe, momentum=0.9) if optimizer == "momentum" else recipe
    model = TASK.fresh(0)
    chance = torch.Generator().manual_seed(0)
    mask = {name: torch.rand(kept.shape, generator=chance) < 0.3 for name, kept in everything(model).items()}
    subnetwork = MaskedWeights(mask)
    net = subnetwork.trainable(model)
    state = run(net, recipe)[8]
    assert all(not bool(state[name][~kept].any()) for name, kept in mask.items())
    assert any(bool((state[name] != model.state_dict()[name]).any()) for name in mask)


def test_small_networks_and_networks_with_factors_are_trained_in_eight_bits():
    model = TASK.fresh(0)
    inputs = images(2)[0]
    sites = find_sites(model, inputs)
    small = SmallUnits({"0": torch.arange(5) < 3, "3": torch.arange(4) != 1}, sites, inputs)
    factors = find_factors(model, sites, list(sites.sites))
    for subnetwork in (small, Scaled(small, factors, 0.5), scaled(model)):
        states = [run(subnetwork.trainable(model), replace(BLOCK8, scale_l1=1e-3))[8] for _ in range(2)]
        assert state_digest(states[0]) == state_digest(states[1])
        assert all(bool(value.isfinite().all()) for value in states[0].values())


def test_eight_bits_learn_nearly_as_well():
    easy = images(200)
    inputs = easy[0] + easy[1][:, None, None, None] * 1.0
    data = Data.from_tensors("easy", (inputs, easy[1]), (inputs[:50], easy[1][:50]), (inputs[50:], easy[1][50:]))
    task = Task("easy", make, data)
    recipe = replace(SGD, steps=120, batch_size=20, augment=())
    found = {}
    for precision in ("float32", "block8"):
        model = task.fresh(0)
        run(model, replace(recipe, precision=precision), data=data)
        found[precision] = evaluate(model, task, data.test, recipe)[1]
    assert found["float32"] > 0.8
    assert abs(found["float32"] - found["block8"]) < 0.1


# ---------------------------------------------------------------------------------------------- writing into a training


def test_what_is_written_at_a_snapshot_is_what_the_training_goes_on_from():
    model = TASK.fresh(0)
    for snapshot in train(model, DATA, F.cross_entropy, SGD, 0, (0, 4, 8)):
        if snapshot.step == 4:
            snapshot.write({"0.weight": torch.zeros(5, 2, 3, 3)})
            assert not bool(snapshot.state()["0.weight"].any())
            written = snapshot.state()
    resumed = with_state(TASK.fresh(0), written)
    assert state_digest(run(resumed, SGD, start=4)[8]) == state_digest(read_state(model))


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"0.bias": torch.zeros(1)}, r"0\.bias \(1,\) for \(5,\)"),
        ({"0.weight": torch.zeros(5, 2, 3)}, "shapes"),
        ({"9.weight": torch.zeros(1)}, "9.weight"),
    ],
)
def test_values_that_do_not_fit_are_refused_and_nothing_is_written(state, told):
    model = TASK.fresh(0)
    before = state_digest(read_state(model))
    with pytest.raises(ValueError, match=told):
        write_state(model, {"3.weight": torch.zeros(4, 5, 3, 3), **state})
    assert state_digest(read_state(model)) == before


def test_all_batch_normalisations_are_penalised():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False), nn.LayerNorm(3))
    model.append(nn.SyncBatchNorm(3))
    assert list(scaling_factors(model)) == ["0.weight", "4.weight"]
    assert all(isinstance(model[at], _BatchNorm) for at in (0, 4))
