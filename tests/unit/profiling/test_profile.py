"""Profiles of a small graph: every combination is measured, and what cannot be measured says why."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.api import profiling
from engines.failures import EngineFailure, FailureReason, InvalidField
from engines.profiling import measuring
from engines.profiling.request import ProfileSpec
from engines.profiling.result import MOST_LAYERS, most_costly
from engines.sandbox import Reporter
from engines.spec.source_files import TEST_DATA
from engines.timing.process import FormProcess
from tests.unit.optimization.forms import WIDTH
from tests.unit.profiling import kit

BOTH = ["onnxruntime", "openvino"]


def test_each_combination_of_a_source_is_measured_beside_a_control(tmp_path: Path) -> None:
    work = {"conversion": kit.source(tmp_path)}
    outcome = kit.run(tmp_path, work, runtimes=BOTH, batch_sizes=[1, 4], threads=[1, 2])
    result = outcome["result"]
    rows = result["measurements"]
    keys = ("runtime", "batch_size", "threads")
    expected = [(name, batch, threads) for batch in (1, 4) for name in BOTH for threads in (1, 2)]
    assert [tuple(row[key] for key in keys) for row in rows] == expected
    for row in rows:
        latency = row["latency"]
        assert 0 < latency["median_ms"] <= latency["p90_ms"] <= latency["p99_ms"]
        for figure in ("samples_per_second", "memory_bytes", "size_bytes", "load_time_ms", "first_call_ms"):
            assert row[figure] > 0, figure
        assert row["input_shapes"] == f"x: {row['batch_size']}*{WIDTH}"
        assert (row["precision"], row["streams"], row["sample_source"]) == ("FP32", 1, "GENERATED")
    assert [row["latency"]["speedup"] for row in rows if row["runtime"] == BOTH[0] and row["threads"] == 1] == [1, 1]
    assert [(control["batch_size"], control["rounds"]) for control in result["controls"]] == [(1, 5), (4, 5)]
    assert all(control["latency"]["form"] == measuring.CONTROL for control in result["controls"])
    layers = result["layers"]
    assert {(layer["runtime"], layer["batch_size"], layer["threads"]) for layer in layers} == {
        (name, 1, 1) for name in BOTH
    }
    for name in BOTH:
        shares = [layer["share"] for layer in layers if layer["runtime"] == name]
        assert sum(shares) == pytest.approx(1)
    assert [entry["path"] for entry in outcome["files"]] == ["profile.html", "profile.json"]
    written = json.loads((tmp_path / "report" / "profile.json").read_text(encoding="utf-8"))
    assert written == result


def test_streams_are_built_where_a_runtime_has_them(tmp_path: Path) -> None:
    rows = kit.run(tmp_path, {"conversion": kit.source(tmp_path)}, runtimes=["onnxruntime"], streams=[1, 2])
    assert [row["streams"] for row in rows["result"]["measurements"]] == [1, 2]


def test_a_package_is_measured_as_it_was_built_on_the_samples_of_its_user(tmp_path: Path) -> None:
    kit.package(tmp_path)
    (tmp_path / "samples").mkdir(exist_ok=True)
    np.savez(tmp_path / TEST_DATA, x=np.ones((3, WIDTH), np.float32))
    result = kit.run(tmp_path, {}, batch_sizes=[2])["result"]
    (row,) = result["measurements"]
    assert (row["component"], row["runtime"], row["batch_size"]) == ("net", "onnxruntime", 2)
    assert (row["input_shapes"], row["sample_source"], row["build_time_ms"]) == (f"x: 2*{WIDTH}", "USER", 0)


def test_a_runtime_that_cannot_be_built_is_listed_and_the_others_are_measured(tmp_path: Path) -> None:
    asked = ["torchscript", "onnxruntime", "ascend"]
    rows = kit.run(tmp_path, {"conversion": kit.source(tmp_path)}, runtimes=asked)["result"]["measurements"]
    reasons = {row["runtime"]: row.get("failure", {}).get("reason") for row in rows}
    assert reasons == {"torchscript": "INVALID_SPEC", "onnxruntime": None, "ascend": "TOOLCHAIN_UNAVAILABLE"}
    page = (tmp_path / "report" / "profile.html").read_text(encoding="utf-8")
    assert "TorchScript builds from network" in page


def test_a_profile_in_which_nothing_runs_fails_for_the_first_reason(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure) as caught:
        kit.run(tmp_path, {"conversion": kit.source(tmp_path)}, runtimes=["torchscript"])
    assert caught.value.reason is FailureReason.INVALID_SPEC
    assert "network" in caught.value.message


def test_a_form_whose_process_dies_is_lost_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = FormProcess.throughput

    def deadly(self: FormProcess, feed_index: int, seconds: float, samples: int = 1) -> float:
        if self.made.form.runtime == "openvino":
            os.kill(self.pid, signal.SIGKILL)
        return load(self, feed_index, 0.01, samples)

    monkeypatch.setattr(FormProcess, "throughput", deadly)
    rows = kit.run(tmp_path, {"conversion": kit.source(tmp_path)}, runtimes=BOTH)["result"]["measurements"]
    assert rows[0]["samples_per_second"] > 0
    assert rows[1]["failure"]["reason"] == "TOOLCHAIN_CRASHED"
    assert "latency" not in rows[1]


def test_forms_beyond_the_memory_wait_for_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    start = measuring.Bench._rounds

    def rounds(self: measuring.Bench, forms: Any) -> None:
        opened.append(len(forms))
        start(self, forms)

    monkeypatch.setattr(measuring.Bench, "_rounds", rounds)
    monkeypatch.setattr(measuring, "TOGETHER", 1)
    rows = kit.run(tmp_path, {"conversion": kit.source(tmp_path)}, runtimes=BOTH, threads=[1, 2])
    assert opened == [2, 3, 3, 3]
    assert all("latency" in row for row in rows["result"]["measurements"])


@pytest.mark.parametrize("batch", [8, 64])
def test_a_batch_that_a_package_does_not_take_is_refused_with_those_that_it_does(batch: int, tmp_path: Path) -> None:
    kit.package(tmp_path)
    with pytest.raises(InvalidField) as caught:
        kit.run(tmp_path, {}, batch_sizes=[1, batch])
    assert caught.value.field == "batch_sizes"
    assert f"'net' takes batches of 1 to 4, not {batch}" in caught.value.message


def test_a_source_is_read_with_the_largest_batch(tmp_path: Path) -> None:
    work = {"conversion": kit.source(tmp_path, max_batch=1)}
    rows = kit.run(tmp_path, work, runtimes=["onnxruntime"], batch_sizes=[16])["result"]["measurements"]
    assert rows[0]["input_shapes"] == f"x: 16*{WIDTH}"


def test_too_many_combinations_are_refused_with_their_numbers() -> None:
    spec = ProfileSpec(batch_sizes=tuple(range(1, 9)), threads=(1, 2, 4), streams=(1, 2))
    spec.check_size(1)
    with pytest.raises(
        InvalidField, match="3 runtimes, 8 batch sizes, 3 numbers of threads, 2 numbers of streams are 144"
    ):
        spec.check_size(3)


@pytest.mark.parametrize(
    ("spec", "field"),
    [({"device": "cpu-z80"}, "device"), ({"device": "cpu-x86-64", "threads": ["many"]}, "threads")],
)
def test_a_request_that_is_wrong_names_the_field(spec: dict[str, Any], field: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidField) as caught:
        profiling.run({"spec": spec}, tmp_path, Reporter(lambda _: None))
    assert caught.value.field.startswith(field)


def test_the_result_holds_the_layers_that_take_most() -> None:
    layers: list[dict[str, Any]] = [
        {"name": str(number), "time_ms": float(number % 7)} for number in range(MOST_LAYERS + 10)
    ]
    kept = most_costly({"layers": layers, "warnings": []})
    assert len(kept["layers"]) == MOST_LAYERS
    assert [layer["name"] for layer in kept["layers"]] == sorted((layer["name"] for layer in kept["layers"]), key=int)
    dropped = {layer["name"] for layer in layers} - {layer["name"] for layer in kept["layers"]}
    assert all(int(name) % 7 == 0 for name in dropped)
    assert kept["warnings"] == ["10 layers that take little time are only in the report."]
