"""All results in two tables, written from the pages: docs/results/README.md, and the README's section of results.

python benchmarks/results_index.py
"""

from __future__ import annotations

import compaction
import connectivity
import faults
import foreign_zoo
import lottery
import mnist_controls
import mnist_lenet
import overhead
import rethinking_cifar
import scores_on_the_teacher
import small_steps
from pages import RESULTS, table

README = RESULTS.parent.parent / "README.md"
BEGIN, END = "<!-- results: written by benchmarks/results_index.py -->", "<!-- end of results -->"
"""What stands around the README's table."""

PAGES = [
    module.PAGE
    for module in (
        mnist_lenet,
        mnist_controls,
        scores_on_the_teacher,
        rethinking_cifar,
        connectivity,
        lottery,
        compaction,
        foreign_zoo,
        small_steps,
        overhead,
        faults,
    )
]


def index(answers: dict[str, str]) -> str:
    """The page that lists all pages, from the answer of each."""
    lines = [
        [page.question, answers[page.name], f"[{page.name}]({page.name}.md)", f"`{page.command}`",
         "kept" if page.kept else "not kept" if page.gone else "not yet"]
        for page in PAGES
    ]  # fmt: skip
    return f"""# Results

What was measured, and what the verdicts say of it. Pages whose rows are kept are written from them by their command,
and `scratchcard report docs/results/rows/NAME.jsonl.gz` judges the rows of a study again. Where rows were not kept, a
page's numbers cannot be judged again, and its answer is given without them. This page is written by
`python benchmarks/results_index.py`.

{table(["question", "answer", "page", "command", "rows"], lines)}
"""


def short(answers: dict[str, str]) -> str:
    """The README's table."""
    lines = [
        [page.question, answers[page.name] + (" (rows not kept)" if page.gone else ""),
         f"[{page.name}](docs/results/{page.name}.md)"]
        for page in PAGES
    ]  # fmt: skip
    return table(["question", "answer", "page"], lines)


def in_readme(text: str, answers: dict[str, str]) -> str:
    """The README with its table of results as the pages have it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{short(answers)}\n\n{END}{after}"


def answered() -> dict[str, str]:
    """The answer of every page, by its name."""
    return {page.name: page.answered() for page in PAGES}


def main() -> None:
    answers = answered()
    (RESULTS / "README.md").write_text(index(answers), encoding="utf-8")
    README.write_text(in_readme(README.read_text(encoding="utf-8"), answers), encoding="utf-8")


if __name__ == "__main__":
    main()
