"""Small ONNX graphs, written by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.tensors.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec.fixed("x", "float32", (1, 4)).batched(8),),
    (TensorSpec.fixed("y", "float32", (1, 3)).batched(8), TensorSpec.fixed("index", "int64", (1,)).batched(8)),
)


def save(path: Path, nodes: list[Any], outputs: list[Any], **options: Any) -> Path:
    """Write a graph with one input `x:float32(batch*4)`."""
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
    graph = helper.make_graph(nodes, "g", given, outputs, options.get("initializers", []))
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(name, 1) for name in options.get("domains", []))]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def linear(path: Path) -> tuple[Path, Any]:
    """Write y = relu(x @ w), index = argmax(y); return the file and w."""
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], name="multiply"),
        helper.make_node("Relu", ["product"], ["y"], name="cut"),
        helper.make_node("ArgMax", ["y"], ["index"], name="best", axis=1, keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3]),
        helper.make_tensor_value_info("index", TensorProto.INT64, ["batch"]),
    ]
    return save(path, nodes, outputs, initializers=[numpy_helper.from_array(weights, "w")]), weights


def unknown_operator(path: Path) -> Path:
    """Write a graph whose node `strange` has an operator of nobody's."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="known"),
        helper.make_node("Bogus", ["a"], ["y"], name="strange", domain="com.acme"),
    ]
    return save(
        path, nodes, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])], domains=["com.acme"]
    )


def missing_kernel(path: Path) -> Path:
    """Write a graph whose node `odd` is standard, but in a type that ONNX Runtime has no kernel for."""
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], name="to", to=TensorProto.UINT16),
        helper.make_node("BitShift", ["whole", "whole"], ["y"], name="odd", direction="LEFT"),
    ]
    return save(path, nodes, [helper.make_tensor_value_info("y", TensorProto.UINT16, ["batch", 4])])
