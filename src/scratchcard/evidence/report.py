"""The report: one offline page with the verdict, its price, the figures, and what was not measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import isnan
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scratchcard.atomic import written_whole
from scratchcard.evidence.arms import INITIAL, described
from scratchcard.evidence.caveats import lost, mixed, not_measured
from scratchcard.evidence.checklist import SOURCE, checklist
from scratchcard.evidence.comparison import Comparison, effect_text
from scratchcard.evidence.declared import declared, machine
from scratchcard.evidence.draw import vega_lite_version
from scratchcard.evidence.figures import chart
from scratchcard.evidence.figures.gallery import figures_of_method, figures_of_study
from scratchcard.evidence.figures.looks import DARK
from scratchcard.evidence.price import NOTHING, price
from scratchcard.evidence.said import counted, notes
from scratchcard.evidence.savings import HEADER as SAVINGS
from scratchcard.evidence.savings import lines as saving_lines
from scratchcard.evidence.savings import savings
from scratchcard.evidence.summary import CONVENTION, covers, density_text, difference_text, finished
from scratchcard.evidence.verdict import MethodVerdict, judge
from scratchcard.row import Rows, StudySpec

PAGE = {
    "paper": ("#ffffff", "#14181c"),
    "ink": ("#1f2328", "#e8eaed"),
    "grey": ("#5b626b", "#a9b1ba"),
    "rule": ("#e3e6e9", "#2e343a"),
    "wash": ("#f6f7f8", "#1d2227"),
    "link": ("#00629b", "#6bb8ec"),
    "plain-back": ("#eef0f2", "#2b3138"),
    "plain": ("#4a5058", "#c3c9d0"),
    "good-back": ("#dcefe7", "#123b2d"),
    "good": ("#00553d", "#7fe0bb"),
    "even-back": ("#dcebf6", "#14344c"),
    "even": ("#004a75", "#9bd2f7"),
    "bad-back": ("#fbe5d8", "#4a2410"),
    "bad": ("#8f3a00", "#ffb98a"),
    "caution-back": ("#fdf0d0", "#3f3208"),
    "caution": ("#6b4e00", "#f0d27a"),
    "alarm": ("#b45309", "#e8914a"),
    "alarm-back": ("#fff8eb", "#2f2413"),
}
"""Colours of the page by name: (on a light screen and on paper, on a dark screen)."""


def report(rows: Rows, path: str | Path) -> Path:
    """Write everything the rows of a study show as one HTML file that needs no network.

    Args:
        rows: The rows of one study, finished or not.
        path: Where the page goes, e.g. "report.html"; its folder must exist, an older page is replaced.

    Returns:
        The path written.

    Raises:
        ValueError: If no run of the study has finished, or the file cannot be written.
    """
    study = rows.study
    if not finished(rows):
        raise ValueError(
            f"study {study.name!r} has no finished run among {len(rows)}, and a report needs one: "
            f"run its command first, recorded as `{study.command}`"
        )
    verdict = judge(rows)
    page = _template().render(
        study=study,
        verdict=verdict,
        rows=rows,
        finished=len(finished(rows)),
        overview=figures_of_study(rows),
        savings=[line for saving in savings(rows) for line in saving_lines(saving)],
        savings_header=SAVINGS,
        counted=counted(rows),
        checklist=checklist(rows),
        checklist_source=SOURCE,
        sides=[_side(said, study) for said in verdict.methods],
        methods=[
            {
                "verdict": said,
                "comparisons": [_comparison(c, study) for c in said.comparisons],
                "descriptive": [_comparison(c, study) for c in said.descriptive],
                "price": price(rows, said.method, said.level),
                "notes": notes(rows, said.method, lambda level, at=said.level: level == at),
                "other_notes": notes(rows, said.method, lambda level, at=said.level: level != at),
                "figures": figures_of_method(rows, said),
            }
            for said in verdict.methods
        ],
        arms={
            arm: described(arm, [plan.origin or INITIAL for plan in study.methods.values()])
            for arm in dict.fromkeys([*study.arms, *sorted({row.arm for row in rows})])
        },
        convention=CONVENTION,
        confidence=f"{100 * (1 - study.alpha):g} %",
        covers=covers(study),
        mixed=mixed(rows),
        lost=lost(rows),
        not_measured=not_measured(rows),
        declared=declared(study),
        machine=machine(rows),
        colours=PAGE,
        dark=DARK,
        chart=chart,
        vega=_vega(),
    )
    path = Path(path)
    try:
        with written_whole(path) as part:
            part.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"the report cannot be written to {path}: {error.strerror}; give another place") from error
    return path


def _side(said: MethodVerdict, study: StudySpec) -> list[str]:
    """One method beside the others: verdict, density, difference from dense, seeds, winning ticket."""
    outcome, dense = said.sentence.partition(":")[0], said.comparisons[0]
    effect = effect_text(dense, study) if dense.n else NOTHING
    return [said.method, outcome, density_text(said.density), effect, str(dense.n), said.won]


def _comparison(comparison: Comparison, study: StudySpec) -> dict[str, str]:
    def shown(value: float, text: Callable[[float], str]) -> str:
        return NOTHING if isnan(value) else text(value)

    def difference(value: float) -> str:
        return shown(value, lambda number: difference_text(number, study))

    low, high = difference(comparison.low), difference(comparison.high)
    return {
        "level": str(comparison.level),
        "density": density_text(comparison.density),
        "arm": comparison.arm,
        "n": str(comparison.n),
        "mean": difference(comparison.mean),
        "interval": NOTHING if isnan(comparison.low) else f"{low.removesuffix(' pp')} to {high}",
        "margin": "± " + difference(comparison.margin).lstrip("+"),
        "p_difference": shown(comparison.adjusted_difference, _p_text),
        "p_equivalence": shown(comparison.adjusted_equivalence, _p_text),
        "claim": comparison.claim,
        "missing": "; ".join(comparison.missing),
    }


def _p_text(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template("report.html.jinja")


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script, in the version the specifications are written for."""
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vega_lite_version())
    assert "</script" not in script.lower(), "the Vega bundle would end the script element it stands in"
    return script
