"""Conv-2, Conv-4 and Conv-6: the lottery-ticket paper's scaled-down VGGs for CIFAR-10."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from scratchcard.networks.initialise import initialised


def conv_2(classes: int = 10, size: int = 32, channels: int = 3, width: float = 1.0, init: str = "glorot") -> nn.Module:
    """Conv-2: two 3x3 convolutions, 4,300,992 weights for CIFAR-10 (38,592 of them in convolutions).

    Args:
        classes: outputs.
        size: height and width of the images, in pixels; halved, rounded down, after each pair of layers.
        channels: of the images.
        width: factor on the units of every layer but the output.
        init: "glorot" (the paper's) or "kaiming".

    Source: Frankle & Carbin 2019, Fig. 2; padding "same" is inferred from the printed numbers of weights.
    """
    return _conv(1, classes, size, channels, width, init)


def conv_4(classes: int = 10, size: int = 32, channels: int = 3, width: float = 1.0, init: str = "glorot") -> nn.Module:
    """Conv-4: four 3x3 convolutions, 2,425,024 weights for CIFAR-10 (259,776 of them in convolutions).

    Arguments and source as for `conv_2`.
    """
    return _conv(2, classes, size, channels, width, init)


def conv_6(classes: int = 10, size: int = 32, channels: int = 3, width: float = 1.0, init: str = "glorot") -> nn.Module:
    """Conv-6: six 3x3 convolutions, 2,261,184 weights for CIFAR-10 (1,144,512 of them in convolutions).

    Arguments and source as for `conv_2`. The paper prints 1.7M weights, which its own layers do not have.
    """
    return _conv(3, classes, size, channels, width, init)


def _conv(pairs: int, classes: int, size: int, channels: int, width: float, init: str) -> nn.Module:
    if size < 2**pairs:
        raise ValueError(f"size={size} cannot be halved {pairs} times; it must be at least {2**pairs} pixels")
    units = [max(1, round(width * n)) for n in (64, 128, 256)]
    hidden = units[2]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for pair, out in enumerate(units[:pairs], 1):
        for i in (2 * pair - 1, 2 * pair):
            layers[f"conv{i}"] = nn.Conv2d(channels, out, 3, padding=1)
            layers[f"relu{i}"] = nn.ReLU()
            channels = out
        layers[f"pool{pair}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(channels * (size // 2**pairs) ** 2, hidden)
    layers["fc_relu1"] = nn.ReLU()
    layers["fc2"] = nn.Linear(hidden, hidden)
    layers["fc_relu2"] = nn.ReLU()
    layers["output"] = nn.Linear(hidden, classes)
    return initialised(nn.Sequential(layers), init)
