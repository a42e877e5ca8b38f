"""Small ONNX graphs, made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.graph.interface import element_type

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]
ValueInfo = tuple[str, str, list[int | str] | None]
"""Name, element type, extents."""


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    from onnx import helper

    made: onnx.NodeProto = helper.make_node(operator, inputs, outputs, **attributes)
    return made


def value(name: str, dtype: str, extents: list[int | str] | None) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, element_type(dtype), extents)


def branch(operator: str, read: str, written: str, extents: list[int | str]) -> onnx.GraphProto:
    """A subgraph of one node that reads a value of the outer graph."""
    from onnx import helper

    return helper.make_graph([node(operator, [read], [written])], written, [], [value(written, "float32", extents)])


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[ValueInfo],
    outputs: list[ValueInfo],
    weights: dict[str, Array] | None = None,
) -> onnx.ModelProto:
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "test",
        [value(*entry) for entry in inputs],
        [value(*entry) for entry in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(proto: onnx.ModelProto, **feeds: Array) -> list[Array]:
    import onnx
    import onnxruntime

    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, feeds)
    return results


def conv_bn(channels: int = 3, layout: str = "NCHW") -> onnx.ModelProto:
    """A convolution, a batch normalization, a ReLU, and an unused branch; NHWC transposes first."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((4, channels, 3, 3)).astype(np.float32),
        "scale": rng.uniform(0.5, 2, 4).astype(np.float32),
        "bias": rng.standard_normal(4).astype(np.float32),
        "mean": rng.standard_normal(4).astype(np.float32),
        "var": rng.uniform(0.5, 2, 4).astype(np.float32),
    }
    nodes = [
        node("Conv", ["nchw", "w"], ["conv"], name="conv_node"),
        node("BatchNormalization", ["conv", "scale", "bias", "mean", "var"], ["bn"], name="bn_node"),
        node("Relu", ["bn"], ["y"], name="relu_node"),
        node("Neg", ["bn"], ["dead"], name="dead_node"),
    ]
    perm, shape = ([0, 3, 1, 2], [6, 6, channels]) if layout == "NHWC" else ([0, 1, 2, 3], [channels, 6, 6])
    nodes.insert(0, node("Transpose", ["x"], ["nchw"], name="layout", perm=perm))
    size: list[int | str] = ["n", *shape]
    return model(nodes, [("x", "float32", size)], [("y", "float32", ["n", 4, 4, 4])], weights)
