"""The result of an optimization, of what searches of its components found."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.optimization.request import OptimizationRequest
from engines.optimization.result import SOURCE_NOTE, OptimizedComponent, result_fields
from engines.package.content import PackagedComponent
from engines.parity.report import OutputParity, ParityReport, Verdict
from engines.runtimes import BuiltForm
from engines.runtimes.form import FormSpec
from engines.search.entry import Entry
from engines.search.record import Record
from engines.search.search import SearchResult
from engines.spec.template import Component
from engines.spec.tolerances import TOLERANCES
from engines.tensors.samples import Samples, SampleSource
from engines.tensors.signature import Signature
from engines.timing.paired import Latency, ProfileReport
from tests.unit.optimization.test_request import work

EXACT = OutputParity("y", 0.0, 0.0, 1.0, 200.0, None, Verdict.PASS)
PARITY = ParityReport(TOLERANCES["FP32"], (EXACT,), 2, SampleSource.USER, 0, (1,))
SAMPLES = Samples(
    ({"x": np.ones((1, 8), np.float32)}, {"x": np.ones((4, 8), np.float32)}), SampleSource.USER, 0, (1, 4), 5
)


def latency(name: str, median: float, speedup: float) -> Latency:
    return Latency(name, median, median, median, speedup, speedup * 0.95, speedup * 1.05)


def entry(runtime: str, median: float, speedup: float, **more: Any) -> Entry:
    spec = FormSpec(runtime, "FP32")
    return Entry(spec, PARITY, latency(spec.name, median, speedup), size_bytes=10, memory_bytes=20, **more)


def component(name: str, *, gain: bool = True, **more: Any) -> OptimizedComponent:
    """Return a component that became twice as fast, or none that did."""
    baseline, best = entry("torchscript", 4.0, 1.0), entry("onnxruntime", 2.0 if gain else 4.0, 2.0 if gain else 1.0)
    failed = Entry(FormSpec("inductor", "FP32"), failure=EngineFailure(FailureReason.TOOLCHAIN_UNAVAILABLE, "No g++."))
    chosen = best if gain else baseline
    chosen.recommended = True
    assert baseline.latency is not None
    assert best.latency is not None
    profile = ProfileReport((baseline.latency, best.latency), baseline.latency, 9, 2, 1, "a CPU")
    reason = "" if gain else "The best form is not faster beyond the noise of 1.02x."
    found = SearchResult([best, failed], baseline, chosen, best, not gain, reason, profile, Record())
    form = BuiltForm(chosen.spec.runtime, "cpu-x86-64", "FP32", Path(), ("m",), ("y",))
    packaged = PackagedComponent(Component(name=name), form, Signature((), ()), {}, PARITY, profile)
    return OptimizedComponent(packaged, found, SAMPLES, **more)


def result(*done: OptimizedComponent, **spec: Any) -> dict[str, Any]:
    return result_fields(OptimizationRequest.parse(work(**spec)), list(done))


def test_the_figures_are_those_of_the_paired_measurement() -> None:
    assert result(component("net"))["optimization_result"] == {
        "baseline_time_ms": 4.0,
        "optimized_time_ms": 2.0,
        "baseline_qps": 250.0,
        "optimized_qps": 500.0,
        "speedup": 2.0,
    }


def test_the_source_is_the_first_candidate_and_failures_are_told() -> None:
    rows = result(component("net"))["candidates"]
    assert [row["form"] for row in rows] == ["torchscript FP32", "onnxruntime FP32", "inductor FP32"]
    assert rows[0]["note"] == SOURCE_NOTE
    assert [row["recommended"] for row in rows] == [False, True, False]
    assert rows[2]["failure"]["message"] == "No g++."


def test_without_a_gain_the_source_is_recommended_and_nothing_is_faster() -> None:
    found = result(component("net", gain=False))
    assert found["no_gain"] is True
    assert found["no_gain_reason"] == "The best form is not faster beyond the noise of 1.02x."
    assert found["optimization_result"]["speedup"] == 1.0
    assert found["optimization_result"]["optimized_time_ms"] == 4.0
    assert found["candidates"][0]["recommended"] is True


def test_test_data_are_told_with_every_shape() -> None:
    assert result(component("net"))["test_data_info"] == {
        "test_data_source": "USER",
        "test_data_shape": "x: 1*8, 4*8",
        "test_data_type": "x: float32",
    }


def test_of_several_components_times_add_up_and_names_say_whose_they_are() -> None:
    found = result(component("encoder"), component("decoder", gain=False))
    assert found["optimization_result"]["baseline_time_ms"] == 8.0
    assert found["optimization_result"]["optimized_time_ms"] == 6.0
    assert found["optimization_result"]["speedup"] == pytest.approx(8 / 6)
    assert found["no_gain"] is False
    assert found["candidates"][0]["form"] == "encoder/torchscript FP32"
    assert found["candidates"][0]["latency"]["form"] == "encoder/torchscript FP32"
    assert "decoder/x: 1*8, 4*8" in found["test_data_info"]["test_data_shape"]


def test_throughput_is_of_as_many_calls_at_once_as_there_are_streams() -> None:
    done = component("net")
    done.found.baseline.samples_per_second, done.found.recommended.samples_per_second = 240.0, 900.0
    figures = result(done, objective="THROUGHPUT")["optimization_result"]
    assert (figures["baseline_qps"], figures["optimized_qps"]) == (240.0, 900.0)


def test_accuracy_quantizer_and_warnings_are_told() -> None:
    done = component("net", metric="top1", source_accuracy=0.9, warnings=("Few samples.",))
    done.found.entries[0].spec = FormSpec("onnxruntime", "INT8", "NNCF")
    found = result(done)
    assert (found["metric"], found["source_accuracy"], found["warnings"]) == ("top1", 0.9, ["Few samples."])
    assert found["candidates"][1]["quantizer"] == "NNCF"


def test_software_and_hardware_are_named() -> None:
    found = result(component("net"))
    assert {"name", "version"} == set(found["software"][0])
    assert found["hardware_environment"]["device_type"] == "cpu-x86-64"
    assert found["hardware_environment"]["microarchitecture"]


@pytest.mark.parametrize(("source_format", "reader"), [("HUGGINGFACE", "safetensors"), ("FROZEN_GRAPH", "tf2onnx")])
def test_what_read_the_format_is_among_the_software(source_format: str, reader: str) -> None:
    def named(source_format: str) -> set[str]:
        values = work()
        values["conversion"]["template"]["source_format"] = source_format
        found = result_fields(OptimizationRequest.parse(values), [component("net")])
        return {each["name"] for each in found["software"]}

    assert named(source_format) - named("ONNX") >= {reader}
