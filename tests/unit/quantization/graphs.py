"""Small graphs, and what real quantizers make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.graph.hygiene import save_model, tidy
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.tensors import Array, Arrays


def value(name: str, shape: list[Any] | None, element: int = TensorProto.FLOAT) -> Any:
    """Return the declaration of a value."""
    return helper.make_tensor_value_info(name, element, shape)


def graph(
    nodes: list[Any],
    initializers: dict[str, Any],
    inputs: list[Any],
    outputs: list[Any],
    opset: int = 21,
) -> onnx.ModelProto:
    """Return a tidied model."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in initializers.items()]
    made = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return tidy(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10))


def weights(*shape: int, seed: int = 0) -> Array:
    """Return random weights that keep the scale of what they multiply."""
    fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
    values: Array = np.random.default_rng(seed).standard_normal(shape) / np.sqrt(fan_in)
    return values.astype(np.float32)


def network() -> onnx.ModelProto:
    """Return a small residual network on images of 8 by 8 pixels."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["a"], name="add"),
        helper.make_node("Relu", ["a"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "m"], ["mm"], name="fc"),
        helper.make_node("Gemm", ["mm", "g"], ["y"], name="gemm", transB=1),
    ]
    parameters = {
        **{"w1": weights(8, 3, 3, 3), "b1": weights(8, 1, seed=1).ravel(), "w2": weights(8, 8, 3, 3, seed=2)},
        **{"m": weights(8, 5, seed=3), "g": weights(5, 5, seed=4)},
    }
    return graph(nodes, parameters, [value("x", ["batch", 3, 8, 8])], [value("y", ["batch", 5])])


def image_feeds(count: int = 4) -> list[Arrays]:
    """Return feeds of `network`."""
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((2, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


def transformer() -> onnx.ModelProto:
    """Return an embedding, a masked attention and a feed-forward part; all kinds of weights that can be compressed."""
    width = 64
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], name="embedding"),
        helper.make_node("MatMul", ["e", "wq"], ["q"], name="query"),
        helper.make_node("MatMul", ["e", "wk"], ["k"], name="key"),
        helper.make_node("Transpose", ["k"], ["kt"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"], name="scores"),
        helper.make_node("Cast", ["mask"], ["mf"], name="to_float", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "mf"], ["inverse"], name="invert"),
        helper.make_node("Mul", ["inverse", "lowest"], ["bias"], name="penalty"),
        helper.make_node("Add", ["s", "bias"], ["masked"], name="apply_mask"),
        helper.make_node("Softmax", ["masked"], ["p"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["p", "e"], ["o"], name="context"),
        helper.make_node("MatMul", ["o", "wf"], ["f"], name="feed"),
        helper.make_node("Erf", ["f"], ["erf"], name="erf"),
        helper.make_node("ReduceMean", ["erf", "axis"], ["pooled"], name="mean", keepdims=0),
        helper.make_node("Gemm", ["pooled", "wg", "bg"], ["y"], name="head", transB=1),
    ]
    parameters = {
        **{name: weights(width, width, seed=seed) for seed, name in enumerate(("wq", "wk", "wf"))},
        **{"wg": weights(width, width, seed=5), "bg": weights(width, 1, seed=6).ravel()},
        **{"table": np.random.default_rng(7).standard_normal((512, width)).astype(np.float32)},
        **{"one": np.float32(1), "lowest": np.finfo(np.float32).min, "axis": np.array([1])},
    }
    inputs = [
        value("ids", ["batch", "length"], TensorProto.INT64),
        value("mask", ["batch", 1, "length"], TensorProto.INT64),
    ]
    return graph(nodes, parameters, inputs, [value("y", ["batch", width])])


def token_feed() -> Arrays:
    """Return a feed of `transformer`: two sentences, one of them padded, and one that is all padding."""
    ids = np.random.default_rng(1).integers(0, 512, (3, 6))
    mask = np.ones((3, 1, 6), np.int64)
    mask[1, :, 4:] = 0
    mask[2] = 0
    return {"ids": ids, "mask": mask}


def run(model: onnx.ModelProto, feed: Arrays, directory: Path) -> Arrays:
    """Return the outputs in ONNX Runtime, without optimisations."""
    save_model(model, directory / "run.onnx")
    return OnnxRuntimeSession(directory / "run.onnx", 1, optimise=False).run(feed)


def cosine(first: Array, second: Array) -> float:
    """Return the cosine between two arrays."""
    a, b = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))
