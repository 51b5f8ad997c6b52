"""The report: one offline page with the verdict, its price, the figures, and what was not measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from math import isnan
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scratchcard.evidence.caveats import lost, mixed, not_measured
from scratchcard.evidence.comparison import Comparison
from scratchcard.evidence.figures import Figure, curve_figures, difference_figure, metric_figure, stop_figure
from scratchcard.evidence.summary import (
    CONVENTION,
    Spread,
    density_text,
    difference_text,
    finished,
    learning_curves,
    spread,
    summarise,
    thinned,
)
from scratchcard.evidence.verdict import MethodVerdict, judge
from scratchcard.row import Row, Rows, StudySpec

CURVES = 4
"""Tickets whose learning curves are drawn, besides the one at the primary level."""
NOTHING = "\N{EN DASH}"
ARMS = {
    "dense": "the whole network, trained from its original initial weights",
    "ticket": "the subnetwork that the method found, trained from its rewound weights",
    "fresh-init": "the same mask with newly drawn initial weights: does the initialisation matter?",
    "random-mask-layerwise": "the mask shuffled within every layer, newly drawn initial weights: "
    "does it matter which weights of a layer are left?",
    "random-mask-global": "the mask shuffled over the whole network, newly drawn initial weights: "
    "does it matter how many weights each layer keeps?",
}
"""What the arms are, in words."""


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
            f"run `{study.command}` first"
        )
    verdict = judge(rows)
    page = _template().render(
        study=study,
        verdict=verdict,
        rows=rows,
        finished=len(finished(rows)),
        methods=[
            {
                "verdict": said,
                "comparisons": [_comparison(c, study) for c in said.comparisons],
                "descriptive": [_comparison(c, study) for c in said.descriptive],
                "price": _price(rows, said.method, said.level),
                "figures": _figures(rows, said),
            }
            for said in verdict.methods
        ],
        arms={arm: ARMS.get(arm, "an arm of this study's own") for arm in study.arms},
        convention=CONVENTION,
        confidence=f"{100 * (1 - study.alpha):g} %",
        mixed=mixed(rows),
        lost=lost(rows),
        not_measured=not_measured(rows),
        declared=_declared(study),
        machine=_machine(rows),
        vega=_vega(),
    )
    path = Path(path)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"the report cannot be written to {path}: {error.strerror}; give another place") from error
    return path


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


def _price(rows: Rows, method: str, level: int) -> list[list[str]]:
    """(quantity, dense, ticket at the primary level), means over finished runs."""
    dense = [row for row in finished(rows) if row.arm == "dense"]
    ticket = [r for r in finished(rows) if (r.method, r.level, r.arm) == (method, level, "ticket")]

    def line(name: str, value: Callable[[Row], float], text: Callable[[float], str]) -> list[str]:
        return [name, *(_span(spread((r.seed, value(r)) for r in side), text) for side in (dense, ticket))]

    return [
        ["finished runs (n)", str(len(dense)), str(len(ticket))],
        line("learnable parameters", lambda row: row.parameters, "{:,.0f}".format),
        line("of these, not cut by the mask", lambda row: row.nonzero, "{:,.0f}".format),
        line("density (weights left)", lambda row: row.density, density_text),
        line("its own training (the marginal cost)", lambda row: row.train_flops, flops_text),
        line("search before it, if nothing were shared", lambda row: row.search_flops, flops_text),
        line("both (the standalone cost)", lambda row: row.search_flops + row.train_flops, flops_text),
        line("wall-clock of its own training, s", lambda row: row.seconds, "{:,.3g}".format),
    ]


def _span(found: Spread | None, text: Callable[[float], str]) -> str:
    if found is None:
        return NOTHING
    mean, low, high = text(found.mean), text(found.low), text(found.high)
    return mean if low == high else f"{mean} ({low} to {high})"


def flops_text(flops: float) -> str:
    """Floating-point operations with three digits and an SI prefix: 382 GFLOP."""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if flops < 999.5:
            return f"{flops:.3g} {prefix}FLOP"
        flops /= 1000
    return f"{flops:,.3g} EFLOP"


def _figures(rows: Rows, said: MethodVerdict) -> list[Figure]:
    study, method, primary = rows.study, said.method, said.level
    lines = [line for line in summarise(rows) if line.arm == "dense" or line.method == method]
    figures = []
    if any(c.n for c in said.comparisons):
        figures.append(difference_figure(said.comparisons, study))
    if any(line.metric(study) for line in lines):
        figures.append(metric_figure(lines, study, primary))
    if any(line.stop_step for line in lines):
        figures.append(stop_figure(lines, study, primary))
    levels = [line.level for line in lines if line.arm == "ticket" and line.runs and line.level != primary]
    if curves := learning_curves(rows, method, [*thinned(levels, CURVES), primary]):
        figures += curve_figures(curves, study, primary)
    return figures


def _declared(study: StudySpec) -> dict[str, str]:
    """What was fixed before the runs, in words."""
    absolute = difference_text(study.margin, study).lstrip("+")
    relative = f"{100 * study.margin:g} % of the dense mean"
    return {
        "task": study.task,
        "data": study.data,
        "metric": f"{study.metric}, {'higher' if study.higher_is_better else 'lower'} is better",
        "compared at": "the last step" if study.measure == "end" else "the early-stop step",
        "loss": study.loss,
        "seeds": ", ".join(map(str, study.seeds)),
        "arms": ", ".join(
            f"{arm} ({study.replicates[arm]} draws)" if study.replicates.get(arm, 1) > 1 else arm for arm in study.arms
        ),
        "margin for matching": absolute if study.margin_kind == "absolute" else relative,
        "margin for training time": f"{100 * study.time_margin:g} % more steps than the dense network",
        "alpha": f"{study.alpha:g}, over all primary comparisons together",
        **{
            f"method {name}": f"{_fields(plan.fields)}; primary level {plan.primary} "
            f"(density {density_text(plan.densities[plan.primary])}) of {len(plan.densities) - 1}"
            for name, plan in study.methods.items()
        },
        "recipe": _fields(study.recipe),
        "task digest": study.task_digest,
    }


def _fields(fields: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value if isinstance(value, str) else json.dumps(value, default=str)}"
        for name, value in fields.items()
    )


def _machine(rows: Rows) -> dict[str, str]:
    keys = sorted({key for row in rows for key in row.machine})
    return {key: ", ".join(sorted({row.machine.get(key, "unknown") for row in rows})) for key in keys}


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
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    assert "</script" not in script.lower(), "the Vega bundle would end the script element it stands in"
    return script
