"""DenseNets for CIFAR: every layer sees the channels of all layers before it in its stage."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from scratchcard.networks.fan_out import initialised_as
from scratchcard.networks.zoo.width import scaled


def densenet_40(
    classes: int = 10, growth: int = 12, start: int = 24, width: float = 1.0, init: str = "slimming"
) -> nn.Module:
    """DenseNet-40, twelve layers per stage, no bottlenecks: 1,059,298 parameters, 282.9 M MAC for CIFAR-10.

    These are of the network that slimming's and Rethinking's code prunes; for CIFAR-100 it has 1,100,428 parameters,
    and 9,360 BN channels either way. With start=16, as in the papers' tables, 1,019,722 parameters, 264.8 M MAC; the
    5.33e8 FLOPs of slimming's table are 0.6 % more than two per MAC. Images have 4 pixels or more.

    Args:
        classes: outputs.
        growth: channels that each layer adds.
        start: channels of the first convolution.
        width: factor on growth and start.
        init: "slimming" (Liu et al. 2017's: scales of batch normalisation start at 0.5), "fan_out" (Huang et
            al.'s), "glorot" or "kaiming".

    Source: Huang et al. 2017, sec. 3-4; Liu et al. 2017 (network slimming), sec. 4.
    """
    return _densenet(12, False, 1.0, classes, growth, start, width, init)


def densenet_bc_100(
    classes: int = 10, growth: int = 12, start: int = 24, width: float = 1.0, init: str = "fan_out"
) -> nn.Module:
    """DenseNet-BC-100, sixteen bottlenecks per stage: 769,162 parameters, 287.9 M MAC for CIFAR-10.

    A bottleneck is a 1x1 convolution to four times the growth; between stages half of the channels are kept (0.5
    compression). For CIFAR-100 800,032 parameters. Arguments as for `densenet_40`.
    Source: Huang et al. 2017, sec. 3-4: 0.8M; pruned in Liu et al. 2019 (Rethinking), sec. 4.3.
    """
    return _densenet(16, True, 0.5, classes, growth, start, width, init)


def _densenet(
    depth: int, bottleneck: bool, kept: float, classes: int, growth: int, start: int, width: float, init: str
) -> nn.Module:
    """Three stages of `depth` layers; a transition hands on the fraction `kept` of the channels."""
    layer, grown = Bottleneck if bottleneck else Layer, scaled(growth, width)
    channels = scaled(start, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=nn.Conv2d(3, channels, 3, padding=1, bias=False))
    for stage in (1, 2, 3):
        layers[f"stage{stage}"] = nn.Sequential(*(layer(channels + n * grown, grown) for n in range(depth)))
        channels += depth * grown
        if stage < 3:
            out = int(kept * channels)
            layers[f"transition{stage}"] = _transition(channels, out)
            channels = out
    layers["bn"] = nn.BatchNorm2d(channels)
    layers["relu"] = nn.ReLU()
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels, classes)
    return initialised_as(nn.Sequential(layers), init)


class Layer(nn.Module):
    """Normalise, activate, convolve 3x3; what comes out is appended to what came in (Huang et al. 2017, eq. 2)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, channels, H, W] to [B, channels + growth, H, W]."""
        return torch.cat([x, self.conv1(self.relu1(self.bn1(x)))], 1)


class Bottleneck(nn.Module):
    """As `Layer`, with a 1x1 convolution to four times the growth before the 3x3 one (Huang et al. 2017, sec. 3)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, channels, H, W] to [B, channels + growth, H, W]."""
        inside = self.conv1(self.relu1(self.bn1(x)))
        return torch.cat([x, self.conv2(self.relu2(self.bn2(inside)))], 1)


def _transition(channels: int, out: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            bn=nn.BatchNorm2d(channels),
            relu=nn.ReLU(),
            conv=nn.Conv2d(channels, out, 1, bias=False),
            pool=nn.AvgPool2d(2),
        )
    )
