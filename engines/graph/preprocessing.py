"""Bakes preprocessing into a graph: colours, `(x - mean) / scale` and the cast of raw pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.failures import invalid
from engines.graph.interface import dtype_name, element_type, graph_inputs
from engines.graph.naming import rename_uses, unused_name
from engines.graph.nv12 import LEAST_OPSET, decode_nv12
from engines.graph.versions import modernized
from engines.tensors.inputs import ComponentInput, package_dtype
from engines.tensors.preprocessing import Preprocessing, channel_axis, check_preprocessing

if TYPE_CHECKING:
    import onnx

_FLOATS = frozenset({"float16", "float32", "float64"})


def bake(model: onnx.ModelProto, inputs: Sequence[ComponentInput]) -> onnx.ModelProto:
    """Return the model with preprocessing in front of its inputs, which keep their names.

    Args:
        model: A model whose inputs take what the network takes.
        inputs: Inputs of the package. Those with preprocessing take their declared dtype afterwards.

    Raises:
        EngineFailure: INVALID_SPEC naming the input, if its channels do not fit or the network takes integers; or if
            the graph is too old for NV12 images.
    """
    import onnx

    baked = onnx.ModelProto()
    baked.CopyFrom(model)
    if any(given.preprocessing.takes_nv12 for given in inputs):
        baked = _with_operators(baked)
    values = {value.name: value for value in graph_inputs(baked)}
    for given in inputs:
        if not given.preprocessing.active:
            continue
        if given.name not in values:
            raise invalid(f"There is no input '{given.name}' to preprocess; the graph has {', '.join(values)}.")
        _bake_one(baked, values[given.name], given.steps, package_dtype(given))
    return baked


def _with_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in an operator set that can decode NV12 images."""
    opset = max(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    if opset >= LEAST_OPSET:
        return model
    newer = modernized(model, LEAST_OPSET)
    if newer is None:
        raise invalid(
            f"NV12 images need operator set {LEAST_OPSET}. The graph has {opset}, which cannot be converted.",
            "Export the model again with a newer operator set.",
        )
    return newer


def _bake_one(model: onnx.ModelProto, value: Any, preprocessing: Preprocessing, package_dtype: str) -> None:
    from onnx import helper, numpy_helper

    name = value.name
    tensor = value.type.tensor_type
    dtype = dtype_name(tensor.elem_type)
    shape = [axis.dim_value for axis in tensor.shape.dim]
    arithmetic = preprocessing.mean_values or preprocessing.scale_values or preprocessing.takes_nv12
    if dtype not in _FLOATS and arithmetic:
        raise invalid(
            f"Input '{name}' takes {dtype}; mean, scale and NV12 need a network that takes floating-point numbers."
        )
    check_preprocessing(name, preprocessing, shape)
    axis = channel_axis(preprocessing, shape)
    first: str = name
    nodes: list[Any] = []
    if (colors := preprocessing.nv12) is not None:
        first, nodes = decode_nv12(model, value, colors, preprocessing, dtype)
        package_dtype = dtype
    steps: list[tuple[str, NDArray[Any] | None, dict[str, Any]]] = []
    if package_dtype != dtype:
        steps.append(("Cast", None, {"to": tensor.elem_type}))
        tensor.elem_type = element_type(package_dtype)
    if preprocessing.swaps_channels:
        steps.append(("Gather", np.array([2, 1, 0], np.int64), {"axis": axis}))
    if preprocessing.mean_values:
        steps.append(("Sub", _per_channel(preprocessing.mean_values, axis, len(shape), dtype), {}))
    if preprocessing.scale_values:
        steps.append(("Div", _per_channel(preprocessing.scale_values, axis, len(shape), dtype), {}))
    names = [unused_name(model, f"{name}/{operator.lower()}") for operator, _, _ in steps]
    rename_uses(model.graph, name, [first, *names][-1])
    for source, output, (operator, constant, attributes) in zip([first, *names], names, steps, strict=False):
        operands = [source]
        if constant is not None:
            operands.append(f"{output}/value")
            model.graph.initializer.append(numpy_helper.from_array(constant, operands[1]))
        nodes.append(helper.make_node(operator, operands, [output], name=output, **attributes))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])


def _per_channel(values: Sequence[float], axis: int, rank: int, dtype: str) -> NDArray[Any]:
    """Return the values in a shape that broadcasts along the channel axis."""
    shape = [1] * rank
    if len(values) > 1:
        shape[axis] = len(values)
    return np.array(values, dtype).reshape(shape if len(values) > 1 else ())
