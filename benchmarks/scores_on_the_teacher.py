"""Do scores at initialisation beat chance where the truth is known? Test loss of tickets of the planted teacher.

    python benchmarks/scores_on_the_teacher.py [seeds] [initialisation]

The teacher reads 4 of 16 inputs through 8 hidden units; the student has 24 hidden units, initialised as torch does, or
"glorot" or "kaiming". Every ticket is trained alike; differences are paired by seed, so they share initial
weights and the order of the data. Against "random" (every layer at the same density) a score may win by how many
weights it leaves in each layer, or by which; against its own mask, shuffled within the layers, by which alone.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import torch
from torch import nn

from scratchcard.evidence.statistics import mean_sd, t_interval
from scratchcard.masks.select import shuffle
from scratchcard.methods.at_init import AtInit
from scratchcard.networks.initialise import INITIALISATIONS
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.training.evaluate import evaluate
from scratchcard.training.loop import train
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive
from scratchcard.training.task import Task
from scratchcard.training.teacher import planted_teacher

TEACHER = {"seed": 1, "inputs": 16, "relevant": 4, "hidden": 8, "connections": 2}
RECIPE = Recipe(steps=300, lr=0.01, batch_size=50, eval_every=300)
LEVELS = {"rounds": 4, "rate": 0.5}
RANDOM = AtInit("random", **LEVELS)
METHODS = (
    RANDOM,
    AtInit("random", scope="erk", **LEVELS),
    AtInit("magnitude", **LEVELS),
    AtInit("magnitude", scope="global", **LEVELS),
    AtInit("snip", **LEVELS),
    AtInit("grasp", **LEVELS),
    AtInit("synflow", **LEVELS),
)


def student(init: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 1))
    return INITIALISATIONS[init](model) if init in INITIALISATIONS else model


def trained(task: Task, subnetwork: MaskedWeights, seed: int) -> float:
    """Test loss of a subnetwork of the seed's initial weights after training."""
    model = subnetwork.trainable(task.at_start(seed))
    for _ in train(model, task.data, task.loss_of, RECIPE, seed, (RECIPE.steps,)):
        pass
    return evaluate(model, task, task.data.test, RECIPE)[0]


def interval(differences: list[float]) -> str:
    low, high = t_interval(differences)
    return f"{mean_sd(differences)[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def main(seeds: int, init: str) -> None:
    data, _, truth = planted_teacher(**TEACHER, train=1000, validation=100, test=1000)
    read = truth["0.weight"].any(0)
    task = Task("planted", lambda: student(init), data, loss="mse", metric="mse")
    losses, shuffled, useful = (defaultdict[tuple[str, int], list[float]](list) for _ in range(3))
    for method in METHODS:
        for seed in range(seeds):
            for ticket in method.find(task, RECIPE, seed, lambda *_: iter(())):
                key, mask = (method.label, ticket.level), ticket.subnetwork.mask
                losses[key].append(trained(task, ticket.subnetwork, seed))
                chance = torch.Generator().manual_seed(derive(seed, "shuffled", *key))
                places = MaskedWeights(shuffle(mask, ticket.prunable, "layer", chance))
                shuffled[key].append(trained(task, places, seed))
                useful[key].append(float(mask["0.weight"][:, read].sum() / mask["0.weight"].sum()))

    print(
        f"{seeds} seeds; test loss (variance of the targets: 1), differences with 95 % t intervals; inputs: the share"
    )
    print("of the first layer's weights that read an input the teacher reads, by chance 25 %; the lower the loss, the")
    print(f"better; student initialised as {init!r}\n")
    print("| score | density | test loss | minus random | minus its mask shuffled | inputs |")
    print("|---|---|---|---|---|---|")
    for method in METHODS:
        for level, density in enumerate(method.densities(task)[1:], start=1):
            key = (method.label, level)
            by_chance = losses[RANDOM.label, level]
            columns = [
                f"{mean_sd(losses[key])[0]:.3f}",
                "" if method is RANDOM else interval([a - b for a, b in zip(losses[key], by_chance, strict=True)]),
                interval([a - b for a, b in zip(losses[key], shuffled[key], strict=True)]),
                f"{100 * mean_sd(useful[key])[0]:.0f} %",
            ]
            print(f"| {method.label} | {100 * density:.1f} % |", " | ".join(columns), "|")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, sys.argv[2] if len(sys.argv) > 2 else "torch")
