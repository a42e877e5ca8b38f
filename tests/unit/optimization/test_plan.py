"""Which forms are tried, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.failures import EngineFailure
from engines.runtimes.candidates import Situation
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

ORDERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a network, lossless": (
        {},
        [
            "openvino FP32",
            "onnxruntime FP32",
            "onnxruntime FP32, pre-bound tensors",
            "openvino FP32, read from PyTorch",
            "onnxruntime FP32, pre-bound tensors, 1 thread",
            "onnxruntime FP32, spinning off",
            "openvino FP32, 1 thread",
            "torchscript FP32, optimized for inference",
            "inductor FP32",
        ],
    ),
    "a graph, lossless": (
        {"has_module": False},
        [
            "openvino FP32",
            "onnxruntime FP32",
            "onnxruntime FP32, pre-bound tensors",
            "onnxruntime FP32, pre-bound tensors, 1 thread",
            "onnxruntime FP32, spinning off",
            "openvino FP32, 1 thread",
        ],
    ),
    "a network of one thread in half precision": (
        {"goal": "BF16", "threads": 1},
        [
            "openvino BF16",
            "openvino FP32",
            "onnxruntime FP32",
            "onnxruntime FP32, pre-bound tensors",
            "openvino BF16, read from PyTorch",
            "openvino FP32, read from PyTorch",
            "torchscript FP32, optimized for inference",
            "torchscript BF16, channels last",
            "inductor BF16",
            "inductor FP32",
            "openvino FP16",
        ],
    ),
    "a transformer in integers": (
        {"goal": "INT8", "has_calibration": True, "is_transformer": True, "has_images": False},
        [
            "openvino BF16",
            "openvino FP32",
            "onnxruntime FP32",
            "openvino INT8, 8-bit weights",
            "onnxruntime INT8, 8-bit weights",
            "onnxruntime INT8, 8-bit weights by the quantizer's defaults",
            "openvino INT8*",
            "onnxruntime INT8*",
            "onnxruntime INT8, pre-bound tensors*",
            "onnxruntime FP32, pre-bound tensors",
            "openvino BF16, read from PyTorch",
            "openvino FP32, read from PyTorch",
            "onnxruntime FP32, pre-bound tensors, 1 thread",
            "onnxruntime FP32, spinning off",
            "openvino BF16, 1 thread",
            "onnxruntime FP32, fused attention",
            "torchscript FP32, optimized for inference",
            "torchscript BF16",
            "inductor BF16",
            "inductor FP32",
            "openvino FP16",
        ],
    ),
    "images in integers, in batches": (
        {"goal": "INT8", "has_calibration": True, "batch": 16},
        [
            "openvino BF16",
            "openvino FP32",
            "onnxruntime FP32",
            "openvino INT8, 8-bit weights",
            "openvino INT8*",
            "onnxruntime INT8*",
            "onnxruntime INT8, pre-bound tensors*",
            "onnxruntime FP32, pre-bound tensors",
            "openvino BF16, read from PyTorch",
            "openvino FP32, read from PyTorch",
            "onnxruntime FP32, pre-bound tensors, 1 thread",
            "onnxruntime FP32, spinning off",
            "openvino BF16, 1 thread",
            "onnxruntime INT8, 8-bit weights by the quantizer's defaults",
            "torchscript FP32, freed memory kept, optimized for inference",
            "torchscript BF16, freed memory kept, channels last",
            "inductor BF16, freed memory kept",
            "inductor FP32, freed memory kept",
            "openvino FP16",
        ],
    ),
    "a graph in integers without data": (
        {"goal": "INT8", "has_module": False},
        [
            "openvino BF16",
            "openvino FP32",
            "onnxruntime FP32",
            "openvino INT8, 8-bit weights",
            "onnxruntime FP32, pre-bound tensors",
            "onnxruntime FP32, pre-bound tensors, 1 thread",
            "onnxruntime FP32, spinning off",
            "openvino BF16, 1 thread",
            "onnxruntime INT8, 8-bit weights by the quantizer's defaults",
            "openvino FP16",
        ],
    ),
    "throughput of eight threads": (
        {"goal": "INT8", "objective": "THROUGHPUT", "has_calibration": True, "threads": 8},
        [
            "openvino BF16, 8 streams",
            "openvino BF16, 4 streams",
            "openvino FP32, 8 streams",
            "openvino FP32, 4 streams",
            "onnxruntime FP32, 8 streams",
            "onnxruntime FP32, 4 streams",
            "openvino INT8, 8 streams, 8-bit weights",
            "openvino INT8, 4 streams, 8-bit weights",
            "openvino INT8, 8 streams*",
            "openvino INT8, 4 streams*",
            "onnxruntime INT8, 8 streams*",
            "onnxruntime INT8, 4 streams*",
            "openvino BF16",
            "openvino FP32",
            "onnxruntime FP32",
            "openvino INT8, 8-bit weights",
            "openvino INT8*",
            "onnxruntime INT8*",
            "onnxruntime INT8, pre-bound tensors*",
            "onnxruntime FP32, pre-bound tensors",
            "openvino BF16, read from PyTorch",
            "openvino FP32, read from PyTorch",
            "onnxruntime FP32, pre-bound tensors, 1 thread",
            "onnxruntime FP32, spinning off",
            "openvino BF16, 1 thread",
            "onnxruntime INT8, 8-bit weights by the quantizer's defaults",
            "torchscript FP32, optimized for inference",
            "torchscript BF16, channels last",
            "inductor BF16",
            "inductor FP32",
            "openvino FP16",
        ],
    ),
    "size of a graph": (
        {"goal": "INT8", "objective": "SIZE", "has_module": False, "has_calibration": True},
        [
            "openvino INT8, 8-bit weights",
            "openvino FP16",
            "onnxruntime FP16",
            "openvino BF16",
            "openvino FP32",
            "onnxruntime FP32",
            "openvino INT8*",
            "onnxruntime INT8*",
            "onnxruntime INT8, pre-bound tensors*",
            "onnxruntime FP32, pre-bound tensors",
            "onnxruntime FP32, pre-bound tensors, 1 thread",
            "onnxruntime FP32, spinning off",
            "openvino BF16, 1 thread",
            "onnxruntime INT8, 8-bit weights by the quantizer's defaults",
        ],
    ),
    "size in half precision": (
        {"goal": "FP16", "objective": "SIZE"},
        [
            "openvino FP16",
            "onnxruntime FP16",
            "openvino BF16",
            "openvino FP32",
            "onnxruntime FP32",
            "onnxruntime FP32, pre-bound tensors",
            "openvino BF16, read from PyTorch",
            "openvino FP32, read from PyTorch",
            "onnxruntime FP32, pre-bound tensors, 1 thread",
            "onnxruntime FP32, spinning off",
            "openvino BF16, 1 thread",
            "torchscript FP32, optimized for inference",
            "torchscript BF16, channels last",
            "inductor BF16",
            "inductor FP32",
        ],
    ),
}
"""What is tried in some situations, in this order; quantized forms with a star."""


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
    return candidates("cpu-x86-64", Situation(**(usual | changes)))


@pytest.mark.parametrize("name", ORDERS)
def test_the_most_promising_comes_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.search.plan.cpu", lambda: ("a processor", ("avx512_bf16", "avx512_vnni")))
    changes, expected = ORDERS[name]
    assert [spec.name + "*" * bool(spec.quantizer) for spec in plan(**changes)] == expected


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
    alone = FormSpec("onnxruntime", "INT8", knobs=(("threads", "1"), ("weights", "int8_default")))
    names = {spec.name for spec in plan(goal="INT8", has_images=False)}
    assert alone.name in names
    assert alone.name not in {spec.name for spec in plan(goal="INT8", has_images=False, is_transformer=True)}
    assert alone.name not in {spec.name for spec in plan(goal="INT8", has_images=False, threads=1)}


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
    frozen, eager, graph = baselines("cpu-x86-64", Situation(has_module=True))
    assert frozen == FormSpec("torchscript", "FP32")
    assert eager.knob("mode") == "eager"
    assert [graph] == baselines("cpu-x86-64", Situation()) == [FormSpec("onnxruntime", "FP32")]
    quantized = Situation(is_quantized=True)
    assert baselines("cpu-x86-64", quantized) == [FormSpec("onnxruntime", "INT8", "quantized")]


def test_a_device_whose_toolchains_are_not_here_has_no_candidates_and_an_unknown_one_is_refused() -> None:
    assert candidates("nvidia-p4", Situation(has_module=True)) == []
    with pytest.raises(EngineFailure, match="no device 'abacus'"):
        candidates("abacus", Situation(has_module=True))
