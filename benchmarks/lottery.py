"""Do winning tickets need their initial weights? Single weights and filters, at a large and a small learning rate.

scratchcard lottery examples/small_cifar.py --rates 0.1,0.01 --seeds 3 --rounds 3 --rate 0.5 --store runs/lottery
python benchmarks/lottery.py runs/lottery
python benchmarks/lottery.py

The second command collects the rows into docs/results/rows and writes the page and its figure; the third writes them
again from those rows.
"""

from __future__ import annotations

from pages import Page, main, picture_of, price, setting, table

from scratchcard.evidence.lottery import Drawn, answer, drawn, interval
from scratchcard.evidence.summary import density_text, metric_text
from scratchcard.row import Rows

RATES = (0.1, 0.01)


def found(*studies: Rows) -> list[Drawn]:
    return drawn([(rows.study.recipe["lr"], rows) for rows in studies])


def line(one: Drawn, rows: Rows) -> list[str]:
    d, study = one.difference, rows.study
    means = [metric_text(sum(values) / len(values), study) for values in (one.own, one.fresh)]
    told = f"{100 * float(d.mean):+.2f} pp [{100 * float(d.low):+.2f}, {100 * float(d.high):+.2f}]"
    shown = "better" if d.low > 0 else "worse" if d.high < 0 else "not shown"
    return [one.structure, f"{one.rate:g}", density_text(one.density), metric_text(one.dense, study), *means, told,
            str(d.n), shown]  # fmt: skip


def write(*studies: Rows) -> str:
    """The page in Markdown."""
    lottery = found(*studies)
    header = ["structure", "learning rate", "density", "dense", "original", "another draw", "original minus the other"]
    parts = [
        "# Do winning tickets need their initial weights?",
        said(*studies),
        "Both arms of a pair are trained by the whole recipe and differ in the draw of the large network's initial "
        "weights alone, one draw for each seed. Test accuracy at the end of training; in brackets the "
        f"{interval(lottery, studies[0].study)}s.",
        table([*header, "n", "shown"], [line(one, studies[0]) for one in lottery]),
        "![Original minus fresh initial weights against the initial learning rate](lottery.svg)",
        "Liu et al. 2019 (section 6) find no gain of structured tickets at either rate, and of unstructured ones only "
        "at the small rate.",
        *(setting(rows) for rows in studies),
        "## How it was made",
        f"```\n{studies[0].study.command}\n{PAGE.command}\n```",
        price(*studies),
    ]
    return "\n\n".join(parts) + "\n"


def said(*studies: Rows) -> str:
    """What the comparison says, structure by structure and rate by rate."""
    return answer(found(*studies), studies[0].study)


def figures(*studies: Rows) -> dict[str, bytes]:
    from scratchcard.evidence.figures.lottery import lottery_figure  # only where it is drawn

    return {"lottery.svg": picture_of(lottery_figure(found(*studies), studies[0].study))}


def collect(store: str) -> list[Rows]:
    """The rows at each rate, from their store."""
    from scratchcard.study.study import read  # only a store needs it, and it brings torch

    studies = {rows.study.recipe["lr"]: rows for rows in read(store)}
    return [studies[rate] for rate in RATES]


PAGE = Page(
    name="lottery",
    question="Do tickets need their own initial weights (quarter-width VGG-16, small CIFAR-10)?",
    command="python benchmarks/lottery.py",
    rows=[f"lottery-{rate}" for rate in RATES],
    write=write,
    answer=said,
    figures=figures,
    gone="Of single weights at the large rate it is shown that they do; of single weights at the small one, and of "
    "filters at either, it is not shown.",
)

if __name__ == "__main__":
    main(PAGE, collect)
