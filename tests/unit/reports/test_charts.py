"""Charts are inline SVG in the page's colours, with unique ids and reproducible bytes."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.reports import charts, matrix_charts
from engines.reports.charts import Bar, Curve, Point
from engines.reports.matrix_charts import Interval, Step
from tests.unit.reports.examples import HOSTILE


def draw(key: str) -> dict[str, str]:
    """Every kind of chart."""
    return {
        "curves": charts.curves(
            key, "c", [Curve("a", [0, 0.5, 1], [1, 0.7, 0]), Curve("m", [0, 1], [1, 0], True)], "x", "y"
        ),
        "bars": charts.bars(key, "b", [Bar("one", 0.5, "tip"), Bar("two", 1.0)], "x", "{:.2f}".format, limit=1),
        "histogram": charts.histogram(key, "h", [0, 1, 2, 3], [5, 0, 2], "ms", marks=[("p50", 0.4), ("p99", 2.9)]),
        "scatter": charts.scatter(key, "s", [Point("p", 1, 2), Point("q", 3, 4, True)], "x", "y"),
        "intervals": matrix_charts.intervals(key, "i", [Interval("r", 1, 0.5, 2)], "x", "{:.1f}".format, center=0),
        "confusion": matrix_charts.confusion(key, "m", ["a", "b"], [[3, 1], [0, 9]]),
        "ladder": matrix_charts.ladder(key, "l", [Step(0, 0.9, 2.0), Step(3, 0.95, 2.4)], "top1", 0.94),
    }


KINDS = tuple(draw("names"))


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return draw("first")


@pytest.mark.parametrize("kind", KINDS)
def test_a_chart_is_well_formed_named_and_in_the_colours_of_the_theme(kind: str, drawn: dict[str, str]) -> None:
    root = ElementTree.fromstring(drawn[kind])
    assert root.tag == "svg"
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert not re.search(r"#[0-9a-f]{6}|<style|<metadata|font-family|xlink|<image|DOCTYPE", drawn[kind])
    assert "var(--" in drawn[kind]


def test_two_charts_of_a_page_share_no_id_and_refer_to_their_own(drawn: dict[str, str]) -> None:
    second = draw("second")
    for kind in KINDS:
        ids = [set(re.findall(r'\bid="([^"]+)"', chart)) for chart in (drawn[kind], second[kind])]
        assert not ids[0] & ids[1]
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawn[kind])) <= ids[0]


def test_the_same_values_give_the_same_bytes(drawn: dict[str, str]) -> None:
    assert draw("first") == drawn


def test_tooltips_are_titles_of_their_elements(drawn: dict[str, str]) -> None:
    assert "<title>tip</title>" in drawn["bars"]
    assert "<title>a → b: 1 of 4</title>" in drawn["confusion"]


def test_empty_cells_of_a_matrix_are_not_drawn(drawn: dict[str, str]) -> None:
    assert drawn["confusion"].count("<title>") == 3


def test_a_matrix_of_too_many_classes_is_rejected() -> None:
    names = [str(number) for number in range(41)]
    with pytest.raises(ValueError, match="41 classes"):
        matrix_charts.confusion("m", "m", names, [[0] * 41] * 41)


def test_nothing_to_draw_is_still_a_chart() -> None:
    for svg in (
        charts.curves("k", "x", [], "x", "y"),
        charts.bars("k", "x", [], "x", str),
        charts.histogram("k", "x", [0, 0], [0], "x", marks=[]),
        charts.scatter("k", "x", [], "x", "y"),
        matrix_charts.intervals("k", "x", [], "x", str),
        matrix_charts.confusion("k", "x", [], []),
    ):
        ElementTree.fromstring(svg)


def test_long_names_are_cut_in_the_middle() -> None:
    svg = charts.bars("k", "x", [Bar("features/block.17/" + "x" * 90 + "/Conv", 1.0)], "x", str)
    assert "…" in svg
    assert "x" * 40 not in svg


@settings(max_examples=6)
@given(st.text(max_size=40))
def test_any_name_can_be_drawn(name: str) -> None:
    root = ElementTree.fromstring(charts.bars("k", name, [Bar(name, 1.0, name)], name[:10], str))
    assert root.get("role") == "img"


def test_a_name_with_an_underscore_is_in_the_legend() -> None:
    assert "_hidden" in charts.curves("k", "x", [Curve("_hidden", [0, 1], [0, 1])], "x", "y").partition("</title>")[2]


def test_hostile_names_are_text() -> None:
    svg = charts.curves("k", HOSTILE, [Curve(HOSTILE, [0, 1], [0, 1])], HOSTILE, "$x^2$")
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label", "").startswith("</script><img")
    assert "$x^2$" in svg
    assert "<img" not in svg
