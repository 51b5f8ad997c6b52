"""Small networks of every kind that people have, as if trained: nothing in them is zero by accident.

Each says which inputs of its layers are which sites - written down by hand, for a reference that owes the code nothing.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratchcard.networks.zoo import conv_4, lenet_300_100, resnet_20, vgg_19
from scratchcard.networks.zoo.densenet import _densenet
from scratchcard.networks.zoo.imagenet_resnet import _resnet
from scratchcard.networks.zoo.preresnet import _preresnet

Reads = dict[str, list[str | int]]
"""Layer -> the sites that its input channels are, in order; a number stands for so many that are never cut."""


@dataclass(frozen=True)
class Shrinkable:
    """A network, one batch for it and what is known of it beforehand."""

    factory: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    reads: Reads | None = None
    """None: it is not read by layers, so only the reference with zeroed parameters applies."""
    sites: int | None = None
    """How many sites it has, counted by hand."""
    kept: dict[str, str] = field(default_factory=dict)
    """Layers that are kept whole, with a part of the reason."""


def trained_like(model: nn.Module, seed: int = 0) -> nn.Module:
    """The same network in float64 with random biases, scales and statistics."""
    chance = torch.Generator().manual_seed(seed)

    def drawn(tensor: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(tensor.shape, generator=chance, dtype=torch.float64)

    model = model.double().eval()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.copy_(drawn(tensor, 0.5, 1.5))
            elif tensor.dim() >= 2 and tensor.numel() > 1:
                fan = max(tensor[0].numel(), 1)
                tensor.copy_(drawn(tensor, -1.0, 1.0) * (3 / fan) ** 0.5)
            elif name.endswith(("bias", "running_mean")):
                tensor.copy_(drawn(tensor, 0.1, 0.6))
            else:
                tensor.copy_(drawn(tensor, 0.5, 1.5))
    return model


def made(name: str, seed: int = 0) -> tuple[nn.Module, Any]:
    """A network of the catalogue and its batch; the global random state is as it was."""
    case = CATALOGUE[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return trained_like(case.factory(), seed), case.inputs()


def images(size: int = 8, channels: int = 3, number: int = 2) -> Callable[[], Tensor]:
    return lambda: torch.randn(number, channels, size, size, dtype=torch.float64)


def sequence(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(*shape, dtype=torch.float64)


def tokens(length: int = 5, number: int = 2, words: int = 11) -> Callable[[], Tensor]:
    return lambda: torch.randint(0, words, (number, length))


class Net(nn.Module):
    """Layers by name, and what to do with them."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self._how = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *args: Any, **named: Any) -> Any:
        return self._how(self, *args, **named)


def net(forward: Callable[..., Any], **layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A factory: layers are made anew for each network."""
    return lambda: Net(forward, **{name: layer() for name, layer in layers.items()})


def conv(into: int, out: int, size: int = 3, **more: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(into, out, size, **{"padding": size // 2, **more})


def linear(into: int, out: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(into, out)


def norm(channels: int) -> Callable[[], nn.Module]:
    return lambda: nn.BatchNorm2d(channels)


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3))


# ---------------------------------------------------------------------------------------------- what the zoo is read by


def vgg_reads() -> Reads:
    layers = [name for name, m in vgg_19(width=0.25).named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return {after: [before] for before, after in itertools.pairwise(layers)}


def conv_4_reads() -> Reads:
    layers = ["conv1", "conv2", "conv3", "conv4", "fc1", "fc2", "output"]
    return {after: [before] for before, after in itertools.pairwise(layers)}


def resnet_20_reads(shortcut: str) -> Reads:
    reads: Reads = {}
    stem: list[str | int] = ["conv"]
    for stage in (1, 2, 3):
        for block in range(3):
            name = f"stage{stage}.{block}"
            reads[f"{name}.conv1"] = list(stem)
            reads[f"{name}.conv2"] = [f"{name}.conv1"]
            if stage > 1 and block == 0:
                if shortcut == "projection":
                    reads[f"{name}.shortcut.conv"] = list(stem)
                    stem = [f"{name}.conv2"]
                else:
                    stem = ["conv", {2: 4, 3: 12}[stage]]
    reads["output"] = list(stem)
    return reads


def preresnet_reads() -> Reads:
    model, reads, stem = _preresnet(2, 10, 0.25, "slimming"), {}, "conv"
    blocks = [name for name, module in model.named_modules() if type(module).__name__ == "PreBottleneck"]
    for name in blocks:
        own = dict(model.get_submodule(name).named_modules())
        reads[f"{name}.conv1"] = [stem]
        reads[f"{name}.conv2"] = [f"{name}.conv1"]
        reads[f"{name}.conv3"] = [f"{name}.conv2"]
        shortcut = next((n for n, m in own.items() if "shortcut" in n and isinstance(m, nn.Conv2d)), None)
        if shortcut:
            reads[f"{name}.{shortcut}"] = [stem]
            stem = f"{name}.conv3"
    reads["output"] = [stem]
    return reads


def densenet_reads(bottleneck: bool, depth: int) -> Reads:
    reads: Reads = {}
    seen: list[str | int] = ["conv"]
    for stage in (1, 2, 3):
        for layer in range(depth):
            name = f"stage{stage}.{layer}"
            reads[f"{name}.conv1"] = list(seen)
            if bottleneck:
                reads[f"{name}.conv2"] = [f"{name}.conv1"]
            seen.append(f"{name}.conv{2 if bottleneck else 1}")
        if stage < 3:
            reads[f"transition{stage}.conv"] = list(seen)
            seen = [f"transition{stage}.conv"]
    reads["output"] = list(seen)
    return reads


def imagenet_resnet_reads(blocks: tuple[int, ...], bottlenecks: bool) -> tuple[Callable[[], nn.Module], Reads]:
    def factory() -> nn.Module:
        return _resnet(blocks, bottlenecks, 10, 0.125, "fan_out")

    model, last = factory(), 3 if bottlenecks else 2
    first = next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    names = [name for name, module in model.named_modules() if type(module).__name__ in ("Block", "Bottleneck")]
    reads: Reads = {}
    stem = first
    for name in names:
        inner = {n: m for n, m in model.get_submodule(name).named_modules() if isinstance(m, nn.Conv2d)}
        reads[f"{name}.conv1"] = [stem]
        for at in range(2, last + 1):
            reads[f"{name}.conv{at}"] = [f"{name}.conv{at - 1}"]
        shortcut = next((n for n in inner if "shortcut" in n), None)
        if shortcut:
            reads[f"{name}.{shortcut}"] = [stem]
            stem = f"{name}.conv{last}"
    reads["output"] = [stem]
    return factory, reads


# --------------------------------------------------------------------------------------------------- hand-made networks


class InvertedResidual(nn.Module):
    def __init__(self, channels: int, inside: int) -> None:
        super().__init__()
        self.expand, self.bn1 = nn.Conv2d(channels, inside, 1, bias=False), nn.BatchNorm2d(inside)
        self.depth = nn.Conv2d(inside, inside, 3, padding=1, groups=inside, bias=False)
        self.bn2, self.project = nn.BatchNorm2d(inside), nn.Conv2d(inside, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn2(self.depth(F.relu6(self.bn1(self.expand(x))))))
        return x + self.bn3(self.project(y))


class EfficientBlock(nn.Module):
    def __init__(self, channels: int, inside: int, squeezed: int) -> None:
        super().__init__()
        self.expand, self.bn1 = nn.Conv2d(channels, inside, 1, bias=False), nn.BatchNorm2d(inside)
        self.depth = nn.Conv2d(inside, inside, 3, padding=1, groups=inside, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.squeeze, self.excite = nn.Conv2d(inside, squeezed, 1), nn.Conv2d(squeezed, inside, 1)
        self.project, self.bn3 = nn.Conv2d(inside, channels, 1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.bn2(self.depth(F.silu(self.bn1(self.expand(x))))))
        y = y * torch.sigmoid(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return x + self.bn3(self.project(y))


class ConvNeXtBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.an = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.b, self.bn = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.c = nn.Conv2d(8, 10, 3, padding=1)
        self.up = nn.ConvTranspose2d(10, 7, 2, stride=2)
        self.d = nn.Conv2d(7 + 8, 5, 3, padding=1)
        self.e = nn.Conv2d(5 + 6, 4, 3, padding=1)
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.an(self.a(x)))
        b = F.relu(self.bn(self.b(F.max_pool2d(a, 2))))
        c = F.relu(self.c(F.max_pool2d(b, 2)))
        d = F.relu(self.d(torch.cat([F.relu(self.up(c)), b], 1)))
        grown = F.interpolate(d, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out(F.relu(self.e(torch.cat([grown, a], 1))))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.shift = nn.Parameter(torch.ones(6, 3, 3, 3)), nn.Parameter(torch.ones(6))
        self.second = nn.Parameter(torch.ones(5, 6, 3, 3))
        self.last = nn.Parameter(torch.ones(4, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.first, self.shift, padding=1))
        return F.linear(pooled(F.relu(F.conv2d(x, self.second, padding=1))), self.last)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.one, self.other = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.other.weight = self.one.weight
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.other(F.relu(self.one(F.relu(self.into(x)))))))


class Attention(nn.Module):
    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.each = heads, width // heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out, self.up, self.down = nn.Linear(width, width), nn.Linear(width, 12), nn.Linear(12, width)
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (part(y).view(*y.shape[:2], -1, self.each).transpose(1, 2) for part in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-2, -1) / self.each**0.5).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Windows(nn.Module):
    """Attention in shifted windows, as in Swin."""

    def __init__(self, width: int = 8, window: int = 2) -> None:
        super().__init__()
        self.window, self.embed, self.block = window, nn.Conv2d(3, width, 1), Attention(width)
        self.out = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.roll(self.embed(x).permute(0, 2, 3, 1), (-1, -1), (1, 2))
        b, h, w, c = x.shape
        s = self.window
        x = x.view(b, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, c)
        x = self.block(x).view(b, h // s, w // s, s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return self.out(torch.roll(x, (1, 1), (1, 2)).mean((1, 2)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(11, 6), nn.LSTM(6, 5, batch_first=True)
        self.up, self.out = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.up(self.lstm(self.embed(x))[0][:, -1])))


def shuffled(x: Tensor, groups: int) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


def copied(x: Tensor) -> Tensor:
    return x.index_copy(1, torch.tensor([0, 2]), torch.zeros(x.shape[0], 2, *x.shape[2:], dtype=x.dtype))


def chunks(x: Tensor) -> Tensor:
    one, other = x.chunk(2, 1)
    return one * torch.sigmoid(other)


def by_sizes(x: Tensor) -> Tensor:
    one, other = x.split([2, 4], 1)
    return torch.cat([other, one], 1)


def hf_bert() -> nn.Module:
    import transformers

    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, vocab_size=11, num_labels=3
    )
    return transformers.BertForSequenceClassification(config)


def hf_vit() -> nn.Module:
    import transformers

    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, image_size=8, patch_size=4
    )
    return transformers.ViTForImageClassification(config)


def hf_gpt2() -> nn.Module:
    import transformers

    config = transformers.GPT2Config(
        n_embd=8,
        n_layer=2,
        n_head=2,
        n_inner=12,
        vocab_size=11,
        n_positions=8,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


_RESNET_18, _RESNET_50 = imagenet_resnet_reads((2, 2, 2, 2), False), imagenet_resnet_reads((1, 2, 1, 1), True)
_FFN: Reads = {f"layers.{n}.linear2": [f"layers.{n}.linear1"] for n in (0, 1)}

CATALOGUE: dict[str, Shrinkable] = {
    "LeNet": Shrinkable(
        lambda: nn.Sequential(OrderedDict(lenet_300_100(inputs=64, width=0.1).named_children())),
        images(8, 1),
        {"fc2": ["fc1"], "output": ["fc2"]},
        2,
    ),
    "Conv-4": Shrinkable(lambda: conv_4(size=8, width=0.1), images(8), conv_4_reads(), 6),
    "VGG-19": Shrinkable(lambda: vgg_19(width=0.25), images(32), vgg_reads(), 16),
    "ResNet-20": Shrinkable(lambda: resnet_20(width=0.25), images(8), resnet_20_reads("projection"), 12),
    "ResNet-20 pad": Shrinkable(lambda: resnet_20(width=0.25, shortcut="pad"), images(8), resnet_20_reads("pad"), 10),
    "PreResNet": Shrinkable(lambda: _preresnet(2, 10, 0.25, "slimming"), images(8), preresnet_reads(), None),
    "DenseNet": Shrinkable(
        lambda: _densenet(3, False, 1.0, 10, 5, 6, 1.0, "slimming"), images(8), densenet_reads(False, 3), 12
    ),
    "DenseNet-BC": Shrinkable(
        lambda: _densenet(2, True, 0.5, 10, 4, 6, 1.0, "slimming"), images(8), densenet_reads(True, 2), 15
    ),
    "ImageNet ResNet-18": Shrinkable(_RESNET_18[0], images(32), _RESNET_18[1], None),
    "ImageNet ResNet-50": Shrinkable(_RESNET_50[0], images(32), _RESNET_50[1], None),
    "MobileNetV2": Shrinkable(
        net(
            lambda m, x: m.out(pooled(m.two(m.one(F.relu6(m.bn(m.stem(x))))))),
            stem=conv(3, 6),
            bn=norm(6),
            one=lambda: InvertedResidual(6, 12),
            two=lambda: InvertedResidual(6, 10),
            out=linear(6, 4),
        ),
        images(),
        {
            "one.expand": ["stem"],
            "one.project": ["one.expand"],
            "two.expand": ["stem"],
            "two.project": ["two.expand"],
            "out": ["stem"],
        },
        3,
    ),
    "U-Net": Shrinkable(
        UNet,
        images(),
        {"b": ["a"], "c": ["b"], "up": ["c"], "d": ["up", "b"], "e": ["d", "a"], "out": ["e"]},
        6,
    ),
    "ResNeXt": Shrinkable(
        net(
            lambda m, x: m.out(
                pooled(F.relu(m.stem(x) + m.b3(m.c3(F.relu(m.b2(m.c2(F.relu(m.c1(m.stem(x)))))))))),
            ),
            stem=conv(3, 6),
            c1=conv(6, 12, 1),
            c2=conv(12, 12, groups=4),
            b2=norm(12),
            c3=conv(12, 6, 1),
            b3=norm(6),
            out=linear(6, 4),
        ),
        images(),
        {"c1": ["stem"], "c3": ["c1"], "out": ["stem"]},
        2,
    ),
    "GroupNorm": Shrinkable(
        net(
            lambda m, x: m.out(pooled(F.relu(m.b(F.relu(m.n(m.a(x))))))),
            a=conv(3, 12),
            n=lambda: nn.GroupNorm(4, 12),
            b=conv(12, 5),
            out=linear(5, 3),
        ),
        images(),
        {"b": ["a"], "out": ["b"]},
        2,
    ),
    "SE gate": Shrinkable(
        net(
            lambda m, x: (
                lambda y: m.out(pooled(y * torch.sigmoid(m.up(F.relu(m.down(y.mean((2, 3)))))[:, :, None, None])))
            )(F.relu(m.a(x))),
            a=conv(3, 8),
            down=linear(8, 3),
            up=linear(3, 8),
            out=linear(8, 4),
        ),
        images(),
        {"down": ["a"], "up": ["down"], "out": ["a"]},
        2,
    ),
    "EfficientNet": Shrinkable(
        net(
            lambda m, x: m.out(pooled(m.block(F.silu(m.stem(x))))),
            stem=conv(3, 6),
            block=lambda: EfficientBlock(6, 12, 4),
            out=linear(6, 4),
        ),
        images(),
        {
            "block.expand": ["stem"],
            "block.squeeze": ["block.expand"],
            "block.excite": ["block.squeeze"],
            "block.project": ["block.expand"],
            "out": ["stem"],
        },
        3,
    ),
    "Inception": Shrinkable(
        net(
            lambda m, x: m.out(
                pooled(
                    F.relu(
                        m.last(
                            torch.cat(
                                [F.relu(m.a(x)), F.relu(m.b(F.relu(m.b0(x)))), F.relu(m.c(F.avg_pool2d(x, 3, 1, 1)))], 1
                            )
                        )
                    )
                )
            ),
            a=conv(3, 4, 1),
            b0=conv(3, 5, 1),
            b=conv(5, 6),
            c=conv(3, 3, 1),
            last=conv(13, 7, 1),
            out=linear(7, 4),
        ),
        images(),
        {"b": ["b0"], "last": ["a", "b", "c"], "out": ["last"]},
        5,
    ),
    "ConvNeXt": Shrinkable(
        net(
            lambda m, x: m.out(pooled(m.two(m.one(m.stem(x))))),
            stem=conv(3, 6, 2, stride=2, padding=0),
            one=lambda: ConvNeXtBlock(6),
            two=lambda: ConvNeXtBlock(6),
            out=linear(6, 4),
        ),
        images(),
        {"one.down": ["one.up"], "two.down": ["two.up"]},
        2,
        {"stem": "LayerNorm", "one.down": "LayerNorm"},
    ),
    "channel shuffle": Shrinkable(
        net(
            lambda m, x: m.out(pooled(F.relu(m.c(F.relu(m.b(shuffled(F.relu(m.a(x)), 2))))))),
            a=conv(3, 8),
            b=conv(8, 8, groups=2),
            c=conv(8, 6),
            out=linear(6, 4),
        ),
        images(),
        {"b": ["a"], "c": ["a"], "out": ["c"]},
        2,
    ),
    "functional": Shrinkable(Functional, images(), None, 2),
    "called three times": Shrinkable(
        net(
            lambda m, x: (lambda y: m.out(pooled(y)))(F.relu(m.same(F.relu(m.same(F.relu(m.same(F.relu(m.a(x))))))))),
            a=conv(3, 6),
            same=conv(6, 6),
            out=linear(6, 4),
        ),
        images(),
        {"same": ["a"], "out": ["a"]},
        1,
    ),
    "tied weights": Shrinkable(Tied, sequence(3, 4), {"one": ["into"], "other": ["into"], "out": ["into"]}, 1),
    "TransformerEncoder": Shrinkable(
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=True), 2, enable_nested_tensor=False
        ),
        sequence(2, 5, 8),
        _FFN,
    ),
    "attention": Shrinkable(Attention, sequence(2, 5, 8), {"down": ["up"]}, None),
    "windows": Shrinkable(Windows, images(4), {"block.down": ["block.up"]}, None, {"embed": "LayerNorm"}),
    "LSTM": Shrinkable(Recurrent, tokens(), None, 3),
    "TCN": Shrinkable(
        net(
            lambda m, x: m.out((lambda y: y + F.relu(m.c(F.relu(m.b(y)))))(F.relu(m.a(x))).mean(2)),
            a=lambda: nn.Conv1d(3, 6, 3, padding=1),
            b=lambda: nn.Conv1d(6, 7, 3, padding=2, dilation=2),
            c=lambda: nn.Conv1d(7, 6, 3, padding=4, dilation=4),
            out=linear(6, 4),
        ),
        sequence(2, 3, 12),
        {"b": ["a"], "c": ["b"], "out": ["a"]},
        2,
    ),
    "3-D convolution": Shrinkable(
        lambda: nn.Sequential(
            nn.Conv3d(2, 5, 3, padding=1),
            nn.BatchNorm3d(5),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Conv3d(5, 6, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        ),
        sequence(2, 2, 4, 4, 4),
        {"4": ["0"], "8": ["4"]},
        2,
    ),
    "embedding": Shrinkable(
        net(
            lambda m, x: m.out(F.relu(m.up(m.words(x).mean(1)))),
            words=lambda: nn.Embedding(11, 6),
            up=linear(6, 8),
            out=linear(8, 3),
        ),
        tokens(),
        {"up": ["words"], "out": ["up"]},
        2,
    ),
    "PReLU": Shrinkable(
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.PReLU(6), nn.Conv2d(6, 5, 3), nn.PReLU(), nn.Flatten(), nn.Linear(80, 3)
        ),
        images(),
        {"2": ["0"], "5": ["2"]},
        2,
    ),
    "sigmoid and tanh": Shrinkable(
        lambda: nn.Sequential(
            nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 7), nn.Tanh(), nn.BatchNorm1d(7), nn.Sigmoid(), nn.Linear(7, 3)
        ),
        sequence(4, 6),
        {"2": ["0"], "6": ["2"]},
        2,
    ),
    "sigmoid before padding": Shrinkable(
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.Sigmoid(),
            nn.Conv2d(6, 5, 3, padding=1),
            nn.Softplus(),
            nn.Conv2d(5, 2, 3, padding=1),
        ),
        images(),
        {"3": ["0"], "5": ["3"]},
        2,
    ),
    "index_copy": Shrinkable(
        net(
            lambda m, x: m.out(pooled(F.relu(m.b(copied(F.relu(m.a(x))))))),
            a=conv(3, 6),
            b=conv(6, 7),
            out=linear(7, 3),
        ),
        images(),
        {"out": ["b"]},
        1,
        {"a": "index_copy"},
    ),
    "dict inputs": Shrinkable(
        net(
            lambda m, image, number: m.out(torch.cat([pooled(F.relu(m.a(image))), F.relu(m.b(number))], 1)),
            a=conv(3, 6),
            b=linear(4, 5),
            out=linear(11, 3),
        ),
        lambda: {"image": torch.randn(2, 3, 6, 6).double(), "number": torch.randn(2, 4).double()},
        {"out": ["a", "b"]},
        2,
    ),
    "two outputs": Shrinkable(
        net(
            lambda m, x: (lambda y: (m.one(y), m.two(F.relu(m.b(y)))))(F.relu(m.a(x))),
            a=linear(5, 8),
            b=linear(8, 6),
            one=linear(8, 3),
            two=linear(6, 2),
        ),
        sequence(3, 5),
        {"one": ["a"], "b": ["a"], "two": ["b"]},
        2,
        {"one": "output", "two": "output"},
    ),
    "transposed convolution": Shrinkable(
        net(
            lambda m, x: m.out(F.relu(m.n(m.up(F.relu(m.a(x)))))),
            a=conv(3, 6),
            n=norm(5),
            up=lambda: nn.ConvTranspose2d(6, 5, 3, stride=2, output_padding=1),
            out=conv(5, 2),
        ),
        images(),
        {"up": ["a"], "out": ["up"]},
        2,
    ),
    "InstanceNorm": Shrinkable(
        net(
            lambda m, x: m.out(pooled(F.relu(m.b(F.relu(m.n(m.a(x))))))),
            a=conv(3, 6),
            n=lambda: nn.InstanceNorm2d(6, affine=True),
            b=conv(6, 5),
            out=linear(5, 3),
        ),
        images(),
        {"b": ["a"], "out": ["b"]},
        2,
    ),
    "pixel shuffle": Shrinkable(
        net(
            lambda m, x: m.out(F.relu(m.c(F.pixel_shuffle(F.relu(m.b(F.relu(m.a(x)))), 2)))),
            a=conv(3, 6),
            b=conv(6, 8),
            c=conv(2, 4),
            out=conv(4, 2),
        ),
        images(),
        {"b": ["a"], "c": ["b"], "out": ["c"]},
        3,
    ),
    "chunks": Shrinkable(
        net(lambda m, x: m.out(pooled(chunks(m.a(x)))), a=conv(3, 12), out=linear(6, 3)),
        images(),
        {"out": ["a"]},
        1,
    ),
    "gated linear unit": Shrinkable(
        net(lambda m, x: m.out(pooled(F.glu(m.a(x), 1))), a=conv(3, 12), out=linear(6, 3)),
        images(),
        {"out": ["a"]},
        1,
    ),
    "split by sizes": Shrinkable(
        net(
            lambda m, x: m.out(pooled(F.relu(m.b(by_sizes(F.relu(m.a(x))))))),
            a=conv(3, 6),
            b=conv(6, 5),
            out=linear(5, 3),
        ),
        images(),
        {"out": ["b"]},
        1,
        {"a": "size"},
    ),
    "HF BERT": Shrinkable(
        hf_bert,
        lambda: {"input_ids": torch.randint(0, 11, (2, 5))},
        {f"bert.encoder.layer.{n}.output.dense": [f"bert.encoder.layer.{n}.intermediate.dense"] for n in (0, 1)}
        | {"classifier": ["bert.pooler.dense"]},
    ),
    "HF ViT": Shrinkable(hf_vit, images(8), {f"vit.layers.{n}.mlp.fc2": [f"vit.layers.{n}.mlp.fc1"] for n in (0, 1)}),
    "HF GPT-2": Shrinkable(hf_gpt2, lambda: {"input_ids": torch.randint(0, 11, (2, 5))}, None),
}
