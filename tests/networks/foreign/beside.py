"""Torch-Pruning on the same networks: half of every group by magnitude, against the same kind of reference.

It is told which layers make the outputs - those that scratchcard keeps for that reason - since it would cut them else.
Of heads it is told nothing, as it is when a stranger's network is given to it.
"""

from __future__ import annotations

import copy
import signal
import time
import warnings
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn

from foreign.reference import gap, outputs, precise

SECONDS = 20
"""After which it is interrupted: it searches some graphs for ever."""
LIMIT = 1e-6
"""What may be left between the small network and its reference, of an output's largest number."""


def beside(model: nn.Module, inputs: Callable[[int], Any], ends: Collection[str]) -> dict[str, Any]:
    """What it makes of a network: exact, wrong, a crash, or nothing.

    Args:
        model: it is not touched.
        inputs: a batch of so many examples.
        ends: layers that make outputs.
    """
    began = time.process_time()
    signal.signal(signal.SIGALRM, _over)
    signal.alarm(SECONDS)
    large, batch, _ = precise(model, inputs(2))
    small = copy.deepcopy(large)
    names = {module: name for name, module in small.named_modules()}
    left: dict[tuple[str, int], list[int]] = {}
    zeros: dict[tuple[str, int], set[int]] = {}
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            import torch_pruning as tp

            pruner = tp.pruner.MagnitudePruner(
                small,
                batch if not isinstance(batch, dict) else dict(batch),
                importance=tp.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=0.5,
                ignored_layers=[module for module, name in names.items() if name in ends],
            )
            before = sum(parameter.numel() for parameter in small.parameters())
            for group in pruner.step(interactive=True):
                for dependency, indices in group:
                    _note(dependency, indices, names, large, left, zeros)
                group.prune()
        size = sum(parameter.numel() for parameter in small.parameters())
    except Exception as error:  # of any kind: it is not ours
        signal.alarm(0)
        return _said("crash", began, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    signal.alarm(0)
    if size == before:
        return _said("nothing", began, "nothing was cut")
    try:
        found = outputs(small.eval(), batch)
    except Exception as error:
        return _said(
            "crash", began, f"small network: {type(error).__name__}: {' '.join(str(error).split())[:200]}", size
        )
    masked = copy.deepcopy(large)
    with torch.no_grad():
        for (name, dim), indices in zeros.items():
            masked.get_parameter(name).index_fill_(dim, torch.tensor(sorted(indices)), 0)
    difference = gap(outputs(masked, batch), found)
    return _said("exact" if difference <= LIMIT else "wrong", began, "", size)


def _over(*_: object) -> None:
    raise TimeoutError(f"not done in {SECONDS} s")


def _note(
    dependency: Any,
    indices: list[int],
    names: dict[nn.Module, str],
    large: nn.Module,
    left: dict[tuple[str, int], list[int]],
    zeros: dict[tuple[str, int], set[int]],
) -> None:
    """Remember which columns of the large network read what a group cuts."""
    name = names.get(dependency.target.module)
    if name is None or "in_channels" not in dependency.handler.__name__:
        return
    module = large.get_submodule(name)
    if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd) or getattr(module, "groups", 1) > 1:
        return
    dim = 0 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 1
    key = (f"{name}.weight", dim)
    known = left.setdefault(key, list(range(module.weight.shape[dim])))
    if max(indices, default=0) >= len(known):
        return  # indices of something else: what comes of them is seen when the group is cut
    gone = {known[at] for at in indices}
    zeros.setdefault(key, set()).update(gone)
    left[key] = [at for at in known if at not in gone]


def _said(outcome: str, began: float, why: str = "", size: int = 0) -> dict[str, Any]:
    return {"outcome": outcome, "why": why, "size": size, "seconds": round(time.process_time() - began, 2)}
