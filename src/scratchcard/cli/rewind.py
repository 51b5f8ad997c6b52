"""From which step to rewind a network: the trainings, the sentence and the figure behind `inspect --rewind`."""

from __future__ import annotations

from pathlib import Path

from scratchcard.cli.report import check_place
from scratchcard.cli.terminal import say
from scratchcard.evidence.connectivity import advice, by_step, rewind_step, said
from scratchcard.evidence.plate import SUFFIXES, plate
from scratchcard.row import Connectivity
from scratchcard.study.budget import clock
from scratchcard.study.connectivity import Stability
from scratchcard.study.limits import check_workers
from scratchcard.study.plan import price_of_one
from scratchcard.words import unknown


def rewind_from(stability: Stability, workers: int, figure: Path, dry_run: bool) -> None:
    """Try step after step (until one is stable, when none were named), then print the advice and draw the figure."""
    check_place(figure)
    if figure.suffix not in SUFFIXES:
        raise ValueError(unknown("kind of figure", figure.suffix or str(figure), SUFFIXES))
    check_workers(workers)
    price = price_of_one(stability.task, stability.recipe)
    say(
        f"steps {', '.join(map(str, stability.candidates))} of {stability.recipe.steps}; at most "
        f"{stability.price:.1f} whole trainings of about {clock(price.seconds)} each, "
        f"{clock(price.seconds * stability.price / workers)} with {workers}"
    )
    if dry_run:
        return
    found: Connectivity | None = None
    for found in stability.walk(workers):
        last = by_step(found)[-1]
        say(f"step {last.step}: instability {said(last, found)}{', stable' if last.stable else ''}")
        if stability.steps is None and rewind_step(found) is not None:
            break
    assert found is not None, "there is at least one step to try"
    say(f"\n{advice(found)}")
    for path in plate(found, figure):
        say(f"figure: {path}")
