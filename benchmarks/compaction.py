"""Are small networks as much faster as they are smaller? Analysis, sizes and speed, eager and in ONNX Runtime.

python benchmarks/compaction.py > docs/results/compaction.md

Half, or 70 %, of the units of every site go, at random; "rounded" keeps multiples of 8. All networks of a line are
timed in turns, one thread, batch 32, median of the runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from scratchcard.networks.compact import compact
from scratchcard.networks.cost import cost
from scratchcard.networks.exported import export_onnx
from scratchcard.networks.initialise import kaiming_normal_
from scratchcard.networks.latency import latencies
from scratchcard.networks.rounding import round_up
from scratchcard.networks.sites import find_sites
from scratchcard.networks.zoo import densenet_40, imagenet_resnet_18, preresnet_164, vgg_19
from scratchcard.types import UnitMask

BATCH, RUNS = 32, 5
ANALYSIS = """
import time, torch, warnings
warnings.filterwarnings("ignore")
from scratchcard.networks.sites import find_sites
from scratchcard.networks.zoo import imagenet_resnet_50
torch.set_num_threads(1)
model, x = imagenet_resnet_50(), torch.randn(1, 3, 224, 224)
began = time.process_time()
find_sites(model, x)
print(time.process_time() - began)
"""


class Inverted(nn.Module):
    """An inverted residual of MobileNetV2: widen, depthwise, narrow (Sandler et al. 2018)."""

    def __init__(self, channels: int, out: int, stride: int, widen: int = 6) -> None:
        super().__init__()
        inside = channels * widen
        self.inside = nn.Sequential(
            nn.Conv2d(channels, inside, 1, bias=False),
            nn.BatchNorm2d(inside),
            nn.ReLU6(),
            nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False),
            nn.BatchNorm2d(inside),
            nn.ReLU6(),
            nn.Conv2d(inside, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.stays = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x) if self.stays else self.inside(x)


def mobile() -> nn.Module:
    """A MobileNetV2 for images of 32 pixels."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    channels = 32
    for out, number, stride in ((24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)):
        for at in range(number):
            layers.append(Inverted(channels, out, stride if at == 0 else 1))
            channels = out
    layers += [nn.Conv2d(channels, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
    # by its layers' inputs: under torch's own initialisation signals die out on the way through
    return kaiming_normal_(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 10)))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "VGG-19": (vgg_19, 32),
    "ResNet-18": (imagenet_resnet_18, 64),
    "MobileNetV2-like": (mobile, 32),
    "DenseNet-40": (densenet_40, 32),
    "PreResNet-164": (preresnet_164, 32),
}


def cut(sites: dict[str, int], share: float, seed: int) -> UnitMask:
    """Keep the share of every site's units, at random."""
    chance = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(units, generator=chance).argsort().argsort() < max(1, round(share * units))
        for name, units in sites.items()
    }


def onnx_seconds(models: list[nn.Module], x: Tensor) -> list[float]:
    """Median seconds of each in ONNX Runtime, one thread, in turns."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    times: list[list[float]] = [[] for _ in models]
    with tempfile.TemporaryDirectory() as folder:
        sessions = []
        for at, model in enumerate(models):
            path = Path(folder) / f"{at}.onnx"
            export_onnx(model, x, path)
            sessions.append(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
        for run in range(RUNS + 2):
            for own, session in zip(times, sessions, strict=True):
                began = time.perf_counter()
                session.run(None, {session.get_inputs()[0].name: x.numpy()})
                if run >= 2:
                    own.append(time.perf_counter() - began)
    return [sorted(own)[len(own) // 2] for own in times]


def lines(name: str, make: Callable[[], nn.Module], size: int, share: float) -> list[str]:
    """One line for the plain cut, one for the rounded."""
    torch.manual_seed(0)
    model, x = make(), torch.randn(BATCH, 3, size, size)
    model.eval()
    sites = find_sites(model, x[:2])
    mask = cut({site: len(sites[site]) for site in sites.ordinary}, share, 1)
    masks = {"plain": mask, "rounded to 8": round_up(mask, 8), "rounded to 16": round_up(mask, 16)}
    small = [compact(model, own, x[:2], sites) for own in masks.values()]
    models = [model, *(made.module.eval() for made in small)]
    eager = [found.median for found in latencies(models, x, RUNS, 2)]
    runtime = onnx_seconds(models, x)
    dense, *costs = [cost(own, x[:2]) for own in models]
    told = []
    for at, (how, own) in enumerate(zip(masks, costs, strict=True), start=1):
        ratio = dense.macs / own.macs
        told.append(
            f"| {name} | {100 * (1 - share):.0f} % | {how} | {own.parameters / dense.parameters:.3f} | "
            f"{own.activation_bytes / dense.activation_bytes:.3f} | {ratio:.1f} | "
            f"{eager[0] / eager[at]:.1f} | {runtime[0] / runtime[at]:.1f} | {runtime[0] / runtime[at] / ratio:.2f} | "
            f"{small[at - 1].error:.0e} |"
        )
    return told


def main() -> None:
    seconds = [
        float(subprocess.run([sys.executable, "-c", ANALYSIS], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    print(f"""# How small, how fast

Units of every site cut at random. Speed-ups are against the dense network, one thread, batch {BATCH}, in turns, median
of {RUNS} runs; the MAC ratio is counted. Error: float64 difference to the silenced large network, relative to its
largest output. Peak: bytes of activations alive at once in a forward pass, counted, against the dense network's.
VGG-19 and DenseNet-40, PreResNet-164 and the MobileNetV2-like at 32 pixels, ResNet-18 at 64.

Analysis of ResNet-50 at 224 pixels, cold: {min(seconds):.1f} to {max(seconds):.1f} CPU seconds (n = 3).

| network | cut | | parameters kept | peak kept | MAC ratio | eager | ONNX Runtime | ONNX Runtime / MAC ratio | error |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |""")
    for name, (make, size) in NETWORKS.items():
        for share in (0.5, 0.3):
            print("\n".join(lines(name, make, size, share)), flush=True)
    print(f"""
```
python benchmarks/compaction.py > docs/results/compaction.md
```

torch {torch.__version__}. Not measured on a GPU.""")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
