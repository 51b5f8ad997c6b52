"""Tasks whose answer is known, small enough to train in a blink: what the promises are tested on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from scratchcard.methods.ticket import Method, Ticket
from scratchcard.networks.zoo.preresnet import PreBottleneck
from scratchcard.study.execute import Trainings
from scratchcard.study.jobs import Asked
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.study.tickets import keep
from scratchcard.training.data import Data
from scratchcard.training.recipe import Recipe
from scratchcard.training.sources import load_data
from scratchcard.training.task import Task
from scratchcard.training.teacher import planted_teacher

PLANTED = {"seed": 1, "inputs": 16, "relevant": 4, "hidden": 8, "connections": 2}
SMALL = {"train": 200, "validation": 50, "test": 50}


def planted_student() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 1))


def planted() -> tuple[Task, Tensor]:
    """Regression on a planted sparse teacher, and which of the 16 inputs it truly reads (4 of them)."""
    data, _, mask = planted_teacher(**PLANTED, train=1000, validation=100, test=100)
    return Task("planted", planted_student, data, loss="mse", metric="mse"), mask["0.weight"].any(0)


def regression_model() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 12), nn.Dropout(0.2), nn.Tanh(), nn.Linear(12, 1))


def regression() -> Task:
    """Squared error, with dropout."""
    return Task("regression", regression_model, load_data("teacher", **PLANTED, **SMALL), loss="mse", metric="mse")


def noise_model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 3))


def noise() -> Task:
    """Labels that have nothing to do with the inputs: accuracy is 1/3 whatever is done."""
    chance = torch.Generator().manual_seed(0)

    def examples(n: int) -> tuple[Tensor, Tensor]:
        return torch.randn(n, 8, generator=chance), torch.randint(0, 3, (n,), generator=chance)

    return Task("noise", noise_model, Data.from_tensors("noise", examples(120), examples(60), examples(60)))


def digits_model() -> nn.Module:
    layers = (nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(16, 10))


def digits() -> Task:
    """scikit-learn's handwritten digits and a small convolutional network."""
    return Task("digits", digits_model, load_data("digits"))


class Reader(nn.Module):
    """A transformer of one layer that reads what came before: tokens [B, T] to logits [B, T, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        ahead = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
        return self.head(self.block(self.embed(tokens), src_mask=ahead))


def next_token() -> Task:
    """Next-token prediction on a text of four letters whose next letter is certain: abacadabacad..."""
    text = torch.tensor(["abcd".index(letter) for letter in "abacad" * 60])
    windows = text.unfold(0, 9, 1)
    pair = lambda rows: (rows[:, :-1], rows[:, 1:])  # noqa: E731
    data = Data.from_tensors("text", pair(windows[:200]), pair(windows[260:300]), pair(windows[200:260]))
    return Task("text", Reader, data, loss="next_token", metric="next_token_accuracy")


TASKS: dict[str, Callable[[], Task]] = {
    "regression": regression,
    "noise": noise,
    "digits": digits,
    "next-token": next_token,
}


@contextmanager
def one_thread() -> Iterator[None]:
    """As all runs are made: more threads add up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# networks whose whole units are cut


def corners_model() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(6),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False),
            bn2=nn.BatchNorm2d(8),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            output=nn.Linear(8 * 9, 4),
        )
    )


@cache
def corners() -> Task:
    """Which corner of an image of 6 x 6 noisy pixels is bright? By two normalised convolutions; 14 channels."""
    chance = torch.Generator().manual_seed(3)

    def examples(n: int) -> tuple[Tensor, Tensor]:
        images, labels = torch.randn(n, 1, 6, 6, generator=chance), torch.arange(n) % 4
        for image, label in zip(images[:, 0], labels.tolist(), strict=True):
            image[3 * (label // 2) : 3 * (label // 2) + 3, 3 * (label % 2) : 3 * (label % 2) + 3] += 1
        return images, labels

    return Task("corners", corners_model, Data.from_tensors("corners", examples(120), examples(40), examples(40)))


class Bottlenecks(nn.Module):
    """A stream of channels that two blocks read through normalisations of their own (a small PreResNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(PreBottleneck(8, 2), PreBottleneck(8, 2))
        self.bn = nn.BatchNorm2d(8)
        self.output = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.output(torch.relu(self.bn(self.blocks(self.conv(images)))).mean((2, 3)))


@cache
def bottlenecks() -> Task:
    """The corners again, by a network that normalises before it convolves: channels are chosen for each reader."""
    return Task("bottlenecks", Bottlenecks, corners().data)


def perceptron_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))


@cache
def perceptron() -> Task:
    """The corners again, by a network without normalisation: scaling factors are gates."""
    return Task("perceptron", perceptron_model, corners().data)


def trainings(task: Task, recipe: Recipe, method: Method, store: Store, arms: tuple[str, ...] = ()) -> Trainings:
    """What backs a method's trainings in a study."""
    return Study(task, recipe, methods=[method], arms=arms, seeds=1).trainings(store)


def find(task: Task, recipe: Recipe, method: Method, folder: object, seed: int = 0) -> tuple[Trainings, list[Ticket]]:
    """All tickets of a method for one seed, with the trainings they were found by."""
    lottery = method.units == "weights" and not method.origin.trained
    arms = ("fresh-init", "random-mask-layerwise") if lottery else ()
    backed = trainings(task, recipe, method, Store(str(folder)), arms)
    return backed, list(found(backed, method, seed))


def found(backed: Trainings, method: Method, seed: int = 0) -> Iterator[Ticket]:
    """A method's tickets as a study finds them: each kept in the store, with its price, before the method goes on."""
    asked = Asked(backed)
    for one in method.find(backed.task, backed.recipe, seed, asked):
        ticket = replace(one, search_flops=asked.spent + one.scoring_flops)
        keep(backed.store, backed.spec(ticket).id, ticket)
        yield ticket
