"""The share of its units that each layer keeps, methods side by side, with the uniform width as a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from scratchcard.evidence.figures.chart import Figure, Style, finished, tooltip
from scratchcard.evidence.figures.looks import INK, looks_of_methods
from scratchcard.evidence.price import NOTHING
from scratchcard.evidence.summary import Spread, density_text, thinned
from scratchcard.evidence.widths import Widths

MOST = 80
"""Sites drawn; the table has them all."""


def widths_figure(found: Sequence[Widths]) -> Figure:
    """Sites from the first to the last, one mark for each method (Liu et al. 2019, Rethinking, section 5).

    Args:
        found: One or more methods' widths, each at its primary level.
    """
    names = list(dict.fromkeys(site.site for one in found for site in one.sites))
    shown = thinned(names, MOST)
    place = {name: at for at, name in enumerate(shown)}
    methods = [one.method for one in found]
    looks = dict(zip(methods, looks_of_methods(len(methods)), strict=True))
    height = max(9, min(10 + 9 * len(found), 720 // len(shown)))
    values = [
        {
            "method": one.method,
            "site": site.site,
            "at": place[site.site],
            "mean": 100 * site.kept.mean,
            "low": 100 * site.kept.low,
            "high": 100 * site.kept.high,
            "value": _text(site.kept),
            "units": site.units,
            "n": site.seeds,
            "dash": looks[one.method].dash,
        }
        for one in found
        for site in one.sites
        if site.site in place
    ]
    uniform = [
        {
            "method": one.method,
            "uniform": 100 * one.uniform,
            "value": density_text(one.uniform),
            "from": "runs of uniform-width" if one.measured else "all units together",
        }
        for one in found
    ]
    style = Style("method", methods, list(looks.values()), lines_only=False)
    y = alt.Y("site:N", sort=shown).axis(
        title=None, labelColor=INK, labelOverlap="greedy", labelLimit=alt.ExprRef("room * 0.3"), labelPadding=8
    )
    scale = alt.Scale(domain=[0, 100], nice=False)
    x = alt.X("mean:Q", scale=scale).axis(title="units kept, %", grid=True, tickCount=5)
    base = alt.Chart().encode(y=y, color=style.colour)
    hover = tooltip(method="method", layer="site", share_kept="value", of_units="units", n_seeds="n")
    dodge: dict[str, Any] = {}
    if len(methods) > 1 and height >= 8 * len(methods):
        dodge["yOffset"] = alt.YOffset("method:N", sort=methods)
    line = alt.Chart(alt.Data(values=uniform)).mark_rule(strokeWidth=1.6, strokeDash=[5, 3], aria=False)
    layers = [
        line.encode(
            x=alt.X("uniform:Q", scale=scale),
            color=style.colour,
            opacity=style.opacity(0.75),
            tooltip=tooltip(method="method", uniform_width="value", **{"from": "from"}),
        ),
        base.mark_line(strokeWidth=1, aria=False).encode(x=x, order="at:Q", opacity=style.opacity(0.3), **dodge),
        base.mark_rule(strokeWidth=2, aria=False).encode(
            x=alt.X("low:Q", scale=scale), x2="high:Q", opacity=style.opacity(0.7), **dodge
        ),
        base.mark_point(size=55, filled=True, opacity=1, aria=False).encode(
            x=x, shape=style.shape, opacity=style.opacity(), tooltip=hover, **dodge
        ),
    ]
    spec = finished(values, layers, style, "share of units that each layer keeps", 40 + height * len(shown))
    spec["config"]["legend"]["offset"] = 14  # no title stands between legend and marks
    caption = (
        "Share of its own units that each layer keeps at each method's primary level: mean over seeds, with the "
        "smallest and the largest; layers in the network's order. Dashed: a network of the same size whose layers are "
        "all narrower by one factor" + _origin(found)
    )
    if len(shown) < len(names):
        caption += f" {len(names) - len(shown)} of {len(names)} layers are left out, evenly; the table has them."
    sites = {(one.method, site.site): site for one in found for site in one.sites}
    units = {site.site: site.units for one in found for site in one.sites}
    table = [
        [name, f"{units[name]:,}"]
        + [_text(sites[method, name].kept) if (method, name) in sites else NOTHING for method in methods]
        for name in names
    ]
    table.append(["uniform width", NOTHING, *(density_text(one.uniform) for one in found)])
    return Figure("widths", "Which layers become narrow?", caption, spec, ["layer", "units", *methods], table)


def _origin(found: Sequence[Widths]) -> str:
    """Where the dashed lines come from, as the end of a sentence."""
    if all(one.measured for one in found):
        return ", as in the runs of uniform-width."
    if not any(one.measured for one in found):
        return "; no such network was run, so it is the share of all units together."
    without = ", ".join(one.method for one in found if not one.measured)
    return f", as in the runs of uniform-width; for {without}, the share of all units together."


def _text(kept: Spread) -> str:
    mean, low, high = (density_text(share) for share in (kept.mean, kept.low, kept.high))
    return mean if low == high else f"{mean} ({low.removesuffix(' %')} to {high})"
