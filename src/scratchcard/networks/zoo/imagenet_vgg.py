"""VGGs for ImageNet: convolutions, five pools and three linear layers, with or without batch normalisation."""

from __future__ import annotations

from torch import nn

from scratchcard.networks.fan_out import initialised_as
from scratchcard.networks.zoo.vgg import convolutions
from scratchcard.networks.zoo.width import scaled


def imagenet_vgg_11(
    classes: int = 1000, norm: bool = False, dropout: float = 0.5, width: float = 1.0, init: str = "fan_out"
) -> nn.Module:
    """VGG-11 for ImageNet, eight convolutions: 132,863,336 parameters, 7.61 G MAC at 224 pixels.

    With norm=True 132,868,840 parameters and the same MACs. Arguments as for `imagenet_vgg_16`.
    Source: Simonyan & Zisserman 2015, Table 1, A; slimmed, with norm, in Liu et al. 2017 and 2019.
    """
    return _vgg(11, classes, norm, dropout, width, init)


def imagenet_vgg_16(
    classes: int = 1000, norm: bool = False, dropout: float = 0.5, width: float = 1.0, init: str = "fan_out"
) -> nn.Module:
    """VGG-16 for ImageNet, thirteen convolutions: 138,357,544 parameters, 15.47 G MAC at 224 pixels.

    With norm=True 138,365,992 parameters and the same MACs. Images of other sizes, from 32 pixels on, are averaged (or
    repeated) to the 7 x 7 that the first linear layer sees.

    Args:
        classes: outputs.
        norm: batch normalisation after each convolution, which keeps its bias.
        dropout: probability that a unit of the two hidden linear layers is dropped while training.
        width: factor on the channels and on the units of the hidden linear layers.
        init: "fan_out" (as Liu et al. 2019 train them), "slimming" (where norm is True), "glorot" (which Simonyan &
            Zisserman found to work, sec. 3.1) or "kaiming".

    Source: Simonyan & Zisserman 2015, Table 1, D.
    """
    return _vgg(16, classes, norm, dropout, width, init)


def _vgg(depth: int, classes: int, norm: bool, dropout: float, width: float, init: str) -> nn.Module:
    layers = convolutions(depth, width, norm, bias=True)
    hidden = scaled(4096, width)
    layers["average"] = nn.AdaptiveAvgPool2d(7)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(scaled(512, width) * 7 * 7, hidden)
    layers["fc_relu1"] = nn.ReLU()
    layers["fc_drop1"] = nn.Dropout(dropout)
    layers["fc2"] = nn.Linear(hidden, hidden)
    layers["fc_relu2"] = nn.ReLU()
    layers["fc_drop2"] = nn.Dropout(dropout)
    layers["output"] = nn.Linear(hidden, classes)
    return initialised_as(nn.Sequential(layers), init)
