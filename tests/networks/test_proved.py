import copy

import pytest
import torch
from torch import nn

from scratchcard.networks import proved
from scratchcard.networks.compact import compact
from scratchcard.networks.proved import find_sites
from scratchcard.networks.sites import read_sites


class Block(nn.Module):
    """A layer whose code may have its width written into it."""

    def __init__(self, width, literal):
        super().__init__()
        self.inner, self.back, self.literal = nn.Linear(6, width), nn.Linear(width, 6), literal

    def forward(self, x):
        hidden = torch.relu(self.inner(x))
        assert self.literal is None or hidden.shape[-1] == self.literal
        return self.back(hidden)


def blocks(*literals):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(*(Block(8, literal) for literal in literals), nn.Linear(6, 3))


X = torch.linspace(-1, 1, 18).reshape(3, 6)


class Kept(dict):
    """Proofs in memory."""

    def refused(self, digest):
        return self.get(digest)

    def keep(self, digest, refused):
        self[digest] = refused


@pytest.fixture
def tries(monkeypatch):
    """The sites of every cut that is tried."""
    made, real = [], proved.compacted
    monkeypatch.setattr(
        proved, "compacted", lambda model, mask, *rest: made.append([*mask]) or real(model, mask, *rest)
    )
    return made


@pytest.mark.parametrize(
    ("literals", "bad"),
    [
        ((None, None), []),
        ((8, None), ["0.inner"]),
        ((None, 8, None, None), ["1.inner"]),
        ((None, 8, 8, None, 8), ["1.inner", "2.inner", "4.inner"]),
        ((8, 8, 8, 8), ["0.inner", "1.inner", "2.inner", "3.inner"]),
    ],
)
def test_what_is_offered_can_be_cut_and_what_cannot_is_kept_with_the_reason(literals, bad):
    model = blocks(*literals)
    sites, read = find_sites(model, X), read_sites(model, X)
    assert list(sites.sites) == [name for name in read.sites if name not in bad]
    for name in bad:
        assert "cutting it was tried" in sites.kept[name]
        assert "cannot run" in sites.kept[name]
        with pytest.raises(ValueError, match=f"{name}.*kept whole.*cannot run"):
            compact(model, {name: torch.arange(8) < 4}, X, sites)
    mask = {name: torch.arange(len(site)) % 3 == 0 for name, site in sites.sites.items()}
    assert compact(model, mask, X, sites).error <= 1e-12


def test_one_cut_proves_a_network_and_sites_that_are_alike_are_not_all_tried(tries):
    find_sites(blocks(None, None, None, None), X)
    assert tries == [["0.inner", "0.back", "1.inner", "1.back", "2.inner", "2.back", "3.inner", "3.back"]]
    tries.clear()
    find_sites(blocks(*(8,) * 20), X)
    assert len(tries) <= 8, "twenty sites that are alike stand or fall together"


def test_sites_that_can_only_be_cut_alone_are_not_both_offered():
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other, self.out = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(16, 2)

        def forward(self, x):
            one, other = self.one(x).relu(), self.other(x).relu()
            assert one.shape[-1] + other.shape[-1] >= 12
            return self.out(torch.cat([one, other], -1))

    with torch.random.fork_rng(devices=[]):
        model = Either()
    assert list(read_sites(model, X).sites) == ["one", "other"]
    sites = find_sites(model, X)
    assert list(sites.sites) == ["one"]
    assert "cannot run" in sites.kept["other"]


def test_a_wrong_rule_is_found_out_before_any_mask_is_asked_for(monkeypatch):
    from scratchcard.networks.operators import RULES

    class Reversed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.c, self.out = nn.Linear(6, 8), nn.Linear(6, 5), nn.Linear(5, 2)
            self.b = nn.Linear(8, 6)

        def forward(self, x):
            return self.out(self.c(self.b(self.a(x).flip(-1)).relu()).relu())

    with torch.random.fork_rng(devices=[]):
        model = Reversed()
    monkeypatch.setitem(RULES, "flip", lambda walk, node, x, *_: x)
    assert set(read_sites(model, X).sites) == {"a", "b", "c"}
    sites = find_sites(model, X)
    assert set(sites.sites) == {"b", "c"}
    assert "computes something else" in sites.kept["a"]


def test_a_proof_that_is_kept_is_not_made_again(tries):
    model, proofs = blocks(8, None), Kept()
    first = find_sites(model, X, proofs)
    made = len(tries)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].inner.weight.add_(1)
    again = find_sites(other, torch.rand(3, 6), proofs)
    assert len(tries) == made > 1, "a proof is of the code, not of the weights"
    assert (list(again.sites), again.kept) == (list(first.sites), first.kept)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model[0], "told", 9),
        lambda model: setattr(model[0].inner, "told", "gelu"),
        lambda model: setattr(model[0], "back", nn.Linear(8, 6, bias=False)),
        lambda model: model.append(nn.ReLU()),
        lambda model: model.double(),
    ],
    ids=["an attribute", "a layer's attribute", "a parameter less", "another layer", "another type"],
)
def test_another_network_is_proved_anew(tries, change):
    model, proofs = blocks(None, None), Kept()
    find_sites(model, X, proofs)
    change(model)
    find_sites(model, X, proofs)
    assert len(tries) == len(proofs) == 2


def test_another_code_is_another_network(tries, tmp_path, monkeypatch):
    text = "from torch import nn\n\nclass Net(nn.Sequential):\n    pass\n"
    monkeypatch.syspath_prepend(str(tmp_path))
    proofs = Kept()
    for at, addition in enumerate(("", "\ndef helper(x):\n    return x\n")):
        (tmp_path / f"net_{at}.py").write_text(text + addition)
        net = __import__(f"net_{at}").Net(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
        find_sites(net, X, proofs)
    assert len(tries) == len(proofs) == 2
