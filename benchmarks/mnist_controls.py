"""The controls of the lottery-ticket paper on MNIST as a page: is their order the paper's, at four densities?

scratchcard study mnist --controls all --control-levels 4,7,9,15 --store runs/mnist-controls
python benchmarks/mnist_controls.py runs/mnist-controls > docs/results/mnist-controls.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from scratchcard.evidence.comparison import differences, metric
from scratchcard.evidence.statistics import paired
from scratchcard.evidence.summary import density_text, markdown
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows
from scratchcard.study.study import read

LEVELS = (4, 7, 9, 15)
ORDER = [
    ("ticket", "own-init-resample", "above"),
    ("own-init-resample", "fresh-init", "about equal"),
    ("fresh-init", "random-mask-layerwise", "above"),
    ("fresh-init", "random-mask-global", "above"),
]
"""The paper's order for a fully connected network: first, second, and how the first stands to the second."""
ABOUT = 0.005
"""Accuracy within which two arms are about equal: the study's margin."""


def against(rows: Rows, first: str, second: str, level: int) -> tuple[float, float, float, int]:
    """Mean difference of two arms, paired by seed (draws of a seed averaged), with its 95 % t interval, and n."""
    value = metric(rows.study)
    to_second, _ = differences(rows, "imp", level, second, value)
    to_first = differences(rows, "imp", level, first, value)[0] if first != "ticket" else 0.0
    tested = paired(to_second - to_first, ABOUT, 0.05, rows.study.resolution)
    return float(tested.mean), float(tested.low), float(tested.high), int(tested.n)


def order(rows: Rows) -> Iterator[str]:
    """One line of the table per pair and level, and whether it stands as in the paper."""
    for first, second, wanted in ORDER:
        for level in LEVELS:
            mean, low, high, n = against(rows, first, second, level)
            holds = low > 0 if wanted == "above" else low > -ABOUT and high < ABOUT
            density = density_text(rows.study.methods["imp"].densities[level])
            yield (
                f"| {first} {wanted} {second} | {density} | {100 * mean:+.2f} pp [{100 * low:+.2f}, {100 * high:+.2f}] "
                f"| {n} | {'holds' if holds else 'NOT SHOWN'} |"
            )


def others(rows: Rows) -> Iterator[str]:
    """Ticket minus every other control, level by level."""
    told = {arm for pair in ORDER for arm in pair[:2]}
    for arm in rows.study.arms:
        if arm in told or arm in ("dense", "ticket"):
            continue
        cells = []
        for level in LEVELS:
            mean, low, high, _ = against(rows, "ticket", arm, level)
            cells.append(f"{100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]")
        yield f"| {arm} | {' | '.join(cells)} |"


def page(rows: Rows) -> str:
    """The study's page in Markdown."""
    study = rows.study
    machines = sorted({", ".join(f"{name} {value}" for name, value in row.machine.items()) for row in rows})
    densities = [density_text(study.methods["imp"].densities[level]) for level in LEVELS]
    lines = list(others(rows))
    rest = (
        f"""
## The other controls

Ticket minus control in percentage points, with 95 % t intervals, n = {len(study.seeds)} seeds.

| control | {" | ".join(densities)} |
| --- | {" | ".join(["---"] * len(densities))} |
{chr(10).join(lines)}
"""
        if lines
        else ""
    )
    return f"""# Why the ticket works: the paper's controls on MNIST

LeNet-300-100. {study.data}. Adam {study.recipe["lr"]}, batch {study.recipe["batch_size"]}, {study.recipe["steps"]:,}
steps (the paper trains 50,000), seeds {", ".join(map(str, study.seeds))}. All figures are **test accuracy at the end of
training**; test data chose nothing. Differences are paired by seed (draws of one seed averaged first) with two-sided
95 % t intervals, not corrected for looking at several levels. *About equal*: the whole interval lies within
{100 * ABOUT:g} pp.

The paper's order for a fully connected network (sections 2 to 4, App. E and F.3): the ticket beats weights drawn from
its own surviving initial values, which do little better than fresh ones, which beat a random mask.

| as in the paper | density | difference | n | |
| --- | --- | --- | --- | --- |
{chr(10).join(order(rows))}
{rest}
## The verdict

```
{judge(rows)}
```

## Every level

{markdown(rows)}

## How it was made

```
{study.command}
python benchmarks/mnist_controls.py runs/mnist-controls > docs/results/mnist-controls.md
```

{len(rows)} trainings, {sum(row.seconds for row in rows) / 3600:.1f} hours of one worker in all, beside other work, on
{"; ".join(machines)}. Not measured on a GPU.
"""


def main() -> None:
    print(page(max((rows for rows in read(sys.argv[1]) if rows.study.task == "mnist"), key=len)), end="")


if __name__ == "__main__":
    main()
