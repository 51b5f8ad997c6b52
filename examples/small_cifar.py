"""VGG-16 of a quarter of the width on CIFAR-10 at 16 pixels: small enough to compare methods on a laptop in an evening.

scratchcard study examples/small_cifar.py --methods slimming,early-bird,l1-filters --rounds 1 --seeds 3
scratchcard lottery examples/small_cifar.py --rates 0.1,0.01 --rounds 3 --rate 0.5

CIFAR-10 is found through SCRATCHCARD_DATA, else downloaded.
"""

from functools import partial

import scratchcard as sc

EPOCH = 70
task = sc.Task("small-cifar", partial(sc.zoo.vgg_16, width=0.25), sc.load_data("cifar10", size=16, n=10_000))
recipe = sc.Recipe(
    optimizer="sgd",
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    batch_size=128,
    steps=20 * EPOCH,
    schedule="step",
    milestones=(10 * EPOCH, 15 * EPOCH),
    augment=("pad-crop", "flip"),
    eval_every=10 * EPOCH,
    channels_last=True,
)
methods = [sc.Slimming(), sc.EarlyBird(), sc.FilterPruning("l1")]
