"""LeNet-300-100: the fully connected network of the lottery-ticket paper's MNIST experiments."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from scratchcard.networks.initialise import initialised


def lenet_300_100(inputs: int = 784, classes: int = 10, init: str = "glorot") -> nn.Module:
    """LeNet-300-100, 266,200 weights for MNIST; it flattens its inputs itself.

    Args:
        inputs: numbers per example, e.g. 784 for images [1, 28, 28].
        classes: outputs.
        init: "glorot" (the paper's) or "kaiming".

    Source: Frankle & Carbin 2019, Fig. 2.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        flatten=nn.Flatten(),
        fc1=nn.Linear(inputs, 300),
        relu1=nn.ReLU(),
        fc2=nn.Linear(300, 100),
        relu2=nn.ReLU(),
        output=nn.Linear(100, classes),
    )
    return initialised(nn.Sequential(layers), init)
