"""Formatted numbers and untrusted text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.reports import metric_text, text
from tests.unit.reports.examples import metric


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (1234567, "1,234,567"), (0.00123, "0.00123"), (-2.5, "−2.50"), (math.inf, "∞"), (math.nan, "–"),
     (None, "–"), (1e-9, "1.00e−09"), (3.2e9, "3.20e+09")],
)  # fmt: skip
def test_numbers(value: float | None, written: str) -> None:
    assert text.number(value) == written


@pytest.mark.parametrize(
    ("value", "written"), [(0.0421, "42.1 µs"), (4.6212, "4.62 ms"), (1500, "1.50 s"), (0, "0 ms"), (None, "–")]
)
def test_times(value: float | None, written: str) -> None:
    assert text.milliseconds(value).replace(text.SPACE, " ") == written


@pytest.mark.parametrize(
    ("value", "written"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (5 << 40, "5.00 TiB")]
)
def test_sizes(value: float, written: str) -> None:
    assert text.size(value).replace(text.SPACE, " ") == written


def test_differences_have_a_sign_except_for_zero() -> None:
    assert text.points(0.0123) == "+1.23"
    assert text.points(-0.0123) == "−1.23"
    assert text.points(-0.00001) == "0.00"


def test_counts() -> None:
    assert text.count(1, "sample") == "1 sample"
    assert text.count(12000, "box", "boxes") == "12,000 boxes"
    assert not text.left_out(3, 5)
    assert text.left_out(7, 5) == "The first 5 of 7; report.json has all."


@given(st.text(), st.integers(2, 30))
def test_a_shortened_text_keeps_both_ends(value: str, length: int) -> None:
    short = text.shorten(value, length)
    assert len(short) <= length
    if len(value) > length:
        assert short[0] == value[0] or short[0] == "…"
        assert short[-1] == value[-1]
    else:
        assert short == value


@given(st.text(st.characters(exclude_categories=[])))
def test_clean_text_can_be_stored_and_is_otherwise_the_same(value: str) -> None:
    cleaned = text.clean(value)
    assert len(cleaned) == len(value)
    cleaned.encode("utf-8")
    assert text.clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("name", "title"),
    [("top1", "Top-1 accuracy"), ("top1/color", "Top-1 accuracy · color"), ("ap50", "AP at IoU 0.5"),
     ("ap/car", "AP · car"), ("recall75", "Recall at IoU 0.75"),
     ("precision/task:cat", "Precision · task:cat"), ("apples", "apples")],
)  # fmt: skip
def test_titles_of_metrics(name: str, title: str) -> None:
    assert metric_text.title(name) == title


def test_a_tile_has_value_and_interval() -> None:
    tile = metric_text.tile(metric("top1", 0.9))
    assert (tile.value, tile.detail) == ("90.00\u202f%", "95 % interval 88.00 to 92.00\u202f%")
    assert metric_text.tile(None).value == text.NONE


@pytest.mark.parametrize(
    ("low", "high", "outcome"), [(0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (-0.1, 0.1, "no difference shown")]
)
def test_conclusions(low: float, high: float, outcome: str) -> None:
    assert metric_text.conclusion(low, high) == outcome
