"""PreResNets for CIFAR, of 9n + 2 layers: bottlenecks that normalise before they convolve, as slimming prunes them."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from scratchcard.networks.fan_out import initialised_as
from scratchcard.networks.zoo.width import scaled


def preresnet_101(classes: int = 10, width: float = 1.0, init: str = "slimming") -> nn.Module:
    """PreResNet-101, eleven bottlenecks per stage: 1,054,106 parameters, 154.1 M MAC for CIFAR-10.

    For CIFAR-100 1,077,236 parameters; 7,408 BN channels. Arguments as for `preresnet_164`.
    Source: You et al. 2020 (early-bird tickets), sec. 3.
    """
    return _preresnet(11, classes, width, init)


def preresnet_164(classes: int = 10, width: float = 1.0, init: str = "slimming") -> nn.Module:
    """PreResNet-164, eighteen bottlenecks per stage: 1,703,258 parameters, 247.6 M MAC for CIFAR-10.

    For CIFAR-100 1,726,388 parameters; 12,112 BN channels. Inside a bottleneck the three stages have 16, 32 and 64
    channels, outside four times as many.

    Args:
        classes: outputs.
        width: factor on the channels.
        init: "slimming" (Liu et al.'s: scales of batch normalisation start at 0.5), "fan_out" (He et al.'s),
            "glorot" or "kaiming".

    Source: He et al. 2016 (identity mappings), sec. 3.2; Liu et al. 2017 (network slimming), sec. 4: 1.70M.
    """
    return _preresnet(18, classes, width, init)


def _preresnet(bottlenecks: int, classes: int, width: float, init: str) -> nn.Module:
    stem, *stages = (scaled(n, width) for n in (16, 16, 32, 64))
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=nn.Conv2d(3, stem, 3, padding=1, bias=False))
    channels = stem
    for stage, inside in enumerate(stages, 1):
        first = PreBottleneck(channels, inside, stride=1 if stage == 1 else 2)
        channels = 4 * inside
        rest = (PreBottleneck(channels, inside) for _ in range(bottlenecks - 1))
        layers[f"stage{stage}"] = nn.Sequential(first, *rest)
    layers["bn"] = nn.BatchNorm2d(channels)
    layers["relu"] = nn.ReLU()
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels, classes)
    return initialised_as(nn.Sequential(layers), init)


class PreBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each after its normalisation and activation, beside a shortcut.

    Where the number of channels or the image changes, the shortcut is a 1x1 convolution of the block's own input,
    without normalisation: slimming's choice. He et al. branch it off after the first activation.
    """

    def __init__(self, channels: int, inside: int, stride: int = 1) -> None:
        super().__init__()
        out = 4 * inside
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, inside, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(inside, inside, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(inside)
        self.relu3 = nn.ReLU()
        self.conv3 = nn.Conv2d(inside, out, 1, bias=False)
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, channels, H, W] to [B, 4 inside, H / stride, W / stride]."""
        reduced = self.conv1(self.relu1(self.bn1(x)))
        seen = self.conv2(self.relu2(self.bn2(reduced)))
        return self.conv3(self.relu3(self.bn3(seen))) + self.shortcut(x)
