"""Optimizations as workers run them: a network that reads digits, judged on its dataset."""

from __future__ import annotations

import json
from pathlib import Path

from engines.api import optimization as optimizing
from engines.package.manifest import read_manifest
from engines.sandbox import Reporter
from tests.integration.quantization.workbench import QuantizationBench


def test_a_classifier_in_int8_is_held_to_its_dataset(tmp_path: Path) -> None:
    bench = QuantizationBench(tmp_path)
    bench.put_digits()
    spec = {"precision_goal": "INT8", "max_degradation": 2.0, "search_budget": "3s", "seed": "0"}
    inputs = [{"name": "x", "shape": [1, 1, 8, 8], "preprocessing": {"scale_values": [16.0]}}]
    request = bench.work(spec, method="classification", inputs=inputs, max_batch=32, taxonomies=TAXONOMIES)
    request |= {"calibration": bench.calibration, "evaluation": bench.evaluation}
    outcome = optimizing.run(request, tmp_path, Reporter(bench.progress.append))
    result, package = outcome["result"], tmp_path / "package"

    assert result["metric"] == "top1"
    assert 0.8 < result["source_accuracy"] <= 1
    assert result["test_data_info"]["test_data_source"] == "USER"
    recommended = next(entry for entry in result["candidates"] if entry["recommended"])
    assert recommended["accuracy"] >= result["source_accuracy"] - 0.02 - 1e-9
    assert {entry["precision"] for entry in result["candidates"]} >= {"FP32", "INT8"}
    assert {entry["path"] for entry in outcome["files"]} >= {"optimization.html", "record.json", "manifest.json"}
    assert read_manifest(package).components[0].name == "net"
    report = json.loads((package / "report.json").read_text(encoding="utf-8"))
    assert report["optimization"]["candidates"] == result["candidates"]
    assert bench.progress[-1].fraction == 1.0


def test_accuracy_is_told_where_nothing_bounds_it(tmp_path: Path) -> None:
    bench = QuantizationBench(tmp_path)
    bench.put_digits()
    inputs = [{"name": "x", "shape": [1, 1, 8, 8], "preprocessing": {"scale_values": [16.0]}}]
    spec = {"search_budget": "1s", "seed": "0"}
    request = bench.work(spec, method="classification", inputs=inputs, max_batch=32, taxonomies=TAXONOMIES)
    request["evaluation"] = bench.evaluation
    result = optimizing.run(request, tmp_path, Reporter(bench.progress.append))["result"]
    source = next(entry for entry in result["candidates"] if "accuracy" in entry)
    assert source["accuracy"] == result["source_accuracy"] > 0.8
    assert result["metric"] == "top1"


TAXONOMIES = [{"task": "digit", "classes": [str(number) for number in range(10)]}]
