"""The papers' networks, as plain modules: each factory returns a freshly initialised one."""

from scratchcard.networks.zoo.conv import conv_2, conv_4, conv_6
from scratchcard.networks.zoo.lenet import lenet_300_100
from scratchcard.networks.zoo.resnet import resnet_20

__all__ = ["conv_2", "conv_4", "conv_6", "lenet_300_100", "resnet_20"]
