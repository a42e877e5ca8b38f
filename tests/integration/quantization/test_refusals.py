"""What users get wrong with calibration data: each is told with what to do about it."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from engines.failures import EngineFailure, FailureReason
from engines.tensors import Array
from tests.integration.conversion.workbench import CNN
from tests.integration.quantization.workbench import QuantizationBench, put_tensors

RNG = np.random.default_rng(0)


@pytest.fixture
def images_bench(bench: QuantizationBench) -> QuantizationBench:
    """Give a network of images 3*12*12."""
    bench.put_onnx(CNN.replace("num_classes):", "num_classes=10):"), np.zeros((1, 3, 12, 12), np.float32))
    return bench


def failure(bench: QuantizationBench, spec: dict[str, Any], arrays: dict[str, Array] | None) -> EngineFailure:
    request = bench.onnx_work(spec)
    if arrays is not None:
        request["calibration"] = put_tensors(bench.workdir / "calibration", arrays)
    with pytest.raises(EngineFailure) as caught:
        bench.quantize(request)
    assert caught.value.suggested_fix
    return caught.value


def fitting(count: int) -> Array:
    return RNG.standard_normal((count, 3, 12, 12)).astype(np.float32)


def test_no_data_where_it_is_needed(images_bench: QuantizationBench) -> None:
    found = failure(images_bench, {}, None)
    assert found.reason is FailureReason.INVALID_SPEC
    assert "needs calibration data" in found.message


def test_fewer_samples_than_a_batch(images_bench: QuantizationBench) -> None:
    found = failure(images_bench, {"calibration_data": {"batch_size": 4}}, {"x": fitting(3)})
    assert found.reason is FailureReason.INVALID_DATA
    assert "3 samples, fewer than one batch of 4" in found.message


def test_values_that_are_not_finite(images_bench: QuantizationBench) -> None:
    broken = fitting(12)
    broken[7, 0, 0, 0] = np.nan
    found = failure(images_bench, {}, {"x": broken})
    assert found.reason is FailureReason.INVALID_DATA
    assert "row 7" in found.message
    assert "not all finite" in found.message


def test_arrays_that_do_not_fit(images_bench: QuantizationBench) -> None:
    assert "3*12*13" in failure(images_bench, {}, {"x": fitting(6).repeat(2, axis=3)[..., :13]}).message
    assert "'x'" in failure(images_bench, {}, {"y": fitting(6)}).message


def test_an_upload_that_is_no_archive(images_bench: QuantizationBench) -> None:
    (images_bench.workdir / "calibration.bin").write_bytes(b"no archive at all")
    assert failure(images_bench, {}, None).reason is FailureReason.INVALID_DATA


def test_an_uploaded_archive_of_images_calibrates(images_bench: QuantizationBench) -> None:
    with zipfile.ZipFile(images_bench.workdir / "calibration.bin", "w") as archive:
        for number in range(6):
            stream = io.BytesIO()
            Image.fromarray(RNG.integers(0, 256, (20, 30, 3), np.uint8)).save(stream, "PNG")
            archive.writestr(f"{number}.png", stream.getvalue())
    preprocessing = [
        {"equal_resize": {"height": 12, "width": 12}},
        {"cvt_rgb": True},
        {"transpose": {"order": [2, 0, 1]}},
    ]
    spec = {"calibration_data": {"samples": 4, "preprocessing": preprocessing, "seed": "1"}}
    result = images_bench.quantize(images_bench.onnx_work(spec))["result"]
    assert result["parity"]["samples"] == 2
    assert result["parity"]["sample_source"] == "USER"


def test_convolutions_in_branches_are_not_called_quantized(bench: QuantizationBench) -> None:
    """Quantizers do not reach into an If: what NNCF makes of it is one ReduceMean in eight bits."""
    weights = numpy_helper.from_array(RNG.standard_normal((4, 3, 3, 3)).astype(np.float32), "w")
    branches = [
        helper.make_graph(
            [
                helper.make_node("Conv", ["x", "w"], [f"c{number}"], name=f"conv{number}"),
                helper.make_node(operator, [f"c{number}"], [f"y{number}"]),
            ],
            f"branch{number}",
            [],
            [helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, None)],
        )
        for number, operator in enumerate(("Relu", "Sigmoid"))
    ]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "none"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 12, 12])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 10, 10])
    none = numpy_helper.from_array(np.array(0, np.float32), "none")
    graph = helper.make_graph(nodes, "g", [given], [made], [weights, none])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (bench.workdir / "source").mkdir()
    (bench.workdir / "source/net.onnx").write_bytes(model.SerializeToString())
    found = failure(bench, {}, {"x": fitting(12)})
    assert found.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert found.message.startswith("Nothing here can be quantized: INT8 is for convolutions")
    assert "none of its 2 convolutions and products is in integers" in found.message
