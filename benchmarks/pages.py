"""How a page of results is made: measured once, committed as rows, and written from them as often as one likes.

python benchmarks/NAME.py          writes docs/results/NAME.md and its figures from the committed rows
python benchmarks/NAME.py WHERE    collects the rows first: from the store WHERE, or by measuring (then: measure)

No sentence of a page with a number in it is typed: numbers come from rows, and what was shown from a verdict's claims.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scratchcard.evidence.arms import WHOLE, control
from scratchcard.evidence.comparison import Comparison, effect_text
from scratchcard.evidence.declared import declared, machine
from scratchcard.evidence.rows_file import SUFFIX, read_lines, read_rows, write_lines, write_rows
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows, StudySpec

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
ROWS = RESULTS / "rows"

BANNER = """\
> **The measurements behind this page were not kept**, so that its numbers cannot be judged again. They were made by the
> rules of identity version 1: before controls of rewound and fine-tuned tickets, crops, SNIP, re-init and divergence
> were corrected. Its tables are as they were written then. Its sentences say, without numbers, what these tables and
> the page's own verdict show."""
"""What stands at the top of a page whose rows are gone."""


@dataclass(frozen=True)
class Page:
    """One page of results: what it asks, the rows it is made of, and what it says from them."""

    name: str
    """The page is docs/results/NAME.md."""
    question: str
    command: str
    """What to type to have the page again."""
    rows: Sequence[str]
    """Names of its files in docs/results/rows, without their ending."""
    write: Callable[..., str]
    """The page in Markdown, from what the files hold, in their order."""
    answer: Callable[..., str]
    """The answer in one sentence, from the same."""
    figures: Callable[..., Mapping[str, bytes]] = lambda *_: {}
    """Name of a file in docs/results -> what is in it, from the same."""
    read: Callable[[Path], Any] = read_rows
    gone: str = ""
    """The answer, without numbers, of a page whose measurements were not kept; empty where its rows are committed."""

    @property
    def path(self) -> Path:
        """Where the page is."""
        return RESULTS / f"{self.name}.md"

    @property
    def files(self) -> list[Path]:
        """Its files of rows."""
        return [ROWS / f"{name}{SUFFIX}" for name in self.rows]

    def sources(self) -> list[Any]:
        """What its files hold."""
        return [self.read(file) for file in self.files]

    def text(self) -> str:
        """The page as its rows have it."""
        return self.write(*self.sources())

    @property
    def kept(self) -> bool:
        """Whether its rows are committed."""
        return not self.gone and all(file.exists() for file in self.files)

    def answered(self) -> str:
        """The answer as its rows have it, or that there are none yet."""
        return self.answer(*self.sources()) if self.kept else self.gone or "Not measured yet by the rules of today."


def main(page: Page, collect: Callable[..., Sequence[Any]]) -> None:
    """The command of a page: with arguments it collects the rows first, without it takes those committed."""
    try:
        if sys.argv[1:]:
            for file, found in zip(page.files, collect(*sys.argv[1:]), strict=True):
                write_rows(found, file, lean=True) if isinstance(found, Rows) else write_records(found, file)
        sources = page.sources()
    except ValueError as error:
        sys.exit(str(error))
    page.path.write_text(page.write(*sources), encoding="utf-8")
    for name, picture in page.figures(*sources).items():
        (RESULTS / name).write_bytes(picture)


# measurements that are no runs of a study


def write_records(records: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Commit what was measured as a file of the same kind as rows: one JSON object a line."""
    write_lines((json.dumps(record, separators=(",", ":")) for record in records), path)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read it again."""
    return [json.loads(line) for line in read_lines(path)]


# parts of pages


def picture(rows: Rows, method: str, name: str) -> bytes:
    """One figure of the report as SVG."""
    from scratchcard.evidence.figures.gallery import figures_of_method, figures_of_study

    of_method = next(said for said in judge(rows).methods if said.method == method)
    figures = [*figures_of_study(rows), *figures_of_method(rows, of_method)]
    return picture_of(next(figure for figure in figures if figure.name == name))


def picture_of(figure: Any) -> bytes:
    """A figure as SVG."""
    from scratchcard.evidence.draw import picture as drawn  # here, since loading what draws takes a second

    return drawn(figure, "svg")


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    told = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in told)


def setting(rows: Rows) -> str:
    """What the study declared before its runs, as a table."""
    return table(["declared before the runs", ""], declared(rows.study).items())


def verdict(rows: Rows) -> str:
    """The verdict in full."""
    return f"```\n{judge(rows)}\n```"


def read_at(rows: Rows, measure: str) -> Rows:
    """The same runs with comparisons that read the metric at another point: "end" or "early_stop"."""
    return Rows(list(rows), rows.study.model_copy(update={"measure": measure}))


def price(*studies: Rows) -> str:
    """How many trainings a page took, for how long, and where."""
    runs = {row.id: row.seconds for rows in studies for row in rows}
    everything = Rows([row for rows in studies for row in rows], studies[0].study)
    on = ", ".join(f"{name} {value}" for name, value in machine(everything).items())
    gpu = "" if "cuda" in on else " Not measured on a GPU."
    return f"{len(runs):,} trainings, {sum(runs.values()) / 3600:.1f} hours of one worker in all, on {on}.{gpu}"


def made_by(page_command: str, *studies: Rows) -> str:
    """The commands that give the runs, and the one that gives the page."""
    return "\n".join(["```", *(rows.study.command for rows in studies), page_command, "```"])


def against(comparisons: Sequence[Comparison], study: StudySpec) -> list[list[str]]:
    """Comparisons as lines of a table: what the ticket stands against, the difference, seeds, what was shown."""
    return [[f"`{c.arm}`", effect_text(c, study), str(c.n), c.claim] for c in comparisons]


def bullets(found: Mapping[str, Sequence[Comparison]]) -> list[str]:
    """What was shown, arm by arm: which methods' tickets are better, equivalent or worse, and that others are not.

    Args:
        found: Study -> its primary comparisons. Where there are several, a method is named with its study.
    """
    every = [(name, c) for name, comparisons in found.items() for c in comparisons]
    told = []
    for arm in dict.fromkeys(c.arm for _, c in every):
        own = [(name, c) for name, c in every if c.arm == arm]
        decided = [
            f"the ticket is *{claim}* in {_places([(name, c) for name, c in own if c.claim == claim], found)}"
            for claim in ("better", "equivalent", "worse")
            if any(c.claim == claim for _, c in own)
        ]
        undecided = [(name, c) for name, c in own if c.claim == "undecided"]
        if undecided and decided:
            decided.append("all others are *undecided*")
        elif undecided:
            decided.append(f"*undecided* in {_places(undecided, found)}")
        what = f"`{arm}`" if arm in WHOLE else f"`{arm}` ({control(arm).what})"
        told.append(f"- Against {what}: {'; '.join(decided)}.")
    return told


def _places(own: Sequence[tuple[str, Comparison]], found: Mapping[str, Any]) -> str:
    methods: dict[str, list[str]] = {}
    for name, c in own:
        methods.setdefault(c.method, []).append(name)
    if len(found) == 1:
        return listed(methods)
    return listed(f"{method} ({listed(names)})" for method, names in methods.items())


def sentence(text: str) -> str:
    """Words as the beginning of a sentence."""
    return text[0].upper() + text[1:]


def listed(words: Iterable[str]) -> str:
    """Words as a list in a sentence: a, b and c."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def outcomes(found: Mapping[str, Iterable[tuple[str, str]]]) -> str:
    """The verdicts of several studies in one sentence.

    Args:
        found: Study -> (method, the sentence said of it).
    """
    kinds: dict[str, dict[str, list[str]]] = {}
    for name, methods in found.items():
        for method, sentence in methods:
            kinds.setdefault(sentence.partition(":")[0], {}).setdefault(method, []).append(name)
    return "; ".join(
        f"{kind.lower()}: {listed(f'{method} ({listed(names)})' for method, names in methods.items())}"
        for kind, methods in kinds.items()
    )


def how_many(hits: int, of: int) -> str:
    """A share in words."""
    return "none" if not hits else "all" if hits == of else "some"


records_page = partial(Page, read=read_records)
"""A page of measurements that are no runs of a study."""
