"""The methods that cut units work on networks they have never heard of, without a line about any of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.slimming import Slimming
from scratchcard.networks.compact import compact
from scratchcard.networks.latency import latency
from scratchcard.study.study import Study
from scratchcard.training.data import Data
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task

METHODS = (Slimming(), EarlyBird(every=2, patience=2, epsilon=0.4), FilterPruning("l1"))
RECIPE = Recipe(steps=12, lr=0.05, optimizer="sgd", momentum=0.9, batch_size=16, eval_every=12)


class Inverted(nn.Module):
    """MobileNetV2's block: widen, depthwise, narrow."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        inside = 3 * channels
        self.inside = nn.Sequential(
            nn.Conv2d(channels, inside, 1, bias=False),
            nn.BatchNorm2d(inside),
            nn.ReLU6(),
            nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False),
            nn.BatchNorm2d(inside),
            nn.ReLU6(),
            nn.Conv2d(inside, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.stays = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x) if self.stays else self.inside(x)


def mobile() -> nn.Module:
    stem = (nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
    blocks = (Inverted(8, 12, 2), Inverted(12, 12, 1))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3))


def mlp() -> nn.Module:
    """No normalisation anywhere: gates are its scaling factors."""
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 24), nn.ReLU(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 3))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.before(x)).unflatten(-1, (3, -1, self.size)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.between(x))))


class ViT(nn.Module):
    """A vision transformer of two blocks: heads and feed-forward neurons are its units."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.place = nn.Parameter(0.02 * torch.randn(1, 4, 16))
        self.blocks = nn.Sequential(Block(16, 4), Block(16, 4))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.patches(x).flatten(2).transpose(1, 2) + self.place).mean(1))


def pair(into: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


class UNet(nn.Module):
    """An image in, an image out."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle, self.bottom = pair(3, 8), pair(8, 12), pair(12, 12)
        self.up, self.last = nn.ConvTranspose2d(12, 8, 2, 2), nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        low = self.bottom(self.middle(F.max_pool2d(high, 2)))
        return self.last(torch.cat([high, F.relu(self.up(low))], 1))


def data(number: int, outputs: str) -> Data:
    chance = torch.Generator().manual_seed(0)

    def some(n: int) -> tuple[Tensor, Tensor]:
        images = torch.randn(n, 3, 8, 8, generator=chance)
        if outputs == "image":
            return images, images.mean(1, keepdim=True)
        return images, torch.randint(0, number, (n,), generator=chance)

    return Data.from_tensors("noise", some(64), some(32), some(32))


NETWORKS = {"MobileNetV2-like": mobile, "MLP": mlp, "ViT": ViT, "U-Net": UNet}


def task_of(name: str) -> Task:
    if name == "U-Net":
        return Task(name, NETWORKS[name], data(3, "image"), loss="mse", metric="mse")
    return Task(name, NETWORKS[name], data(3, "class"))


@pytest.mark.parametrize("name", NETWORKS)
def test_slimming_early_bird_and_filters_make_any_network_small_and_every_control_runs(name, tmp_path):
    task = task_of(name)
    study = Study(task, RECIPE, METHODS, ("scratch-e", "uniform-width"), seeds=1, primary=0.3, store=tmp_path)
    rows = study.run(workers=1, progress=False)
    dense = next(row for row in rows if row.arm == "dense")
    assert all(row.status == "done" for row in rows), [row.message for row in rows if row.status != "done"]
    for row in rows:
        if row.arm not in ("dense", "search"):
            kept, units = (sum(counts) for counts in zip(*row.widths.values(), strict=True))
            assert kept < units
            assert row.parameters < dense.parameters
            assert row.macs is not None
            assert dense.macs is not None
            assert row.macs < dense.macs
            assert row.nonzero == row.parameters, "what was cut is gone, not zero"
    tickets = [row for row in rows if row.arm == "ticket"]
    assert {row.method for row in tickets} == {method.label for method in METHODS}
    for row in tickets:
        if row.method != "l1-filters":  # a share of all units together
            kept, units = (sum(counts) for counts in zip(*row.widths.values(), strict=True))
            assert kept == units - units // 2


def test_heads_of_a_transformer_are_cut_where_it_runs_with_fewer(tmp_path):
    study = Study(task_of("ViT"), RECIPE, (Slimming(),), (), seeds=1, store=tmp_path)
    (ticket,) = [row for row in study.run(workers=1, progress=False) if row.arm == "ticket"]
    assert {"blocks.0.up", "blocks.1.up"} < set(ticket.widths), "neurons"
    assert any(units == 4 for _, units in ticket.widths.values()), "heads"


@pytest.mark.parametrize("name", NETWORKS)
def test_half_of_every_site_can_be_removed_and_what_is_left_runs(name):
    task = task_of(name)
    sites = task.sites
    mask = {site: torch.arange(len(sites[site])) < max(1, len(sites[site]) // 2) for site in sites.ordinary}
    small = compact(task.fresh(0), mask, task.example_inputs())
    assert small.error <= 1e-12
    assert latency(small.module, task.example_inputs(2), runs=2, warm_up=1).median > 0
