"""Are small networks as much faster as they are smaller? Analysis, sizes and speed, eager and in ONNX Runtime.

python benchmarks/compaction.py measure
python benchmarks/compaction.py

The first command measures and writes docs/results/rows, then the page; the second writes the page again. Half, or 70 %,
of the units of every site go, at random; "rounded" keeps multiples of 8. All networks of a line are timed in turns, one
thread, batch 32, median of the runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pages import main, records_page, table
from torch import Tensor, nn

from scratchcard.networks.compact import compact
from scratchcard.networks.cost import cost
from scratchcard.networks.exported import export_onnx
from scratchcard.networks.initialise import kaiming_normal_
from scratchcard.networks.latency import latencies
from scratchcard.networks.proved import find_sites
from scratchcard.networks.rounding import round_up
from scratchcard.networks.zoo import densenet_40, imagenet_resnet_18, preresnet_164, vgg_19
from scratchcard.types import UnitMask

BATCH, RUNS = 32, 5
ANALYSIS = """
import time, torch, warnings
warnings.filterwarnings("ignore")
from scratchcard.networks.proved import find_sites
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


def measured(name: str, make: Callable[[], nn.Module], size: int, share: float) -> Iterator[dict[str, Any]]:
    """One record for the plain cut, and one for each rounding."""
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
    for at, (how, own) in enumerate(zip(masks, costs, strict=True), start=1):
        yield {
            "network": name,
            "pixels": size,
            "cut": 1 - share,
            "how": how,
            "parameters": own.parameters / dense.parameters,
            "peak": own.activation_bytes / dense.activation_bytes,
            "macs": dense.macs / own.macs,
            "eager": eager[0] / eager[at],
            "runtime": runtime[0] / runtime[at],
            "error": small[at - 1].error,
        }


def measure() -> Iterator[dict[str, Any]]:
    """What was asked, with the seconds of an analysis; then one record per small network."""
    torch.set_num_threads(1)
    seconds = [
        float(subprocess.run([sys.executable, "-c", ANALYSIS], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    yield {"batch": BATCH, "runs": RUNS, "analysis": seconds, "torch": torch.__version__}
    for name, (make, size) in NETWORKS.items():
        for share in (0.5, 0.3):
            yield from measured(name, make, size, share)


def collect(_: str) -> list[list[dict[str, Any]]]:
    return [list(measure())]


def line(record: dict[str, Any]) -> list[str]:
    r = record
    return [r["network"], f"{r['pixels']}", f"{100 * r['cut']:.0f} %", r["how"], f"{r['parameters']:.3f}",
            f"{r['peak']:.3f}", f"{r['macs']:.1f}", f"{r['eager']:.1f}", f"{r['runtime']:.1f}",
            f"{r['runtime'] / r['macs']:.2f}", f"{r['error']:.0e}"]  # fmt: skip


def write(records: Sequence[dict[str, Any]]) -> str:
    """The page in Markdown."""
    asked, *small = records
    header = ["network", "pixels", "cut", "", "parameters kept", "peak kept", "MAC ratio", "eager", "ONNX Runtime",
              "ONNX Runtime / MAC ratio", "error"]  # fmt: skip
    parts = [
        "# How small, how fast",
        f"Units of every site cut at random. Speed-ups are against the dense network, one thread, batch "
        f"{asked['batch']}, in turns, median of {asked['runs']} runs; the MAC ratio is counted. Error: float64 "
        "difference to the silenced large network, relative to its largest output. Peak: bytes of activations alive at "
        "once in a forward pass, counted, against the dense network's.",
        f"Analysis of ResNet-50 at 224 pixels, cold: {min(asked['analysis']):.1f} to {max(asked['analysis']):.1f} CPU "
        f"seconds (n = {len(asked['analysis'])}).",
        table(header, map(line, small)),
        f"```\n{PAGE.command} measure\n{PAGE.command}\n```",
        f"torch {asked['torch']}. Not measured on a GPU.",
    ]
    return "\n\n".join(parts) + "\n"


def answer(records: Sequence[dict[str, Any]]) -> str:
    """The range of speed-ups of the networks with half of their units."""
    half = [record for record in records[1:] if record["cut"] == 0.5]
    macs, eager, runtime = (
        f"{min(values):.1f} to {max(values):.1f}"
        for values in ([record[name] for record in half] for name in ("macs", "eager", "runtime"))
    )
    return (
        f"With half of the units of every site: {macs} times fewer multiply-adds, {eager} times as fast in PyTorch and "
        f"{runtime} times in ONNX Runtime, over {len({record['network'] for record in half})} networks."
    )


PAGE = records_page(
    name="compaction",
    question="Are small networks as much faster as they are smaller?",
    command="python benchmarks/compaction.py",
    rows=["compaction"],
    write=write,
    answer=answer,
    gone="Every small network was faster than the dense one, mostly by less than it has fewer multiply-adds; wide "
    "networks came nearest, and widths rounded to multiples nearer than plain ones.",
)

if __name__ == "__main__":
    main(PAGE, collect)
