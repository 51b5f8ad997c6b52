import json
import re
from functools import cache
from itertools import combinations, pairwise
from xml.etree import ElementTree

import altair as alt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_rows import CONTROLS, EVERY_CONTROL, EVERY_OF_UNITS, make_rows

from scratchcard.evidence.arms import by_family
from scratchcard.evidence.draw import picture
from scratchcard.evidence.figures.chart import Figure, sized
from scratchcard.evidence.figures.connectivity import instability_figure, lines_figure
from scratchcard.evidence.figures.gallery import figures_of_method, figures_of_study
from scratchcard.evidence.figures.layers import CLASSES, STRONG
from scratchcard.evidence.figures.looks import (
    DARK,
    DISTANCES,
    GREY,
    INK,
    ON_PALE,
    ON_STRONG,
    PAPER,
    RULE,
    SHARES,
    ZONE,
    looks_by_family,
    looks_of_arms,
    looks_of_methods,
)
from scratchcard.evidence.figures.lottery import lottery_figure
from scratchcard.evidence.inside import layer_densities
from scratchcard.evidence.lottery import drawn as compared
from scratchcard.evidence.means import arm_means
from scratchcard.evidence.report import PAGE
from scratchcard.evidence.summary import covers, summarise
from scratchcard.evidence.verdict import judge
from scratchcard.row import Connectivity, Path, Rows

LONGER = ["dense-for-the-search", "dense-times-3", "dense-times-10"]
KNOWN = list(dict.fromkeys(["dense", "ticket", *EVERY_CONTROL, *EVERY_OF_UNITS, *LONGER]))
ROWS = make_rows(anatomy=True)


@cache
def of_many():
    return make_rows(levels=4, controls=EVERY_CONTROL)


def drawn(rows) -> dict[str, Figure]:
    (said,) = judge(rows).methods
    return {figure.name: figure for figure in figures_of_method(rows, said)}


@pytest.fixture(scope="module")
def full():
    return drawn(ROWS)


@pytest.fixture(scope="module")
def many():
    return drawn(of_many())


def valid(figure):
    """Held against Vega-Lite's schema, which drawing itself leaves out to save half of its time."""
    spec = figure.spec | {"data": {"values": []}}  # the schema says nothing about values, and would read each
    layout = {"legend": {name: part for name, part in spec["config"]["legend"].items() if name != "layout"}}
    return bool(alt.Chart.from_dict(spec | {"config": spec["config"] | layout}))  # that is Vega's, not Vega-Lite's


def luminance(colour):
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """As WCAG 2.1 defines it: at least 4.5 for text, 3 for graphical objects (AA)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("side", ["light", "dark"])
def test_marks_and_text_of_figures_stand_out_from_the_page(side):
    seen = DARK if side == "dark" else dict(zip(DARK, DARK, strict=True))
    for colour in set(DARK) - {PAPER, RULE, ZONE, ON_STRONG, ON_PALE, *SHARES, *DISTANCES}:
        for behind in (PAPER, ZONE):
            assert contrast(seen[colour], seen[behind]) >= (4.5 if colour in (INK, GREY) else 3), colour
    for at, cell in enumerate(SHARES):
        assert contrast(seen[ON_STRONG if at < STRONG else ON_PALE], seen[cell]) >= 4.5, CLASSES[at]


@pytest.mark.parametrize("side", [0, 1], ids=["light", "dark"])
def test_text_of_the_page_stands_out_from_what_is_behind_it(side):
    colour = {name: pair[side] for name, pair in PAGE.items()}
    for text in ("ink", "grey", "link"):
        assert contrast(colour[text], colour["paper"]) >= 4.5
        assert contrast(colour[text], colour["wash"]) >= 4.5
    for kind in ("plain", "good", "even", "bad", "caution"):
        assert contrast(colour[kind], colour[kind + "-back"]) >= 4.5
    assert contrast(colour["ink"], colour["alarm-back"]) >= 4.5


@given(st.lists(st.sampled_from([*KNOWN, "own-1", "own-2", "own-3"]), unique=True, max_size=6))
def test_arms_of_one_figure_differ_in_colour_and_in_dash_or_shape(arms):
    for one, other in combinations(looks_of_arms(arms), 2):
        assert one.colour != other.colour
        assert (one.dash, one.shape) != (other.dash, other.shape) or {one.shape, other.shape} == {"circle"}


def test_shares_fall_by_classes_and_each_has_a_colour_of_its_own():
    assert len(SHARES) == len(CLASSES) == len(set(SHARES))
    light = [luminance(colour) for colour in SHARES]
    dark = [luminance(DARK[colour]) for colour in SHARES]
    assert light == sorted(light)
    assert dark == sorted(dark, reverse=True)


def test_known_arms_look_alike_in_the_forest_and_in_the_figures_of_their_families():
    forest = dict(zip(KNOWN, looks_by_family(KNOWN), strict=True))
    for members in by_family(KNOWN).values():
        panel = looks_of_arms(["dense", "ticket", *members])[2:]
        assert panel == [forest[arm] for arm in members]


def test_eight_methods_look_different():
    assert len({look.colour for look in looks_of_methods(8)}) == 8


def test_every_arm_stands_in_the_forest_with_its_mean_interval_and_n(many):
    values = {entry["arm"]: entry for entry in many["arms"].spec["data"]["values"]}
    assert list(values) == of_many().study.arms
    for mean in arm_means(of_many(), "imp", 4):
        entry = values[mean.arm]
        assert entry["n"] == mean.n
        assert (entry["mean"], entry["low"], entry["high"]) == pytest.approx(
            (100 * mean.mean, 100 * mean.low, 100 * mean.high)
        )


def test_a_collapsed_control_does_not_flatten_the_forest_and_is_named_at_its_edge(many):
    for name in ("arms", "differences"):
        figure = many[name]
        values = {entry["arm"]: entry["mean"] for entry in figure.spec["data"]["values"]}
        marks = [layer for layer in figure.spec["layer"] if layer["mark"]["type"] == "text"]
        assert [layer["data"]["values"][0]["arm"] for layer in marks] == ["inverted-scores"]
        (low, high) = figure.spec["layer"][-3]["encoding"]["x"]["scale"]["domain"]
        assert [arm for arm, mean in values.items() if not low <= mean <= high] == ["inverted-scores"]
        assert "outside the axis" in figure.caption


def test_all_figures_of_one_family_series_have_one_vertical_axis(many):
    panels = [figure for name, figure in many.items() if name.startswith("metric-")]
    domains = {
        str(layer["encoding"]["y"]["scale"]["domain"]) for figure in panels for layer in figure.spec["layer"][-3:]
    }
    assert len(panels) == 5
    assert len(domains) == 1


def test_every_figure_has_hover_a_table_and_a_description(full):
    every = [*full.values(), *figures_of_study(make_rows(levels=2, method=["imp", "snip"]))]
    assert len(every) == 12
    for figure in every:
        assert valid(figure), figure.name
        layers = figure.spec["spec"]["layer"] if "facet" in figure.spec else figure.spec["layer"]
        hints = [hint["field"] for layer in layers for hint in layer["encoding"].get("tooltip", [])]
        assert hints, figure.name
        for layer in layers:
            drawn_from = layer.get("data", figure.spec["data"])["values"]
            hinted = {hint["field"] for hint in layer["encoding"].get("tooltip", [])}
            assert hinted <= set().union(*drawn_from), figure.name
        assert {len(line) for line in figure.table} == {len(figure.header)}, figure.name
        assert figure.spec["description"]
        assert re.fullmatch(r"[a-z-]+", figure.name)


def test_only_colours_that_turn_dark_are_drawn(full, many):
    for figure in (*full.values(), *many.values()):
        spec = {name: part for name, part in figure.spec.items() if name not in ("data", "background")}
        assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b", str(spec))) <= DARK.keys(), figure.name
        assert not re.search(r"'(color|fill|stroke)': '(?!#)\w+'", str(spec)), figure.name


def test_the_heat_map_holds_every_layer_at_every_level(full):
    figure = full["layers"]
    shown = {(entry["layer"], int(entry["level"])): float(entry["text"]) for entry in figure.spec["data"]["values"]}
    assert shown == {(e.layer, e.level): pytest.approx(100 * e.kept, rel=6e-3) for e in layer_densities(ROWS, "imp")}
    assert [line[0] for line in figure.table] == list(ROWS[0].layers)


def test_of_very_many_layers_some_are_drawn_and_all_are_in_the_table():
    shapes = {f"layer{at}": (4, 4) for at in range(400)}
    figure = drawn(make_rows(levels=2, seeds=2, shapes=shapes))["layers"]
    assert len({entry["layer"] for entry in figure.spec["data"]["values"]}) == 120
    assert len(figure.table) == 400
    assert "280 of 400 layers are left out" in figure.caption
    assert figure.spec["height"] < 1200


def test_initial_weights_are_drawn_as_densities_whose_area_is_one(full):
    values = full["initial-weights"].spec["data"]["values"]
    for layer in ROWS[0].layers:
        for line in {entry["line"] for entry in values}:
            heights = [entry["y"] for entry in values if (entry["layer"], entry["line"]) == (layer, line)]
            assert len(heights) == 40
            assert sum(heights) * 0.2 == pytest.approx(1, abs=2e-3)


def test_movement_and_connections_are_shares_that_add_up(full):
    shown = full
    for name in ("movement", "connections-in", "connections-out"):
        values = shown[name].spec["data"]["values"]
        for group in {(entry["layer"], entry["line"]) for entry in values}:
            total = sum(entry["y"] for entry in values if (entry["layer"], entry["line"]) == group)
            assert total == pytest.approx(100, abs=0.2)


@cache
def small_charts():
    return drawn(make_rows(levels=1, seeds=1, anatomy=True))["movement"]


@given(st.integers(280, 1600))
def test_small_charts_fit_the_width_they_are_given(width):
    spec = sized(small_charts().spec, width)
    columns, cell = spec["columns"], spec["spec"]["width"]
    assert 1 <= columns <= 3
    assert columns * cell + (columns - 1) * spec["spacing"] < width
    assert cell >= 190 or columns == 1


def test_sizing_leaves_the_specification_as_it_was(full):
    figure = full["metric"]
    before = str(figure.spec)
    assert sized(figure.spec, 500)["width"] == 500
    assert str(figure.spec) == before


def turned(rows, change, where=lambda row: True, **study):
    """The rows with other test metrics, of a study that calls them something else."""

    def point(found):
        return found and found.model_copy(update={"test_metric": change(found.test_metric, row)})

    runs = []
    for row in rows:
        if where(row):
            curve = row.curve and row.curve.model_copy(
                update={"test_metric": [change(value, row) for value in row.curve.test_metric]}
            )
            row = row.model_copy(update={"end": point(row.end), "early_stop": point(row.early_stop), "curve": curve})
        runs.append(row)
    return Rows(runs, rows.study.model_copy(update=study))


def as_loss(rows):
    names = {"metric": "squared error", "higher_is_better": False, "metric_is_fraction": False, "test_targets": 360}
    return turned(rows, lambda value, row: 3 * (1 - value), **names)


def with_longer(rows, arms=tuple(LONGER[:2]), gain=0.002, **changed):
    """The rows and the whole network trained longer, as the arms of that name leave it."""
    extra = [
        row.model_copy(
            update={
                "id": row.id + method + arm, "method": method, "level": plan.primary, "arm": arm,
                "end": row.end.model_copy(update={"test_metric": row.end.test_metric + gain * (1 + at)}), **changed,
            }
        )
        for method, plan in rows.study.methods.items()
        for row in rows if row.arm == "dense" and row.status == "done"
        for at, arm in enumerate(arms)
    ]  # fmt: skip
    return Rows([*rows, *extra], rows.study.model_copy(update={"arms": [*rows.study.arms, *arms]}))


def far_apart(rows, by=0.03):
    """Seeds that differ so much in the ticket and one control that intervals are far longer than any difference."""
    wild = ("ticket", "fresh-init")
    return turned(rows, lambda value, row: value - by * row.seed, lambda row: row.arm in wild)


def layers_of(spec):
    return spec["spec"]["layer"] if "facet" in spec else spec["layer"]


def beyond(figure):
    """(layer, field, edge) of every mark that does not fit its axis, and the same of every arrow."""
    lost, arrows = [], []
    for layer in layers_of(figure.spec):
        values = layer.get("data", figure.spec["data"])["values"]
        shape = layer["mark"].get("shape", "")
        filters = [step.get("filter", "") for step in layer.get("transform", [])]
        side = next((side for side in ("under", "over") if f"isValid(datum.{side})" in filters), None)
        if shape.startswith("triangle-") and side:
            arrows += [(side, entry) for entry in values if side in entry]
            continue
        for channel in ("x", "y"):
            place = layer["encoding"].get(channel, {})
            domain = (place.get("scale") or {}).get("domain")
            if place.get("type") != "quantitative" or not domain:
                continue
            for end in (channel, channel + "2"):
                field = layer["encoding"].get(end, {}).get("field")
                numbers = [(entry, entry[field]) for entry in values if field in entry]
                lost += [("under", entry) for entry, value in numbers if value < min(domain)]
                lost += [("over", entry) for entry, value in numbers if value > max(domain)]
    return lost, arrows


def name_of(entry):
    return entry.get("arm") or entry.get("line") or entry.get("network") or entry.get("structure") or entry["step"]


STUDIES = {
    "two seeds": lambda: far_apart(make_rows(levels=2, seeds=2, accidents=False)),
    "a loss": lambda: as_loss(far_apart(make_rows(levels=2, seeds=2, accidents=False))),
    "one level": lambda: make_rows(levels=1, seeds=3, accidents=False),
    "collapsed": lambda: make_rows(
        levels=7, seeds=2, controls=["fresh-init", "random-mask-layerwise", "inverted-scores"]
    ),
    "trained longer": lambda: with_longer(make_rows(levels=3, seeds=3)),
}


@pytest.mark.parametrize("rows", STUDIES.values(), ids=STUDIES)
def test_nothing_goes_beyond_an_axis_without_an_arrow_that_has_its_numbers(rows):
    for figure in drawn(rows()).values():
        lost, arrows = beyond(figure)
        pointed = {(side, name_of(entry)) for side, entry in arrows}
        # an arm of the forest whose mean itself is off the axis has its own arrow, with the mean beside it
        off = {entry["arm"] for layer in layers_of(figure.spec) if layer["mark"]["type"] == "text"
               for entry in layer.get("data", {}).get("values", []) if "edge" in entry}  # fmt: skip
        for side, entry in lost:
            assert (side, name_of(entry)) in pointed or name_of(entry) in off, (figure.name, entry)
        assert all("value" in entry for _, entry in arrows)
        if arrows:
            assert "rrows" in figure.caption, figure.name


def symbols(svg, layer):
    """(x, y) of every symbol of a layer of a figure that was really drawn."""
    marks = [part for part in ElementTree.fromstring(svg).iter() if f"layer_{layer}_marks" in part.get("class", "")]
    found = [
        re.match(r"translate\(([-\d.]+),([-\d.]+)\)", part.get("transform", "")) for mark in marks for part in mark
    ]
    return [(float(place[1]), float(place[2])) for place in found if place]


def lines(svg, layer):
    """(x, y) of both ends of every rule of a layer."""
    marks = [part for part in ElementTree.fromstring(svg).iter() if f"layer_{layer}_marks" in part.get("class", "")]
    found = []
    for part in (part for mark in marks for part in mark if part.tag.endswith("line")):
        x, y = map(float, re.findall(r"[-\d.]+", part.get("transform")))
        found.append((x, y, x + float(part.get("x2", 0)), y + float(part.get("y2", 0))))
    return found


def words(svg):
    """Every line of text."""
    texts = [part for part in ElementTree.fromstring(svg).iter() if part.tag.endswith("text")]
    return [line.text or "" for text in texts for line in (list(text) or [text])]


def test_arrows_of_a_very_long_interval_are_drawn_at_both_edges_of_the_forest():
    rows = turned(
        make_rows(levels=1, seeds=2, accidents=False, draws=1),
        lambda value, row: value + 0.1 * (-1) ** row.seed,
        lambda row: row.arm == "fresh-init",
    )
    figure = drawn(rows)["arms"]
    (entry,) = [entry for entry in figure.spec["data"]["values"] if entry["arm"] == "fresh-init"]
    shapes = [layer["mark"].get("shape") for layer in figure.spec["layer"]]
    low, high = figure.spec["layer"][shapes.index("triangle-left")]["encoding"]["x"]["scale"]["domain"]
    assert entry["low"] < low < entry["mean"] < high < entry["high"]
    svg = picture(figure, "svg").decode()
    left, right = (symbols(svg, shapes.index(f"triangle-{side}")) for side in ("left", "right"))
    values = [entry for entry in figure.spec["data"]["values"] if not entry["out"]]
    assert (len(left), len(right)) == tuple(sum(side in entry for entry in values) for side in ("under", "over"))
    assert len({x for x, _ in left}) == len({x for x, _ in right}) == 1
    assert {y for _, y in left} & {y for _, y in right}, "in the row of fresh-init"
    interval = next(at for at, layer in enumerate(figure.spec["layer"]) if "x2" in layer["encoding"])
    ends = [x for one, _, other, _ in lines(svg, interval) for x in (one, other)]
    assert min(ends) < left[0][0] < right[0][0] < max(ends), "the line goes on to the edge and beyond"
    assert 0 < left[0][0] < right[0][0] - 100 < 236


def test_of_intervals_of_two_seeds_half_are_seen_whole_and_short_ones_are_not_flattened():
    long = turned(make_rows(levels=1, seeds=2, accidents=False), lambda value, row: value + 0.02 * (-1) ** row.seed)
    for rows, least in ((long, 3), (far_apart(make_rows(levels=1, seeds=2, accidents=False)), 3)):
        figure = drawn(rows)["arms"]
        values = {entry["arm"]: entry for entry in figure.spec["data"]["values"]}
        low, high = figure.spec["layer"][1]["encoding"]["x"]["scale"]["domain"]
        whole = [arm for arm, entry in values.items() if low <= entry["low"] and entry["high"] <= high]
        assert len(whole) >= least
        assert max(values[arm]["high"] - values[arm]["low"] for arm in whole) > (high - low) / 10
    assert "ticket" not in whole


def test_learning_curves_have_an_arrow_where_they_cross_the_edge(full):
    figure = full["curves-metric"]
    _, arrows = beyond(figure)
    curves = {entry["network"] for entry in figure.spec["data"]["values"]}
    assert {entry["network"] for _, entry in arrows} == curves, "all start far below what they end at"
    for side, entry in arrows:
        curve = [point for point in figure.spec["data"]["values"] if point["network"] == entry["network"]]
        (around,) = [(a, b) for a, b in pairwise(curve) if a["step"] <= entry["step"] < b["step"]]
        assert side == "under"
        assert around[0]["mean"] < entry["under"] <= around[1]["mean"]
        assert entry["mean"] == pytest.approx(min(point["mean"] for point in curve))
        assert entry["value"] in {point["value"] for point in curve}


def test_a_study_of_one_level_draws_the_range_of_every_arm_side_by_side():
    rows = STUDIES["one level"]()
    figures = drawn(rows)
    for name, read in (("metric", lambda line: line.end), ("early-stop", lambda line: line.stop_step)):
        figure, factor = figures[name], 100 if name == "metric" else 1
        rules = [i for i, layer in enumerate(figure.spec["layer"]) if layer["mark"]["type"] == "rule"]
        (at,) = [i for i in rules if figure.spec["layer"][i].get("transform") == [{"filter": "datum.alone"}]]
        values = {entry["line"]: entry for entry in figure.spec["data"]["values"] if entry["alone"]}
        assert values.keys() == {"dense", "ticket", "fresh-init", "random-mask-layerwise", "random-mask-global"}
        for line in summarise(rows):
            spread, entry = read(line), values[line.arm]
            assert (entry["low"], entry["high"]) == pytest.approx((factor * spread.low, factor * spread.high))
        bars = lines(picture(figure, "svg").decode(), at)
        assert len(bars) == 5
        assert len({round(x) for x, *_ in bars}) == 5, "none hides another"
        low, high = figure.spec["layer"][at]["encoding"]["y"]["scale"]["domain"]
        drawn_ranges = sorted(abs(bottom - top) for _, top, _, bottom in bars)
        inside = [min(entry["high"], high) - max(entry["low"], low) for entry in values.values()]
        assert drawn_ranges == pytest.approx(sorted(330 * range_ / (high - low) for range_ in inside), rel=0.2, abs=8)
        assert "Bars reach from the lowest to the highest run" in figure.caption
        assert "Bands" not in figure.caption


def test_controls_at_the_primary_level_alone_have_bars_beside_the_curve_of_the_ticket():
    rows = make_rows(levels=3, seeds=3, control_levels=[3], accidents=False)
    values = drawn(rows)["metric"].spec["data"]["values"]
    assert {entry["line"] for entry in values if not entry["alone"]} == {"ticket"}
    shifts = {entry["line"]: entry["shift"] for entry in values if entry["level"] == 3}
    assert shifts["ticket"] == 0
    assert len(set(shifts.values())) == len(shifts) == 4


def test_beside_every_interval_stands_what_it_covers_in_the_caption_and_in_the_picture():
    rows = make_rows(levels=2, seeds=3, test_targets=360, method=["imp", "snip"])
    both = {"levels": 1, "seeds": 3, "controls": ["fresh-init"], "test_targets": 360}
    found = [(0.1, make_rows(**both)), (0.01, make_rows(**both))]
    figures = [lottery_figure(compared(found), found[0][1].study), *figures_of_study(rows)]
    figures += figures_of_method(rows, judge(rows).methods[0])
    assert covers(rows.study) == "over seeds; for these 360 test examples"
    with_interval = set()
    for figure in figures:
        assert valid(figure), figure.name
        seen = " ".join(words(picture(figure, "svg").decode()))
        if "interval" in figure.caption.replace("not an interval", ""):
            with_interval.add(figure.name)
            assert "over seeds; for these 360 test examples" in figure.caption, figure.name
            assert "over seeds; for these 360 test examples." in seen, figure.name
            assert "95 %" in seen
        else:
            assert "test examples" not in figure.caption + seen, figure.name
    assert with_interval == {"lottery", "differences", "arms"}


def test_of_a_loss_every_figure_says_which_direction_is_good():
    rows = as_loss(make_rows(levels=3, seeds=3, controls=["fresh-init", "random-mask-layerwise"], accidents=False))
    figures = drawn(rows)
    seen = {name: words(picture(figure, "svg").decode()) for name, figure in figures.items()}
    assert {"ticket minus arm", "turned so that right = ticket better"} <= set(seen["differences"])
    means = {mean.arm: mean.mean for mean in arm_means(rows, "imp", 3)}
    for entry in figures["differences"].spec["data"]["values"]:
        assert entry["mean"] == pytest.approx(means[entry["arm"]] - means["ticket"])
    assert means["ticket"] < means["fresh-init"], "or the test says nothing"
    assert {"test squared error", "lower is better"} <= set(seen["arms"])
    for name in ("metric", "curves-metric"):
        assert "test squared error, lower is better" in seen[name], name
    assert "validation cross-entropy, lower is better" in seen["curves-loss"]
    two = as_loss(make_rows(levels=1, seeds=2, method=["imp", "snip"]))
    assert "test squared error, lower is better" in str(figures_of_study(two)[0].spec)
    lottery = lottery_figure(compared([(0.1, rows)]), rows.study)
    assert "original minus fresh, turned so that up = original better" in words(picture(lottery, "svg").decode())
    (entry,) = lottery.spec["data"]["values"]
    assert entry["mean"] > 0


def test_of_an_accuracy_differences_say_their_direction_too(full):
    assert {"ticket minus arm, pp", "right = ticket better"} <= set(words(picture(full["differences"], "svg").decode()))
    assert "lower is better" not in str(full["metric"].spec)


@pytest.mark.parametrize("levels", [1, 3])
def test_the_dense_network_trained_longer_is_a_labelled_rule_and_nothing_at_the_tickets_density(levels):
    rows = with_longer(make_rows(levels=levels, seeds=3, accidents=False))
    for name in ("metric", "early-stop"):
        figure = drawn(rows)[name]
        values = {entry["line"]: entry for entry in figure.spec["data"]["values"] if entry["level"] in (0, levels)}
        assert [values[arm]["percent"] for arm in LONGER[:2]] == [100, 100]
        rules = [(at, layer) for at, layer in enumerate(figure.spec["layer"]) if layer["mark"]["type"] == "rule"]
        ((at, layer),) = [one for one in rules if "label" in one[1].get("data", {}).get("values", [{}])[0]]
        assert {entry["line"]: entry["mean"] for entry in layer["data"]["values"]} == {
            arm: pytest.approx(values[arm]["mean"]) for arm in LONGER[:2]
        }
        dashes = [str(entry["dash"]) for entry in values.values() if entry["line"] in (*LONGER, "dense")]
        assert len(set(dashes)) == 3
        svg = picture(figure, "svg").decode()
        assert len({round(y, 2) for _, y, *_ in lines(svg, at)}) <= 2
        assert all(abs(right - left) > 150 for left, _, right, _ in lines(svg, at)), "straight across"
        assert len(lines(svg, at)) == 2
        assert words(svg).count("dense-for-the-search") == 2, "in the legend and at its rule"
        # what is marked as the primary level is the ticket's density
        (marker,) = [layer for layer in figure.spec["layer"] if layer["mark"].get("text") == "primary level"]
        assert marker["data"]["values"][0]["percent"] == pytest.approx(100 * 0.8**levels)


def test_the_dense_network_trained_longer_stands_in_every_family_and_counts_as_no_curve():
    rows = with_longer(make_rows(levels=2, seeds=2, controls=[*CONTROLS, "noise-1"]))
    assert "metric" in drawn(rows), "four controls stand in one chart"
    many = drawn(with_longer(make_rows(levels=2, seeds=2, controls=EVERY_CONTROL)))
    panels = [figure for name, figure in many.items() if name.startswith("metric-")]
    assert len(panels) == 5
    for figure in panels:
        assert {*LONGER[:2], "dense", "ticket"} <= {entry["line"] for entry in figure.spec["data"]["values"]}
    assert {*LONGER[:2]} <= {entry["arm"] for entry in many["arms"].spec["data"]["values"]}


def test_a_rule_far_beyond_the_axis_has_its_name_and_its_mean_at_the_edge():
    rows = with_longer(make_rows(levels=3, seeds=3, accidents=False), LONGER[:1], gain=-0.8)
    figure = drawn(rows)["metric"]
    (text,) = [part for part in words(picture(figure, "svg").decode()) if part.startswith("dense-for-the-search: ")]
    mean = 100 * next(line.end.mean for line in summarise(rows) if line.arm == LONGER[0])
    assert float(text.partition(": ")[2]) == pytest.approx(mean, abs=0.01)
    assert "outside the axis" in figure.caption


@pytest.mark.parametrize(("status", "density"), [("failed", 0.0), ("diverged", 1.0)])
@pytest.mark.parametrize("arms", [["ticket"], LONGER[:1], ["fresh-init"], ["dense"]], ids="-".join)
def test_a_run_that_came_to_nothing_moves_nothing_and_breaks_nothing(status, density, arms):
    rows = with_longer(make_rows(levels=2, seeds=3, accidents=False, controls=["fresh-init"], draws=1))
    nothing = {
        "status": status, "density": density, "layers": {}, "nonzero": rows[0].parameters, "curve": None,
        "early_stop": None, "end": None, "message": "it broke",
    }  # fmt: skip

    def lost(seeds):
        return Rows(
            [row.model_copy(update=nothing) if row.arm in arms and row.seed in seeds else row for row in rows],
            rows.study,
        )

    places = {(e["line"], e["level"]): e["percent"] for e in drawn(rows)["metric"].spec["data"]["values"]}
    for seeds in ([1], [0, 1, 2]):
        for name, figure in drawn(lost(seeds)).items():
            if len(seeds) == 3:
                assert picture(figure, "svg")
            if name == "metric":
                found = {(e["line"], e["level"]): e["percent"] for e in figure.spec["data"]["values"]}
                assert found.items() <= places.items()
                gone = {(arm, level) for arm, level in places if arm in arms and len(seeds) == 3}
                assert found.keys() == places.keys() - gone
                markers = [layer for layer in figure.spec["layer"] if layer["mark"].get("text") == "primary level"]
                assert [marker["data"]["values"][0]["percent"] for marker in markers] == [pytest.approx(64)]


def test_where_only_the_whole_network_ran_at_the_primary_level_no_density_is_marked_as_its():
    rows = with_longer(make_rows(levels=2, seeds=2, accidents=False))
    few = Rows([row for row in rows if row.level < 2 or row.arm in LONGER], rows.study)
    spec = drawn(few)["metric"].spec
    assert {entry["line"] for entry in spec["data"]["values"]} >= set(LONGER[:2])
    assert not [layer for layer in spec["layer"] if layer["mark"].get("text") == "primary level"]


def test_an_instability_without_bound_is_an_arrow_above_the_axis():
    paths = [
        Path(seed=seed, step=step, values=[0.0 if step == 0 else 0.1, 0.2, 0.0 if step == 0 else 0.1], losses=[0.0] * 3)
        for step in (0, 50)
        for seed in range(2)
    ]
    found = Connectivity(
        task="t", data="d", metric="squared error", higher_is_better=False, metric_is_fraction=False, steps=100,
        statistics="interpolated", paths=paths, command="", machine={},
    )  # fmt: skip
    figure = instability_figure(found)
    assert valid(figure)
    assert valid(lines_figure(found))
    lost, arrows = beyond(figure)
    assert [(side, entry["step"]) for side, entry in arrows] == [("over", "0")]
    assert {entry["step"] for _, entry in lost} == {"0"}
    json.dumps(figure.spec, allow_nan=False)
    assert len([step for step in words(picture(figure, "svg").decode()) if step == "50"]) >= 1
