"""The papers' networks, as plain modules: each factory returns a freshly initialised one."""

from scratchcard.networks.zoo.conv import conv_2, conv_4, conv_6
from scratchcard.networks.zoo.densenet import densenet_40, densenet_bc_100
from scratchcard.networks.zoo.imagenet_resnet import imagenet_resnet_18, imagenet_resnet_34, imagenet_resnet_50
from scratchcard.networks.zoo.imagenet_vgg import imagenet_vgg_11, imagenet_vgg_16
from scratchcard.networks.zoo.lenet import lenet_300_100
from scratchcard.networks.zoo.preresnet import preresnet_101, preresnet_164
from scratchcard.networks.zoo.resnet import resnet_20, resnet_32, resnet_56, resnet_110
from scratchcard.networks.zoo.vgg import vgg_11, vgg_16, vgg_19

__all__ = [
    "conv_2",
    "conv_4",
    "conv_6",
    "densenet_40",
    "densenet_bc_100",
    "imagenet_resnet_18",
    "imagenet_resnet_34",
    "imagenet_resnet_50",
    "imagenet_vgg_11",
    "imagenet_vgg_16",
    "lenet_300_100",
    "preresnet_101",
    "preresnet_164",
    "resnet_20",
    "resnet_32",
    "resnet_56",
    "resnet_110",
    "vgg_11",
    "vgg_16",
    "vgg_19",
]
