"""Losses and metrics by name; any callable of (outputs, targets) that is a mean over examples serves as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

PerBatch = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class Metric:
    """How good outputs are: a mean over examples, so that batches can be averaged by their sizes."""

    name: str
    of: PerBatch
    """(outputs, targets) of one batch -> scalar tensor."""
    higher_is_better: bool = True
    fraction: bool = False
    """True for shares in [0, 1], which are printed in per cent and percentage points."""


def _next_token(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def _accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float().mean()


def _next_token_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(-1) == targets).float().mean()


LOSSES: dict[str, PerBatch] = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss, "next_token": _next_token}
"""cross_entropy: logits [B, C, ...] against classes [B, ...]; mse: equal shapes; next_token: logits [B, T, C]
against tokens [B, T], in nats per token."""

METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", _accuracy, fraction=True),
    "next_token_accuracy": Metric("next-token accuracy", _next_token_accuracy, fraction=True),
    "mse": Metric("mean squared error", F.mse_loss, higher_is_better=False),
    "mae": Metric("mean absolute error", F.l1_loss, higher_is_better=False),
}
