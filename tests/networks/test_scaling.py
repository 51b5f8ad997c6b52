"""Scaling factors say what units are worth: on the right unit, changing nothing, gone when the network is shipped."""

import copy
import functools
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from shrinkable import CATALOGUE, Net, made
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from scratchcard.networks.compact import compact
from scratchcard.networks.forward import call, read_state, state_digest, with_state
from scratchcard.networks.scaling import Scaled, find_factors, gates, scaling_factors
from scratchcard.networks.sites import read_sites
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.units import SmallUnits
from scratchcard.networks.weights import everything

NAMES = [name for name in CATALOGUE if not name.startswith("HF")]
NOT_TOO_LARGE = ["LeNet", "ResNet-20", "PreResNet", "DenseNet-BC", "U-Net", "TransformerEncoder", "ConvNeXt"]
GATED = [
    "LeNet",
    "Conv-4",
    "U-Net",
    "GroupNorm",
    "SE gate",
    "EfficientNet",
    "Inception",
    "ConvNeXt",
    "channel shuffle",
    "functional",
    "called three times",
    "TransformerEncoder",
    "attention",
    "windows",
    "LSTM",
    "TCN",
    "3-D convolution",
    "embedding",
    "PReLU",
    "sigmoid and tanh",
    "sigmoid before padding",
    "index_copy",
    "dict inputs",
    "two outputs",
    "transposed convolution",
    "InstanceNorm",
    "pixel shuffle",
    "chunks",
    "gated linear unit",
    "split by sizes",
]
KINDS = {
    "1-D": (nn.Conv1d, nn.BatchNorm1d, (2, 3, 9)),
    "2-D": (nn.Conv2d, nn.BatchNorm2d, (2, 3, 6, 6)),
    "3-D": (nn.Conv3d, nn.BatchNorm3d, (2, 3, 4, 4, 4)),
}


@functools.cache
def given_net(name):
    model, inputs = made(name)
    sites = read_sites(model, inputs)
    return model, inputs, sites, find_factors(model, sites, list(sites.sites))


def distance(one, other):
    """Largest difference, relative to the largest value."""
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs)


def scaled(name, initial=0.3):
    model, _, _, factors = given_net(name)
    return Scaled(MaskedWeights(everything(model)), factors, initial)


def shaken(net, seed=0):
    """The network as if trained: other values in all parameters, factors of either sign."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            other = torch.rand(parameter.shape, generator=chance, dtype=torch.float64) + 0.5
            parameter.mul_(other.to(parameter.dtype))
        for factor in scaling_factors(net).values():
            factor.mul_(torch.where(torch.rand(factor.shape, generator=chance) < 0.3, -1.0, 1.0).to(factor.dtype))
    return net


def own_gate(net, site, factors):
    """The factor of a gated site, found by the key that a state has it under."""
    key = next(key for _, name, _, _, key in gates(factors.sites, factors.gated) if name == site)
    return dict(net.named_parameters(remove_duplicate=False))[key]


def without_scales(model, value):
    """The network with all scales of batch normalisation at one value."""
    other = copy.deepcopy(model)
    for module in other.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            nn.init.constant_(module.weight, value)
    return other


# ----------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", NAMES)
def test_trained_viewed_and_shipped_are_one_function_and_factors_alone_change_nothing(name):
    model, inputs, _, factors = given_net(name)
    before = state_digest(read_state(model))
    subnetwork = scaled(name)
    net = subnetwork.trainable(model).eval()
    assert distance(call(net, inputs), call(without_scales(model, 0.3), inputs)) <= 1e-12
    assert all(torch.equal(factor, torch.full_like(factor, 0.3)) for factor in scaling_factors(net).values())
    shaken(net)
    outputs = call(net, inputs)
    shipped = subnetwork.ship(net)
    assert distance(call(with_state(model, subnetwork.view(net)), inputs), outputs) <= 1e-12
    assert distance(call(shipped, inputs), outputs) <= 1e-12
    assert distance(call(net, inputs), outputs) == 0, "shipping must leave what is trained as it was"
    assert [type(module) for module in shipped.modules()] == [type(module) for module in model.modules()]
    assert read_state(shipped).keys() == read_state(model).keys()
    assert distance(call(subnetwork.ship(net), inputs), outputs) <= 1e-12
    assert state_digest(read_state(model)) == before
    assert factors.norms.keys() | set(factors.gated) | factors.left.keys() == given_net(name)[2].sites.keys()


def test_factors_can_start_from_what_is_there():
    model, inputs, _, factors = given_net("U-Net")
    assert factors.norms
    assert factors.gated
    net = scaled("U-Net", None).trainable(model).eval()
    assert distance(call(net, inputs), call(model, inputs)) <= 1e-12
    assert torch.equal(net.an.weight, model.an.weight)


def mixed():
    """Two normalised layers, one of them with a site that is not to be cut, and a layer that gets a gate."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU()),
        *(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU()),
        *(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 2)),
    ).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.1, -0.2, 0.3, -0.4, 0.0], dtype=torch.float64))
        model[4].weight.copy_(torch.tensor([2.0, 3.0, 4.0, 5.0, 6.0, 7.0]))
    inputs = torch.randn(9, 4).double()
    return model.eval(), inputs, read_sites(model, inputs)


@pytest.mark.parametrize(
    ("among", "cut", "start"),
    [
        (("0", "3", "6"), {}, (1.0 + 27) / 11),
        (("0", "6"), {}, 1.0 / 5),
        (("0", "6"), {"0": [1, 1, 0, 1, 0], "3": [1, 0, 1, 1, 1, 0], "6": [0, 1, 1, 1, 1, 1, 1]}, 0.7 / 3),
        (("6",), {}, 1.0),
    ],
    ids=["all", "one kept whole", "some cut", "no factors but gates"],
)
def test_gates_start_where_the_factors_that_are_there_are_on_average(among, cut, start):
    model, inputs, sites = mixed()
    factors = find_factors(model, sites, among)
    mask = {site: torch.tensor(kept).bool() for site, kept in cut.items()}
    inner = SmallUnits(mask, sites, inputs) if cut else MaskedWeights(everything(model))
    net = Scaled(inner, factors, None).trainable(model).eval()
    assert own_gate(net, "6", factors).tolist() == pytest.approx([start] * 7, rel=1e-12)
    assert distance(net(inputs), inner.trainable(model).eval()(inputs)) <= 1e-12
    for norm in ("1.weight", "4.weight"):
        assert torch.equal(net.get_parameter(norm), inner.trainable(model).get_parameter(norm)), "they stay"


def test_gates_start_at_one_where_all_factors_are_zero():
    model, inputs, sites = mixed()
    factors = find_factors(model, sites, ("0", "6"))
    nn.init.zeros_(model[1].weight)
    net = Scaled(MaskedWeights(everything(model)), factors, None).trainable(model)
    assert own_gate(net, "6", factors).tolist() == [1.0] * 7
    assert torch.equal(net.eval()(inputs), model(inputs))


def test_a_branch_that_is_gone_has_no_say_in_where_gates_start():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.branch, self.bn = nn.Linear(4, 5), nn.Linear(5, 3), nn.BatchNorm1d(3)
            self.back, self.last = nn.Linear(3, 5), nn.BatchNorm1d(5)
            self.one, self.two = nn.Linear(5, 6), nn.Linear(6, 2)

        def forward(self, x):
            x = F.relu(self.stem(x))
            x = x + self.last(self.back(F.relu(self.bn(self.branch(x)))))
            return self.two(F.relu(self.one(x)))

    torch.manual_seed(0)
    model, inputs = Sum().double().eval(), torch.randn(9, 4).double()
    sites = read_sites(model, inputs)
    (gone,) = sites.branches
    factors = find_factors(model, sites, [gone, "one"])
    assert factors.norms
    with torch.no_grad():
        model.bn.weight.fill_(0.25)
        model.last.weight.fill_(0.25)
    for stays, start in ((True, 0.25), (False, 1.0)):
        inner = SmallUnits({gone: torch.tensor([stays])}, sites, inputs)
        net = Scaled(inner, factors, None).trainable(model).eval()
        assert set(own_gate(net, "one", factors).tolist()) == {start}
        assert distance(net(inputs), inner.trainable(model).eval()(inputs)) <= 1e-12


@pytest.mark.parametrize("initial", [0.0, -1.0, float("nan"), float("inf")])
def test_factors_cannot_start_from_what_weights_cannot_be_divided_by(initial):
    with pytest.raises(ValueError, match="positive number"):
        scaled("LeNet", initial)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", ["masked", "small"])
def test_batch_normalisation_of_any_dimension_has_the_factors(kind, inside):
    conv, norm, shape = KINDS[kind]
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 6, 3), norm(6), nn.ReLU(), conv(6, 5, 1), nn.Flatten(), nn.LazyLinear(2)).double()
    inputs = torch.randn(shape, dtype=torch.float64)
    model(inputs)
    model.eval()
    sites = read_sites(model, inputs)
    factors = find_factors(model, sites, list(sites.sites))
    assert (factors.norms, factors.gated) == ({"0": ("1.weight",)}, ("3",))
    mask = {"0": torch.tensor([1, 0, 1, 1, 0, 1]).bool(), "3": torch.tensor([0, 1, 1, 1, 1]).bool()}
    inner = SmallUnits(mask, sites, inputs) if inside == "small" else MaskedWeights(everything(model))
    subnetwork = Scaled(inner, factors, 0.5)
    net = shaken(subnetwork.trainable(model).eval())
    large = with_state(model, subnetwork.view(net))
    assert distance(compact(large, mask, inputs).module(inputs), subnetwork.ship(net)(inputs)) <= 1e-12 or (
        inside == "masked"
    )
    if inside == "masked":
        assert distance(large(inputs), net(inputs)) <= 1e-12
    assert distance(subnetwork.ship(net)(inputs), net(inputs)) <= 1e-12


@pytest.mark.parametrize("name", NOT_TOO_LARGE)
def test_small_networks_carry_factors_as_large_ones_do(name):
    model, inputs, sites, factors = given_net(name)
    among = [site for site in sites.sites if site not in sites.branches]
    mask = {site: torch.arange(len(sites[site])) % 3 < 2 for site in among if len(sites[site]) > 2}
    subnetwork = Scaled(SmallUnits(mask, sites, inputs), factors, 0.3)
    net = shaken(subnetwork.trainable(model).eval())
    outputs = call(net, inputs)
    assert distance(call(subnetwork.ship(net), inputs), outputs) <= 1e-12
    large = with_state(model, subnetwork.view(net))
    assert distance(call(compact(large, mask, inputs, sites).module, inputs), outputs) <= 1e-12
    scores = subnetwork.scores(read_state(net))
    for site, score in scores.items():
        if site in mask:
            assert bool((score[~mask[site]] == -1).all()), "what is cut must rank below all that is left"
            assert bool((score[mask[site]] >= 0).all())


@pytest.mark.parametrize("name", ["LeNet", "U-Net", "TransformerEncoder"])
def test_in_a_small_network_too_the_gate_of_a_unit_closes_that_unit(name):
    model, inputs, sites, factors = given_net(name)
    mask = {site: torch.arange(len(sites[site])) % 3 > 0 for site in factors.gated if len(sites[site]) > 3}
    subnetwork = Scaled(SmallUnits(mask, sites, inputs), factors, 0.5)
    net = shaken(subnetwork.trainable(model).eval())
    large = with_state(model, subnetwork.view(net))
    for site, kept in mask.items():
        closed, fewer = copy.deepcopy(net), kept.clone()
        unit = int(kept.nonzero()[-1])
        fewer[unit] = False
        with torch.no_grad():
            own_gate(closed, site, factors)[unit] = 0
        small = compact(large, mask | {site: fewer}, inputs, sites).module
        assert distance(call(subnetwork.ship(closed), inputs), call(small, inputs)) <= 1e-12, site


def test_weights_that_are_cut_stay_cut_behind_a_gate():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    inputs = torch.randn(8, 5).double()
    sites = read_sites(model, inputs)
    mask = {name: torch.rand(kept.shape) < 0.5 for name, kept in everything(model).items()}
    subnetwork = Scaled(MaskedWeights(mask), find_factors(model, sites, list(sites.sites)), 0.5)
    net = subnetwork.trainable(model)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(net(inputs), torch.arange(8) % 3).backward()
        optimizer.step()
    state = subnetwork.view(net)
    assert all(not bool(state[name][~kept].any()) for name, kept in mask.items())
    assert all(bool(state[name][kept].all()) for name, kept in mask.items())
    assert distance(with_state(model, state)(inputs), net(inputs)) <= 1e-12
    with torch.no_grad():  # a loop of someone's own that moves what has no gradient
        net[2].parametrizations.weight.original.add_(1.0)
    assert distance(with_state(model, subnetwork.view(net))(inputs), subnetwork.ship(net)(inputs)) <= 1e-12


# ------------------------------------------------------------------------------------------------- the right unit


def test_the_networks_with_gates_are_those_that_the_next_test_is_about():
    assert [name for name in NAMES if given_net(name)[3].gated] == GATED


@pytest.mark.parametrize("name", GATED)
def test_a_gate_at_zero_is_the_unit_cut(name):
    model, inputs, sites, factors = given_net(name)
    subnetwork = scaled(name)
    net = shaken(subnetwork.trainable(model).eval())
    large, tried = with_state(model, subnetwork.view(net)), 0
    for site in factors.gated:
        kept = torch.arange(len(sites[site])) % 2 == 0
        if bool(kept.all()):
            continue
        closed = copy.deepcopy(net)
        with torch.no_grad():
            own_gate(closed, site, factors)[~kept] = 0
        small = compact(large, {site: kept}, inputs, sites).module
        assert distance(call(subnetwork.ship(closed), inputs), call(small, inputs)) <= 1e-12, site
        tried += 1
    assert tried


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(2, 7), min_size=2, max_size=4),
    normalised=st.lists(st.booleans(), min_size=4, max_size=4),
    seed=st.integers(0, 1000),
)
def test_scores_are_in_the_order_that_was_planted(widths, normalised, seed):
    layers, into, at = [], 4, []
    for width, has_norm in zip(widths, normalised, strict=False):
        at.append(str(len(layers)))
        layers += [nn.Linear(into, width), *([nn.BatchNorm1d(width)] if has_norm else []), nn.ReLU()]
        into = width
    model = nn.Sequential(*layers, nn.Linear(into, 2)).double().eval()
    inputs = torch.randn(3, 4).double()
    sites = read_sites(model, inputs)
    factors = find_factors(model, sites, list(sites.sites))
    assert [name for name, has in zip(at, normalised, strict=False) if has] == list(factors.norms)
    assert [name for name, has in zip(at, normalised, strict=False) if not has] == list(factors.gated)
    subnetwork = Scaled(MaskedWeights(everything(model)), factors)
    net = subnetwork.trainable(model)
    chance = torch.Generator().manual_seed(seed)
    planted = {name: torch.randperm(width, generator=chance) + 1.0 for name, width in zip(at, widths, strict=True)}
    with torch.no_grad():
        for name, values in planted.items():
            signs = torch.where(torch.rand(len(values), generator=chance) < 0.5, -1.0, 1.0)
            holder = (
                net.get_parameter(factors.norms[name][0]) if name in factors.norms else own_gate(net, name, factors)
            )
            holder.copy_(values * signs)
    scores = subnetwork.scores(read_state(net))
    assert {name: score.tolist() for name, score in scores.items()} == {n: v.tolist() for n, v in planted.items()}
    # and the unit of the score is the unit of the function: closing it silences that neuron and no other
    name = at[-1]
    if name in factors.gated:
        with torch.no_grad():
            own_gate(net, name, factors)[0] = 0.0
        last = read_state(subnetwork.ship(net))[f"{len(layers)}.weight"]
        assert (last.abs().sum(0) == 0).tolist() == [True] + [False] * (widths[-1] - 1)


def test_a_choice_for_one_reader_goes_by_the_normalisation_that_makes_it_and_by_no_other():
    model, _, sites, factors = given_net("PreResNet")
    choices = [name for name in sites.choices]
    assert choices
    for name in choices:
        assert factors.norms[name] == (f"{sites.choices[name].norm}.weight",)
    made_by_choices = {f"{choice.norm}.weight" for choice in sites.choices.values()}
    streams = [name for name in sites.ordinary if name in factors.left]
    assert streams, "a stream of a pre-activation network is chosen from, not cut"
    assert all(not made_by_choices & set(factors.norms[name]) for name in sites.ordinary if name in factors.norms)
    subnetwork = scaled("PreResNet")
    net = subnetwork.trainable(model)
    name = choices[1]
    units = len(sites[name])
    with torch.no_grad():
        net.get_parameter(factors.norms[name][0]).copy_(torch.arange(units) - units / 2)
    assert subnetwork.scores(read_state(net))[name].tolist() == (torch.arange(units) - units / 2).abs().tolist()


def test_halves_of_a_layer_are_chosen_by_the_normalisation_of_each():
    def halves(m, x):
        one, two = m.a(x).chunk(2, 1)
        return m.out(torch.cat([F.relu(m.one(one)), F.relu(m.two(two))], 1))

    model = Net(
        halves,
        a=nn.Linear(4, 6),
        one=nn.BatchNorm1d(3),
        two=nn.BatchNorm1d(3),
        out=nn.Linear(6, 2),
    ).double()
    inputs = torch.randn(5, 4).double()
    sites = read_sites(model.eval(), inputs)
    factors = find_factors(model, sites, list(sites.sites))
    assert "chooses its channels" in factors.left["a"]
    subnetwork = Scaled(MaskedWeights(everything(model)), factors, None)
    net = subnetwork.trainable(model)
    with torch.no_grad():
        net.one.weight.copy_(torch.tensor([6.0, 5.0, 4.0]))
        net.two.weight.copy_(torch.tensor([3.0, 2.0, 1.0]))
    scores = subnetwork.scores(read_state(net))
    assert {name: score.tolist() for name, score in scores.items()} == {"one->out": [6, 5, 4], "two->out": [3, 2, 1]}


# ------------------------------------------------------------------------------------------------------- the gates


def two_readers():
    torch.manual_seed(0)
    model = Net(
        lambda m, x: m.left(F.relu(m.a(x))) * torch.sigmoid(m.right(F.relu(m.a(x)))),
        a=nn.Linear(4, 6),
        left=nn.Linear(6, 3),
        right=nn.Linear(6, 3),
    ).double()
    inputs = torch.randn(7, 4).double()
    sites = read_sites(model, inputs)
    return model, inputs, sites, find_factors(model, sites, ["a"])


def test_the_gradient_of_a_factor_is_the_sum_over_all_who_read_the_unit():
    model, inputs, _, factors = two_readers()
    net = Scaled(MaskedWeights(everything(model)), factors, 0.5).trainable(model)
    shaken(net)
    net(inputs).square().sum().backward()
    gate = own_gate(net, "a", factors)
    # by hand: with v = w f, dL/df_u = sum over readers and their outputs of w dL/dv
    by_hand = torch.zeros(6, dtype=torch.float64)
    weights = {name: net.get_parameter(f"{name}.parametrizations.weight.original") for name in ("left", "right")}
    plain = {name: (weight * gate).detach().requires_grad_() for name, weight in weights.items()}
    hidden = F.relu(net.a(inputs).detach())
    outputs = F.linear(hidden, plain["left"], net.left.bias) * torch.sigmoid(
        F.linear(hidden, plain["right"], net.right.bias)
    )
    outputs.square().sum().backward()
    for name, weight in weights.items():
        by_hand += (weight.detach() * plain[name].grad).sum(0)
    assert torch.allclose(gate.grad, by_hand, rtol=1e-12, atol=1e-14)
    assert all(bool((plain[name].grad != 0).any()) for name in plain)


def test_gates_of_one_site_are_one_factor_and_are_listed_once():
    model, _, _, factors = two_readers()
    net = Scaled(MaskedWeights(everything(model)), factors, 0.5).trainable(model)
    assert net.left.parametrizations.weight[0].factor is net.right.parametrizations.weight[0].factor
    assert [factor.shape for factor in scaling_factors(net).values()] == [(6,)]
    copied = copy.deepcopy(net)
    assert copied.left.parametrizations.weight[0].factor is copied.right.parametrizations.weight[0].factor
    assert copied.left.parametrizations.weight[0].factor is not net.left.parametrizations.weight[0].factor


def test_tied_weights_get_no_gate():
    model, _, sites, factors = given_net("tied weights")
    assert not factors.gated
    assert all("cannot carry a gate" in factors.left[name] for name in sites.sites)
    net = scaled("tied weights").trainable(model)
    assert net.one.weight is net.other.weight


class Fixed(nn.Module):
    """A unit that is also read by weights that are no parameters."""

    def __init__(self, how):
        super().__init__()
        self.how, self.a, self.out = how, nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("fixed", torch.randn(3, 6))
        self.own = nn.Parameter(torch.randn(3, 6))

    def forward(self, x):
        hidden = F.relu(self.a(x))
        weight = {"buffer": self.fixed, "computed": self.own * 2, "parameter": self.own}[self.how]
        return self.out(hidden) + F.linear(hidden, weight)


@pytest.mark.parametrize("how", ["buffer", "computed", "parameter"])
def test_a_unit_gets_a_gate_only_if_all_who_read_it_can_carry_one(how):
    model, inputs = Fixed(how).double(), torch.randn(3, 4).double()
    sites = read_sites(model, inputs)
    factors = find_factors(model, sites, list(sites.sites))
    assert factors.gated == (("a",) if how == "parameter" else ())
    assert how == "parameter" or "a" not in sites.sites or "cannot carry a gate" in factors.left["a"]


def test_a_parameter_that_is_only_multiplied_with_the_units_gets_no_gate():
    model = Net(lambda m, x: m.b(F.relu(m.a(x)) * m.scale), a=nn.Conv2d(3, 5, 1), b=nn.Conv2d(5, 2, 1)).double()
    model.scale = nn.Parameter(torch.rand(1, 5, 1, 1).double())
    inputs = torch.randn(2, 3, 4, 4).double()
    sites = read_sites(model, inputs)
    assert [name for name, *_ in gates(sites, ["a"])] == ["b.weight"]


def test_heads_of_an_attention_have_gates_at_their_output_projection():
    model, inputs, sites, factors = given_net("TransformerEncoder")
    heads = [name for name in factors.gated if name in sites.heads]
    assert heads
    for name in heads:
        assert [weight for weight, *_ in gates(sites, [name])] == [f"{sites.heads[name].owner}.out_proj.weight"]
    subnetwork = scaled("TransformerEncoder")
    net = subnetwork.trainable(model)
    for training in (True, False):  # the fused kernel of evaluation reads the weights itself
        torch.manual_seed(0)
        shipped = subnetwork.ship(shaken(net)).train(training)
        torch.manual_seed(1)
        one = call(net.train(training), inputs)
        torch.manual_seed(1)
        assert distance(one, call(shipped, inputs)) <= 1e-12


def test_branches_get_no_gate():
    _, _, sites, factors = given_net("ConvNeXt")
    assert sites.branches
    assert all("a branch without normalisation" in factors.left[name] for name in sites.branches)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_state_survives_copies_and_types(dtype):
    model, inputs, _, factors = two_readers()
    subnetwork = Scaled(MaskedWeights(everything(model)), factors, 0.5)
    net = shaken(subnetwork.trainable(copy.deepcopy(model).to(dtype)))
    assert all(value.dtype == dtype for value in read_state(net).values())
    copied = copy.deepcopy(net)
    assert state_digest(read_state(copied)) == state_digest(read_state(net))
    assert torch.equal(copied(inputs.to(dtype)), net(inputs.to(dtype)))
    view = subnetwork.view(net)
    assert {name: value.dtype for name, value in view.items()} == dict.fromkeys(read_state(model), dtype)
    assert state_digest(view) == state_digest(read_state(subnetwork.ship(net)))
    other = subnetwork.trainable(copy.deepcopy(model).to(dtype))
    other.load_state_dict(read_state(net))
    assert state_digest(read_state(other)) == state_digest(read_state(net))
    moved = subnetwork.trainable(model)
    moved.to(dtype)
    assert moved(inputs.to(dtype)).dtype == dtype


def test_parametrisations_of_ones_own_are_left_alone():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 5))
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), normed, nn.ReLU(), nn.Linear(5, 2)).double()
    inputs = torch.randn(3, 4).double()
    sites = read_sites(model, inputs)
    factors = find_factors(model, sites, list(sites.sites))
    subnetwork = Scaled(MaskedWeights(everything(model)), factors, 0.5)
    net = shaken(subnetwork.trainable(model))
    assert read_state(subnetwork.ship(net)).keys() == subnetwork.view(net).keys() == read_state(model).keys()
    assert distance(with_state(model, subnetwork.view(net))(inputs), net(inputs)) <= 1e-12
    assert distance(subnetwork.ship(net)(inputs), net(inputs)) <= 1e-12
