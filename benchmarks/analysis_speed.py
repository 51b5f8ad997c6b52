"""How long it takes to read a network and to make it small: seconds of the processor, per layer, on one thread.

`python benchmarks/analysis_speed.py [--layers 12 24 48 96] [--repeats 3]`. Each number is the best of the repeats. The
last column is the time per layer relative to the fastest line of GPT-2: 1.3 at most is what we promise.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn

from scratchcard.networks.compact import compact
from scratchcard.networks.proved import find_sites
from scratchcard.networks.sites import capture, read_sites
from scratchcard.networks.zoo import imagenet_resnet_50


def gpt2(layers: int) -> nn.Module:
    """A narrow GPT-2 of so many layers."""
    import transformers

    config = transformers.GPT2Config(
        n_embd=64,
        n_head=4,
        n_layer=layers,
        vocab_size=128,
        n_positions=16,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config).eval()


def best(repeats: int, what: Callable[[], Any]) -> tuple[float, Any]:
    """The least processor time of some repeats, and what the last gave."""
    seconds, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = what()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def line(name: str, model: nn.Module, inputs: Any, layers: int, repeats: int) -> tuple[str, list[float]]:
    """Seconds of the export alone, of reading the sites with it, of proving them too, and of one run's compaction."""
    export, _ = best(repeats, lambda: capture(model, inputs))
    read, sites = best(repeats, lambda: read_sites(model, inputs))
    proved, _ = best(repeats, lambda: find_sites(model, inputs))
    mask = {site: torch.arange(len(sites[site])) % 2 == 0 for site in sites.ordinary}
    run, _ = best(repeats, lambda: compact(model, mask, inputs, sites, proof="weights"))
    seconds = [export, read, proved, run]
    return f"{name:12} {layers:6} " + " ".join(f"{value:9.2f}" for value in seconds), seconds


def main() -> None:
    """Print a line for ResNet-50 and one for every depth of GPT-2."""
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("--layers", type=int, nargs="+", default=[12, 24, 48, 96])
    told.add_argument("--repeats", type=int, default=3)
    given = told.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    print(f"{'network':12} {'layers':>6} {'export':>9} {'read':>9} {'proved':>9} {'compact':>9}  per layer / least")
    resnet, images = imagenet_resnet_50(classes=10).eval(), torch.randn(4, 3, 64, 64)
    line("warm-up", resnet, images, 50, 1)
    print(line("ResNet-50", resnet, images, 50, given.repeats)[0], flush=True)
    words = {"input_ids": torch.randint(0, 128, (2, 8))}
    lines = {}
    for layers in given.layers:
        text, seconds = line("GPT-2", gpt2(layers), words, layers, given.repeats)
        lines[layers] = [value / layers for value in seconds]
        least = [min(per[at] for per in lines.values()) for at in range(4)]
        ratios = " ".join(f"{a / b:.2f}" for a, b in zip(lines[layers], least, strict=True))
        print(f"{text}  {ratios}", flush=True)
    least = [min(per[at] for per in lines.values()) for at in range(4)]
    worst = [max(per[at] for per in lines.values()) / least[at] for at in range(4)]
    print(
        "largest time per layer / least: "
        + ", ".join(
            f"{name} {ratio:.2f}" for name, ratio in zip(("export", "read", "proved", "compact"), worst, strict=True)
        )
    )


if __name__ == "__main__":
    main()
