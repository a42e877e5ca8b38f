"""Which forms are tried, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.failures import EngineFailure
from engines.runtimes.form import FormSpec
from engines.search.plan import baselines, candidates
from engines.spec.toolchain import cpu

BF16 = bool({"avx512_bf16", "amx_bf16"} & set(cpu()[1]))
SITUATIONS = st.fixed_dictionaries(
    {
        "goal": st.sampled_from(["FP32", "FP16", "BF16", "INT8"]),
        "objective": st.sampled_from(["LATENCY", "THROUGHPUT", "SIZE"]),
        "has_module": st.booleans(),
        "has_calibration": st.booleans(),
        "is_transformer": st.booleans(),
        "has_images": st.booleans(),
        "batch": st.sampled_from([1, 16]),
        "threads": st.sampled_from([1, 2, 8]),
    }
)


def plan(**changes: Any) -> list[FormSpec]:
    usual: dict[str, Any] = {
        "goal": "FP32",
        "objective": "LATENCY",
        "has_module": True,
        "has_calibration": False,
        "is_transformer": False,
        "has_images": True,
        "batch": 1,
        "threads": 2,
    }
    return candidates("cpu-x86-64", **(usual | changes))


@given(SITUATIONS)
def test_every_plan_is_sound(situation: dict[str, Any]) -> None:
    found = plan(**situation)
    assert len(set(found)) == len(found)
    assert {FormSpec("onnxruntime", "FP32"), FormSpec("openvino", "FP32")} <= set(found)
    for spec in found:
        assert spec.precision != "INT8" or situation["goal"] == "INT8"
        assert spec.precision == "FP32" or situation["goal"] != "FP32"
        assert not spec.quantizer or situation["has_calibration"]
        assert situation["has_module"] or not (spec.reader or spec.runtime in {"inductor", "torchscript"})
        assert not spec.knob("layout") or situation["has_images"]
        assert not spec.knob("streams") or situation["objective"] == "THROUGHPUT"
        assert int(spec.knob("threads", "1")) <= situation["threads"]


def test_a_lossless_search_begins_with_the_two_runtimes_as_they_are() -> None:
    found = plan()
    assert found[:2] == [FormSpec("openvino", "FP32"), FormSpec("onnxruntime", "FP32")]
    assert {spec.runtime for spec in found} == {"openvino", "onnxruntime", "torchscript", "inductor"}
    bound, read = (
        FormSpec("onnxruntime", "FP32", knobs=(("binding", "bound"),)),
        FormSpec("openvino", "FP32", "", "pytorch"),
    )
    assert found.index(bound) < found.index(read)  # it takes no time to make


@pytest.mark.skipif(not BF16, reason="this CPU has no bfloat16 arithmetic")
def test_half_precision_begins_with_openvino() -> None:
    found = plan(goal="FP16")
    assert found[0] == FormSpec("openvino", "BF16")
    assert FormSpec("torchscript", "BF16", knobs=(("layout", "channels_last"),)) in found
    assert FormSpec("torchscript", "BF16") in plan(goal="FP16", has_images=False)


def test_integers_follow_the_defaults_where_there_is_data_to_calibrate_on() -> None:
    found = plan(goal="INT8", has_calibration=True)
    quantized = [spec for spec in found if spec.quantizer]
    assert [spec.name for spec in quantized[:2]] == ["openvino INT8", "onnxruntime INT8"]
    first = found.index(quantized[0])
    assert found[first + 1] == quantized[1]
    assert all(spec.is_default or spec.knob("weights") for spec in found[:first])
    assert {FormSpec("openvino", "FP32"), FormSpec("onnxruntime", "FP32")} <= set(found[:first])
    without = plan(goal="INT8")
    assert FormSpec("openvino", "INT8", knobs=(("weights", "int8"),)) in without
    dynamic = FormSpec("onnxruntime", "INT8", knobs=(("weights", "int8"),))
    assert dynamic not in without
    assert dynamic in plan(goal="INT8", is_transformer=True)
    assert dynamic in plan(goal="INT8", has_images=False)


def test_throughput_begins_with_streams_and_size_with_few_bytes() -> None:
    assert plan(objective="THROUGHPUT")[0].knob("streams") == "2"
    assert {spec.knob("streams") for spec in plan(objective="THROUGHPUT", threads=8)} == {"", "4", "8"}
    assert not any(spec.knob("streams") for spec in plan(objective="THROUGHPUT", threads=1))
    assert plan(objective="SIZE", goal="INT8")[0].knob("weights") == "int8"
    assert plan(objective="SIZE", goal="FP16")[0] == FormSpec("openvino", "FP16")


def test_some_knobs_wait_for_what_they_help() -> None:
    fused = FormSpec("onnxruntime", "FP32", knobs=(("graph", "transformer"),))
    assert fused in plan(is_transformer=True)
    assert fused not in plan()
    assert any(spec.knob("allocator") for spec in plan(batch=16))
    assert not any(spec.knob("allocator") for spec in plan())


def test_the_baseline_is_what_users_run() -> None:
    frozen, eager, graph = baselines(has_module=True)
    assert frozen == FormSpec("torchscript", "FP32")
    assert eager.knob("mode") == "eager"
    assert [graph] == baselines(has_module=False) == [FormSpec("onnxruntime", "FP32")]
    assert baselines(has_module=False, quantized=True) == [FormSpec("onnxruntime", "INT8", "quantized")]


def test_a_device_without_a_builder_has_no_candidates_and_an_unknown_one_is_refused() -> None:
    usual: dict[str, Any] = {"has_module": True, "has_calibration": False, "is_transformer": False}
    usual |= {"has_images": False, "batch": 1}
    assert candidates("nvidia-t4", "FP32", "LATENCY", **usual) == []
    with pytest.raises(EngineFailure, match="no device 'abacus'"):
        candidates("abacus", "FP32", "LATENCY", **usual)
