"""The study of LeNet-300-100 on MNIST as a page: its figures against what was wanted, its verdict, its table.

scratchcard study mnist --controls fresh-init --store runs/mnist
python benchmarks/mnist_lenet.py runs/mnist > docs/results/mnist-lenet.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from scratchcard.evidence.comparison import Comparison, compare
from scratchcard.evidence.summary import markdown
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows
from scratchcard.study.study import read


def figures(found: list[Comparison]) -> Iterator[tuple[str, str, bool]]:
    """What was wanted, what was measured, and whether it holds: mean differences, positive = ticket better."""

    def at(level: int, arm: str) -> Comparison:
        return next(c for c in found if (c.level, c.arm) == (level, arm))

    def told(c: Comparison) -> str:
        return f"{100 * c.mean:+.2f} pp [{100 * c.low:+.2f}, {100 * c.high:+.2f}], n = {c.n}"

    for level, pm in ((9, "13.5 %"), (15, "3.6 %")):
        dense = at(level, "dense")
        yield f"at Pm {pm} ticket >= dense", told(dense), dense.mean >= 0
    fresh = at(9, "fresh-init")
    yield (
        "at Pm 13.5 % ticket above fresh init by >= 0.7 pp, 95 % interval without 0",
        told(fresh),
        fresh.mean >= 0.007 and fresh.low > 0,
    )


def page(rows: Rows) -> str:
    """The study's page in Markdown."""
    study = rows.study
    machines = sorted({", ".join(f"{name} {value}" for name, value in row.machine.items()) for row in rows})
    seconds = sum(row.seconds for row in rows)
    checks = "\n".join(
        f"| {wanted} | {measured} | {'holds' if holds else 'MISSED'} |"
        for wanted, measured, holds in figures(compare(rows))
    )
    return f"""# LeNet-300-100 on MNIST

{study.data}. Adam {study.recipe["lr"]}, batch {study.recipe["batch_size"]}, {study.recipe["steps"]:,} steps (the paper
trains 50,000), seeds {", ".join(map(str, study.seeds))}. Pixels in [0, 1], Gaussian Glorot initialisation. All figures
are **test accuracy at the end of training**; test data chose nothing. Differences are paired by seed with two-sided
95 % t intervals, not corrected for looking at two levels; draws of one seed are averaged first.

| wanted | measured | |
|---|---|---|
{checks}

## The verdict

```
{judge(rows)}
```

## Accuracy against density

Tickets and fresh weights in their masks, mean and range of the runs; drawn by
`scratchcard report runs/mnist --figures svg`.

![Test accuracy against the share of weights left](mnist-lenet.svg)

## Every level

{markdown(rows)}

## How it was made

```
{study.command}
python benchmarks/mnist_lenet.py runs/mnist
```

{len(rows)} trainings, {seconds / 3600:.1f} hours of one worker in all, on {"; ".join(machines)}.
Not measured on a GPU.
"""


def main() -> None:
    print(page(next(rows for rows in read(sys.argv[1]) if rows.study.task == "mnist")), end="")


if __name__ == "__main__":
    main()
