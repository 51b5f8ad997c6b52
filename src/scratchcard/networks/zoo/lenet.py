"""LeNet-300-100: the fully connected network of the lottery-ticket paper's MNIST experiments."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from scratchcard.networks.initialise import initialised


def lenet_300_100(inputs: int = 784, classes: int = 10, width: float = 1.0, init: str = "glorot") -> nn.Module:
    """LeNet-300-100, 266,200 weights for MNIST; it flattens its inputs itself.

    Args:
        inputs: numbers per example, e.g. 784 for images [1, 28, 28].
        classes: outputs.
        width: factor on the units of both hidden layers.
        init: "glorot" (the paper's) or "kaiming".

    Source: Frankle & Carbin 2019, Fig. 2.
    """
    first, second = (max(1, round(width * n)) for n in (300, 100))
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        flatten=nn.Flatten(),
        fc1=nn.Linear(inputs, first),
        relu1=nn.ReLU(),
        fc2=nn.Linear(first, second),
        relu2=nn.ReLU(),
        output=nn.Linear(second, classes),
    )
    return initialised(nn.Sequential(layers), init)
