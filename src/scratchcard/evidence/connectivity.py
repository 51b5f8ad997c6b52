"""What the lines between trained networks say: how unstable each step is, and from which one to rewind."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from scratchcard.row import Connectivity, Path


@dataclass(frozen=True)
class Instability:
    """At one step, over seeds: how much worse the worst point of a line is than the mean of its two ends."""

    step: int
    each: tuple[float, ...]
    """One per seed; in the metric's unit for fractions, else as a share of the ends' mean."""
    mean: float
    stable: bool
    """Whether the mean is below the threshold."""


def instability(path: Path, found: Connectivity) -> float:
    """Sup over the line of the error, minus the mean error of its ends (Frankle et al. 2020, section 2).

    For fractions the error is 1 - metric; for other metrics it is the metric itself, signed so that more is worse, and
    the result is divided by the size of the ends' mean.
    """
    errors = [-value if found.higher_is_better else value for value in path.values]
    ends = (errors[0] + errors[-1]) / 2
    worst = max(errors) - ends
    if found.metric_is_fraction:
        return worst
    return worst / abs(ends) if ends else float("inf") if worst > 0 else 0.0


def by_step(found: Connectivity) -> list[Instability]:
    """The instability at every step tried, rising."""
    result = []
    for step in sorted({path.step for path in found.paths}):
        each = tuple(instability(path, found) for path in found.paths if path.step == step)
        mean = fmean(each)
        result.append(Instability(step, each, mean, mean < found.threshold))
    return result


def rewind_step(found: Connectivity) -> int | None:
    """The smallest step tried from which on every step tried is stable; None where the last is not."""
    answer = None
    for at in reversed(by_step(found)):
        if not at.stable:
            break
        answer = at.step
    return answer


def advice(found: Connectivity) -> str:
    """From which step to rewind this network, in words."""
    steps = by_step(found)
    seeds = len(steps[0].each)
    to = rewind_step(found)
    if to is None:
        last = steps[-1]
        return (
            f"Not stable at any step tried up to {last.step} of {found.steps} (instability there {said(last, found)}): "
            "tickets rewound to these steps need not match; try later steps."
        )
    here = next(at for at in steps if at.step == to)
    before = [at for at in steps if at.step < to]
    earlier = f"; at step {before[-1].step} it was {said(before[-1], found)}" if before else ""
    if to == 0:
        return (
            f"Stable at initialisation (instability {said(here, found)}, n = {seeds} seeds): no rewinding is needed, "
            "reset tickets to step 0."
        )
    return (
        f"Rewind to step {to} ({100 * to / found.steps:.2g} % of the training): from there on two data orders end in "
        f"linearly connected networks (instability {said(here, found)}, n = {seeds} seeds{earlier})."
    )


def said(at: Instability, found: Connectivity) -> str:
    """An instability as printed: mean, and the smallest and largest over seeds."""
    low, high = 100 * min(at.each), 100 * max(at.each)
    unit = "%" if found.metric_is_fraction else "% of the ends' mean"
    spread = f" [{low:.2f}, {high:.2f}]" if len(at.each) > 1 else ""
    return f"{100 * at.mean:.2f} {unit}{spread}"
