"""How a network is trained, as data: optimizer, schedule, batches, augmentation, precision, and how often to look."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import nn

from scratchcard.fields import check_fields
from scratchcard.training.augment import AUGMENTATIONS
from scratchcard.words import unknown

Precision = Literal["float32", "bfloat16", "float64", "block8"]
MOST, EVALUATIONS = 10**9, 10**6
"""Steps or examples, and evaluations, beyond which a number is a slip of the hand: lists as long as that are made."""
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Recipe:
    """Everything about a training that is neither the network, the data nor the seed.

    Steps are optimizer steps (one batch each). All fields are identity, except `device` and `eval_batch_size`; one that
    is marked as added is left out of it at its default, so that runs from before it was there keep theirs.
    """

    steps: int = 1000
    lr: float = 1e-3
    optimizer: str | MakeOptimizer = "adam"
    """"sgd", "adam", "adamw", or a callable: parameters -> torch optimizer (it then sets lr and all else itself;
    the schedule multiplies its lr)."""
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    batch_size: int = 64
    schedule: Literal["constant", "step", "cosine"] = "constant"
    milestones: tuple[int, ...] = ()
    """Steps at which a step schedule multiplies the learning rate by `gamma`."""
    gamma: float = 0.1
    warmup: int = 0
    """Steps over which the learning rate rises linearly from 0 (Frankle & Carbin 2019, App. I.5)."""
    augment: tuple[str, ...] = ()
    """Any of "pad-crop", "flip"; for image tensors [B, C, H, W]."""
    crop: float = 0.125
    """Share of the image's side that is padded with zeros on every side before a crop: 4 pixels of 32."""
    precision: Precision = "float32"
    """bfloat16 is autocast: the weights stay float32. block8 emulates 8-bit block floating point with stochastic
    rounding in float32 (`training.block_floating`): what low precision does to a training, not its speed."""
    eval_every: int = 100
    """Steps between two evaluations of validation loss and test metric."""
    eval_batch_size: int = field(default=1000, metadata={"identity": False})
    device: str = field(default="cpu", metadata={"identity": False})
    """"cpu", "cuda", "cuda:1", "mps" ...: recorded with each run, not identity."""
    scale_l1: float = field(default=0.0, metadata={"identity": "added"})
    """Strength of an L1 penalty on all scaling factors (weights of batch normalisation, gates), by its subgradient
    (Liu et al. 2017, network slimming, eq. 1)."""
    channels_last: bool = field(default=False, metadata={"identity": "added"})
    """Images and the weights of convolutions lie in memory channels last; what CPUs convolve faster."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained, naming every field that is off.

        Raises:
            ValueError: a value of another type, a number out of range, or a name that is not known.
        """
        check_fields(self)
        for name in ("milestones", "augment"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.optimizer, str) and self.optimizer not in OPTIMIZERS:
            raise ValueError(unknown("optimizer", self.optimizer, OPTIMIZERS))
        if self.schedule not in ("constant", "step", "cosine"):
            raise ValueError(unknown("schedule", self.schedule, ("constant", "step", "cosine")))
        if self.precision not in get_args(Precision):
            raise ValueError(unknown("precision", self.precision, get_args(Precision)))
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise ValueError(unknown("augmentation", name, AUGMENTATIONS))
        rules = {
            "steps": (1 <= self.steps <= MOST, f"at least 1 and at most {MOST:,}"),
            "batch_size": (1 <= self.batch_size <= MOST, f"at least 1 and at most {MOST:,}"),
            "eval_every": (
                self.eval_every >= 1 and self.steps <= EVALUATIONS * self.eval_every,
                f"at least 1, and so that {self.steps:,} steps have at most {EVALUATIONS:,} evaluations",
            ),
            "eval_batch_size": (1 <= self.eval_batch_size <= MOST, f"at least 1 and at most {MOST:,}"),
            "lr": (0 < self.lr < math.inf, "a positive number"),
            "momentum": (
                self.momentum == 0 or (0 < self.momentum < 1 and self.optimizer not in ("adam", "adamw")),
                "in [0, 1), and 0 for adam and adamw, which have their own",
            ),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 or more"),
            "scale_l1": (0 <= self.scale_l1 < math.inf, "0 or more"),
            "gamma": (0 < self.gamma < math.inf, "a positive number"),
            "crop": (0 < self.crop <= 0.5, "above 0 and at most 0.5"),
            "warmup": (0 <= self.warmup <= self.steps, f"between 0 and the {self.steps} steps"),
            "nesterov": (not self.nesterov or self.momentum > 0, "used only with momentum > 0"),
            "milestones": (
                list(self.milestones) == sorted(set(self.milestones))
                and all(0 < m < self.steps for m in self.milestones)
                and bool(self.milestones) == (self.schedule == "step"),
                f"rising steps below {self.steps} for a step schedule, and empty otherwise",
            ),
        }
        wrong = [f"{name}={getattr(self, name)!r} must be {rule}" for name, (holds, rule) in rules.items() if not holds]
        if wrong:
            raise ValueError("this recipe cannot be trained: " + "; ".join(wrong))

    def evaluations(self, start: int = 0) -> list[int]:
        """The steps at which a training that starts at `start` is evaluated: every `eval_every`, and both ends."""
        return sorted({start, self.steps, *range(0, self.steps, self.eval_every)} - set(range(start)))

    def lr_factor(self, step: int) -> float:
        """What the learning rate is multiplied by for the update that leads from `step` to `step + 1`."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "step":
            return warm * self.gamma ** sum(step >= milestone for milestone in self.milestones)
        if self.schedule == "cosine":
            return warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return warm

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimizer over the parameters that want gradients."""
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        if callable(self.optimizer):
            return self.optimizer(wanted)
        return OPTIMIZERS[self.optimizer](wanted, self)

    def fields(self) -> dict[str, Any]:
        """The recipe as plain data, for records; a callable optimizer by its name."""
        values = dataclasses.asdict(self)
        if callable(self.optimizer):
            values["optimizer"] = getattr(self.optimizer, "__qualname__", type(self.optimizer).__qualname__)
        return values


# fused kernels do the same arithmetic in one pass: twice as fast for LeNet with Adam on a CPU
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], Recipe], torch.optim.Optimizer]] = {
    "sgd": lambda parameters, r: torch.optim.SGD(
        parameters, lr=r.lr, momentum=r.momentum, nesterov=r.nesterov, weight_decay=r.weight_decay, fused=True
    ),
    "adam": lambda parameters, r: torch.optim.Adam(parameters, lr=r.lr, weight_decay=r.weight_decay, fused=True),
    "adamw": lambda parameters, r: torch.optim.AdamW(parameters, lr=r.lr, weight_decay=r.weight_decay, fused=True),
}
