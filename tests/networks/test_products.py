"""A product with a parameter is a layer, whatever it is written as: its outputs and inputs are units."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.einsum import einsum_letters
from scratchcard.networks.sites import read_sites

IN, HIDDEN, OUT = 5, 6, 3
KEPT = torch.tensor([True, False, True, True, False, True])


class Products(nn.Module):
    """For each form two weights: into the hidden units, and out of them."""

    def __init__(self, forms):
        super().__init__()
        self.forms = forms
        self.into = nn.ParameterDict({name: torch.randn(shape) for name, (_, shape, _, _) in forms.items()})
        self.out = nn.ParameterDict({name: torch.randn(shape) for name, (_, _, shape, _) in forms.items()})

    def forward(self, x):
        return {name: form(x, self.into[name], self.out[name]) for name, (form, *_) in self.forms.items()}


# how it is written, shape of the weight into the hidden units, of that out of them, and which dimensions those are
FORMS = {
    "@": (lambda x, v, w: (x @ v).tanh() @ w, (IN, HIDDEN), (HIDDEN, OUT), (1, 0)),
    "mm": (lambda x, v, w: x[0].mm(v).tanh().mm(w), (IN, HIDDEN), (HIDDEN, OUT), (1, 0)),
    "from the left": (lambda x, v, w: w @ (v @ x.mT).cos(), (HIDDEN, IN), (OUT, HIDDEN), (0, 1)),
    "linear, turned": (lambda x, v, w: F.linear(F.linear(x, v.t()).cos(), w.T), (IN, HIDDEN), (HIDDEN, OUT), (1, 0)),
    "scaled first": (
        lambda x, v, w: F.linear(F.linear(x, v * 0.5).cos(), w.tanh()),
        (HIDDEN, IN),
        (OUT, HIDDEN),
        (0, 1),
    ),
    "addmm": (lambda x, v, w: torch.addmm(x[0, 0, 0], x[0].mm(v).cos(), w), (IN, HIDDEN), (HIDDEN, OUT), (1, 0)),
    "einsum": (
        lambda x, v, w: torch.einsum("bth,oh->bto", torch.einsum("bti,ih->bth", x, v).cos(), w),
        (IN, HIDDEN),
        (OUT, HIDDEN),
        (1, 1),
    ),
    "einsum, dots": (
        lambda x, v, w: torch.einsum("...h,ho", torch.einsum("...i,ih->...h", x, v).cos(), w),
        (IN, HIDDEN),
        (HIDDEN, OUT),
        (1, 0),
    ),
    "tensordot": (
        lambda x, v, w: torch.tensordot(torch.tensordot(x, v, ([2], [1])).cos(), w, 1),
        (HIDDEN, IN),
        (HIDDEN, OUT),
        (0, 0),
    ),
    "inner": (lambda x, v, w: torch.inner(torch.inner(x, v).cos(), w), (HIDDEN, IN), (OUT, HIDDEN), (0, 1)),
    "a matrix for each example": (
        lambda x, v, w: torch.bmm(torch.bmm(x, v).cos(), w),
        (2, IN, HIDDEN),
        (2, HIDDEN, OUT),
        (2, 1),
    ),
    "experts": (
        lambda x, v, w: torch.einsum("beth,eho->bto", torch.einsum("bti,eih->beth", x, v).cos(), w),
        (3, IN, HIDDEN),
        (3, HIDDEN, OUT),
        (2, 1),
    ),
    "products summed up": (lambda x, v, w: ((x @ v).cos()[..., None] * w).sum(-2), (IN, HIDDEN), (HIDDEN, OUT), (1, 0)),
    "of low rank": (lambda x, v, w: x @ (v @ w), (IN, HIDDEN), (HIDDEN, OUT), (1, 0)),
}


@pytest.fixture(scope="module")
def found():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = Products(FORMS).double(), torch.randn(2, 4, IN).double()
        return model, x, read_sites(model, x)


def test_hidden_units_of_every_form_are_a_site_of_the_weight_that_makes_them(found):
    _, _, sites = found
    owners = {name: [site for site in sites.ordinary if site.endswith(f".{name}")] for name in FORMS}
    low = owners.pop("of low rank")
    assert owners == {name: [f"into.{name}"] for name in FORMS if name != "of low rank"}
    assert low in (["into.of low rank"], ["out.of low rank"])
    for name, (_, _, _, (made, read)) in FORMS.items():
        unit = next(sites[site] for site in sites.ordinary if site.endswith(f".{name}")).units[1]
        assert unit == {f"into.{name}": {made: [1]}, f"out.{name}": {read: [1]}}
        if name != "of low rank":
            assert sites.outputs[f"into.{name}"] == made


def test_without_them_the_network_is_the_one_with_zeros_in_their_readers(found):
    model, x, sites = found
    mask = {site: KEPT for site in sites.ordinary}
    small, large = compact(model, mask, x, sites).module, copy.deepcopy(model)
    with torch.no_grad():
        for name, (*_, (_, read)) in FORMS.items():
            large.out[name].index_fill_(read, (~KEPT).nonzero().flatten(), 0.0)
    wanted, given = large(x), small(x)
    for name, (_, into, _, (made, _)) in FORMS.items():
        assert small.into[name].shape[made] == into[made] - 2
        torch.testing.assert_close(given[name], wanted[name], rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (lambda x, v, w: (x @ v) @ (x @ v).mT @ x @ w, "two activations"),
        (lambda x, v, w: torch.einsum("bth,bsh->bts", x @ v, x @ v) @ x @ w, "two activations"),
        (lambda x, v, w: x @ v @ (w / w.norm(dim=0)), "weights"),
        (lambda x, v, w: (x @ v).mean(-1, keepdim=True) * x @ w, "neighbours"),
        (lambda x, v, w: (x @ v).argmax(-1, keepdim=True) * x @ w, "neighbours"),
        (lambda x, v, w: (x @ v).cumsum(-1)[..., :IN] @ w, "before"),
    ],
)
def test_what_is_compared_or_counted_keeps_its_units(form, reason):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rows = HIDDEN if "norm" in str(form.__code__.co_names) else IN
        model = Products({"x": (form, (IN, HIDDEN), (rows, OUT), ())}).double()
        sites = read_sites(model, torch.randn(2, 4, IN).double())
    assert "into.x" not in sites.ordinary
    assert reason in sites.kept["into.x"]


@pytest.mark.parametrize(
    ("equation", "ranks", "letters"),
    [
        ("ij,jk->ik", [2, 2], [[105, 106], [106, 107], [105, 107]]),
        ("ij,jk", [2, 2], [[105, 106], [106, 107], [105, 107]]),
        ("b...i, io -> b...o", [4, 2], [[98, -2, -1, 105], [105, 111], [98, -2, -1, 111]]),
        ("...i,...i->...", [3, 2], [[-2, -1, 105], [-1, 105], [-2, -1]]),
        ("ba", [2], [[98, 97], [97, 98]]),
    ],
)
def test_letters_of_einsum_are_read_as_torch_reads_them(equation, ranks, letters):
    assert einsum_letters(equation, ranks) == letters


def test_a_factor_with_other_dimensions_than_letters_is_refused():
    with pytest.raises(ValueError, match="2 letters for 3 dimensions"):
        einsum_letters("ij,jk->ik", [3, 2])
