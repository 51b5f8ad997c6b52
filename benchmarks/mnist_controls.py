"""The controls of the lottery-ticket paper on MNIST as a page: is their order the paper's, at four densities?

scratchcard study mnist --store runs/mnist --seeds 3 --control-levels 4,7,9,15 \
    --controls fresh-init,own-init-resample,random-mask-layerwise,random-mask-global
scratchcard study mnist --store runs/mnist --seeds 3 --control-levels primary \
    --controls fresh-init,own-init-resample,random-mask-layerwise,random-mask-global,own-init-shuffle,noise-0.5,\
noise-1,noise-2,noise-3,sign-redrawn,sign-constant,random-sign-constant,shuffled-mask,inverted-scores,uniform-width,\
dense-for-the-search
python benchmarks/mnist_controls.py runs/mnist
python benchmarks/mnist_controls.py

The third command collects the rows into docs/results/rows and writes the page; the fourth writes it again from them.
"""

from __future__ import annotations

from collections.abc import Iterator

from pages import Page, against, made_by, main, price, sentence, setting, table, verdict

from scratchcard.evidence.comparison import Comparison, compare, differences, metric
from scratchcard.evidence.statistics import Paired, paired
from scratchcard.evidence.summary import density_text, difference_text, markdown
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows

METHOD = "imp"
LEVELS = (4, 7, 9, 15)
ORDER = [
    ("ticket", "own-init-resample", "above"),
    ("own-init-resample", "fresh-init", "about equal"),
    ("fresh-init", "random-mask-layerwise", "above"),
    ("fresh-init", "random-mask-global", "above"),
]
"""The paper's order for a fully connected network: first, second, and how the first stands to the second."""
COMMAND = "python benchmarks/mnist_controls.py"


def difference(rows: Rows, first: str, second: str, level: int) -> Paired:
    """Two arms paired by seed (draws of a seed averaged): the mean difference with its t interval."""
    value = metric(rows.study)
    to_second, _ = differences(rows, METHOD, level, second, value)
    to_first = differences(rows, METHOD, level, first, value)[0] if first != "ticket" else 0.0
    return paired(to_second - to_first, rows.study.margin, rows.study.alpha, rows.study.resolution)


def order(rows: Rows) -> Iterator[tuple[str, str, str, str, str]]:
    """One line of the table per pair and level, and whether it stands as in the paper."""
    for first, second, wanted in ORDER:
        for level in LEVELS:
            found = difference(rows, first, second, level)
            about = found.low > -rows.study.margin and found.high < rows.study.margin
            holds = found.low > 0 if wanted == "above" else about
            density = density_text(rows.study.methods[METHOD].densities[level])
            low, high = (difference_text(float(end), rows.study).removesuffix(" pp") for end in (found.low, found.high))
            told = f"{difference_text(float(found.mean), rows.study)} [{low}, {high}]"
            yield f"{first} {wanted} {second}", density, told, str(found.n), "holds" if holds else "NOT SHOWN"


def primary(rows: Rows) -> list[Comparison]:
    return [c for c in compare(rows) if c.primary]


def write(rows: Rows, every: Rows) -> str:
    """The page in Markdown: of the study of the paper's order, and of that of all controls at the primary level."""
    lines = list(order(rows))
    held = sum(line[-1] == "holds" for line in lines)
    density = density_text(every.study.methods[METHOD].densities[every.study.methods[METHOD].primary])
    parts = [
        "# Why the ticket works: the paper's controls on MNIST",
        judge(every).methods[0].why,
        "The paper's order for a fully connected network (sections 2 to 4, App. E and F.3): the ticket beats weights "
        "drawn from its own surviving initial values, which do little better than fresh ones, which beat a random "
        f"mask. {held} of {len(lines)} of these comparisons stand so here.",
        "Test data chose nothing. Differences are paired by seed (draws of one seed averaged first) with two-sided "
        "95 % t intervals of one comparison each; only the verdicts' claims are corrected. *About equal*: the whole "
        f"interval lies within {difference_text(rows.study.margin, rows.study).lstrip('+')}.",
        table(["as in the paper", "density", "difference", "n", ""], lines),
        "## Every control at the primary level",
        f"Ticket minus control, {density} of the weights left; the claims are corrected for all of them.",
        table(["ticket minus", "difference", "n", "shown"], against(primary(every), every.study)),
        "## The verdict on all controls",
        verdict(every),
        "## The verdict on the paper's controls",
        verdict(rows),
        "## What was declared",
        setting(rows),
        "## Every level",
        markdown(rows).rstrip(),
        "## How it was made",
        made_by(COMMAND, rows, every),
        price(rows, every),
    ]
    return "\n\n".join(parts) + "\n"


def answer(rows: Rows, every: Rows) -> str:
    """What the controls say about the cause."""
    return sentence(judge(every).methods[0].why.removeprefix("Why: "))


def collect(store: str) -> list[Rows]:
    """The rows of the paper's order and those of all controls, from their store."""
    from scratchcard.study.study import read  # only a store needs it, and it brings torch

    studies = [rows for rows in read(store) if rows.study.task == "mnist"]
    paper = next(rows for rows in studies if rows.study.control_levels == list(LEVELS))
    return [paper, next(rows for rows in studies if rows.study.control_levels == [])]


PAGE = Page(
    name="mnist-controls",
    question="What of a winning ticket's initial weights and mask matters on MNIST?",
    command=COMMAND,
    rows=["mnist-controls-order", "mnist-controls-every"],
    write=write,
    answer=answer,
)

if __name__ == "__main__":
    main(PAGE, collect)
