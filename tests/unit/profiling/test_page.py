"""The page of a profile loads nothing, shows every figure, and is safe against hostile names."""

from __future__ import annotations

from typing import Any

from engines.reports.profile_page import profile_html
from tests.unit.reports.html import Document, require_self_contained

EVIL = "<script>alert(1)</script>"


def row(runtime: str, batch: int, median: float, rate: float, **more: Any) -> dict[str, Any]:
    latency = {"form": runtime, "median_ms": median, "p90_ms": 2 * median, "p99_ms": 3 * median, "speedup": 1.0}
    figures = {"memory_bytes": str(80 << 20), "size_bytes": "2048", "load_time_ms": 12.0, "first_call_ms": 3.0}
    names = {
        "component": "net",
        "runtime": runtime,
        "precision": "FP32",
        "batch_size": batch,
        "threads": 2,
        "streams": 1,
    }
    return {**names, **figures, "latency": latency, "samples_per_second": rate, "input_shapes": "x: 1*3", **more}


def result(**more: Any) -> dict[str, Any]:
    layers = [
        {
            "component": "net",
            "runtime": "openvino",
            "batch_size": 1,
            "threads": 2,
            "streams": 1,
            "name": f"conv{number}",
        }
        | {"operator": "Conv", "kernel": "brgconv", "time_ms": 0.1 * (number + 1), "share": 0.01}
        for number in range(70)
    ]
    control = {"component": "net", "batch_size": 1, "rounds": 9}
    return {
        "measurements": [row("openvino", 1, 0.5, 1900.0), row("onnxruntime", 8, 2.0, 4000.0)],
        "controls": [control | {"latency": {"speedup_low": 0.98, "speedup_high": 1.03}}],
        "layers": layers,
        "device": "cpu-x86-64",
        "hardware": "AMD EPYC",
        "software": [{"name": "openvino", "version": "2026.4"}],
        "warnings": [],
        **more,
    }


def test_it_names_the_fastest_and_the_busiest_form_with_all_figures() -> None:
    html = profile_html(result(), title="digits")
    words = require_self_contained(html).words
    assert profile_html(result(), title="digits") == html
    assert "Fastest: openvino, batch 1" in words
    assert "Most samples per second: onnxruntime, batch 8, 4,000." in words
    assert "0.98 to 1.03 times as fast as itself" in words
    assert "The slowest 60 of 70; profile.json has all." in words
    assert "brgconv" in words
    for figure in ("80.0", "2.00", "12.0", "p99", "first call"):
        assert figure in words


def test_a_single_measurement_has_no_charts_of_comparison_and_failures_are_told() -> None:
    failed = {"component": "net", "runtime": "inductor", "failure": {"message": "There is no g++."}}
    document = Document(profile_html(result(measurements=[row("openvino", 1, 0.5, 1900.0), failed], layers=[])))
    assert "inductor: There is no g++." in document.words
    assert document.tags["svg"] == 0
    assert "No form ran." in profile_html(result(measurements=[failed], layers=[]))


def test_hostile_names_are_text() -> None:
    layer = result()["layers"][0] | {"name": EVIL, "operator": EVIL}
    html = profile_html(result(layers=[layer], warnings=[EVIL]), title=EVIL)
    assert EVIL not in html
    require_self_contained(html)
