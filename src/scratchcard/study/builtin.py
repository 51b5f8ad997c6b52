"""The studies that come with scratchcard, by name: a task, with the recipe and pruning rates of its paper."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from scratchcard.methods.imp import IMP
from scratchcard.networks.zoo import conv_2, imagenet_resnet_50, lenet_300_100
from scratchcard.study.study import Study
from scratchcard.training.hub_images import class_names
from scratchcard.training.recipe import Recipe
from scratchcard.training.sources import load_data
from scratchcard.training.task import Task


def digits(**data: Any) -> Study:
    """Handwritten digits of 8 x 8 pixels, embedded in scikit-learn: a LeNet-300-100 for a demonstration."""
    return Study(
        Task("digits", partial(lenet_300_100, inputs=64), load_data("digits", **data)),
        Recipe(optimizer="adam", lr=1.2e-3, batch_size=60, steps=400, eval_every=20),
        methods=[IMP(rounds=10, rate={"linear": 0.2, "output": 0.1})],
    )


def mnist(**data: Any) -> Study:
    """LeNet-300-100 on MNIST as in Frankle & Carbin 2019, Figure 2, with 4,000 steps instead of 50,000."""
    return Study(
        Task("mnist", lenet_300_100, load_data("mnist", **data)),
        Recipe(optimizer="adam", lr=1.2e-3, batch_size=60, steps=4000, eval_every=100),
        methods=[IMP(rounds=15, rate={"linear": 0.2, "output": 0.1})],
        primary=0.135,
    )


def cifar10(**data: Any) -> Study:
    """Conv-2 on CIFAR-10 as in Frankle & Carbin 2019, Figure 2: 20,000 steps, hours on a CPU.

    For small machines: `--data size=16 --data n=9000 --set steps=2000`.
    """
    return Study(
        Task("cifar10", partial(conv_2, size=data.get("size", 32)), load_data("cifar10", **data)),
        Recipe(optimizer="adam", lr=2e-4, batch_size=60, steps=20_000, eval_every=100),
        methods=[IMP(rounds=15, rate={"conv": 0.1, "linear": 0.2, "output": 0.1})],
        primary=0.088,
    )


def imagenet(**data: Any) -> Study:
    """ResNet-50 on ImageNet: 90 epochs of batches of 256, as in Liu et al. 2019 and You et al. 2020; days on a GPU.

    Survivors are rewound to epoch 6, as a network of this size has no matching tickets at its initialisation (Frankle
    et al. 2020), and ranked over all layers. On a GPU: `--set device=cuda --set precision=bfloat16 --data workers=16`.
    For small machines: `--data classes=10 --data size=64`.
    """
    images = load_data("imagenet", **data)
    epoch = max(1, len(images.train) // 256)
    return Study(
        Task("imagenet", partial(imagenet_resnet_50, classes=len(class_names(images))), images),
        Recipe(
            optimizer="sgd",
            lr=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            batch_size=256,
            steps=90 * epoch,
            schedule="step",
            milestones=(30 * epoch, 60 * epoch),
            eval_every=epoch,
            eval_batch_size=256,
        ),
        methods=[IMP(rounds=8, scope="global", rewind=6 * epoch)],
    )


def teacher(**data: Any) -> Study:
    """Data labelled by a planted sparse network: does a large student shrink to the few connections that matter?"""
    classes = data.get("task") == "classification"
    student = partial(lenet_300_100, inputs=data.get("inputs", 32), classes=data.get("outputs", 1))
    return Study(
        Task(
            "teacher",
            student,
            load_data("teacher", **data),
            loss="cross_entropy" if classes else "mse",
            metric="accuracy" if classes else "mse",
        ),
        Recipe(optimizer="adam", lr=1.2e-3, batch_size=60, steps=1000, eval_every=50),
        methods=[IMP(rounds=12, rate={"linear": 0.2, "output": 0.1})],
        primary=0.1,
    )


BUILT_IN: dict[str, Callable[..., Study]] = {
    "digits": digits,
    "mnist": mnist,
    "cifar10": cifar10,
    "imagenet": imagenet,
    "teacher": teacher,
}
"""Every built-in study by its name; its arguments are the options of its data."""
