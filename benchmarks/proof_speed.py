"""What proving every site costs: analysis with and without proofs, a run's compaction beside that of another commit.

    python benchmarks/proof_speed.py [OLD_CHECKOUT]

Every figure is CPU seconds of one thread in a process of its own, the imports left out, the smaller of three. The old
checkout (`git worktree add /tmp/old COMMIT`) takes its turn between, in the same run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
TURNS = int(os.environ.get("TURNS", 3))
MEASURED = """
import json, os, sys, time
import torch
torch.set_num_threads(1)
from scratchcard.networks.compact import compact
try:
    from scratchcard.networks.proved import find_sites
    from scratchcard.networks.sites import read_sites
    how = {"proof": "weights"}
except ImportError:
    from scratchcard.networks.sites import find_sites
    read_sites, how = find_sites, {}
from scratchcard.networks.zoo.imagenet_resnet import imagenet_resnet_50
from scratchcard.networks.zoo.lenet import lenet_300_100
from scratchcard.networks.zoo.resnet import resnet_20
from scratchcard.networks.zoo.vgg import vgg_16

class Kept(dict):
    def refused(self, digest):
        return self.get(digest)
    def keep(self, digest, refused):
        self[digest] = refused

def seconds(do):
    start = time.process_time()
    result = do()
    return time.process_time() - start, result

found = {}
torch.manual_seed(0)
model, x = imagenet_resnet_50(), torch.randn(2, 3, 64, 64)
if how:
    proofs = Kept()
    found["ResNet-50, sites proved, cold"], _ = seconds(lambda: find_sites(model, x, proofs))
    found["ResNet-50, sites from kept proofs"], _ = seconds(lambda: find_sites(model, x, proofs))
else:
    found["ResNet-50, sites, cold"], _ = seconds(lambda: find_sites(model, x))
found["ResNet-50, sites read, warm"], _ = seconds(lambda: read_sites(model, x))
nets = {
    "LeNet": (lenet_300_100(), torch.randn(2, 1, 28, 28)),
    "VGG-16": (vgg_16(), torch.randn(2, 3, 32, 32)),
    "ResNet-20": (resnet_20(), torch.randn(2, 3, 32, 32)),
    "ResNet-50": (model, x),
}
for name, (net, inputs) in nets.items():
    sites = read_sites(net, inputs)
    mask = {site: torch.arange(len(sites[site])) % 2 == 0 for site in sites.ordinary}
    compact(net, mask, inputs, sites, **how)
    times = 3 if name == "ResNet-50" else 10
    spent, _ = seconds(lambda: [compact(net, mask, inputs, sites, **how) for _ in range(times)])
    found[f"{name}, a run's compaction"] = spent / times
print(json.dumps(found))
"""


def measured(checkout: Path) -> dict[str, float]:
    """The figures of one process over a checkout's code."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", MEASURED], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{checkout} could not be measured: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(checkouts: list[Path]) -> None:
    """Print the smallest figure of each line, for each checkout."""
    turns = [[measured(checkout) for checkout in checkouts] for _ in range(TURNS)]
    for at, checkout in enumerate(checkouts):
        print(f"{checkout}:")
        for line in turns[0][at]:
            best = min(turn[at][line] for turn in turns)
            told = f"  {line:40} {best:8.3f} CPU s"
            if at and line in turns[0][0]:
                told += f", {min(turn[0][line] for turn in turns) / best:.2f} of it in this checkout"
            print(told)


if __name__ == "__main__":
    main([HERE, *map(Path, sys.argv[1:])])
