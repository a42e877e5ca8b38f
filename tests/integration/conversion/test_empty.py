"""Outputs without elements: loops of no trips, searches that find nothing, slices of nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.integration.conversion.workbench import Bench


def info(name: str, axes: list[int | str], dtype: str = "FLOAT") -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.DataType.Value(dtype), axes)


def loop() -> tuple[list[Any], list[Any], list[Any]]:
    """Return a loop that doubles `x` as often as `trips` says, and gathers what it had on the way."""
    from onnx import helper

    inside = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["next"])]
    inside.append(helper.make_node("Identity", ["next"], ["seen"]))
    takes = [info("i", [], "INT64"), info("go", [], "BOOL"), info("v", [1, 3])]
    body = helper.make_graph(
        inside, "body", takes, [info("on", [], "BOOL"), info("next", [1, 3]), info("seen", [1, 3])]
    )
    nodes = [helper.make_node("Loop", ["trips", "", "x"], ["last", "all"], body=body)]
    return nodes, [info("trips", [], "INT64"), info("x", [1, 3])], [info("last", [1, 3]), info("all", ["n", 1, 3])]


def nothing_found() -> tuple[list[Any], list[Any], list[Any]]:
    from onnx import helper

    nodes = [helper.make_node("Sub", ["x", "x"], ["zero"]), helper.make_node("NonZero", ["zero"], ["all"])]
    return (
        [*nodes, helper.make_node("Relu", ["x"], ["last"])],
        [info("x", [1, 3])],
        [
            info("all", [2, "n"], "INT64"),
            info("last", [1, 3]),
        ],
    )


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("parts", "text"), [(loop, "trips:int64() value=0 x:float(1*3)"), (nothing_found, "x:float(1*3)")]
)
def test_outputs_without_elements_are_equal(
    parts: Callable[[], tuple[list[Any], list[Any], list[Any]]], text: str, runtime: str, bench: Bench
) -> None:
    import onnx
    from onnx import helper

    nodes, inputs, outputs = parts()
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    (bench.workdir / "source").mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, bench.workdir / "source" / "net.onnx")
    request = bench.request(source_format="ONNX", method="raw", runtime=runtime, inputs=[], max_batch=0)
    request |= {"inputs": [{"path": "source/net.onnx"}], "architectures": {}, "tensor_information": text}
    (component,) = bench.convert(request)["components"]
    assert component["parity"]["verdict"] == "PASS"
    import runpy

    package = runpy.run_path(str(bench.package / "infer.py"))["Model"](bench.package)
    found = package.run({**package.random_inputs(), "x": np.ones((1, 3), np.float32)})
    assert found["all"].size == 0
    np.testing.assert_array_equal(found["last"], np.ones((1, 3)))
