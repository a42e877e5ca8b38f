"""The page of an optimization: what it says, and that it is a page on its own."""

from typing import Any

import pytest

from engines.api.report import OptimizationReport
from engines.reports.optimization_page import optimization_html, verdict
from engines.reports.optimization_values import outcome
from tests.unit.optimization.results import BASELINE, candidate, failed, no_gain, rich
from tests.unit.reports.html import Document

SMALLER = "Its files take 24.9\N{NARROW NO-BREAK SPACE}MiB instead of 97.8\N{NARROW NO-BREAK SPACE}MiB."


def page(result: dict[str, Any]) -> Document:
    return Document(optimization_html(result, title="resnet50", subtitle="INT8 allowed, latency, cpu-x86-64"))


def words(document: Document) -> str:
    return " ".join(" ".join(document.text).split())


def test_the_page_stands_alone_and_is_well_formed() -> None:
    document = page(rich())
    assert document.open == []
    assert [entry for entry in document.references if not entry[2].startswith(("#", "data:"))] == []
    assert document.tags["script"] == 0
    assert max(document.ids.values()) == 1


def test_the_figures_that_users_look_for_are_under_their_names() -> None:
    text = words(page(rich()))
    for name in (
        "baseline_time_ms", "optimized_time_ms", "baseline_qps", "optimized_qps", "speedup", "device_type",
        "microarchitecture", "test_data_source", "test_data_shape", "test_data_type", "software",
    ):  # fmt: skip
        assert name in text


def test_every_candidate_is_there_with_what_became_of_it() -> None:
    text = words(page(rich()))
    for entry in rich()["candidates"]:
        assert entry["form"] in text
    for told in (
        "TorchInductor needs a C++ compiler", "eliminated after 2 rounds", "not tried: the budget of 20 s was spent",
        "its cosine of 0.9850 is under 0.99", "Measured by an earlier search", "A/A control",
    ):  # fmt: skip
        assert told in text


def test_parity_is_told_by_what_the_form_was_held_to() -> None:
    text = words(page(rich()))
    assert "Required: cosine at least 0.999, WARN down to 0.99." in text
    assert "The parity verdict is WARN, accepted: accuracy is judged instead." in text
    text = words(page(no_gain()))
    assert "Required: relative error at most 0.0001, WARN up to 0.001." in text
    assert "The parity verdict" not in text


def test_forms_without_figures_are_listed_by_their_reason() -> None:
    result = rich()
    extra = {**result["candidates"][-1], "form": "openvino FP16"}
    result["candidates"].append(extra)
    text = words(page(result))
    assert "2 forms not tried: the budget of 20 s was spent: openvino FP32, 2 streams; openvino FP16." in text
    assert "11 forms, 2 failed, 4 left out" in text


def test_rounding_is_no_plot() -> None:
    result = rich()
    for entry in result["candidates"]:
        entry.pop("accuracy", None)
    assert "Latency against cosine to the source" in words(page(result))
    for place, entry in enumerate(entry for entry in result["candidates"] if "parity" in entry):
        entry["parity"]["outputs"][0]["cosine"] = 1 - place * 1e-9
    assert "Latency against cosine" not in words(page(result))
    assert "Latency against size" in words(page(result))


def test_one_disturbed_form_hides_no_other() -> None:
    from engines.reports.matrix_charts import Interval
    from engines.reports.speed import interval

    assert interval("a", {"speedup": 2, "speedup_low": "1.5", "speedup_high": 3}, "") == Interval("a", 2, 1.5, 3, "")
    result = rich()
    result["candidates"][1]["latency"]["speedup_high"] = 4000.0
    ticks = [part for part in page(result).text if part.endswith(".00×")]
    assert ticks
    assert all(float(tick[:-1]) < 20 for tick in ticks)


def test_the_verdict_tells_of_speed_and_accuracy() -> None:
    found, tone = verdict(rich())
    assert tone == "good"
    assert "openvino INT8 is 5.57 times as fast as the source" in found
    assert "75.74" in found
    assert "76.13" in found
    result = rich()
    result["candidates"][1]["parity"]["waiver"] = ""
    assert verdict(result)[1] == "warn"


def test_the_verdict_tells_of_size_where_it_is_less() -> None:
    assert SMALLER in verdict(rich())[0]
    result = rich()
    result["candidates"][1]["size_bytes"] = result["candidates"][0]["size_bytes"]
    assert "Its files" not in verdict(result)[0]


def test_a_form_that_is_smaller_and_slower_is_summed_up_by_both() -> None:
    result = rich()
    assert "files" not in OptimizationReport(result, "").summary
    result["optimization_result"]["speedup"] = 0.8
    summary = OptimizationReport(result, "").summary
    assert "0.80x as fast" in summary
    assert summary.endswith(SMALLER)


def test_no_gain_is_told_with_its_reason() -> None:
    found, tone = verdict(no_gain())
    assert tone == "warn"
    assert found.startswith("No gain: the best other form, onnxruntime FP32, is no win")
    assert "No gain" in words(page(no_gain()))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (candidate(BASELINE, 3.0, 1.0), "the source"),
        (candidate("openvino FP32", 3.0, 1.0, recommended=True), "recommended"),
        (candidate("openvino FP32", 3.0, 1.0, pareto=True), "Pareto"),
        (candidate("openvino FP32", 3.0, 1.0, note="eliminated after 1 round: 0.5x of the best"), "left out"),
        (candidate("openvino FP32", 3.0, 1.0), "measured"),
        (failed("inductor FP32", "TOOLCHAIN_UNAVAILABLE", "no compiler"), "failed"),
    ],
)
def test_outcomes_in_a_word(entry: dict[str, Any], expected: str) -> None:
    assert outcome(entry, BASELINE)[0] == expected


def test_foreign_names_are_escaped() -> None:
    result = rich()
    result["candidates"][3]["form"] = "<img src=x onerror=alert(1)>"
    assert "<img src=x" not in optimization_html(result, title="<b>model</b>")


def test_an_almost_empty_result_is_still_a_page() -> None:
    assert page({"candidates": [], "no_gain": True, "no_gain_reason": "nothing could be built"}).open == []
