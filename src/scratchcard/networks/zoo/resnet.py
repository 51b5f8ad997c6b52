"""ResNet-20 for CIFAR: the network the lottery-ticket paper calls "ResNet-18"."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from scratchcard.networks.initialise import initialised
from scratchcard.words import unknown


def resnet_20(classes: int = 10, shortcut: str = "projection", width: float = 1.0, init: str = "glorot") -> nn.Module:
    """ResNet-20: a convolution, three stages of three residual blocks (16, 32, 64 channels), a linear layer.

    Args:
        classes: outputs.
        shortcut: where a stage halves the image and doubles the channels: "projection", a 1x1 convolution
            with batch normalisation (option B: 270,896 weights, 2,560 of them in shortcuts, as in Frankle &
            Carbin), or "pad", every second pixel and channels of zeros (option A, He et al.'s for CIFAR).
        width: factor on the channels.
        init: "glorot" (Frankle & Carbin's) or "kaiming".

    Source: He et al. 2016, sec. 4.2; Frankle & Carbin 2019, sec. 4.
    """
    if shortcut not in SHORTCUTS:
        raise ValueError(unknown("shortcut", shortcut, SHORTCUTS))
    stem, *stages = (max(1, round(width * n)) for n in (16, 16, 32, 64))
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(3, stem, 3, padding=1, bias=False), bn=nn.BatchNorm2d(stem), relu=nn.ReLU()
    )
    channels = stem
    for stage, out in enumerate(stages, 1):
        blocks = [Block(channels, out, shortcut, halves=stage > 1), *(Block(out, out) for _ in range(2))]
        layers[f"stage{stage}"] = nn.Sequential(*blocks)
        channels = out
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels, classes)
    return initialised(nn.Sequential(layers), init)


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


def _projection(channels: int, out: int) -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, out, 1, stride=2, bias=False), bn=nn.BatchNorm2d(out)))


SHORTCUTS = {"projection": _projection, "pad": Pad}
