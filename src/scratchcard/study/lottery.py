"""The lottery comparison of Rethinking: do winning tickets need their initial weights, at a large and a small rate?

Source: Liu et al. 2019, Rethinking the Value of Network Pruning, section 6: unstructured tickets by iterative
magnitude pruning and structured ones by the L1 norm of filters, each from its original weights and fresh ones, under
a large and a small initial learning rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from scratchcard.methods.arms import FreshInit
from scratchcard.methods.budgets import AnotherInit, LotteryInit
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.imp import IMP
from scratchcard.row import Rows
from scratchcard.study.study import Study

UNSTRUCTURED, STRUCTURED = "unstructured", "structured"


def lottery_studies(study: Study, rates: Sequence[float], rounds: int = 5, rate: float = 0.4) -> list[Study]:
    """One study per initial learning rate, all in one store; whatever the study's methods and controls are.

    Args:
        study: gives task, recipe, seeds, store.
        rates: initial learning rates, e.g. (0.1, 0.01); the schedule stays.
        rounds: of pruning single weights; the last is the level that is compared.
        rate: share of the weights left that a round cuts; structured tickets lose half of every site's units.

    Raises:
        ValueError: fewer than two rates, a rate that is not positive or twice the same, or an optimizer of one's own.
    """
    if len(set(rates)) < 2 or len(set(rates)) < len(rates) or not all(0 < one < float("inf") for one in rates):
        raise ValueError(f"the comparison needs two or more different positive learning rates, got {list(rates)}")
    if callable(study.recipe.optimizer):
        raise ValueError(
            "the comparison sets the learning rate, but this recipe's optimizer is your own and sets it itself; name "
            "one (sgd, adam, adamw)"
        )
    weights = IMP(rounds=rounds, rate=rate, scope="global")
    made = []
    for one in rates:
        recipe = replace(study.recipe, lr=one)
        density = weights.densities(study.task)[-1]
        # nothing of a ticket that is fine-tuned is compared, so that any small rate will do
        filters = FilterPruning("l1", rounds=1, fine_tune_lr=min(rates) / 10, fine_tune_steps=1)
        made.append(
            replace(
                study,
                recipe=recipe,
                methods=(weights, filters),
                arms=(FreshInit(replicates=1), LotteryInit(), AnotherInit()),  # one draw each
                control_levels=(),
                primary=density,
                name=f"{study.name or study.task.name}, learning rate {one:g}",
            )
        )
    return made


def compared(studies: Sequence[Study], workers: int | None = None) -> Iterator[tuple[float, Rows]]:
    """Run the studies one after another and yield each one's learning rate and rows; what is stored is not run."""
    for study in studies:
        yield study.recipe.lr, study.run(workers=workers)
