"""The figures about networks that are physically small, read back from their specifications and from the page."""

import re
from statistics import fmean
from xml.etree import ElementTree

import pytest
from make_rows import CONTROLS, EVERY_OF_UNITS, OF_UNITS, emergence, make_rows
from test_figures import as_loss, turned, valid, with_longer, words
from test_report import Page

from scratchcard.evidence.checklist import checklist
from scratchcard.evidence.draw import draw, for_paper, picture
from scratchcard.evidence.emergence import Emerged, consecutive
from scratchcard.evidence.figures.emergence import MOST, emergence_figures
from scratchcard.evidence.figures.gallery import figures_of_method, figures_of_study
from scratchcard.evidence.figures.looks import DARK, DISTANCES
from scratchcard.evidence.figures.widths import widths_figure
from scratchcard.evidence.report import report
from scratchcard.evidence.savings import lines, savings
from scratchcard.evidence.summary import covers
from scratchcard.evidence.tradeoff import MASKED, SIZES, trade_off
from scratchcard.evidence.verdict import judge
from scratchcard.evidence.widths import widths
from scratchcard.row import Rows

METHODS = ["slimming", "l1-filters", "early-bird"]
SHAPES = {f"conv{at}.weight": (16, 16) for at in range(5)}
ROWS = make_rows(
    levels=3, seeds=2, method=METHODS, controls=OF_UNITS, structured=True, accidents=False, shapes=SHAPES
)  # fmt: skip
STUDY = {figure.name: figure for figure in figures_of_study(ROWS)}
SEARCH = emergence(0, "early-bird-drawn-at-end", 1, masks=40)


def layers_of(spec, mark):
    every = spec["spec"]["layer"] if "facet" in spec else spec["layer"]
    return [layer for layer in every if layer["mark"]["type"] == mark]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return Page(report(ROWS, tmp_path_factory.mktemp("report") / "report.html"))


def test_a_study_of_pruned_units_has_size_and_width_figures_and_an_unstructured_one_has_neither():
    assert list(STUDY) == ["methods", "tradeoff", "widths"]
    assert all(valid(figure) for figure in (*STUDY.values(), *emergence_figures(Emerged("early-bird", 1, {0: SEARCH}))))
    one = make_rows(levels=1, seeds=2, method="slimming", controls=[], structured=True, accidents=False)
    assert [figure.name for figure in figures_of_study(one)] == ["tradeoff", "widths"]
    assert figures_of_study(make_rows(levels=1, seeds=2)) == []
    both = make_rows(levels=1, seeds=2, method=["imp", "snip"])
    assert [figure.name for figure in figures_of_study(both)] == ["methods"]


def test_every_point_of_the_trade_off_is_drawn_once_and_the_axis_is_one_choice_of_three():
    spec = STUDY["tradeoff"].spec
    (choice,) = [param for param in spec["params"] if "bind" in param and param["bind"] != "legend"]
    assert choice["bind"]["options"] == ["parameters", "multiply-accumulates", "latency, ms"]
    assert choice["value"] == "parameters"
    values = {(entry["method"], entry["arm"], entry["level"]): entry for entry in spec["data"]["values"]}
    places = trade_off(ROWS)
    assert len(values) == len(spec["data"]["values"]) == len(places)
    for place in places:
        entry = values[place.method, place.arm, place.level]
        assert (entry["mean"], entry["low"], entry["high"], entry["n"]) == pytest.approx(
            (100 * place.mean.mean, 100 * place.mean.low, 100 * place.mean.high, 2)
        )
        for name in choice["bind"]["options"]:
            assert entry["sizes"][name] == pytest.approx(place.sizes[name].mean, rel=1e-4)
        assert entry["sd"].endswith(" pp")
    assert any(
        layer.get("transform", [{}])[-1] == {"filter": "datum.arm === 'dense'"} for layer in layers_of(spec, "rule")
    )
    hints = {hint["field"] for layer in layers_of(spec, "point") for hint in layer["encoding"].get("tooltip", [])}
    assert {"method", "arm", "level", "value", "sd", "n", "size"} <= hints


def test_a_file_of_the_trade_off_shows_every_size_side_by_side():
    spec = for_paper(STUDY["tradeoff"])
    assert spec["facet"]["sort"] == ["parameters", "multiply-accumulates", "latency, ms"]
    assert spec["columns"] == 3
    assert spec["resolve"]["scale"]["x"] == "independent"
    assert not [param for param in spec["params"] if isinstance(param.get("bind"), dict)]
    chosen = STUDY["tradeoff"].spec["data"]["values"]
    for size in spec["facet"]["sort"]:
        drawn = sorted(entry["x"] for entry in spec["data"]["values"] if entry["of"] == size)
        assert drawn == sorted(entry["sizes"][size] for entry in chosen)


def test_a_size_that_nobody_measured_is_no_choice():
    bare = Rows([row.model_copy(update={"latency": None}) for row in ROWS], ROWS.study)
    figure = figures_of_study(bare)[1]
    assert figure.spec["params"][-1]["bind"]["options"] == ["parameters", "multiply-accumulates"]
    assert "latency" not in figure.caption.lower()
    assert "latency, ms" not in figure.header


def masked_beside(rows):
    """The study and a method that cuts single weights, which are still there as zeros."""
    single = make_rows(levels=3, seeds=2, controls=CONTROLS, accidents=False, shapes=SHAPES)
    macs = next(row.macs for row in rows if row.arm == "dense")
    more = [row.model_copy(update={"macs": macs}) for row in single if row.arm != "dense"]
    methods = {**single.study.methods, **rows.study.methods}
    arms = list(dict.fromkeys([*rows.study.arms, *CONTROLS]))
    return Rows([*rows, *more], rows.study.model_copy(update={"methods": methods, "arms": arms}))


def test_masked_networks_stand_on_no_axis_of_physically_small_ones():
    rows = masked_beside(ROWS)
    small, zeros = {}, {}
    for row in rows:
        zeros.setdefault((row.method if row.level else "dense", row.arm, row.level), []).append(
            row.nonzero < row.parameters
        )
        small.setdefault((row.method if row.level else "dense", row.arm, row.level), []).append(row.parameters)
    figure = next(figure for figure in figures_of_study(rows) if figure.name == "tradeoff")
    values = {
        (entry["method"], entry["arm"], entry["level"]): entry["sizes"] for entry in figure.spec["data"]["values"]
    }
    assert any(all(cut) for cut in zeros.values())
    for place, sizes in values.items():
        if place[1] == "dense":
            assert sizes.keys() == {*SIZES, MASKED}, "the whole network is what both are compared with"
        else:
            assert (MASKED in sizes) == all(zeros[place])
            assert not (MASKED in sizes and sizes.keys() & SIZES.keys())
        if "parameters" in sizes:
            assert sizes["parameters"] == pytest.approx(fmean(small[place]), rel=1e-4), "what is stored"
    assert figure.spec["params"][-1]["bind"]["options"] == [*SIZES, MASKED]
    paper = for_paper(figure)
    titles = [title.replace("\n", " ") for title in paper["facet"]["sort"]]
    assert titles == [*(f"physically small networks: {size}" for size in SIZES), MASKED]
    drawn_masked = {entry["method"] for entry in paper["data"]["values"] if entry["of"].startswith("masked")}
    assert drawn_masked == {"dense", "imp"}
    assert {entry["method"] for entry in paper["data"]["values"] if entry["of"].startswith("phys")} == {
        "dense", *METHODS,
    }  # fmt: skip
    assert words(picture(figure, "svg").decode()).count("physically small networks:") == 3
    assert "weights that are not zero" in words(picture(figure, "svg").decode())
    assert "they save none of the three" in figure.caption
    assert "masked" not in STUDY["tradeoff"].caption
    assert MASKED not in STUDY["tradeoff"].header


def test_the_dense_network_trained_longer_is_as_large_as_the_dense_one_in_the_trade_off():
    rows = with_longer(masked_beside(ROWS))
    values = {
        (entry["method"], entry["arm"]): entry
        for figure in figures_of_study(rows)
        if figure.name == "tradeoff"
        for entry in figure.spec["data"]["values"]
    }
    whole = values["dense", "dense"]
    for method in (*METHODS, "imp"):
        for arm in ("dense-for-the-search", "dense-times-3"):
            entry = values[method, arm]
            own = {size: number for size, number in whole["sizes"].items() if size != MASKED or method == "imp"}
            assert entry["sizes"] == own
            assert entry["mean"] > whole["mean"]


def test_the_trade_off_says_what_intervals_cover_and_which_direction_is_good():
    told = Rows(list(ROWS), ROWS.study.model_copy(update={"test_targets": 360}))
    figure = figures_of_study(told)[1]
    assert f"({covers(told.study)})" in figure.caption
    assert "further up is better" in figure.caption
    seen = words(picture(figure, "svg").decode())
    assert {"95 % intervals over seeds;", "for these 360 test examples."} <= set(seen)
    assert {"95 % intervals over seeds;", "for these 360 test examples."} <= set(figure.spec["title"]["text"])
    loss = figures_of_study(as_loss(ROWS))[1]
    assert "further down is better" in loss.caption
    assert "test squared error, lower is better" in words(picture(loss, "svg").decode())


def test_intervals_beyond_the_axis_of_the_trade_off_have_arrows_there_on_page_and_paper():
    rows = turned(ROWS, lambda value, row: value - 0.3 * row.seed, lambda row: row.level == 1)
    figure = figures_of_study(rows)[1]
    low, high = layers_of(figure.spec, "line")[0]["encoding"]["y"]["scale"]["domain"]
    values = figure.spec["data"]["values"]
    wide = [entry for entry in values if entry["low"] < low or entry["high"] > high]
    assert wide
    for entry in values:
        assert ("under" in entry, "over" in entry) == (entry["low"] < low, entry["high"] > high)
    assert "Hollow arrows: intervals that go on beyond the axis" in figure.caption
    shapes = {layer["mark"].get("shape") for layer in layers_of(figure.spec, "point")}
    assert {"triangle-up", "triangle-down"} <= shapes
    paper = for_paper(figure)
    svg = ElementTree.fromstring(picture(figure, "svg"))
    for at, layer in enumerate(paper["spec"]["layer"]):
        side = {"triangle-up": "over", "triangle-down": "under"}.get(layer["mark"].get("shape", ""))
        if side:
            marks = [part for part in svg.iter() if f"child_layer_{at}_marks" in part.get("class", "")]
            assert sum(len(list(mark)) for mark in marks) == sum(side in entry for entry in paper["data"]["values"])


def test_every_layer_of_every_method_has_its_width_with_the_uniform_one_as_a_line():
    spec = STUDY["widths"].spec
    values = {(entry["method"], entry["site"]): entry for entry in spec["data"]["values"]}
    assert len(values) == 3 * 4
    for method in METHODS:
        found = widths(ROWS, method, 3)
        for site in found.sites:
            entry = values[method, site.site]
            assert (entry["mean"], entry["low"], entry["high"]) == pytest.approx(
                (100 * site.kept.mean, 100 * site.kept.low, 100 * site.kept.high)
            )
    (line,) = [layer for layer in layers_of(spec, "rule") if "data" in layer]
    uniform = {entry["method"]: entry["uniform"] for entry in line["data"]["values"]}
    assert uniform == {method: pytest.approx(100 * widths(ROWS, method, 3).uniform) for method in METHODS}
    assert "as in the runs of uniform-width." in STUDY["widths"].caption
    without = Rows([row for row in ROWS if row.arm != "uniform-width"], ROWS.study)
    assert "no such network was run" in widths_figure([widths(without, "slimming", 3)]).caption
    mixed = widths_figure([widths(ROWS, "slimming", 3), widths(without, "l1-filters", 3)])
    assert "for l1-filters, the share of all units together" in mixed.caption


def test_of_very_many_layers_some_widths_are_drawn_and_all_are_in_the_table():
    deep = {f"block{at}.weight": (4, 4) for at in range(201)}
    rows = make_rows(levels=1, seeds=1, method="slimming", controls=[], structured=True, shapes=deep, accidents=False)
    figure = widths_figure([widths(rows, "slimming", 1)])
    assert len({entry["site"] for entry in figure.spec["data"]["values"]}) == 80
    assert len(figure.table) == 200 + 1
    assert "120 of 200 layers are left out" in figure.caption
    assert figure.spec["height"] < 1000


def cells(spec):
    """(step, step) -> distance as drawn."""
    return {
        (entry["step"], other): distance
        for entry in spec["data"]["values"]
        for other, distance in zip(entry["to"], entry["distance"], strict=True)
    }


def test_the_heat_map_holds_the_distance_of_every_two_masks_shown_and_yellow_is_none():
    matrix, _ = emergence_figures(Emerged("early-bird", 1, {0: SEARCH}))
    shown = cells(matrix.spec)
    assert len(shown) == MOST**2
    for (one, other), distance in shown.items():
        i, j = SEARCH.steps.index(one), SEARCH.steps.index(other)
        assert distance == pytest.approx(SEARCH.distances[i][j], rel=5e-3, abs=1e-9)
    scale = layers_of(matrix.spec, "rect")[0]["encoding"]["color"]["scale"]
    assert scale["range"] == DISTANCES
    assert scale["range"][0] == "#fde725"
    assert scale["domain"][0] == 0
    assert scale["domain"][1] == max(SEARCH.random, max(map(max, SEARCH.distances)))
    assert f"{MOST} of 40 masks" in matrix.caption


def marks_of(figure):
    return {
        (mark["what"], mark["step"]): mark["at"]
        for layer in layers_of(figure.spec, "rule")
        for mark in layer["data"]["values"]
    }


def test_the_draw_and_the_drops_are_marked_where_they_are_and_drops_beyond_the_search_are_only_said():
    matrix, _ = emergence_figures(Emerged("early-bird", 1, {0: SEARCH}))
    assert set(marks_of(matrix)) == {
        ("learning rate drops", 2100), ("learning rate drops", 3100), ("ticket drawn", 4000),
    }  # fmt: skip
    few = SEARCH.model_copy(
        update={
            "steps": SEARCH.steps[:10], "distances": [line[:10] for line in SEARCH.distances[:10]], "drawn": 500,
            "drops": [350, 2100],
        }
    )  # fmt: skip
    matrix, line = emergence_figures(Emerged("early-bird", 1, {0: few}))
    # masks at 100, 200, ... stand in the middles of cells 0, 1, ...
    assert marks_of(matrix) == {("learning rate drops", 350): 3.0, ("ticket drawn", 500): 4.5}
    for figure in (matrix, line):
        assert "Not reached by the search: the learning rate's drop at step 2,100 of 4,000." in figure.caption
    drops = [
        mark["step"] for layer in layers_of(line.spec, "rule") for mark in layer["data"]["values"] if "step" in mark
    ]
    assert drops == [350]


def test_consecutive_distances_have_threshold_random_masks_and_both_readings_for_each_seed():
    seeds = {seed: emergence(seed, "early-bird", 1) for seed in range(3)}
    _, figure = emergence_figures(Emerged("early-bird", 1, seeds))
    drawn = [(entry["seed"], entry["step"], entry["distance"]) for entry in figure.spec["data"]["values"]]
    assert drawn == [
        (seed, step, pytest.approx(distance))
        for seed, one in seeds.items()
        for step, distance in zip(one.steps[1:], consecutive(one), strict=True)
    ]
    fired = [
        (entry["seed"], entry["what"], entry["step"])
        for layer in layers_of(figure.spec, "point")
        for entry in layer.get("data", {}).get("values", [])
        if "seed" in entry
    ]
    assert fired == [
        entry
        for seed, one in seeds.items()
        for entry in [(seed, "emerged, consecutive", one.emerged), (seed, "emerged, window", one.other_reading)]
        if entry[2] is not None
    ]
    assert fired
    text = str(figure.spec)
    assert "threshold 0.03" in text
    assert "two random masks: 0.42, above this axis" in text
    near = {0: seeds[0].model_copy(update={"random": 0.1})}
    _, figure = emergence_figures(Emerged("early-bird", 1, near))
    assert {"at": 0.1, "name": "two random masks 0.1"} in [
        entry for layer in layers_of(figure.spec, "rule") for entry in layer["data"]["values"]
    ]


def test_a_search_that_never_settled_and_a_threshold_above_chance_are_said():
    never = SEARCH.model_copy(update={"emerged": None, "other_reading": None})
    *_, figure = emergence_figures(Emerged("early-bird", 1, {0: SEARCH, 1: never}))
    assert f"step {SEARCH.emerged:,} (seed 0), not before the search ended (seed 1)" in figure.caption
    assert "each of the last 5 masks is within 0.03" in figure.caption
    assert "says nothing here" not in figure.caption
    vacuous = SEARCH.model_copy(update={"epsilon": 0.1, "random": 0.095})
    *_, figure = emergence_figures(Emerged("early-bird", 1, {0: vacuous}))
    assert "The threshold lies above the distance of random masks, so it says nothing here." in figure.caption
    single = SEARCH.model_copy(update={"steps": [100], "distances": [[0.0]]})
    assert emergence_figures(Emerged("early-bird", 1, {0: single})) == []


def test_figures_of_pruned_units_turn_dark_and_have_hover_tables_and_descriptions():
    *_, early = judge(ROWS).methods
    own = {figure.name: figure for figure in figures_of_method(ROWS, early)}
    assert {"masks", "emergence"} <= own.keys()
    for figure in (*STUDY.values(), own["masks"], own["emergence"]):
        assert {len(line) for line in figure.table} == {len(figure.header)}, figure.name
        assert figure.spec["description"]
        assert any(layer["encoding"].get("tooltip") for layer in figure.spec["layer"]), figure.name
        for spec in filter(None, (figure.spec, figure.paper)):
            rest = {name: part for name, part in spec.items() if name not in ("data", "background")}
            assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b", str(rest))) <= DARK.keys(), figure.name
            assert not re.search(r"'(color|fill|stroke)': '(?!#)\w+'", str(rest)), figure.name


def test_every_figure_of_pruned_units_is_a_file_of_its_own(tmp_path):
    written = {path.name: path for path in draw(ROWS, tmp_path)}
    assert {"tradeoff.svg", "widths.svg", "early-bird_masks.svg", "early-bird_emergence.svg"} <= written.keys()
    for name, width in (("tradeoff.svg", 672), ("widths.svg", 672), ("early-bird_masks.svg", 336)):
        root = ElementTree.parse(written[name]).getroot()
        assert float(root.attrib["width"]) == pytest.approx(width, rel=0.07), name


def test_the_page_prints_savings_notes_and_what_was_counted(page):
    assert "What the search saved" in page.text
    for saving in savings(ROWS):
        for line in lines(saving):
            assert all(cell in page.text for cell in line)
    assert "train-prune-retrain: slimming" in page.text
    assert "train-prune-retrain: l1-filters" in page.text
    assert "fc1 keeps its least number of units, 1 (seed 1 at level 3)." in page.text
    assert "fc1 keeps its least number of units, 1 (seed 1 at levels 1, 2)." in page.text
    assert "Many papers call twice this number FLOPs." in page.text
    assert not re.search(r"\bk?J\b|joule|watt", page.text, re.IGNORECASE)


def test_the_page_prints_the_checklist_with_its_source(page):
    assert "Blalock et al. 2020" in page.text
    rows = page.source.split('class="checklist"')[1].split("</table>")[0]
    statuses = re.findall(r'<span class="chip (yes|partly|no)">\1</span>', rows)
    assert statuses == [point.status for point in checklist(ROWS)]
    for point in checklist(ROWS):
        assert point.asked in page.text
        assert point.reason in page.text


def test_a_study_of_one_method_has_a_section_about_size_and_an_unstructured_one_has_not(tmp_path):
    one = make_rows(levels=1, seeds=2, method="slimming", controls=[], structured=True, accidents=False)
    small = Page(report(one, tmp_path / "one.html"))
    assert "Size and speed" in small.text
    assert list(small.specs)[:2] == ["overview-tradeoff", "overview-widths"]
    plain = Page(report(make_rows(levels=1, seeds=2), tmp_path / "plain.html"))
    for heading in ("Size and speed", "What the search saved", "What these numbers count", "What the search noted"):
        assert heading not in plain.text


def test_names_given_by_a_user_cannot_break_out_of_the_new_parts(tmp_path):
    nasty = '</script><img src=x onerror="alert(1)">\'"&'
    few = {"levels": 1, "seeds": 2, "structured": True, "accidents": False}
    rows = make_rows(**few, method=["early-bird" + nasty, nasty], controls=[nasty], shapes={nasty: (4, 4), "w": (4, 4)})
    told = Rows(
        [row.model_copy(update={"search": row.search.model_copy(update={"notes": [nasty]})}) for row in rows],
        rows.study,
    )
    page = Page(report(told, tmp_path / "nasty.html"))
    assert "img" not in {tag for tag, _ in page.tags}
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert nasty in page.text


def test_the_new_parts_keep_the_page_small(tmp_path):
    given = {"levels": 5, "seeds": 5, "method": METHODS, "control_levels": [3], "accidents": False}
    shapes = {f"features.{at}.weight": (64, 576) for at in range(16)}
    with_all = report(
        make_rows(**given, controls=EVERY_OF_UNITS[:6], structured=True, shapes=shapes), tmp_path / "all.html"
    ).stat().st_size  # fmt: skip
    without = (
        report(make_rows(**given, controls=EVERY_OF_UNITS[:6], shapes=shapes), tmp_path / "none.html").stat().st_size
    )
    assert with_all - without < 100_000


def test_seeds_weigh_alike_in_the_savings_of_the_page(page):
    early = [row for row in ROWS if (row.method, row.level, row.arm) == ("early-bird", 3, "ticket")]
    dense = {row.seed: row for row in ROWS if row.arm == "dense"}
    share = fmean((row.search_flops + row.train_flops) / dense[row.seed].train_flops for row in early)
    assert f"{100 * share:.0f} %" in page.text
