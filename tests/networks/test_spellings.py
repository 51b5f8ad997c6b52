"""The same network in another spelling is as cuttable: many small ones in one, each spelled its own way."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.operators import rule_of
from scratchcard.networks.pointwise import is_pointwise
from scratchcard.networks.sites import read_sites
from scratchcard.networks.spellings import OTHER_NAMES, core_name, spelled

WIDTH = 8
HALF = torch.tensor([True, False, True, True, False, False, True, False])


class Many(nn.Module):
    """For each form: out(form(a(x))), with one parameter of the width of `a` at hand."""

    def __init__(self, forms, make_a, make_out):
        super().__init__()
        self.forms = forms
        self.a = nn.ModuleDict({name: make_a() for name in forms})
        self.out = nn.ModuleDict({name: make_out() for name in forms})
        self.p = nn.ParameterDict({name: torch.rand(WIDTH) + 1 for name in forms})

        self.alive = {}

    def forward(self, x):
        given = {name: (a(x).transpose(1, -1) * self.p[name]).transpose(1, -1) for name, a in self.a.items()}
        given |= {name: given[name] * alive for name, alive in self.alive.items()}
        return {name: self.out[name](form(given[name], self.p[name])) for name, form in self.forms.items()}


def proved(forms, make_a, make_out, x, units=WIDTH):
    """Every form's `a` loses half of its units; what is left is what the network with zeros in the readers gives.

    Where units are summed up on the way too, they are made 0 before that.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = Many(forms, make_a, make_out).double().eval(), x.double()
        sites = read_sites(model, x)
        whole = {name: sites.kept[f"a.{name}"] for name in forms if f"a.{name}" not in sites.sites}
        assert not whole, f"kept: {whole}"
        assert {name: len(sites[f"a.{name}"]) for name in forms} == dict.fromkeys(forms, units)
        mask = {f"a.{name}": HALF[:units] for name in forms}
        small = compact(model, mask, x, sites, proof="weights").module
        large = copy.deepcopy(model)
        shape = (1, -1, 1, 1)[: x.dim()]
        large.alive = {name: HALF.double().view(shape) for name in forms if "summed" in name}
        with torch.no_grad():
            for name in forms:
                weight = large.out[name].weight
                gone = (~HALF[:units]).repeat(WIDTH // units) if units < WIDTH else ~HALF
                weight[:, gone.repeat_interleave(weight.shape[1] // WIDTH)] = 0
            wanted, found = large(x), small(x)
    for name in forms:
        assert small.out[name].weight.shape[1] < large.out[name].weight.shape[1]
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-10, atol=1e-12, msg=name)


VECTORS = {
    "atan": lambda y, p: torch.atan(y),
    "arctan": lambda y, p: torch.arctan(y),
    "cos, not 0 at 0": lambda y, p: torch.cos(y),
    "sign": lambda y, p: torch.sign(y),
    "clamp_": lambda y, p: (y * 1).clamp_(0, 1),
    "clip": lambda y, p: y.clip(0, 1),
    "tanh_": lambda y, p: (y * 1).tanh_(),
    "absolute": lambda y, p: y.absolute(),
    "multiply": lambda y, p: torch.multiply(y, p),
    "true_divide": lambda y, p: torch.true_divide(y, p),
    "subtract": lambda y, p: torch.subtract(y, p),
    "add_": lambda y, p: (y * 1).add_(p),
    "power by a parameter": lambda y, p: y.abs().pow(p),
    "power of a number": lambda y, p: 2.0**y,
    "clamped by a parameter": lambda y, p: torch.clamp(y, max=p),
    "clamped from below": lambda y, p: torch.clamp(y, -p),
    "masked by comparing": lambda y, p: y.masked_fill(y > p, 0.0),
    "where": lambda y, p: torch.where(y > p, y, 0.1 * y),
    "times a mask": lambda y, p: y * (y > 0),
    "max of two": lambda y, p: torch.max(y, p * 0),
    "addcdiv": lambda y, p: torch.addcdiv(y, y, p),
    "logaddexp": lambda y, p: torch.logaddexp(y, -y),
    "lerp": lambda y, p: torch.lerp(y, y.tanh(), p),
    "hypot": lambda y, p: torch.hypot(y, p),
    "ones_like": lambda y, p: y * torch.ones_like(y),
    "inf and nan": lambda y, p: torch.nan_to_num(y),
    "as double": lambda y, p: y.double(),
    "as the type of another": lambda y, p: y.type_as(p),
    "concat": lambda y, p: torch.concat([y], -1),
    "hstack": lambda y, p: torch.hstack([y]),
    "swapaxes": lambda y, p: y.swapaxes(0, 1).swapdims(0, 1),
    "t": lambda y, p: y.t().T,
    "mT": lambda y, p: y.mT.mT,
    "movedim": lambda y, p: y.movedim(0, 1).moveaxis(1, 0),
    "view_as": lambda y, p: y.view_as(y * 2),
    "reshape_as": lambda y, p: y[:, None].reshape_as(y),
    "unsqueezed and back": lambda y, p: y[:, None, :, None].squeeze((1, 3)),
    "broadcast_to": lambda y, p: y + p.broadcast_to(y.shape),
    "expand_as": lambda y, p: y * p.expand_as(y),
    "summed up in a norm": lambda y, p: F.normalize(y, dim=1),
    "summed up and added": lambda y, p: y + y.abs().sum(1, keepdim=True),
    "sorted elsewhere": lambda y, p: y[:, None].sort(1)[0][:, 0],
    "largest elsewhere": lambda y, p: torch.stack([y, -y], 1).max(1)[0],
    "cumsum elsewhere": lambda y, p: torch.stack([y, -y], 1).cumsum(1)[:, 1],
    "norm elsewhere": lambda y, p: torch.stack([y, 2 * y], 1).norm(dim=1),
    "topk elsewhere": lambda y, p: torch.stack([y, 2 * y], 1).topk(1, 1)[0][:, 0],
    "standardised over the batch": lambda y, p: (y - y.mean(0)) / y.std(0),
    "gathered from the batch": lambda y, p: y[torch.tensor([0, 1, 2, 2])],
    "written into": lambda y, p: torch.zeros_like(y).index_add(0, torch.tensor([0, 1, 2, 0]), y),
    "a slice of all": lambda y, p: y[:, : y.shape[1]],
}


def test_vectors_in_any_spelling_lose_the_same_units():
    proved(VECTORS, lambda: nn.Linear(5, WIDTH), lambda: nn.Linear(WIDTH, 3), torch.randn(4, 5))


HALVES = {
    "chunk": lambda y, p: torch.cat([-part for part in y.chunk(2, 1)], 1),
    "unsafe_chunk": lambda y, p: torch.cat([-part for part in torch.unsafe_chunk(y, 2, 1)], 1),
    "tensor_split": lambda y, p: torch.cat([-part for part in torch.tensor_split(y, 2, 1)], 1),
    "hsplit": lambda y, p: torch.hstack([-part for part in torch.hsplit(y, 2)]),
    "split": lambda y, p: torch.cat([-part for part in y.split(y.shape[1] // 2, 1)], 1),
    "unsafe_split": lambda y, p: torch.cat([-part for part in torch.unsafe_split(y, y.shape[1] // 2, 1)], 1),
    "slices": lambda y, p: torch.cat([-y[:, : y.shape[1] // 2], y[:, y.shape[1] // 2 :].tanh()], 1),
}


def test_equal_parts_by_any_name_lose_the_same_units():
    proved(HALVES, lambda: nn.Linear(5, WIDTH), lambda: nn.Linear(WIDTH, 3), torch.randn(4, 5), units=4)


MAPS = {
    "channels last": lambda y, p: y.movedim(1, -1).relu().movedim(-1, 1),
    "normalised without parameters": lambda y, p: F.instance_norm(y),
    "statistics of the batch": lambda y, p: F.batch_norm(y, None, None, training=True),
    "repeated": lambda y, p: y.repeat(1, 1, 2, 1)[:, :, :3],
    "interpolated": lambda y, p: F.interpolate(y, scale_factor=2)[:, :, :3, :3],
    "pooled with places": lambda y, p: F.max_pool2d(y, 2, 1, return_indices=True)[0].repeat(1, 1, 2, 2)[:, :, :3, :3],
    "summed up under a root": lambda y, p: y / (y.square().sum(1, keepdim=True) + 1).sqrt(),
    "pixels become channels and back": lambda y, p: F.pixel_shuffle(F.pixel_unshuffle(y[:, :, :2, :2], 2), 2).repeat(
        1, 1, 2, 2
    )[:, :, :3, :3],
    "windows and back": lambda y, p: F.fold(F.unfold(y, 2), (3, 3), 2),
}


def test_maps_in_any_spelling_lose_the_same_channels():
    proved(MAPS, lambda: nn.Conv2d(2, WIDTH, 2), lambda: nn.Conv2d(WIDTH, 3, 3), torch.randn(2, 2, 4, 4))


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_another_name_is_of_an_operator_that_takes_the_same(name):
    assert core_name(name) == core_name(OTHER_NAMES[name])
    one, other = (getattr(torch.ops.aten, known, None) for known in (name, OTHER_NAMES[name]))
    if one is None:
        pytest.skip("this torch does not have it")
    assert other is not None
    forms = [[a.name for a in getattr(other, o)._schema.arguments] for o in other.overloads()]
    for overload in one.overloads():
        own = [a.name for a in getattr(one, overload)._schema.arguments]
        if "out" not in own:
            assert any(own == form[: len(own)] or len(own) == len(form) for form in forms), (
                f"{name} takes {own}, {OTHER_NAMES[name]} {forms}"
            )


def test_what_torch_calls_pointwise_is_known():
    aten = torch.ops.aten
    for target in (aten.erfinv.default, aten.erfinv_.default, aten.special_i1.default, aten.atan2.default):
        assert is_pointwise(target)
        assert rule_of(target) is not None
    for target in (aten.cumsum.default, aten.svd.default, aten.sort.default, aten.linalg_inv.default):
        assert not is_pointwise(target)
    assert rule_of(aten.svd.default) is None
    assert spelled(aten.add_.Tensor) == "add_"
    assert core_name("index_copy_") == "index_copy"
