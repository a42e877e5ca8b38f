"""Layouts for Triton: names of files, batches, labels, and what cannot be served."""

from __future__ import annotations

from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import Manifest
from engines.package.triton import TritonModel, lay_out
from tests.unit.package.test_manifest import MANIFEST

COMPONENT: dict[str, Any] = MANIFEST["components"][0]


def tensor(name: str, low: list[int], high: list[int], dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": {"min": low, "opt": low, "max": high}}


def model(runtime: str = "onnxruntime", *, manifest: dict[str, Any] | None = None, **component: Any) -> TritonModel:
    """Return the layout of a manifest whose one component has these fields."""
    suffix = "xml" if runtime == "openvino" else "onnx"
    files = {"entry": f"net/model.{suffix}", "files": [f"net/model.{suffix}"]}
    values = MANIFEST | {"runtime": {"name": runtime, "version": "1.0"}} | (manifest or {})
    values["components"] = [COMPONENT | files | component]
    return lay_out(Manifest.model_validate(values), "shop", 7, "models/shop/versions/2")[0]


def interface(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"signature": {"inputs": inputs, "outputs": outputs}}


def failure(runtime: str = "onnxruntime", **fields: Any) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        model(runtime, **fields)
    return caught.value


def test_the_file_that_the_backend_opens_comes_last_under_the_name_it_looks_for() -> None:
    onnx = model(entry="net/a.onnx", files=["net/a.onnx", "net/weights/b.bin", "net/a.bin"])
    assert onnx.files == (
        ("shop/7/a.bin", "net/a.bin"),
        ("shop/7/weights/b.bin", "net/weights/b.bin"),
        ("shop/7/model.onnx", "net/a.onnx"),
    )
    ir = model("openvino", entry="net/a.xml", files=["net/a.xml", "net/a.bin"])
    assert [path for path, _ in ir.files] == ["shop/7/model.bin", "shop/7/model.xml"]
    assert (ir.name, ir.config_path) == ("shop", "shop/config.pbtxt")


def test_a_batch_axis_is_left_to_triton() -> None:
    config = model(**interface([tensor("x", [1, 3], [8, 3])], [tensor("y", [1, 2], [8, 2])])).config
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (8, [3])
    assert config["dynamic_batching"] == {"preferred_batch_size": [8]}
    assert config["model_warmup"][0]["batch_size"] == 1


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        # A fixed batch; an output that has none; one whose first axis is something else; an input without axes.
        ([tensor("x", [1, 3], [1, 3])], [tensor("y", [1, 2], [1, 2])]),
        ([tensor("x", [1, 3], [8, 3])], [tensor("y", [2], [2])]),
        ([tensor("x", [1, 3], [8, 3])], [tensor("y", [4, 2], [32, 2])]),
        ([tensor("x", [1, 3], [8, 3]), tensor("s", [], [])], [tensor("y", [1, 2], [8, 2])]),
        ([tensor("x", [1, 3], [4, 3])], [tensor("y", [1, 2], [4, 2])]),
    ],
)
def test_without_a_batch_axis_shapes_are_whole(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
    config = model(**interface(inputs, outputs)).config
    assert config["max_batch_size"] == 0
    assert "dynamic_batching" not in config
    assert len(config["input"][0]["dims"]) == 2
    assert all("reshape" not in each for each in config["input"])


def test_dynamic_axes_are_open_and_their_bounds_are_parameters() -> None:
    ids = {**tensor("ids", [1, 4], [1, 128], "int64"), "shape": {"min": [1, 4], "opt": [1, 32], "max": [1, 128]}}
    config = model(max_batch=1, **interface([ids], [tensor("y", [1], [1])])).config
    assert config["input"][0]["dims"] == [1, -1]
    assert config["parameters"]["lathe.shape_profile.ids"] == {"string_value": "min=1x4 opt=1x32 max=1x128"}
    # Random numbers would be no valid indices.
    assert config["model_warmup"][0]["inputs"]["ids"] == {
        "data_type": "TYPE_INT64",
        "dims": [1, 32],
        "zero_data": True,
    }


def test_one_value_per_sample_is_reshaped() -> None:
    config = model(**interface([tensor("x", [1, 3], [8, 3])], [tensor("y", [1], [8], "int64")])).config
    assert config["output"][0] == {"name": "y", "data_type": "TYPE_INT64", "dims": [1], "reshape": {}}
    scalar = interface([tensor("x", [3], [3])], [tensor("y", [], [])])
    assert model(**scalar).config["output"][0]["dims"] == [1]
    assert failure("openvino", **scalar).reason is FailureReason.INVALID_MODEL


def test_labels_go_to_the_output_of_their_width_or_name() -> None:
    two = [tensor("size", [1, 2], [8, 2]), tensor("color", [1, 2], [8, 2])]
    taxonomies = [
        {"task": "kind", "classes": ["a\nb", "c"]},
        {"task": "color", "classes": ["red", "blue"]},
        {"task": "other", "classes": ["x", "y", "z"]},
    ]
    signature = interface([tensor("x", [1, 3], [8, 3])], two)
    made = model(manifest={"method": "multi_classification", "taxonomies": taxonomies}, **signature)
    assert made.texts == (("shop/labels-7-0.txt", "a b\nc\n"), ("shop/labels-7-1.txt", "red\nblue\n"))
    assert [each["label_filename"] for each in made.config["output"]] == ["labels-7-0.txt", "labels-7-1.txt"]
    assert model(manifest={"method": "detection", "taxonomies": taxonomies}, **signature).texts == ()


@pytest.mark.parametrize(
    ("options", "level", "mode"),
    [
        ({"graph_optimization_level": "ORT_ENABLE_ALL", "execution_mode": "ORT_SEQUENTIAL"}, None, "0"),
        ({"graph_optimization_level": "ORT_ENABLE_EXTENDED", "execution_mode": "ORT_PARALLEL"}, 1, "1"),
        ({"graph_optimization_level": "ORT_ENABLE_BASIC"}, -1, None),
        ({"graph_optimization_level": "ORT_DISABLE_ALL"}, 2, None),
    ],
)
def test_options_of_onnx_runtime(options: dict[str, str], level: int | None, mode: str | None) -> None:
    config = model(options=options).config
    assert config.get("optimization", {}).get("graph", {}).get("level") == level
    assert config["parameters"].get("execution_mode", {}).get("string_value") == mode


def test_options_of_openvino() -> None:
    options = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32", "OTHER": "x"}
    parameters = {
        name: value["string_value"] for name, value in model("openvino", options=options).config["parameters"].items()
    }
    assert {"PERFORMANCE_HINT", "NUM_STREAMS", "ENABLE_BATCH_PADDING", "lathe.note"} <= set(parameters)
    assert "OTHER" not in parameters
    assert "HINT_BF16" not in parameters
    bf16 = model("openvino", options={"INFERENCE_PRECISION_HINT": "bf16"}, max_batch=1).config["parameters"]
    assert bf16["HINT_BF16"] == {"string_value": "YES"}
    assert "ENABLE_BATCH_PADDING" not in bf16


def test_a_package_that_triton_cannot_serve_is_refused_with_the_reason() -> None:
    assert failure("litert").reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    double = interface([tensor("x", [3], [3], "float64")], [tensor("y", [3], [3])])
    assert failure("openvino", **double).reason is FailureReason.UNSUPPORTED_PRECISION
    assert model(**double).config["input"][0]["data_type"] == "TYPE_FP64"
    unknown = interface([{"name": "x", "dtype": "float32"}], [tensor("y", [3], [3])])
    assert "its number of axes is not known" in failure(**unknown).message
    for files, words in (
        (["net/other.onnx"], "is not one of its files"),
        (["net/model.onnx", "shared/w.bin"], "is not beside or below"),
    ):
        assert words in failure(entry="net/model.onnx", files=files).message
    clash = failure("openvino", entry="net/a.xml", files=["net/a.xml", "net/a.bin", "net/model.bin"])
    assert "would both be called 'model.bin'" in clash.message
