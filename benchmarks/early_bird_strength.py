"""Does another penalty make early birds early? When the detector fires, by the strength of the L1 penalty.

python benchmarks/early_bird_strength.py

The searches of `rethinking_cifar.py`, first seed, for 14 of their 40 epochs, before the rate drops: the epoch at which
the paper's reading fires at p = 0.5, and the distances between the masks of neighbouring epochs. Ten CPU minutes.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from rethinking_cifar import NETWORKS, PER_EPOCH, RECIPE

from scratchcard.masks.early_bird import EarlyBirdDetector
from scratchcard.methods.units import best_of_all, factors_of
from scratchcard.networks.scaling import Scaled
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.weights import everything
from scratchcard.training.loop import train
from scratchcard.training.sources import load_data
from scratchcard.training.task import Task

EPOCHS = 14


def main() -> None:
    data = load_data("cifar10", size=16, n=10_000)
    for name, network in NETWORKS.items():
        task = Task(name, network, data)
        for strength in (1e-5, 1e-4, 1e-3, 1e-2):
            searched = Scaled(MaskedWeights(everything(task.fresh(0))), factors_of("this", task, (), ()))
            detector, recipe = EarlyBirdDetector(), replace(RECIPE, scale_l1=strength)
            stops = range(PER_EPOCH, EPOCHS * PER_EPOCH + 1, PER_EPOCH)
            for snapshot in train(searched.trainable(task.fresh(0)), data, task.loss_of, recipe, 0, stops):
                detector.update(best_of_all(searched.scores(snapshot.state()), Fraction(1, 2), 1)[0])
            fired = "not by then" if detector.epoch is None else f"epoch {detector.epoch}"
            apart = " ".join(f"{distance:.2f}" for distance in detector.distances)
            print(f"{name}, penalty {strength:g}: {fired}; {apart}", flush=True)


if __name__ == "__main__":
    main()
