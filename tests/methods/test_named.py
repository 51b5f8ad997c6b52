"""`keep` and `only` take every name that `inspect` prints, the same way in every method, and refuse any other."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from problems import bottlenecks, digits
from scratchcard.methods.at_init import AtInit
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.imp import IMP
from scratchcard.methods.slimming import Slimming
from scratchcard.methods.soft_filters import SoftFilterPruning
from scratchcard.methods.units import cuttable_sites
from scratchcard.training.data import Data
from scratchcard.training.task import Task


class Attention(nn.Module):
    def __init__(self, fixed):
        super().__init__()
        self.fixed = fixed
        self.before, self.between = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x):
        heads = (2, 4) if self.fixed else (-1, 4)
        parts = self.qkv(self.before(x)).unflatten(-1, (3, *heads)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(parts[0], parts[1], parts[2]).transpose(1, 2)
        x = x + self.out(seen.reshape(*x.shape[:2], 8) if self.fixed else seen.flatten(2))
        return x + self.down(F.gelu(self.up(self.between(x))))


def reader(fixed=False):
    return nn.Sequential(nn.Linear(6, 8), Attention(fixed), nn.Flatten(), nn.Linear(24, 3))


def attentive(make=reader):
    examples = (torch.zeros(4, 3, 6), torch.arange(4) % 3)
    return Task("attentive", make, Data.from_tensors("few", examples, examples, examples))


@cache
def task(name):
    return {"digits": digits, "bottlenecks": bottlenecks, "attentive": attentive}[name]()


STREAM, FIRST, SECOND = "conv", ["blocks.0.conv1", "blocks.0.conv2"], ["blocks.1.conv1", "blocks.1.conv2"]
CUT = {  # (network, keep, only) -> the sites that a method of units cuts
    "a site": ("digits", ("0",), (), ["3"]),
    "a site alone": ("digits", (), ("0",), ["0"]),
    "a weight": ("digits", ("0.weight",), (), ["3"]),
    "a weight alone": ("digits", (), ("0.weight",), ["0"]),
    "a kind": ("digits", ("conv",), (), ["3"]),
    "a kind alone": ("digits", (), ("conv",), ["0"]),
    "a layer that is kept already": ("digits", ("5",), (), ["0", "3"]),
    "a kind that is kept already": ("digits", ("output",), (), ["0", "3"]),
    "a pattern": ("digits", ("0*",), (), ["3"]),
    "a pattern of weights": ("digits", ("3.w*",), (), ["0"]),
    "both": ("digits", ("3",), ("0", "3"), ["0"]),
    "a layer that is added to a site": ("bottlenecks", ("blocks.1.conv3",), (), [*FIRST, *SECOND]),
    "its weight": ("bottlenecks", ("blocks.1.conv3.weight",), (), [*FIRST, *SECOND]),
    "its weight alone": ("bottlenecks", (), ("blocks.1.conv3.weight",), [STREAM]),
    "all that has to do with a block": ("bottlenecks", ("blocks.0.*",), (), SECOND),
    "a block's own sites": ("bottlenecks", (), ("blocks.0.conv*",), FIRST),
    "a site that is called like a kind": ("bottlenecks", ("conv",), (), [*FIRST, *SECOND]),
    "a choice": ("bottlenecks", (), ("bn->output",), ["bn->output"]),
    "a branch": ("bottlenecks", (), ("blocks.1",), ["blocks.1"]),
    "a branch with a layer to be left alone": ("bottlenecks", ("blocks.1.conv2",), ("blocks.?",), ["blocks.0"]),
    "heads": ("attentive", ("1:heads",), (), ["1.up"]),
    "heads alone": ("attentive", (), ("1:heads",), ["1:heads"]),
    "all heads": ("attentive", (), ("*:heads",), ["1:heads"]),
    "a projection of heads": ("attentive", ("1.qkv.weight",), (), ["1.up"]),
    "a layer whose name a branch has too": ("attentive", ("1.qkv",), (), ["1.up"]),
    "a kind with heads": ("attentive", (), ("linear",), ["1:heads", "1.up"]),
}


@pytest.mark.parametrize("case", CUT)
def test_methods_of_units_take_every_name_that_there_is(case):
    name, keep, only, cut = CUT[case]
    assert list(cuttable_sites("a method", task(name), keep, only)) == cut


UNITS = {
    "filters": FilterPruning,
    "soft filters": SoftFilterPruning,
    "slimming": Slimming,
    "early bird": EarlyBird,
    "imp": lambda **names: IMP(units="channels", **names),
}


@pytest.mark.parametrize("method", UNITS)
@pytest.mark.parametrize(("names", "cut"), [({"keep": ("0.weight",)}, "3"), ({"only": ("conv",)}, "0")])
def test_every_method_of_units_takes_them_the_same_way_and_its_weights_say_so(method, names, cut):
    made = UNITS[method](**names)
    reasons = {weight.name: weight.reason for weight in made.weights(task("digits"))}
    other = "none of its units is to be cut"
    assert reasons["0.weight"] == ("goes with units of 0" if cut == "0" else other)
    assert reasons["3.weight"] == f"goes with units of {cut}"
    assert reasons["5.weight"] == ("goes with units of 3" if cut == "3" else other)
    weights = {"0": 4 * 9 + 64 * 16, "3": 64 * 16 + 16 * 10}
    if method != "imp":  # whose rate is another
        share = 0.25 if method == "soft filters" else 0.5
        wanted = 1 - share * weights[cut] / (4 * 9 + 64 * 16 + 16 * 10)
        assert made.densities(task("digits"))[1] == pytest.approx(wanted)


def test_rates_of_filters_go_by_the_same_names():
    method = FilterPruning(rate={"conv": 0.5, "3.weight": 0.25})
    assert method.widths(task("digits"), 1) == {"0": 2, "3": 12}


CUT_WEIGHTS = {  # (network, keep, only) -> the weights that a method of single weights cuts
    "a weight": ("digits", ("0.weight",), (), ["3", "5"]),
    "a layer": ("digits", ("0",), (), ["3", "5"]),
    "layers alone": ("digits", (), ("0", "3"), ["0", "3"]),
    "a kind": ("digits", ("output",), (), ["0", "3"]),
    "a pattern": ("digits", ("0*",), (), ["3", "5"]),
    "a layer that is called like a kind": ("bottlenecks", (), ("output",), ["output"]),
    "a kind that is called like a layer": ("bottlenecks", ("conv",), (), ["output"]),
    "a choice": ("bottlenecks", (), ("blocks.0.bn1->blocks.0.conv1",), ["blocks.0.conv1"]),
    "a branch": ("bottlenecks", (), ("blocks.1",), [f"blocks.1.conv{at}" for at in (1, 2, 3)]),
    "heads": ("attentive", ("1:heads",), (), ["0", "1.out", "1.up", "1.down", "3"]),
}


@pytest.mark.parametrize("method", [IMP, lambda **names: AtInit("magnitude", **names)])
@pytest.mark.parametrize("case", CUT_WEIGHTS)
def test_methods_of_single_weights_take_them_too(case, method):
    name, keep, only, cut = CUT_WEIGHTS[case]
    found = method(keep=keep, only=only).weights(task(name))
    assert [weight.name.removesuffix(".weight") for weight in found if weight.prunable] == cut


@pytest.mark.parametrize("field", ["keep", "only"])
@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("digits", ["0", "3.weight", "conv", "linear", "output"]),
        ("attentive", ["1:heads", "1.qkv.weight", "1.up", "linear"]),
    ],
)
@pytest.mark.parametrize("method", [*UNITS.values(), IMP, lambda **names: AtInit("snip", **names)])
def test_what_fits_nothing_is_refused_with_all_there_is(method, name, there, field):
    with pytest.raises(ValueError, match="unknown site, layer, weight or kind 'outptu'; did you mean 'output'") as told:
        method(**{field: ("outptu", "0", "fc?")}).weights(task(name))
    assert str(told.value).endswith("; neither is there 'fc?'")
    known = str(told.value).partition("known: ")[2].partition(";")[0].split(", ")
    assert set(there) <= set(known)
    assert known == sorted(set(known))


def test_heads_that_cannot_go_are_refused_where_they_are_named_and_left_where_a_kind_is():
    stuck = attentive(lambda: reader(fixed=True))
    assert "1:heads" in stuck.sites.kept
    assert cuttable_sites("a method", stuck, ("1:heads",), ()) == ("1.up",)
    assert 0 < stuck.sites.share < task("attentive").sites.share
    assert "1:heads" in str(stuck.sites)
    assert cuttable_sites("a method", stuck, (), ("linear",)) == ("1.up",)
    with pytest.raises(ValueError, match=r"only=\('\*:heads',\) leaves none of .*1:heads: cutting it was tried"):
        cuttable_sites("a method", stuck, (), ("*:heads",))


def test_a_network_whose_units_cannot_be_read_has_weights_all_the_same():
    class Undecided(nn.Linear):
        def forward(self, x):
            return super().forward(x if x.sum() > 0 else -x)

    examples = (torch.ones(4, 5), torch.arange(4) % 3)
    one = Task("undecided", lambda: Undecided(5, 3), Data.from_tensors("few", examples, examples, examples))
    assert [weight.prunable for weight in IMP(only=("weight",)).weights(one)] == [True]
    with pytest.raises(ValueError, match=r"unknown .* 'bias'; known: output, weight$"):
        IMP(keep=("bias",)).weights(one)
