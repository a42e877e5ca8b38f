"""Pages are one file that loads nothing, show the report, and are safe against hostile names."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.evaluation.report import EvaluationReport
from engines.reports.evaluation_page import evaluation_html
from engines.reports.page import Cell, Gallery, Page, Picture, Section, Table, Tile, render
from engines.reports.quantization_page import quantization_html, verdict
from engines.reports.text import SPACE
from engines.reports.theme import DARK, LIGHT
from tests.unit.reports import examples
from tests.unit.reports.html import Document, require_self_contained
from tests.unit.reports.quantizations import no_gain, quantization

REPORTS: dict[str, Callable[[], EvaluationReport]] = {
    "classification": examples.classification,
    "detection": examples.detection,
    "embedding": examples.embedding,
    "raw": examples.raw,
}


@pytest.mark.parametrize("kind", REPORTS)
def test_a_page_of_an_evaluation_is_self_contained_and_always_the_same(kind: str) -> None:
    report = REPORTS[kind]()
    html = evaluation_html(report)
    document = require_self_contained(html)
    assert evaluation_html(report) == html
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html
    for words in ("animals v3", "4.62" + SPACE + "ms", "onnxruntime 1.31.0", "AMD EPYC 9B45"):
        assert words in html
    assert document.tags["h1"] == 1
    assert document.tags["caption"] == document.tags["table"] > 0
    labels = [value for tag, name, value in document.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == document.tags["svg"] > 0
    assert all(labels)


def test_a_classifier_has_bars_a_matrix_slices_and_its_worst_samples() -> None:
    document = Document(evaluation_html(examples.classification()))
    for words in (
        "F1 by class",
        "Confusion matrix",
        "light=night",
        "night/0003.jpg",
        "not cat",
        "yeti",
        "Intervals are 95",
    ):
        assert words in document.words
    assert "Clearly worse for light=night" in document.words
    assert document.tags["img"] == 12


def test_a_detector_has_curves_with_the_mean_and_the_largest_classes() -> None:
    document = Document(evaluation_html(examples.detection()))
    for words in (
        "Precision and recall at IoU 0.5",
        "all classes",
        "traffic light",
        "AR100",
        "predicted: car 0.93",
        "420 small",
    ):
        assert words in document.words


def test_embeddings_and_raw_outputs_have_their_figures() -> None:
    assert "384" in Document(evaluation_html(examples.embedding())).words
    words = Document(evaluation_html(examples.raw())).words
    assert "Nothing was evaluated" in words
    assert "float32 (2 × 64 × 64)" in words


def test_of_many_classes_the_most_confused_pairs_are_shown_instead_of_a_matrix() -> None:
    document = Document(evaluation_html(examples.classification(tuple(f"class {n}" for n in range(60)), pictures=0)))
    assert "Most confused classes" in document.words
    assert "The weakest 40 of 60 classes" in document.words


def test_hostile_names_are_text_wherever_they_stand() -> None:
    report = examples.classification((examples.HOSTILE, "<b>bold</b>", "plain"))
    hostile = {"path": f"a/{examples.HOSTILE}.jpg", "attributes": {examples.HOSTILE: examples.HOSTILE}}
    worst = tuple(sample.model_copy(update=hostile) for sample in report.worst)
    package = report.package.model_copy(update={"repo": examples.HOSTILE, "component": "<script>alert(1)</script>"})
    html = evaluation_html(
        report.model_copy(update={"worst": worst, "package": package, "warnings": (examples.HOSTILE,)})
    )
    document = require_self_contained(html)
    assert "onerror=alert(1)>" in document.words
    assert "{{7*7}}" in document.words
    assert not re.search("[\x00\u202e\ud800-\udfff]", html)
    html.encode("utf-8")


def test_invalid_pictures_are_left_out_and_their_total_size_is_limited() -> None:
    large = examples.picture(3, 900, 1200)
    pictures = [Picture(large, f"{n}", [Cell("x", "bad")]) for n in range(40)]
    pictures += [Picture(text, "none", []) for text in ("", "no base64!", 'aGVsbG8="><script>', "iVBORw0KGgo=")]
    page = Page("Test", "t", "", "", [Tile("a", "b")], [Section("s", [Gallery("g", pictures)])])
    html = render(page)
    document = require_self_contained(html)
    assert document.tags["img"] >= 40
    assert "no picture" in document.words
    assert len(html) < 2.2 * (1 << 20)


def test_cells_of_a_table_carry_tones_and_headers() -> None:
    table = Table("c", ["name", "value"], [["row", Cell("1", "bad", "small")], [Cell("other", "good"), "2"]])
    html = render(Page("Test", "t", "", "", [], [Section("s", [table])]))
    assert '<th scope=row class="text"><bdi>row</bdi></th><td class=" bad"><bdi>1</bdi>' in html
    assert "<small><bdi>small</bdi></small>" in html


def test_a_quantization_that_won_says_by_how_much() -> None:
    result = quantization()
    html = quantization_html(result, title="digits v4", max_degradation=0.5)
    document = require_self_contained(html)
    assert quantization_html(result, title="digits v4", max_degradation=0.5) == html
    words, tone = verdict(result, 0.5)
    assert tone == "good"
    assert words.startswith("2.13 times as fast as the source, and 3.87 times smaller.")
    assert "(−0.20\u202fpt)" in words
    assert words.endswith("The parity verdict is WARN, accepted: accuracy is judged instead.")
    result["parity"]["waiver"] = ""
    assert verdict(result, 0.5)[1] == "warn"
    for part in (
        "Accuracy control",
        "A/A control",
        "no MatMul or Gemm",
        "22 of 24 products, 93% of their weights",
        "The 10 most sensitive nodes",
        "bound",
        "nncf 3.4.0"[:4],
    ):
        assert part in document.words


def test_a_quantization_without_gain_says_why() -> None:
    words, tone = verdict(no_gain())
    assert tone == "warn"
    assert words.startswith("No gain on this device: most of the time is in LSTM")
    document = require_self_contained(quantization_html(no_gain()))
    assert "Accuracy control" not in document.words


def test_a_bound_that_nothing_holds_is_told_first() -> None:
    words, tone = verdict(quantization(bound_held=False), 0.5)
    assert tone == "bad"
    assert words.startswith("No form holds the bound of 0.500 points: this is the best that was found.")


def test_a_quantization_that_nobody_ran_claims_no_run_and_shows_nothing_in_green() -> None:
    candidate = {"quantizer": "entropy", "chosen": True, "size_bytes": 4000, "reason": "UNVERIFIED: it was made"}
    report = {
        "parity": {"verdict": "UNVERIFIED", "missing": "a run on nvidia-t4"},
        "candidates": [candidate],
        "source_size_bytes": 1000,
        "size_bytes": 4000,
    }
    html = quantization_html(report)
    words = Document(html).words
    for said in ("Missing: a run on nvidia-t4", "The result was made and not run", "× larger than", "Made by"):
        assert said in words
    assert "was run in the runtime" not in words
    assert "Run by" not in words
    assert 'class="good' not in html
    assert verdict(report)[1] == "bad"


def test_a_quantization_with_nothing_measured_is_still_a_page() -> None:
    require_self_contained(quantization_html({}))
    not_finite = {
        "outputs": [{"output": "y", "cosine": "NaN", "sqnr_db": "-Infinity", "verdict": "FAIL"}],
        "samples": 1,
    }
    candidates = [{"quantizer": examples.HOSTILE, "reason": "<img src=http://x>"}]
    require_self_contained(
        quantization_html({"parity": not_finite, "candidates": candidates, "metric": examples.HOSTILE})
    )


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_can_be_read_on_cards_and_page(palette: dict[str, str]) -> None:
    for role in ("ink", "muted", "accent", "good", "bad", "warn", *(name for name in palette if "series" in name)):
        for ground in ("card", "page", "soft"):
            least = 3.0 if "series" in role else 4.5
            assert _contrast(palette[role], palette[ground]) >= least, (role, ground)
    assert _contrast(palette["on-accent"], palette["accent"]) >= 4.5


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""

    def luminance(color: str) -> float:
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_browser_shows_the_hostile_page_as_text_and_runs_nothing(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(evaluation_html(examples.classification(("<img src=x onerror=document.title=1>", "b"))), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--dump-dom"]
    shown = subprocess.run(["chromium", *options, str(page)], capture_output=True, text=True, timeout=600, check=True)
    assert "<title>animals v3 · Evaluation</title>" in shown.stdout
    assert "&lt;img src=x onerror=document.title=1&gt;" in shown.stdout
    assert '<img src="x"' not in shown.stdout
