"""The deep networks of the papers have exactly the parameters and costs the papers print, at any width."""

import inspect
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scratchcard.methods.imp import IMP
from scratchcard.networks import zoo
from scratchcard.networks.cost import cost
from scratchcard.networks.fan_out import fan_out_normal_, slimming_
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.networks.weights import list_weights
from scratchcard.networks.zoo.imagenet_resnet import Bottleneck
from scratchcard.training.data import Data
from scratchcard.training.task import Task

COUNTS = [  # parameters, MACs as printed, channels of two-dimensional batch normalisation
    ("resnet_20", {"shortcut": "projection"}, 272_474, "40.8 M", 784),
    ("resnet_20", {"shortcut": "pad"}, 269_722, "40.6 M", 688),
    ("resnet_32", {}, 464_154, "68.9 M", 1_136),
    ("resnet_32", {"shortcut": "projection"}, 466_906, "69.1 M", 1_232),
    ("resnet_56", {}, 853_018, "125.5 M", 2_032),
    ("resnet_56", {"shortcut": "projection"}, 855_770, "125.7 M", 2_128),
    ("resnet_110", {}, 1_727_962, "252.9 M", 4_048),
    ("resnet_110", {"shortcut": "projection"}, 1_730_714, "253.1 M", 4_144),
    ("vgg_11", {}, 9_228_362, "152.8 M", 2_752),
    ("vgg_11", {"head": "hidden"}, 9_492_042, "153.0 M", 2_752),
    ("vgg_16", {}, 14_724_042, "313.2 M", 4_224),
    ("vgg_16", {"head": "hidden"}, 14_987_722, "313.5 M", 4_224),
    ("vgg_19", {}, 20_035_018, "398.1 M", 5_504),
    ("vgg_19", {"head": "hidden"}, 20_298_698, "398.4 M", 5_504),
    ("vgg_19", {"classes": 100}, 20_081_188, None, 5_504),
    ("preresnet_101", {}, 1_054_106, "154.1 M", 7_408),
    ("preresnet_101", {"classes": 100}, 1_077_236, None, 7_408),
    ("preresnet_164", {}, 1_703_258, "247.6 M", 12_112),
    ("preresnet_164", {"classes": 100}, 1_726_388, None, 12_112),
    ("densenet_40", {}, 1_059_298, "282.9 M", 9_360),
    ("densenet_40", {"start": 16}, 1_019_722, "264.8 M", 9_048),
    ("densenet_40", {"classes": 100}, 1_100_428, None, 9_360),
    ("densenet_bc_100", {}, 769_162, "287.9 M", 11_994),
    ("densenet_bc_100", {"classes": 100}, 800_032, None, 11_994),
    ("imagenet_resnet_18", {}, 11_689_512, "1.81 G", 4_800),
    ("imagenet_resnet_34", {}, 21_797_672, "3.66 G", 8_512),
    ("imagenet_resnet_50", {}, 25_557_032, "4.09 G", 26_560),
    ("imagenet_vgg_11", {}, 132_863_336, "7.61 G", 0),
    ("imagenet_vgg_11", {"norm": True}, 132_868_840, None, 2_752),
    ("imagenet_vgg_16", {}, 138_357_544, "15.47 G", 0),
    ("imagenet_vgg_16", {"norm": True}, 138_365_992, None, 4_224),
]
ALL = sorted({name for name, *_ in COUNTS})
ONE_PER_FAMILY = {
    "resnet_20": {"shortcut": "pad"},
    "vgg_11": {"head": "hidden"},
    "preresnet_101": {},
    "densenet_40": {},
    "densenet_bc_100": {},
    "imagenet_resnet_18": {},
    "imagenet_resnet_50": {},
    "imagenet_vgg_11": {"norm": True},
}
SMALLEST = {"vgg": 16, "densenet": 4, "imagenet_vgg": 32}
"""Height and width, in pixels, below which a family has no pixels left; the others take a single pixel."""


def made(name, **choices):
    return getattr(zoo, name)(**choices)


def on_meta(name, **choices):
    with torch.device("meta"):
        return made(name, **choices)


def narrow(name, **choices):
    """A network cheap enough to run: two per cent of the parameters or less, ten classes."""
    return made(name, width=0.12, classes=10, **choices)


def smallest(name):
    return SMALLEST.get(re.sub(r"(_bc)?_\d+$", "", name), 1)


def layers(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


@pytest.mark.parametrize(("name", "choices", "parameters", "macs", "channels"), COUNTS)
def test_parameters_macs_and_channels_are_exactly_the_printed_ones(name, choices, parameters, macs, channels):
    model = on_meta(name, **choices)
    size = 224 if "imagenet" in name else 32
    counted = cost(model, torch.empty(2, 3, size, size, device="meta"))
    assert counted.parameters == parameters
    assert not counted.uncounted
    assert sum(norm.num_features for norm in layers(model, nn.BatchNorm2d)) == channels
    said = " ".join(inspect.getdoc(getattr(zoo, name)).split())
    assert f"{parameters:,} parameters" in said
    if macs is not None:
        unit = 1e9 if macs.endswith("G") else 1e6
        assert f"{counted.macs / unit:.{len(macs.split('.')[1]) - 2}f} {macs[-1]}" == macs
        assert f"{parameters:,} parameters, {macs} MAC" in said


@pytest.mark.parametrize(
    ("name", "choices", "printed"),
    [("vgg_19", {}, 7.97e8), ("preresnet_164", {}, 4.99e8), ("densenet_40", {"start": 16}, 5.33e8)],
)
def test_flops_are_within_a_per_cent_of_those_slimming_prints(name, choices, printed):
    # Liu et al. 2017, Table 1; not exactly two per MAC, so that something smaller is counted as well
    counted = cost(on_meta(name, **choices), torch.empty(2, 3, 32, 32, device="meta"))
    assert counted.forward_flops == pytest.approx(printed, rel=0.01)


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("vgg")])
def test_the_number_in_a_name_is_that_of_its_layers_outside_shortcuts(name):
    named = on_meta(name).named_modules()
    deep = [at for at, layer in named if isinstance(layer, nn.Conv2d | nn.Linear) and "shortcut" not in at]
    assert len(deep) == int(name.rpartition("_")[2])


def test_vgg_19_has_the_weights_and_the_levels_of_the_lottery_paper():
    model = on_meta("vgg_19")
    assert sum(conv.weight.numel() for conv in layers(model, nn.Conv2d)) == 20_018_880
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.dim() > 1) == 20_024_000
    examples = torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)
    task = Task("paper", zoo.vgg_19, Data.from_tensors("zeros", examples, examples, examples))
    densities = IMP(rounds=19, scope="global", keep=("output",)).densities(task)
    # Frankle & Carbin 2019, sec. 4: 6.9, 3.5 and 1.5 per cent
    assert [f"{100 * densities[level]:.2f}" for level in (12, 15, 19)] == ["6.90", "3.54", "1.47"]


@pytest.mark.parametrize("name", [*ALL, "norm", "hidden"])
def test_logits_are_finite_and_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    variants = {"norm": ("imagenet_vgg_16", {"norm": True}), "hidden": ("vgg_16", {"head": "hidden"})}
    name, choices = variants.get(name, (name, {}))
    model = narrow(name, **choices)
    size = 64 if "imagenet" in name else 32
    logits = model(torch.randn(4, 3, size, size))
    assert logits.shape == (4, 10)
    assert logits.isfinite().all()
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.any() for p in model.parameters() if p.ndim > 1)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(ALL), st.integers(1, 12), st.floats(1e-6, 2))
def test_every_network_takes_any_width_number_of_classes_and_size_of_image(data, name, classes, width):
    size = data.draw(st.integers(smallest(name), 70))
    model = on_meta(name, classes=classes, width=width).eval()
    assert model(torch.empty(2, 3, size, size, device="meta")).shape == (2, classes)
    assert sum(p.numel() for p in model.parameters()) > 0


@pytest.mark.parametrize("name", sorted(ONE_PER_FAMILY))
def test_half_the_width_is_half_the_units_of_every_layer_but_the_last(name):
    whole, half = (
        [
            layer.weight.shape[0]
            for layer in layers(on_meta(name, width=width, **ONE_PER_FAMILY[name]), nn.Conv2d | nn.Linear)
        ]
        for width in (1.0, 0.5)
    )
    assert [2 * units for units in half[:-1]] == whole[:-1]
    assert half[-1] == whole[-1]


@pytest.mark.parametrize("name", sorted(ONE_PER_FAMILY))
def test_the_narrowest_network_still_computes_something(name):
    torch.manual_seed(0)
    model = made(name, width=1e-9, classes=3, **ONE_PER_FAMILY[name]).eval()
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.booleans())
def test_a_densenet_grows_by_growth_in_every_layer(growth, start, bottleneck):
    name = "densenet_bc_100" if bottleneck else "densenet_40"
    model = on_meta(name, growth=growth, start=start)
    layers_per_stage = 16 if bottleneck else 12
    channels = start
    for stage in (1, 2, 3):
        channels += layers_per_stage * growth
        norm = getattr(model, f"transition{stage}").bn if stage < 3 else model.bn
        assert norm.num_features == channels
        channels = channels // 2 if bottleneck else channels


@torch.no_grad()
def test_blocks_hand_on_their_input_as_the_papers_say():
    x = torch.randn(2, 24, 8, 8)
    for name in ("densenet_40", "densenet_bc_100"):
        out = made(name).eval().stage1[0](x)
        assert out.shape == (2, 36, 8, 8)
        assert torch.equal(out[:, :24], x)
    model = zoo.preresnet_101().eval()
    first, second = model.stage1[:2]
    x = torch.randn(2, 16, 8, 8)
    wide = first.shortcut(x)
    for block in (first, second):
        nn.init.zeros_(block.conv3.weight)
    assert torch.equal(first(x), wide)  # the block's own input, before its normalisation
    assert torch.equal(second(wide), wide)  # and nothing after the sum
    block = Bottleneck(8, 2).eval()
    nn.init.zeros_(block.bn3.weight)
    x = torch.randn(2, 8, 8, 8)
    assert torch.equal(block(x), x.relu())


@pytest.mark.parametrize("name", sorted(ONE_PER_FAMILY))
def test_every_activation_is_a_module_of_its_own_and_every_weight_belongs_to_a_known_layer(name):
    model = narrow(name, **ONE_PER_FAMILY[name])
    example = torch.randn(2, 3, 64, 64)
    called = []
    for at, relu in model.named_modules(remove_duplicate=False):
        if isinstance(relu, nn.ReLU):
            assert not relu.inplace
            relu.register_forward_hook(lambda *_, at=at: called.append(at))
    model(example)
    assert called
    assert len(called) == len(set(called)) == len(layers(model, nn.ReLU))
    kinds = [weight.kind for weight in list_weights(model, example)]
    assert set(kinds) <= {"conv", "linear", "output"}
    assert kinds.count("output") == 1
    assert model.output.weight.shape[0] == 10


@pytest.mark.parametrize("name", sorted(ONE_PER_FAMILY))
def test_torch_export_traces_a_network_that_computes_the_same(name):
    model = narrow(name, **ONE_PER_FAMILY[name]).eval()
    x = torch.randn(2, 3, 32, 32)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))


@pytest.mark.parametrize(
    ("names", "init"),
    [
        (["resnet_20", "vgg_19"], "glorot"),
        (["resnet_32", "densenet_bc_100", "imagenet_resnet_50", "imagenet_vgg_11"], "fan_out"),
        (["vgg_11", "vgg_16", "preresnet_101", "densenet_40"], "slimming"),
    ],
)
def test_the_initialisation_is_that_of_the_paper_unless_another_is_asked_for(names, init):
    def drawn(name, **choices):
        torch.manual_seed(0)
        return state_digest(read_state(narrow(name, **choices)))

    for name in names:
        by_init = {other: drawn(name, init=other) for other in ("glorot", "kaiming", "fan_out", "slimming")}
        assert drawn(name) == by_init[init]
        assert len(set(by_init.values())) == (3 if name == "imagenet_vgg_11" else 4)  # no scales without norm


@pytest.mark.parametrize("initialise", [fan_out_normal_, slimming_])
def test_initialising_by_outputs_has_the_stated_variances_and_scales(initialise):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(40, 90, 3), nn.BatchNorm2d(90), nn.Linear(90, 200), nn.LayerNorm(200))
    conv, norm, linear, other = model
    assert initialise(model) is model
    for layer, sigma in ((conv, math.sqrt(2 / (90 * 9))), (linear, 0.01)):
        z = layer.weight.detach().flatten() / sigma
        assert abs(z.mean()) < 5 / math.sqrt(z.numel())
        assert abs(z.square().mean() - 1) < 5 * math.sqrt(2 / z.numel())
        assert not layer.bias.any()
    assert (norm.weight == (0.5 if initialise is slimming_ else 1)).all()
    assert (other.weight == 1).all()


@pytest.mark.parametrize("width", [0, -1.0, math.nan, math.inf])
def test_a_width_that_is_not_a_positive_number_is_refused(width):
    for name in ONE_PER_FAMILY:
        with pytest.raises(ValueError, match=f"width={width} is a factor .* must be a positive number"):
            made(name, width=width)


def test_names_that_are_not_known_and_images_too_small_are_refused():
    with pytest.raises(ValueError, match="unknown head 'hiden'; did you mean 'hidden'"):
        zoo.vgg_19(head="hiden")
    with pytest.raises(ValueError, match="did you mean 'slimming'"):
        zoo.preresnet_164(init="sliming")
    with pytest.raises(ValueError, match="did you mean 'pad'"):
        zoo.resnet_56(shortcut="padd")
    with pytest.raises(ValueError, match="at least one channel, got 0"):
        zoo.densenet_40(growth=0)
    with pytest.raises(RuntimeError, match="Output size is too small"):
        on_meta("vgg_16", width=0.1).eval()(torch.empty(1, 3, 15, 15, device="meta"))
