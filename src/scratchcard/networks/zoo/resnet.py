"""ResNets for CIFAR, of 6n + 2 layers; ResNet-20 is the network the lottery-ticket paper calls "ResNet-18"."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from scratchcard.networks.fan_out import initialised_as
from scratchcard.networks.zoo.width import scaled
from scratchcard.words import unknown


def resnet_20(classes: int = 10, shortcut: str = "projection", width: float = 1.0, init: str = "glorot") -> nn.Module:
    """ResNet-20: a convolution, three stages of three residual blocks (16, 32, 64 channels), a linear layer.

    For CIFAR-10: 272,474 parameters, 40.8 M MAC; 269,722 parameters, 40.6 M MAC with padding shortcuts.

    Args:
        classes: outputs.
        shortcut: where a stage halves the image and doubles the channels: "projection", a 1x1 convolution
            with batch normalisation (option B: 270,896 weights, 2,560 of them in shortcuts, as in Frankle &
            Carbin), or "pad", every second pixel and channels of zeros (option A, He et al.'s for CIFAR).
        width: factor on the channels.
        init: "glorot" (Frankle & Carbin's), "kaiming", "fan_out" or "slimming".

    Source: He et al. 2016, sec. 4.2; Frankle & Carbin 2019, sec. 4.
    """
    return _resnet(3, classes, shortcut, width, init)


def resnet_32(classes: int = 10, shortcut: str = "pad", width: float = 1.0, init: str = "fan_out") -> nn.Module:
    """ResNet-32, five blocks per stage: 464,154 parameters, 68.9 M MAC for CIFAR-10.

    With projection shortcuts 466,906 parameters, 69.1 M MAC. Arguments as for `resnet_20`, but shortcuts
    and initialisation are He et al.'s unless others are given. Source: He et al. 2016, sec. 4.2.
    """
    return _resnet(5, classes, shortcut, width, init)


def resnet_56(classes: int = 10, shortcut: str = "pad", width: float = 1.0, init: str = "fan_out") -> nn.Module:
    """ResNet-56, nine blocks per stage: 853,018 parameters, 125.5 M MAC for CIFAR-10.

    With projection shortcuts 855,770 parameters, 125.7 M MAC. Arguments as for `resnet_32`. Source: He et al. 2016,
    sec. 4.2; pruned in Liu et al. 2019 (Rethinking), sec. 4.1.
    """
    return _resnet(9, classes, shortcut, width, init)


def resnet_110(classes: int = 10, shortcut: str = "pad", width: float = 1.0, init: str = "fan_out") -> nn.Module:
    """ResNet-110, eighteen blocks per stage: 1,727,962 parameters, 252.9 M MAC for CIFAR-10.

    With projection shortcuts 1,730,714 parameters, 253.1 M MAC. Arguments as for `resnet_32`. Source: He et al. 2016,
    sec. 4.2 (trained with a learning rate of 0.01 at first); pruned in Liu et al. 2019 (Rethinking), sec. 4.1.
    """
    return _resnet(18, classes, shortcut, width, init)


def _resnet(blocks: int, classes: int, shortcut: str, width: float, init: str) -> nn.Module:
    if shortcut not in SHORTCUTS:
        raise ValueError(unknown("shortcut", shortcut, SHORTCUTS))
    stem, *stages = (scaled(n, width) for n in (16, 16, 32, 64))
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(3, stem, 3, padding=1, bias=False), bn=nn.BatchNorm2d(stem), relu=nn.ReLU()
    )
    channels = stem
    for stage, out in enumerate(stages, 1):
        first = Block(channels, out, shortcut, halves=stage > 1)
        layers[f"stage{stage}"] = nn.Sequential(first, *(Block(out, out) for _ in range(blocks - 1)))
        channels = out
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels, classes)
    return initialised_as(nn.Sequential(layers), init)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, Fig. 2)."""

    def __init__(self, channels: int, out: int, shortcut: str = "projection", halves: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=2 if halves else 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = SHORTCUTS[shortcut](channels, out) if halves else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, channels, H, W] to [B, out, H, W], or half the height and width."""
        inside = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(inside + self.shortcut(x))


class Pad(nn.Module):
    """Every second pixel, then channels of zeros after the existing ones: a shortcut without weights."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.added = out - channels

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, channels, H, W] to [B, out, H / 2, W / 2]."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.added))


def projection(channels: int, out: int, stride: int = 2) -> nn.Module:
    """A 1x1 convolution and batch normalisation: a shortcut to other channels."""
    conv = nn.Conv2d(channels, out, 1, stride=stride, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out)))


SHORTCUTS: dict[str, Callable[[int, int], nn.Module]] = {"projection": projection, "pad": Pad}
