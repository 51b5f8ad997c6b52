"""The studies that come with scratchcard, by name: a task, with the recipe and pruning rates of its paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scratchcard.methods.imp import IMP
from scratchcard.networks.zoo import conv_2, lenet_300_100
from scratchcard.study.study import Study
from scratchcard.training.recipe import Recipe
from scratchcard.training.sources import load_data
from scratchcard.training.task import Task


def digits(**options: Any) -> Study:
    """Handwritten digits of 8 x 8 pixels, embedded in scikit-learn: a LeNet-300-100 for a demonstration."""
    return Study(
        Task("digits", digits_network, load_data("digits")),
        Recipe(optimizer="adam", lr=1.2e-3, batch_size=60, steps=600, eval_every=20),
        methods=[IMP(rounds=12, rate={"linear": 0.2, "output": 0.1})],
        **options,
    )


def mnist(**options: Any) -> Study:
    """LeNet-300-100 on MNIST as in Frankle & Carbin 2019, Figure 2, with 4,000 steps instead of 50,000."""
    return Study(
        Task("mnist", lenet_300_100, load_data("mnist")),
        Recipe(optimizer="adam", lr=1.2e-3, batch_size=60, steps=4000, eval_every=100),
        methods=[IMP(rounds=15, rate={"linear": 0.2, "output": 0.1})],
        primary=0.135,
        **options,
    )


def cifar10(**options: Any) -> Study:
    """Conv-2 on CIFAR-10 as in Frankle & Carbin 2019, Figure 2: 20,000 steps; hours on a CPU."""
    return Study(
        Task("cifar10", conv_2, load_data("cifar10")),
        Recipe(optimizer="adam", lr=2e-4, batch_size=60, steps=20_000, eval_every=100),
        methods=[IMP(rounds=15, rate={"conv": 0.1, "linear": 0.2, "output": 0.1})],
        primary=0.088,
        **options,
    )


def digits_network() -> Any:
    """LeNet-300-100 for 64 pixels."""
    return lenet_300_100(inputs=64)


BUILT_IN: dict[str, Callable[..., Study]] = {"digits": digits, "mnist": mnist, "cifar10": cifar10}
"""Every built-in study by its name."""
