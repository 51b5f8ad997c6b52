"""A planted teacher: a sparse network whose true connections are known, and data labelled by it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from scratchcard.training.data import Data
from scratchcard.training.seeds import derive
from scratchcard.types import WeightMask


def planted_teacher(
    seed: int = 0,
    inputs: int = 32,
    relevant: int = 8,
    hidden: int = 16,
    outputs: int = 1,
    connections: int = 3,
    train: int = 2000,
    validation: int = 500,
    test: int = 1000,
    task: Literal["regression", "classification"] = "regression",
) -> tuple[Data, nn.Sequential, WeightMask]:
    """Data without noise whose smallest explanation is known: x ~ N(0, 1), y by a sparse ReLU network of x.

    Args:
        seed: of teacher and examples.
        inputs: numbers per example.
        relevant: how many of them the teacher looks at; each is read by at least one hidden unit.
        hidden: hidden units; each reads `connections` of the relevant inputs and feeds one output.
        outputs: targets [N, outputs] with mean 0 and variance 1, or the number of classes (the largest wins).
        connections: inputs per hidden unit.
        train: training examples; all examples are drawn independently.
        validation: validation examples.
        test: test examples.
        task: "regression" (float targets) or "classification" (int64 class numbers).

    Returns:
        The data; the teacher, `Sequential(Linear, ReLU, Linear)`; and the mask of its true connections by
        weight name ("0.weight", "2.weight"). Hidden units can be permuted without changing the function, so
        compare the mask of a student by the inputs it uses, not entry by entry.

    Raises:
        ValueError: needs 1 <= connections <= relevant <= min(inputs, hidden), outputs <= hidden and, for
            classification, two outputs or more.
    """
    if task not in ("regression", "classification"):
        raise ValueError(f'task={task!r} must be "regression" or "classification"')
    classes = task == "classification"
    if not (1 <= connections <= relevant <= min(inputs, hidden) and 1 + classes <= outputs <= hidden):
        raise ValueError(
            f"{task} needs 1 <= connections <= relevant <= min(inputs, hidden) and {1 + classes} <= "
            f"outputs <= hidden, got {connections=}, {relevant=}, {inputs=}, {hidden=}, {outputs=}"
        )
    chance = torch.Generator().manual_seed(derive(seed, "teacher"))
    mask = _connections(inputs, relevant, hidden, outputs, connections, chance)
    # made without values, so that nothing is drawn from the global generator
    first = nn.Linear(inputs, hidden, device="meta").to_empty(device="cpu")
    last = nn.Linear(hidden, outputs, device="meta").to_empty(device="cpu")
    teacher = nn.Sequential(first, nn.ReLU(), last).requires_grad_(False)
    for layer, name in ((first, "0.weight"), (last, "2.weight")):
        layer.weight.copy_(_strong(mask[name], chance))
        layer.bias.zero_()
    seen = teacher(torch.randn(10_000, inputs, generator=chance))
    last.weight.div_(seen.std(dim=0)[:, None])
    last.bias.copy_(-seen.mean(dim=0) / seen.std(dim=0))

    def examples(count: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(count, inputs, generator=chance)
        return x, teacher(x).argmax(dim=1) if classes else teacher(x)

    return Data.from_tensors("teacher", examples(train), examples(test), examples(validation)), teacher, mask


def _connections(
    inputs: int, relevant: int, hidden: int, outputs: int, connections: int, chance: torch.Generator
) -> WeightMask:
    used = torch.randperm(inputs, generator=chance)[:relevant]
    first = torch.zeros(hidden, inputs, dtype=torch.bool)
    last = torch.zeros(outputs, hidden, dtype=torch.bool)
    for unit in range(hidden):
        own = unit % relevant  # so that every relevant input is read by some unit
        others = [i for i in torch.randperm(relevant, generator=chance).tolist() if i != own]
        first[unit, used[[own, *others[: connections - 1]]]] = True
        last[unit % outputs, unit] = True
    return {"0.weight": first, "2.weight": last}


def _strong(kept: Tensor, chance: torch.Generator) -> Tensor:
    """Weights of either sign and magnitude 0.5 to 1 where kept: no true connection is too weak to matter."""
    magnitude = torch.rand(kept.shape, generator=chance) / 2 + 0.5
    sign = torch.randint(0, 2, kept.shape, generator=chance) * 2 - 1
    return magnitude * sign * kept
