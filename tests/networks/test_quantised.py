"""State that is no tensor is never dropped, and for networks that quantisation has a hold on it is said what to do."""

import warnings

import pytest
import torch
from torch import nn
from torch.ao.quantization import (
    FakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    QConfig,
    disable_observer,
    prepare_qat,
    quantize_dynamic,
)

import scratchcard as sc
from scratchcard.networks.forward import read_state, with_state, write_state

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def plain(seed=0, last=nn.Linear):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), last(16, 3))


def int8():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own quantisation is moving elsewhere
        return quantize_dynamic(plain(), {nn.Linear})


def observed(per_channel=False, on=True):
    activations = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255)
    observer, scheme = (
        (MovingAveragePerChannelMinMaxObserver, torch.per_channel_symmetric)
        if per_channel
        else (MovingAverageMinMaxObserver, torch.per_tensor_symmetric)
    )
    weights = FakeQuantize.with_args(
        observer=observer, quant_min=-128, quant_max=127, dtype=torch.qint8, qscheme=scheme
    )
    net = plain().train()
    net.qconfig = QConfig(activation=activations, weight=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepare_qat(net, inplace=True)
    net(X)
    return net if on else net.apply(disable_observer)


class Noted(nn.Linear):
    """A layer with state that is no tensor."""

    told = None

    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        self.told = state


class Counted(nn.Linear):
    """A layer whose extra state is a tensor, made anew whenever it is asked for."""

    calls = 0

    def forward(self, x):
        self.calls += self.training
        return super().forward(x)

    def get_extra_state(self):
        return torch.tensor([self.calls])

    def set_extra_state(self, state):
        self.calls = int(state)


class Silent(nn.Linear):
    def get_extra_state(self):
        return None

    def set_extra_state(self, state):
        pass


def data():
    chance = torch.Generator().manual_seed(0)
    return sc.Data.from_tensors(
        "d",
        train=(torch.randn(40, 6, generator=chance), torch.arange(40) % 3),
        validation=8,
        test=(torch.randn(9, 6, generator=chance), torch.arange(9) % 3),
    )


@pytest.mark.parametrize(
    ("make", "name"), [(int8, "_packed_params"), (lambda: plain(last=Noted), "2._extra_state (dict)")]
)
def test_state_that_is_no_tensor_is_refused_wherever_it_would_be_lost(make, name, tmp_path):
    with pytest.raises(ValueError, match="has more than tensors") as refused:
        sc.save(make(), tmp_path / "saved")
    assert name in str(refused.value)
    assert not (tmp_path / "saved").exists()
    study = sc.Study(sc.Task("t", make, data()), sc.Recipe(steps=2), seeds=1)
    with pytest.raises(ValueError, match="has more than tensors"):
        study.check()


def test_extra_states_that_are_tensors_or_nothing_are_kept(tmp_path):
    net = plain(last=Counted).train()
    for _ in range(3):
        net(X)
    sc.save(net, tmp_path / "saved")
    assert sc.load(tmp_path / "saved", lambda: plain(1, Counted)).module[2].calls == 3
    assert with_state(plain(1, Counted), read_state(net))[2].calls == 3
    other = plain(1, Counted)
    write_state(other, read_state(net))
    assert other[2].calls == 3
    sc.save(plain(last=Silent), tmp_path / "silent")
    assert torch.equal(sc.load(tmp_path / "silent", plain(1, Silent)).module(X), plain()(X))


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_network_that_observes_ranges_is_cut_before_it_is_prepared(per_channel):
    with pytest.raises(ValueError, match=r"prepared for quantisation, and 0.weight_fake_quant.* cut the network first"):
        sc.find_sites(observed(per_channel), X)
    with pytest.raises(ValueError, match="it is quantised already, and the weights of 0, 2 are packed"):
        sc.find_sites(int8(), X)
    small = sc.compact(plain(), {"0": torch.arange(16) < 5}, X).module.train()
    small.qconfig = observed(per_channel)[0].qconfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepare_qat(small, inplace=True)
    small(X).square().sum().backward()
    assert small[0].weight.grad.shape == (5, 6)


@pytest.mark.parametrize("per_channel", [False, True])
def test_what_evaluation_changes_is_refused_before_training_and_trained_where_it_does_not(per_channel):
    recipe = sc.Recipe(steps=2, batch_size=8)
    study = sc.Study(sc.Task("t", lambda: observed(per_channel), data()), recipe, seeds=1)
    with pytest.raises(ValueError, match=r"changes its own state in evaluation mode \(0.activation_post_process.scale"):
        study.check()
    sc.Study(sc.Task("t", lambda: observed(per_channel, on=False), data()), recipe, seeds=1).check()
    net = observed(per_channel)
    assert torch.equal(with_state(observed(per_channel), read_state(net)).eval()(X), net.eval()(X))


def test_a_state_of_other_shapes_is_refused_with_all_of_them():
    other = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"0.weight \(8, 6\) for \(16, 6\).*2.weight \(3, 8\) for \(3, 16\)"):
        with_state(plain(), read_state(other))
