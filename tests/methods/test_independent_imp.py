"""Iterative magnitude pruning, written a second time by hand from the papers, finds what `sc.IMP` finds in a study.

Sources: Frankle & Carbin 2019, The Lottery Ticket Hypothesis, Strategy 1 of App. B: train, prune a share of the
*surviving* weights of smallest magnitude, set the rest back, repeat - biases and normalisation are not pruned, a layer
has its own share. Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis, section 2 and
Algorithm 2: set back to step k, that is to all of the state at step k, and train the remaining steps.

The rewrite is plain PyTorch and NumPy. Of scratchcard it has conventions alone: a seed's initial weights
(`Task.fresh`), a seed's order of examples (`training.data.order`), warm-up that reaches its peak in step `warmup`, and
counts that are the nearest whole number to n (1 - p)^round. It is compared with what a study leaves in its store. In
float32 it has torch's fused kernel for its updates, and every bit must agree; in float64 the update is written out, and
masks must agree exactly, weights to 1e-12.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import scratchcard as sc
from problems import one_thread
from scratchcard.networks.forward import state_digest
from scratchcard.study.store import Store
from scratchcard.study.tickets import Facts
from scratchcard.training.data import order

STEPS, BATCH, LR, MOMENTUM, DECAY = 25, 16, 0.1, 0.9, 0.01
WARMUP, MILESTONES, GAMMA = 10, (17, 22), 0.1  # step 7 lies within the warm-up, and within the second epoch
K, ROUNDS, SEEDS = 7, 4, (0, 3)
RATES = {"conv.weight": 0.1, "hidden.weight": 0.3, "output.weight": 0.15}
KINDS = {"conv": 0.1, "linear": 0.3, "output": 0.15}
TOGETHER = 0.3

METHODS = {
    "layer-wise, rewound to step 7": sc.IMP(rounds=ROUNDS, rate=KINDS, rewind=K),
    "layer-wise, reset to step 0": sc.IMP(rounds=ROUNDS, rate=KINDS),
    "global, rewound to step 7": sc.IMP(rounds=ROUNDS, rate=TOGETHER, scope="global", rewind=K),
    "one-shot, rewound to step 7": sc.IMP(rounds=ROUNDS, rate=KINDS, one_shot=True, rewind=K),
}
REWOUND, RESET, GLOBAL, ONE_SHOT = METHODS
PLAIN, NESTEROV = "momentum, float32", "nesterov, float64"
CASES = [(PLAIN, name) for name in METHODS] + [(NESTEROV, REWOUND)]

every_case = pytest.mark.parametrize(("sgd", "method"), CASES, ids=[f"{name}, {sgd}" for sgd, name in CASES])
every_seed = pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed {seed}")


# the problem: which corner of a noisy image of 6 x 6 pixels is bright?


def network() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 6, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(6),
            relu1=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            hidden=nn.Linear(54, 16),
            bn2=nn.BatchNorm1d(16, momentum=None),  # a cumulative mean: how many batches were seen is a part of it
            relu2=nn.ReLU(),
            output=nn.Linear(16, 4),
        )
    )


def examples(n: int, seed: int) -> tuple[Tensor, Tensor]:
    images, labels = torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed)), torch.arange(n) % 4
    for image, label in zip(images[:, 0], labels.tolist(), strict=True):
        image[3 * (label // 2) :, 3 * (label % 2) :][:3, :3] += 1
    return images, labels


TRAIN, VALIDATION, TEST = examples(85, 1), examples(32, 2), examples(128, 3)  # 5 batches an epoch, 5 examples left over
TASK = sc.Task("corners", network, sc.Data.from_tensors("corners", TRAIN, TEST, VALIDATION))


# what scratchcard does


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[sc.Rows, Store]]:
    @cache
    def study(sgd: str) -> tuple[sc.Rows, Store]:
        recipe = sc.Recipe(
            steps=STEPS,
            lr=LR,
            optimizer="sgd",
            momentum=MOMENTUM,
            nesterov=sgd == NESTEROV,
            weight_decay=DECAY,
            batch_size=BATCH,
            schedule="step",
            milestones=MILESTONES,
            gamma=GAMMA,
            warmup=WARMUP,
            precision="float64" if sgd == NESTEROV else "float32",
            eval_every=STEPS,
        )
        folder: Path = tmp_path_factory.mktemp("runs")
        methods = [METHODS[name] for used, name in CASES if used == sgd]
        rows = sc.Study(TASK, recipe, methods, arms=[], seeds=SEEDS, store=folder).run(workers=1, progress=False)
        return rows, Store(folder)

    return study


def dense_and_tickets(rows: sc.Rows, method: str, seed: int) -> tuple[sc.Row, list[sc.Row]]:
    (dense,) = (row for row in rows if row.arm == "dense" and row.seed == seed)
    tickets = [row for row in rows if (row.method, row.arm, row.seed) == (METHODS[method].label, "ticket", seed)]
    assert [row.level for row in tickets] == list(range(1, ROUNDS + 1))
    return dense, tickets


def mask_on_disk(store: Store, row: sc.Row) -> dict[str, np.ndarray]:
    _, tensors = store.ticket(row.id, Facts)
    return {name: tensors[name].numpy() for name in RATES}


# the rewrite

State = dict[str, Tensor]
Mask = dict[str, np.ndarray]


@dataclass(frozen=True)
class Level:
    """One trained network: its mask, all of its state at the start and at the end, and its accuracy."""

    mask: Mask
    start: State
    end: State
    accuracy: float


def rate_at(step: int) -> float:
    return LR * min(1.0, (step + 1) / WARMUP) * GAMMA ** sum(step >= milestone for milestone in MILESTONES)


def batches_of(seed: int) -> Iterator[Tensor]:
    for epoch in range(STEPS):
        yield from order(len(TRAIN[0]), BATCH, seed, epoch)


def fused(parameters: list[nn.Parameter]) -> Callable[[float], None]:
    """Momentum in float32, by torch's kernel."""
    optimizer = torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, weight_decay=DECAY, fused=True)

    def update(rate: float) -> None:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()

    return update


def written_out(parameters: list[nn.Parameter]) -> Callable[[float], None]:
    """Nesterov momentum, as torch's manual writes it: v = momentum v + g; w -= rate (g + momentum v)."""
    velocities = [np.zeros(parameter.shape) for parameter in parameters]

    def update(rate: float) -> None:
        for parameter, velocity in zip(parameters, velocities, strict=True):
            weights = parameter.detach().numpy()  # the parameter's own memory
            gradient = parameter.grad.numpy() + DECAY * weights
            velocity *= MOMENTUM
            velocity += gradient
            weights -= rate * (gradient + MOMENTUM * velocity)

    return update


def state_of(model: nn.Module) -> State:
    return {name: value.clone() for name, value in model.state_dict().items()}


def trained(state: State, mask: Mask, seed: int, begin: int, sgd: str) -> dict[int, State]:
    """Train the surviving weights from step `begin` to the end; the state at steps `begin`, K and STEPS."""
    model, number = network(), torch.float64 if sgd == NESTEROV else torch.float32
    model.to(number).load_state_dict(state)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, kept in mask.items():
            weights[name].mul_(torch.from_numpy(kept)).add_(0.0)  # 0 added: -w x 0 is -0.0, another zero, bit by bit
    update = (written_out if sgd == NESTEROV else fused)(list(model.parameters()))
    seen = {begin: state_of(model)}
    model.train()
    for step, batch in zip(range(STEPS), batches_of(seed), strict=False):
        if step < begin:
            continue
        if step == K:
            seen[K] = state_of(model)
        model.zero_grad()
        F.cross_entropy(model(TRAIN[0][batch].to(number)), TRAIN[1][batch]).backward()
        for name, kept in mask.items():
            weights[name].grad.mul_(torch.from_numpy(kept))
        update(rate_at(step))
    return {**seen, STEPS: state_of(model)}


def accuracy_of(state: State, sgd: str) -> float:
    model, number = network(), torch.float64 if sgd == NESTEROV else torch.float32
    model.to(number).load_state_dict(state)
    with torch.no_grad():
        answers = model.eval()(TEST[0].to(number)).argmax(1)
    return int((answers == TEST[1]).sum()) / len(TEST[1])


def without_smallest(mask: Mask, end: State, names: list[str], keep: int) -> Mask:
    """Cut the smallest surviving weights of some layers, ranked together, until `keep` are left in them."""
    magnitudes = np.concatenate([np.abs(end[name].numpy()[mask[name]]) for name in names])
    largest_cut = np.sort(magnitudes)[len(magnitudes) - keep - 1]
    return {name: mask[name] & (np.abs(end[name].numpy()) > largest_cut) for name in names}


def pruned(mask: Mask, end: State, done: int, method: sc.IMP) -> Mask:
    """The mask after `done` rounds in all."""
    if method.scope == "global":
        total = sum(kept.size for kept in mask.values())
        return without_smallest(mask, end, list(mask), round(total * (1 - TOGETHER) ** done))
    new = {}
    for name, kept in mask.items():
        new |= without_smallest(mask, end, [name], round(kept.size * (1 - RATES[name]) ** done))
    return new


@cache
def by_hand(sgd: str, name: str, seed: int) -> list[Level]:
    """Strategy 1: the dense network, then the tickets of every level."""
    method, initial = METHODS[name], copy.deepcopy(TASK.fresh(seed).state_dict())
    with one_thread():
        whole = {weight: np.ones(initial[weight].shape, dtype=bool) for weight in RATES}
        dense = trained(initial, whole, seed, 0, sgd)
        levels = [Level(whole, dense[0], dense[STEPS], accuracy_of(dense[STEPS], sgd))]
        for done in range(1, ROUNDS + 1):
            before = levels[0 if method.one_shot else -1]
            mask = pruned(before.mask, before.end, done, method)
            run = trained(dense[method.rewind], mask, seed, method.rewind, sgd)
            levels.append(Level(mask, run[method.rewind], run[STEPS], accuracy_of(run[STEPS], sgd)))
    return levels


# the two compared


def agree(ours: State, theirs: State, sgd: str) -> bool:
    """Bit by bit in float32; to 1e-12 in float64, where this file adds up in an order of its own."""
    assert ours.keys() == theirs.keys()
    assert all(ours[name].dtype == theirs[name].dtype for name in ours)
    if sgd == PLAIN:
        return state_digest(ours) == state_digest(theirs)
    return all(torch.allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-12) for name in ours)


@every_case
@every_seed
def test_the_masks_of_every_level_are_those_of_the_rewrite_entry_by_entry(studied, sgd, method, seed):
    rows, store = studied(sgd)
    _, tickets = dense_and_tickets(rows, method, seed)
    for level, row in zip(by_hand(sgd, method, seed)[1:], tickets, strict=True):
        theirs = mask_on_disk(store, row)
        for name, kept in level.mask.items():
            assert np.array_equal(kept, theirs[name]), (
                f"level {row.level}, {name}: {(kept != theirs[name]).sum()} of {kept.size} entries differ"
            )
            assert row.layers[name] == (kept.sum(), kept.size)


@every_case
@every_seed
def test_every_ticket_starts_from_the_rewound_weights_and_buffers_of_the_rewrite(studied, sgd, method, seed):
    rows, store = studied(sgd)
    dense, tickets = dense_and_tickets(rows, method, seed)
    step = METHODS[method].rewind
    rewound = store.tensors(dense.artefacts[f"step-{step}"])
    for level, row in zip(by_hand(sgd, method, seed)[1:], tickets, strict=True):
        assert level.start["bn1.num_batches_tracked"] == step
        masked = {
            name: v.where(torch.from_numpy(level.mask[name]), 0) if name in RATES else v for name, v in rewound.items()
        }
        assert agree(level.start, masked, sgd)
        assert row.snapshots[step] == state_digest(masked), f"level {row.level} did not start from there"
        assert row.curve.steps[0] == step


@every_case
@every_seed
def test_every_training_ends_with_the_weights_and_the_test_accuracy_of_the_rewrite(studied, sgd, method, seed):
    rows, store = studied(sgd)
    dense, tickets = dense_and_tickets(rows, method, seed)
    for level, row in zip(by_hand(sgd, method, seed), [dense, *tickets], strict=True):
        assert agree(level.end, store.tensors(row.artefacts[f"step-{STEPS}"]), sgd), f"level {row.level}"
        assert level.accuracy == row.end.test_metric, f"level {row.level}"
        assert row.end.step == STEPS


# it would be seen if they did not agree


def share_that_differs(a: Level, b: Level) -> float:
    return sum((a.mask[n] != b.mask[n]).sum() for n in RATES) / sum(kept.size for kept in a.mask.values())


@pytest.mark.parametrize("other", [RESET, GLOBAL, ONE_SHOT])
@every_seed
def test_the_masks_are_others_when_one_thing_is_done_in_another_way(other, seed):
    ours, theirs = by_hand(PLAIN, REWOUND, seed), by_hand(PLAIN, other, seed)
    differing = [share_that_differs(a, b) for a, b in zip(ours[1:], theirs[1:], strict=True)]
    assert differing[-1] > 0.02
    # the first level is cut from the same dense training, layer by layer or not
    assert (differing[0] == 0) == (other != GLOBAL)


@every_case
def test_the_masks_of_two_seeds_differ_and_each_is_nested_in_the_one_before(sgd, method):
    one, two = (by_hand(sgd, method, seed) for seed in SEEDS)
    assert all(share_that_differs(a, b) > 0.05 for a, b in zip(one[1:], two[1:], strict=True))
    for before, after in pairwise(one):
        assert not any((after.mask[name] & ~before.mask[name]).any() for name in RATES)
        assert sum(kept.sum() for kept in after.mask.values()) < sum(kept.sum() for kept in before.mask.values())


@every_case
@every_seed
def test_the_networks_learn_something_but_not_everything_and_what_was_cut_stays_zero(sgd, method, seed):
    levels = by_hand(sgd, method, seed)
    assert len({level.accuracy for level in levels}) > 2
    for level in levels:
        assert 0.6 < level.accuracy < 1
        assert not any(level.end[name].numpy()[~level.mask[name]].any() for name in RATES)
