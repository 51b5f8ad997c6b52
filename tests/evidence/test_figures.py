import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_rows import EVERY_CONTROL, EVERY_OF_UNITS, make_rows

from scratchcard.evidence.arms import by_family
from scratchcard.evidence.figures.chart import Figure, sized
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
from scratchcard.evidence.inside import layer_densities
from scratchcard.evidence.means import arm_means
from scratchcard.evidence.report import PAGE
from scratchcard.evidence.verdict import judge

KNOWN = list(dict.fromkeys(["dense", "ticket", *EVERY_CONTROL, *EVERY_OF_UNITS]))
ROWS = make_rows(anatomy=True)
MANY = make_rows(levels=4, controls=EVERY_CONTROL)


def drawn(rows) -> dict[str, Figure]:
    (said,) = judge(rows).methods
    return {figure.name: figure for figure in figures_of_method(rows, said)}


@pytest.fixture(scope="module")
def full():
    return drawn(ROWS)


@pytest.fixture(scope="module")
def many():
    return drawn(MANY)


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
    assert list(values) == MANY.study.arms
    for mean in arm_means(MANY, "imp", 4):
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
        layers = figure.spec["spec"]["layer"] if "facet" in figure.spec else figure.spec["layer"]
        hints = [hint["field"] for layer in layers for hint in layer["encoding"].get("tooltip", [])]
        assert hints, figure.name
        assert set(hints) <= set().union(*figure.spec["data"]["values"]), figure.name
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


SMALL_CHARTS = drawn(make_rows(levels=1, seeds=1, anatomy=True))["movement"]


@given(st.integers(280, 1600))
def test_small_charts_fit_the_width_they_are_given(width):
    spec = sized(SMALL_CHARTS.spec, width)
    columns, cell = spec["columns"], spec["spec"]["width"]
    assert 1 <= columns <= 3
    assert columns * cell + (columns - 1) * spec["spacing"] < width
    assert cell >= 190 or columns == 1


def test_sizing_leaves_the_specification_as_it_was(full):
    figure = full["metric"]
    before = str(figure.spec)
    assert sized(figure.spec, 500)["width"] == 500
    assert str(figure.spec) == before
