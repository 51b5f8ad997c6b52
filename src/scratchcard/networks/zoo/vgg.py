"""VGGs for CIFAR: batch-normalised convolutions, a global average, and one linear layer or two."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from scratchcard.networks.fan_out import initialised_as
from scratchcard.networks.zoo.width import scaled
from scratchcard.words import unknown

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions before each of the five pools, by the number of layers in the name."""
HEADS = ("linear", "hidden")


def vgg_11(classes: int = 10, head: str = "linear", width: float = 1.0, init: str = "slimming") -> nn.Module:
    """VGG-11 for CIFAR, eight convolutions: 9,228,362 parameters, 152.8 M MAC for CIFAR-10.

    With head="hidden" 9,492,042 parameters, 153.0 M MAC; 2,752 BN channels in convolutions. Arguments and image
    sizes as for `vgg_19`, the initialisation as for `vgg_16`. Source: Simonyan & Zisserman 2015, Table 1, A.
    """
    return _vgg(11, classes, head, width, init)


def vgg_16(classes: int = 10, head: str = "linear", width: float = 1.0, init: str = "slimming") -> nn.Module:
    """VGG-16 for CIFAR, thirteen convolutions: 14,724,042 parameters, 313.2 M MAC for CIFAR-10.

    With head="hidden" 14,987,722 parameters, 313.5 M MAC, as in Liu et al. 2019 (Rethinking), sec. 4.1; 4,224 BN
    channels in convolutions, as in You et al. 2020 (early-bird tickets). Both start as in network slimming, with
    scales of 0.5. Arguments and image sizes as for `vgg_19`. Source: Simonyan & Zisserman 2015, Table 1, D.
    """
    return _vgg(16, classes, head, width, init)


def vgg_19(classes: int = 10, head: str = "linear", width: float = 1.0, init: str = "glorot") -> nn.Module:
    """VGG-19 for CIFAR, sixteen convolutions: 20,035,018 parameters, 398.1 M MAC for CIFAR-10.

    For CIFAR-100 20,081,188 parameters; 5,504 BN channels; 20,024,000 weights, 20,018,880 of them in convolutions.
    With head="hidden" 20,298,698 parameters, 398.4 M MAC.

    Four pools halve the image, then it is averaged. Images of 16 pixels are one pixel in the last four layers, where
    eight of nine weights of a kernel then multiply nothing but padding; smaller images are refused by the fourth pool
    (torch's RuntimeError "Output size is too small").

    Args:
        classes: outputs.
        head: "linear", one linear layer; or "hidden", a layer of 512 batch-normalised units before it.
        width: factor on the channels, and on the units of a hidden layer.
        init: "glorot" (Frankle & Carbin's), "slimming" (Liu et al. 2017's), "fan_out" or "kaiming".

    Source: Simonyan & Zisserman 2015, Table 1, E; Frankle & Carbin 2019, sec. 4; Liu et al. 2017 (network
    slimming), sec. 4.
    """
    return _vgg(19, classes, head, width, init)


def _vgg(depth: int, classes: int, head: str, width: float, init: str) -> nn.Module:
    if head not in HEADS:
        raise ValueError(unknown("head", head, HEADS))
    layers = convolutions(depth, width, norm=True, bias=False)
    layers["pool5"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    units = scaled(512, width)
    if head == "hidden":
        layers["fc1"] = nn.Linear(units, units)
        layers["fc_bn1"] = nn.BatchNorm1d(units)
        layers["fc_relu1"] = nn.ReLU()
    layers["output"] = nn.Linear(units, classes)
    return initialised_as(nn.Sequential(layers), init)


def convolutions(depth: int, width: float, norm: bool, bias: bool) -> OrderedDict[str, nn.Module]:
    """The layers conv1, bn1, relu1, conv2 ... pool5 of a VGG: 64, 128, 256, 512 and 512 channels, a pool after each."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, number = 3, 0
    for group, (several, wide) in enumerate(zip(CONVOLUTIONS[depth], (64, 128, 256, 512, 512), strict=True), 1):
        out = scaled(wide, width)
        for _ in range(several):
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(channels, out, 3, padding=1, bias=bias)
            if norm:
                layers[f"bn{number}"] = nn.BatchNorm2d(out)
            layers[f"relu{number}"] = nn.ReLU()
            channels = out
        layers[f"pool{group}"] = nn.MaxPool2d(2)
    return layers
