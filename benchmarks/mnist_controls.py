"""The controls of the lottery-ticket paper on MNIST as a page: is their order the paper's, at four densities?

scratchcard study mnist --store runs/mnist-controls --control-levels 4,7,9,15 \
    --controls fresh-init,own-init-resample,random-mask-layerwise,random-mask-global
scratchcard study mnist --store runs/mnist-controls --control-levels primary --controls all
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
    """Ticket minus every control at the primary level."""
    primary = rows.study.methods["imp"].primary
    for arm in rows.study.arms:
        if arm not in ("dense", "ticket"):
            mean, low, high, n = against(rows, "ticket", arm, primary)
            yield f"| {arm} | {100 * mean:+.2f} pp [{100 * low:+.2f}, {100 * high:+.2f}] | {n} |"


def page(rows: Rows, every: Rows) -> str:
    """The page in Markdown: of the study of the paper's order, and of that of all controls at the primary level."""
    study = rows.study
    runs = {row.id: row.seconds for row in (*rows, *every)}
    primary = every.study.methods["imp"].densities[every.study.methods["imp"].primary]
    machines = sorted({", ".join(f"{name} {value}" for name, value in row.machine.items()) for row in rows})
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

## Every control at the primary level

Ticket minus control, {density_text(primary)} of the weights left; intervals as above.

| control | difference | n seeds |
| --- | --- | --- |
{chr(10).join(others(every))}

{judge(every).methods[0].why}

## The verdict

```
{judge(rows)}
```

## Every level

{markdown(rows)}

## How it was made

```
{study.command}
{every.study.command}
python benchmarks/mnist_controls.py runs/mnist-controls > docs/results/mnist-controls.md
```

{len(runs)} trainings, {sum(runs.values()) / 3600:.1f} hours of one worker in all, beside other work, on
{"; ".join(machines)}. Not measured on a GPU.
"""


def main() -> None:
    studies = [rows for rows in read(sys.argv[1]) if rows.study.task == "mnist"]
    paper = next(rows for rows in studies if rows.study.control_levels == list(LEVELS))
    print(page(paper, max(studies, key=lambda rows: len(rows.study.arms))), end="")


if __name__ == "__main__":
    main()
