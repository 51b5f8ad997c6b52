"""A network's sites are told in about ten lines, the share of its parameters in units is exact, and it says all."""

import fnmatch

import pytest
import torch
from shrinkable import Net, made
from torch import nn

from scratchcard.networks.site_table import percent, share_inside, short, site_table
from scratchcard.networks.sites import read_sites


def sites_of(model, *shape):
    with torch.random.fork_rng(devices=[]):
        return read_sites(model.eval(), torch.randn(*shape))


def by_cutting(sites, model, names):
    """The share counted another way: entries that are marked one by one, of each parameter once."""
    inside = total = 0
    for name, parameter in model.named_parameters():
        marked = torch.zeros(parameter.shape, dtype=torch.bool)
        for site in names:
            for unit in sites[site].units:
                for dim, indices in unit.get(name, {}).items():
                    marked.index_fill_(dim, torch.tensor(indices), True)
        inside, total = inside + int(marked.sum()), total + marked.numel()
    return inside / total


@pytest.mark.parametrize("name", ["ResNet-20", "tied weights", "U-Net", "attention", "called three times"])
def test_the_share_counts_every_parameter_once_whatever_its_names_and_sites(name):
    model, inputs = made(name)
    sites = read_sites(model, inputs)
    assert sites.share == by_cutting(sites, model, [*sites.ordinary, *sites.heads])
    assert 0 < sites.share < 1


def test_choices_and_branches_are_not_in_the_share_and_neither_is_what_is_kept():
    with torch.random.fork_rng(devices=[]):
        model = Net(
            lambda m, x: m.out((h := m.into(x)) + m.back(m.a(h).relu()).sort(1)[0]),
            into=nn.Linear(3, 4),
            a=nn.Linear(4, 5),
            back=nn.Linear(5, 4),
            out=nn.Linear(4, 2),
        )
    sites = sites_of(model, 2, 3)
    assert list(sites.ordinary) == ["a"]
    assert sites.share == (4 * 5 + 5 + 5 * 4) / sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["ResNet-20", "PreResNet", "DenseNet-BC", "MobileNetV2"])
def test_it_is_about_ten_lines_with_the_counts_of_all_sites_and_patterns_that_fit_these_alone(name):
    model, inputs = made(name)
    sites = read_sites(model, inputs)
    first, heading, *rest = str(sites).splitlines()
    plain = {*sites.ordinary, *sites.heads}
    rows = [line for line in rest if not line.startswith(("where named", "kept: "))]
    assert len(rest) <= 12
    assert first.startswith(f"{sum(len(sites[one]) for one in plain):,} units at {len(plain)} sites: ")
    assert f"{percent(sites.share)} of {sum(p.numel() for p in model.parameters()):,} parameters" in first
    assert heading.split()[:2] == ["site", "sites"]
    told = set()
    for row in rows:
        names, cells = row[: heading.index("sites", 5)].rsplit(None, 1)[0], row.split("  ")
        if not names.startswith("and "):
            fits = {one for one in plain for part in names.split(", ") if fnmatch.fnmatchcase(one, part)}
            assert len(fits) == int([cell for cell in cells if cell.strip()][1])
            assert not fits & told
            told |= fits
    assert all(f"({reason})" in str(sites) for reason in sites.kept.values())
    for what, of in (("choices", sites.choices), ("branches", sites.branches)):
        assert (f"where named, also {len(of)} " in str(sites) and what in str(sites)) == bool(of)


def test_many_kinds_of_sites_and_reasons_are_told_in_a_line_for_the_rest():
    letters = "abcdefghijkl"
    units = {f"{letter}.up": tuple({f"{letter}.up.weight": {0: [at]}} for at in range(3)) for letter in letters}
    shapes = {f"{letter}.up.weight": (3, at + 1) for at, letter in enumerate(letters)} | {"x": (22,)}
    lines = site_table(units, {}, {f"k{at}": f"reason {at}" for at in range(5)}, shapes).splitlines()
    assert lines[0].startswith("36 units at 12 sites: 91.4 % of 256 parameters")
    assert [line.split()[0] for line in lines[2:9]] == [f"{letter}.up" for letter in "fghijkl"]
    assert lines[9].split() == ["and", "5", "smaller", "ones", "5", "3", "17.5", "%"]
    assert lines[10:13] == [f"kept: k{at} (reason {at})" for at in range(3)]
    assert lines[13:] == ["kept: 2 other layers, for 2 other reasons"]


@pytest.mark.parametrize(
    ("names", "among", "said"),
    [
        (["0", "3"], [], "0, 3"),
        ([str(at) for at in range(0, 40, 3)], [], "0, 3 ... 39"),
        ([f"layer1.{at}.conv1" for at in range(9)], ["layer1.0.conv2"], "layer1.*.conv1"),
        ([f"layer{a}.{b}.conv1" for a in range(5) for b in range(3)], ["layer0.0.conv2"], "layer*.*.conv1"),
        ([f"layer1.{at}.up" for at in range(9)], ["layer1.9.up"], "layer1.0.up, layer1.1.up ... layer1.8.up"),
        ([f"block.{at}.attention:heads" for at in range(9)], [], "block.*.attention:heads"),
    ],
)  # fmt: skip
def test_a_pattern_is_told_only_where_it_fits_no_others(names, among, said):
    assert short(names, among) == said


@pytest.mark.parametrize(("share", "said"), [(1.0, "100.0 %"), (0.99999, "99.9 %"), (0.5, "50.0 %"), (0.0, "0.0 %")])
def test_what_is_not_all_is_not_called_all(share, said):
    assert percent(share) == said


def test_a_place_in_two_units_counts_once():
    units = [{"w": {0: [0], 1: [0]}}, {"w": {0: [1]}}, {"other": {0: [0]}}]
    assert share_inside(units, {"w": (3, 4), "b": (3,)}) == (12 - 3) / 15


def test_the_short_form_costs_nothing_and_says_how_much_there_is():
    model, inputs = made("U-Net")
    sites = read_sites(model, inputs)
    assert repr(sites) == f"Sites({len(sites.sites)} sites, {sum(map(len, sites.sites.values()))} units, 1 kept)"
