import re
from io import BytesIO
from xml.etree import ElementTree

import pytest
from make_rows import make_rows
from PIL import Image

from scratchcard.evidence.draw import draw, picture
from scratchcard.evidence.figures.gallery import figures_of_method, figures_of_study
from scratchcard.evidence.verdict import judge
from scratchcard.row import Rows

ROWS = make_rows(levels=2, seeds=2, anatomy=True)
NASTY = '</script><img src=x onerror="alert(1)">\x07\'"&'


@pytest.fixture(scope="module")
def figures():
    return {figure.name: figure for said in judge(ROWS).methods for figure in figures_of_method(ROWS, said)}


def test_every_figure_of_the_report_is_a_file(tmp_path, figures):
    written = draw(ROWS, tmp_path / "new" / "figures")
    assert [path.name for path in written] == [f"imp_{name}.svg" for name in figures]
    assert sorted(written) == sorted((tmp_path / "new" / "figures").iterdir())
    for path, figure in zip(written, figures.values(), strict=True):
        root = ElementTree.parse(path).getroot()
        wide = figure.name in ("layers", "initial-weights", "movement", "connections-in", "connections-out")
        assert float(root.attrib["width"]) == pytest.approx(672 if wide else 336, rel=0.05), figure.name
        assert next(part for part in root if part.tag.endswith("rect")).attrib["fill"] == "white"
        fonts = {part.attrib["font-family"] for part in root.iter() if "font-family" in part.attrib}
        assert fonts == {"Liberation Sans, Arial, Helvetica, sans-serif"}


def test_pdf_and_png_have_the_size_of_a_column_of_a_paper(figures):
    pdf = picture(figures["metric"], "pdf")
    box = re.search(rb"MediaBox \[0 0 ([\d.]+) [\d.]+\]", pdf)
    assert box
    assert float(box[1]) == pytest.approx(3.5 * 72, rel=0.01)
    assert b"LiberationSans" in pdf, "the font is in the file"
    image = Image.open(BytesIO(picture(figures["metric"], "png")))
    assert image.info["dpi"] == pytest.approx((300, 300), rel=0.01)
    assert image.width == pytest.approx(3.5 * 300, rel=0.01)
    assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_names_given_by_a_user_stay_names_in_files(tmp_path):
    methods = ["../../etc/" + NASTY, "\u6f22\u5b57", "\u5b57", "m" * 300]
    names = {"task": NASTY, "metric": NASTY, "controls": [NASTY], "shapes": {NASTY: (4, 4)}}
    rows = make_rows(seeds=1, levels=1, method=methods, accidents=False, **names)
    written = draw(rows, tmp_path / "figures")
    assert len(set(written)) == len(written)
    assert {path.parent for path in written} == {tmp_path / "figures"}
    assert all(re.fullmatch(r"[a-z0-9_-]{1,80}\.svg", path.name) for path in written)
    every = [part for path in written for part in ElementTree.parse(path).iter()]
    assert not [part for part in every if part.tag.endswith(("script", "img"))]
    picture(figures_of_study(rows)[0], "pdf")


def test_two_methods_never_share_a_file(tmp_path):
    rows = make_rows(seeds=1, levels=1, method=["a b", "a-b", "A.B"], controls=[], accidents=False)
    names = [path.name for path in draw(rows, tmp_path)]
    assert len(names) == len(set(names)) == 1 + 3 * 7


def test_an_unknown_format_an_unwritable_folder_and_a_study_without_runs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown format of figures 'pgn'; did you mean 'png'"):
        draw(ROWS, tmp_path, "pgn")  # pyright: ignore[reportArgumentType]
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot be written to .*file"):
        draw(ROWS, tmp_path / "file")
    with pytest.raises(ValueError, match="no finished run"):
        draw(Rows([], ROWS.study), tmp_path / "none")
    assert not (tmp_path / "none").exists()
