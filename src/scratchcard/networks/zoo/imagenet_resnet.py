"""ResNets for ImageNet: a 7x7 convolution and a pool, then four stages of basic blocks or of bottlenecks."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from scratchcard.networks.fan_out import initialised_as
from scratchcard.networks.zoo.resnet import Block, projection
from scratchcard.networks.zoo.width import scaled


def imagenet_resnet_18(classes: int = 1000, width: float = 1.0, init: str = "fan_out") -> nn.Module:
    """ResNet-18 for ImageNet, 2-2-2-2 basic blocks: 11,689,512 parameters, 1.81 G MAC at 224 pixels.

    Arguments and source as for `imagenet_resnet_50`. Not the "ResNet-18" of the lottery-ticket paper: `resnet_20`.
    """
    return _resnet((2, 2, 2, 2), False, classes, width, init)


def imagenet_resnet_34(classes: int = 1000, width: float = 1.0, init: str = "fan_out") -> nn.Module:
    """ResNet-34 for ImageNet, 3-4-6-3 basic blocks: 21,797,672 parameters, 3.66 G MAC at 224 pixels.

    Arguments and source as for `imagenet_resnet_50`.
    """
    return _resnet((3, 4, 6, 3), False, classes, width, init)


def imagenet_resnet_50(classes: int = 1000, width: float = 1.0, init: str = "fan_out") -> nn.Module:
    """ResNet-50 for ImageNet, 3-4-6-3 bottlenecks: 25,557,032 parameters, 4.09 G MAC at 224 pixels.

    Args:
        classes: outputs.
        width: factor on the channels.
        init: "fan_out" (He et al.'s), "slimming", "glorot" or "kaiming".

    Source: He et al. 2016, Table 1, shortcuts of option B. A bottleneck halves the image in its 3x3 convolution, as
    the networks in use do; the paper's does in its first 1x1 convolution, for fewer MACs and lower accuracy.
    """
    return _resnet((3, 4, 6, 3), True, classes, width, init)


def _resnet(blocks: tuple[int, ...], bottlenecks: bool, classes: int, width: float, init: str) -> nn.Module:
    channels, *stages = (scaled(n, width) for n in (64, 64, 128, 256, 512))
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
        bn=nn.BatchNorm2d(channels),
        relu=nn.ReLU(),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),
    )
    for stage, (several, inside) in enumerate(zip(blocks, stages, strict=True), 1):
        if bottlenecks:
            first = Bottleneck(channels, inside, stride=1 if stage == 1 else 2)
            channels = 4 * inside
            rest: list[nn.Module] = [Bottleneck(channels, inside) for _ in range(several - 1)]
        else:
            first = Block(channels, inside, halves=stage > 1)
            channels = inside
            rest = [Block(channels, inside) for _ in range(several - 1)]
        layers[f"stage{stage}"] = nn.Sequential(first, *rest)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels, classes)
    return initialised_as(nn.Sequential(layers), init)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (He et al. 2016, Fig. 5, right)."""

    def __init__(self, channels: int, inside: int, stride: int = 1) -> None:
        super().__init__()
        out = 4 * inside
        self.conv1 = nn.Conv2d(channels, inside, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(inside, inside, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(inside, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else projection(channels, out, stride)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, channels, H, W] to [B, 4 inside, H / stride, W / stride]."""
        inside = self.relu1(self.bn1(self.conv1(x)))
        inside = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(inside)))))
        return self.relu3(inside + self.shortcut(x))
