"""Which figures a study has: those about all methods, then those of each method, in the order of the page."""

from __future__ import annotations

from itertools import zip_longest

from scratchcard.evidence.emergence import emerged
from scratchcard.evidence.figures.anatomy import anatomy_figures
from scratchcard.evidence.figures.chart import Figure, unchecked
from scratchcard.evidence.figures.density import metric_figures, overview_figure, stop_figures
from scratchcard.evidence.figures.emergence import emergence_figures
from scratchcard.evidence.figures.forest import arms_figure, difference_figure
from scratchcard.evidence.figures.layers import layer_figure
from scratchcard.evidence.figures.learning import curve_figures
from scratchcard.evidence.figures.tradeoff import trade_off_figure
from scratchcard.evidence.figures.widths import widths_figure
from scratchcard.evidence.inside import inside, layer_densities
from scratchcard.evidence.means import arm_means
from scratchcard.evidence.summary import around, learning_curves, summarise
from scratchcard.evidence.tradeoff import timing_conditions, trade_off, units_were_cut
from scratchcard.evidence.verdict import MethodVerdict
from scratchcard.evidence.widths import widths
from scratchcard.row import Rows

CURVES = 5
"""Tickets whose learning curves are drawn, the one at the primary level among them."""


@unchecked
def figures_of_study(rows: Rows) -> list[Figure]:
    """The figures that compare methods, and those about size and speed where whole units were cut."""
    lines, study = summarise(rows), rows.study
    figures = []
    seen = any(line.arm == "ticket" and line.metric(study) for line in lines)
    if len(study.methods) > 1 and seen:
        figures.append(overview_figure(lines, study))
    if seen and units_were_cut(rows):
        figures.append(trade_off_figure(trade_off(rows), study, timing_conditions(rows)))
    if narrow := [found for name, plan in study.methods.items() if (found := widths(rows, name, plan.primary))]:
        figures.append(widths_figure(narrow))
    return figures


@unchecked
def figures_of_method(rows: Rows, said: MethodVerdict) -> list[Figure]:
    """The figures of one method; those without anything to show are left out."""
    study, method, primary = rows.study, said.method, said.level
    lines = [line for line in summarise(rows) if line.arm == "dense" or line.method == method]
    figures = []
    if any(c.n for c in said.comparisons):
        figures.append(difference_figure(said.comparisons, study))
    if means := arm_means(rows, method, primary):
        figures.append(arms_figure(means, study))
    small = metric_figures(lines, study, primary) if any(line.metric(study) for line in lines) else []
    fast = stop_figures(lines, study, primary) if any(line.stop_step for line in lines) else []
    figures += [figure for pair in zip_longest(small, fast) for figure in pair if figure]
    levels = [line.level for line in lines if line.arm == "ticket" and line.runs]
    if curves := learning_curves(rows, method, around(levels, CURVES, primary)):
        figures += curve_figures(curves, study, primary)
    if drawn := emerged(rows, method, primary):
        figures += emergence_figures(drawn)
    if densities := layer_densities(rows, method):
        figures.append(layer_figure(densities, {line.level: line.density for line in lines if line.arm == "ticket"}))
    if found := inside(rows, method, primary):
        figures += anatomy_figures(found)
    return figures
