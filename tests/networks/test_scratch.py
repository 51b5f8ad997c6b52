"""Fresh weights of a network that became smaller are spread as if it had been built small."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scratchcard.networks.compact import shrink_spec
from scratchcard.networks.forward import read_state, with_state
from scratchcard.networks.scratch import Layer, rescaled, rules_of, scratch_factors
from scratchcard.networks.sites import read_sites
from scratchcard.networks.units import SmallUnits
from scratchcard.networks.weights import everything
from scratchcard.networks.zoo import densenet_40, lenet_300_100, resnet_20, vgg_16

INITS = {
    "torch's own": lambda weight: weight,
    "He by inputs": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "He by outputs": lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu"),
    "Glorot": nn.init.xavier_uniform_,
    "Glorot for tanh": lambda weight: nn.init.xavier_normal_(weight, 5 / 3),
    "LeCun": lambda weight: nn.init.normal_(weight, 0, weight[0].numel() ** -0.5),
    "fixed": lambda weight: nn.init.normal_(weight, 0, 0.01),
}
RULES = {
    "torch's own": "fan_in",
    "He by inputs": "fan_in",
    "He by outputs": "fan_out",
    "Glorot": "fan_avg",
    "Glorot for tanh": "fan_avg",
    "LeCun": "fan_in",
    "fixed": "fixed",
}
SEEDS = 12


def drawn(model, init):
    for parameter in model.parameters():
        if parameter.dim() > 1:
            INITS[init](parameter)
    return model


def mlp(widths, init):
    sizes = [12, *widths, 5]
    return drawn(nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes))), init)


def cnn(widths, init):
    sizes = [3, *widths]
    convs = [nn.Conv2d(a, b, 3 if at else 5, padding=1) for at, (a, b) in enumerate(pairwise(sizes))]
    return drawn(nn.Sequential(*convs, nn.Flatten(), nn.Linear(widths[-1] * 36, 7)), init)


NETS = {
    "mlp": (mlp, (60, 90, 40), (20, 71, 13), (2, 12)),
    "cnn": (cnn, (16, 24, 40), (7, 20, 11), (2, 3, 8, 8)),
}


def layers_of(model, sites, mask):
    """As a study sees a ticket of units."""
    state, spec = read_state(model), shrink_spec(sites, mask)
    return {
        name: Layer(
            state[name],
            tuple(len(spec.get(name, {}).get(d, range(size))) for d, size in enumerate(entries.shape)),
            sites.outputs.get(name, 0),
        )
        for name, entries in everything(model).items()
    }


def from_scratch(model, sites, mask, inputs):
    """The small network with its fresh weights."""
    state = rescaled(read_state(model), layers_of(model, sites, mask))
    return SmallUnits(mask, sites, inputs).trainable(with_state(model, state))


def spreads(make, seeds=SEEDS):
    """Root mean square of every parameter, over so many networks, and of how many entries it is."""
    sums, counts = {}, {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        for name, value in make(seed).named_parameters():
            sums[name] = sums.get(name, 0.0) + float(value.detach().double().square().sum())
            counts[name] = counts.get(name, 0) + value.numel()
    return {name: (math.sqrt(sums[name] / counts[name]), counts[name]) for name in sums}


def check_alike(found, wanted):
    assert found.keys() == wanted.keys()
    for name, (spread, entries) in found.items():
        truth, others = wanted[name]
        # four standard deviations of the ratio of two sample variances, half of it for standard deviations
        allowed = 4 * math.sqrt(1 / (2 * entries) + 1 / (2 * others))
        assert spread == truth == 0 or abs(math.log(spread / truth)) < allowed, (name, spread, truth)


def random_mask(sites, left, seed):
    """Keeps so many units of every site, at random places."""
    chance = torch.Generator().manual_seed(seed)
    return {
        name: torch.randperm(len(sites[name]), generator=chance) < units
        for name, units in zip(sites.sites, left, strict=True)
    }


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("kind", NETS)
def test_a_cut_network_has_the_spread_of_one_that_is_built_small(kind, init):
    make, wide, narrow, shape = NETS[kind]
    inputs = torch.randn(shape)
    sites = read_sites(make(wide, init), inputs)

    def cut(seed):
        return from_scratch(make(wide, init), sites, random_mask(sites, narrow, seed), inputs)

    found, wanted = spreads(cut), spreads(lambda seed: make(narrow, init), 4 * SEEDS)
    if (kind, init) == ("cnn", "Glorot for tanh"):  # of a single layer with an unusual gain nobody can tell the rule
        del found["4.weight"], wanted["4.weight"]
    check_alike(found, wanted)


@pytest.mark.parametrize("name", ["vgg_16", "resnet_20", "lenet_300_100", "densenet_40"])
@pytest.mark.parametrize("init", ["glorot", "kaiming", "fan_out"])
def test_networks_of_the_papers_restart_as_their_factory_makes_them_narrower(name, init):
    if name == "lenet_300_100" and init == "fan_out":
        pytest.skip("not among its initialisations")
    make = {
        "vgg_16": lambda width: vgg_16(width=width / 4, init=init),
        "resnet_20": lambda width: resnet_20(width=width, init=init),
        "lenet_300_100": lambda width: lenet_300_100(inputs=64, width=width, init=init),
        "densenet_40": lambda width: densenet_40(growth=4, start=8, width=width, init=init),
    }[name]
    model, narrow = make(1.0), read_state(make(0.5))
    layers = {weight: Layer(read_state(model)[weight], tuple(narrow[weight].shape), 0) for weight in everything(model)}
    factors = scratch_factors(layers)
    rule = {"glorot": "fan_avg", "kaiming": "fan_in", "fan_out": "fan_out"}[init]
    for weight, layer in layers.items():
        fixed = init == "fan_out" and layer.weight.dim() == 2
        before, after = (layer.fan("fixed" if fixed else rule, tuple(s)) for s in (layer.weight.shape, layer.left))
        assert factors[weight] == pytest.approx(math.sqrt(before / after)), weight


@settings(max_examples=40, deadline=None)
@given(
    init=st.sampled_from(sorted(INITS)),
    widths=st.lists(st.integers(24, 80), min_size=2, max_size=4),
    seed=st.integers(0, 10**6),
)
def test_the_rule_is_read_from_the_weights_of_layers_of_several_shapes(init, widths, seed):
    torch.manual_seed(seed)
    layers = [Layer(p.detach(), tuple(p.shape), 0) for p in mlp(widths, init).parameters() if p.dim() > 1]
    truth = RULES[init]
    for rule, layer in zip(rules_of(layers), layers, strict=True):
        if rule != truth:  # it may be another only where that says the same of how they were drawn
            fans = [layer.fan(r, tuple(layer.weight.shape)) for layer in layers for r in (rule, truth)]
            ratios = torch.tensor([a / b for a, b in zip(fans[::2], fans[1::2], strict=True)]).log()
            sizes = torch.tensor([float(layer.weight.numel()) for layer in layers])
            mean = (sizes * ratios).sum() / sizes.sum()
            assert ((sizes * (ratios - mean).square()).sum() / sizes.sum()).sqrt() < 0.05 + 6 * (
                2 / sizes.sum()
            ).sqrt(), (rule, truth)


@pytest.mark.parametrize(
    ("init", "rule"),
    [pair for pair in RULES.items() if pair[0] != "Glorot for tanh"],
)
def test_of_a_single_layer_the_rule_is_the_one_with_a_usual_constant(init, rule):
    for seed in range(20):
        torch.manual_seed(seed)
        weight = INITS[init](nn.Linear(90, 400).weight).detach()
        assert rules_of([Layer(weight, (400, 90), 0)]) == [rule]


@pytest.mark.parametrize(
    ("init", "rule"),
    {"torch's own": "fan_in", "He by inputs": "fan_in", "He by outputs": "fan_in", "Glorot": "fan_avg"}.items(),
)
def test_square_layers_say_only_the_constant_and_the_most_usual_rule_with_it_counts(init, rule):
    for seed in range(10):
        torch.manual_seed(seed)
        weights = [INITS[init](nn.Linear(64, 64).weight).detach() for _ in range(3)]
        assert rules_of([Layer(weight, (64, 64), 0) for weight in weights]) == [rule] * 3


def test_layers_that_do_not_follow_the_others_are_judged_by_themselves():
    torch.manual_seed(0)
    shapes = {"embedding": (200, 48), "one": (96, 48), "two": (48, 96), "packed": (144, 48), "head": (10, 48)}
    fresh = {name: torch.empty(shape) for name, shape in shapes.items()}
    nn.init.normal_(fresh["embedding"])
    for name in ("one", "two"):
        nn.init.kaiming_uniform_(fresh[name], math.sqrt(5))
    nn.init.xavier_uniform_(fresh["packed"])
    nn.init.normal_(fresh["head"], 0, 0.01)
    halved = {name: Layer(weight, tuple(s // 2 for s in weight.shape), 0) for name, weight in fresh.items()}
    factors = scratch_factors(halved)
    double = pytest.approx(math.sqrt(2))
    assert factors == {"embedding": 1.0, "one": double, "two": double, "packed": double, "head": 1.0}
    few = {name: Layer(w, (w.shape[0], w.shape[1] // 2), 0) for name, w in fresh.items()}
    factors = scratch_factors(few)
    assert factors["packed"] == pytest.approx(math.sqrt((144 + 48) / (144 + 24)))
    assert factors["one"] == double


def test_one_small_layer_of_its_own_rule_does_not_hide_the_rule_of_the_large_ones():
    for seed in range(10):
        torch.manual_seed(seed)
        weights = [nn.init.kaiming_normal_(torch.empty(shape)) for shape in ((64, 40), (128, 64), (90, 128))]
        weights.append(nn.init.normal_(torch.empty(6, 90), 0, 0.01))
        assert rules_of([Layer(w, tuple(w.shape), 0) for w in weights]) == ["fan_in"] * 3 + ["fixed"]


@pytest.mark.parametrize("init", ["torch's own", "He by inputs", "He by outputs", "fixed"])
def test_depthwise_grouped_and_transposed_convolutions_restart_as_torch_counts_their_fans(init):
    def make(width):
        layers = nn.Sequential(
            nn.Conv2d(3, 4 * width, 3),
            nn.Conv2d(4 * width, 4 * width, 3, groups=4 * width),
            nn.Conv2d(4 * width, 2 * width, 1),
            nn.ConvTranspose2d(2 * width, 6 * width, 2, stride=2),
            nn.Conv2d(6 * width, 5, 1),
        )
        return drawn(layers, init)

    inputs = torch.randn(2, 3, 8, 8)
    sites = read_sites(make(8), inputs)
    assert {name: len(site) for name, site in sites.sites.items()} == {"0": 32, "2": 16, "3": 48}

    def cut(seed):
        return from_scratch(make(8), sites, random_mask(sites, (12, 6, 18), seed), inputs)

    check_alike(spreads(cut), spreads(lambda seed: make(3), 4 * SEEDS))


def test_whole_groups_that_are_cut_leave_the_fans_that_torch_counts():
    def make(groups):
        return drawn(
            nn.Sequential(
                nn.Conv2d(3, 4 * groups, 1),
                nn.Conv2d(4 * groups, 8 * groups, 3, groups=groups),
                nn.Conv2d(8 * groups, 5, 1),
            ),
            "He by inputs",
        )

    inputs = torch.randn(2, 3, 6, 6)
    sites = read_sites(make(8), inputs)
    (name,) = sites.sites
    assert len(sites[name]) == 8

    def cut(seed):
        return from_scratch(make(8), sites, random_mask(sites, (3,), seed), inputs)

    check_alike(spreads(cut), spreads(lambda seed: make(3), 4 * SEEDS))


def test_sparse_layers_have_their_variance_raised_by_the_density():
    torch.manual_seed(0)
    shapes = ((32, 16, 3, 3), (64, 32, 3, 3))
    for mode in ("fan_in", "fan_out"):
        fresh = {f"{at}.weight": nn.init.kaiming_normal_(torch.empty(s), mode=mode) for at, s in enumerate(shapes)}
        masks = {
            name: torch.rand(w.shape) < density for (name, w), density in zip(fresh.items(), (0.1, 0.4), strict=True)
        }
        layers = {name: Layer(w, tuple(w.shape), 0, int(masks[name].sum()) / w.numel()) for name, w in fresh.items()}
        state = rescaled(fresh, layers)
        for name, kept in masks.items():
            # n = mask.sum() / in_channels is the outputs' fan of a sparse layer, / out_channels the inputs'
            n = int(kept.sum()) / kept.shape[1 if mode == "fan_out" else 0]
            assert float(state[name][kept].std()) == pytest.approx(math.sqrt(2 / n), rel=0.06)


def test_sparse_layers_of_a_fixed_spread_keep_it():
    fresh = {f"{at}.weight": nn.init.normal_(torch.empty(30, width), 0, 0.01) for at, width in enumerate((300, 100))}
    layers = {name: Layer(w, tuple(w.shape), 0, 0.05) for name, w in fresh.items()}
    assert scratch_factors(layers) == {"0.weight": 1.0, "1.weight": 1.0}


@pytest.mark.parametrize("outputs", [1, 2, 10])
def test_biases_are_rescaled_only_where_they_are_torchs_own(outputs):
    for seed in range(20):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(80, 60), nn.Linear(60, outputs))
        halved = {
            f"{at}.weight": Layer(model[at].weight.detach(), (model[at].out_features, model[at].in_features // 4), 0)
            for at in (0, 1)
        }
        fresh = read_state(model)
        state = rescaled(fresh, halved)
        for bias in ("0.bias", "1.bias"):
            assert torch.allclose(state[bias], 2 * fresh[bias]), "however few units a layer has"
        for value in (torch.zeros(60), torch.full((60,), 0.1), torch.randn(60)):
            state = rescaled(fresh | {"0.bias": value}, halved)
            assert torch.equal(state["0.bias"], value)


def test_what_a_factory_leaves_at_zero_or_takes_out_as_a_whole_stays_as_it_is():
    torch.manual_seed(0)
    weights = {"a.weight": torch.zeros(8, 8), "b.weight": nn.init.kaiming_normal_(torch.empty(16, 8))}
    layers = {name: Layer(w, (0, 4), 0) for name, w in weights.items()}
    state = rescaled(weights, layers)
    assert not bool(state["a.weight"].any())
    assert scratch_factors({"b.weight": Layer(weights["b.weight"], (0, 0), 0)}) == {"b.weight": 1.0}
    assert rescaled({}, {}) == {}
    assert scratch_factors({"a.weight": Layer(weights["a.weight"], (4, 4), 0)}) == {"a.weight": 1.0}


@settings(max_examples=30, deadline=None)
@given(shape=st.lists(st.integers(1, 5), min_size=2, max_size=5), seed=st.integers(0, 1000))
def test_any_layer_has_a_finite_factor_and_none_changes_a_layer_that_is_left_whole(shape, seed):
    torch.manual_seed(seed)
    weight = torch.randn(shape)
    assert scratch_factors({"w": Layer(weight, tuple(shape), 0)}) == {"w": 1.0}
    half = tuple(max(1, size // 2) for size in shape)
    factor = scratch_factors({"w": Layer(weight, half, seed % 2)})["w"]
    assert 1 <= factor < math.inf
