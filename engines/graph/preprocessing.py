"""Bakes preprocessing into a graph: colour order, `(x - mean) / scale` and the cast of raw pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.failures import invalid
from engines.graph.interface import dtype_name, element_type, graph_inputs
from engines.graph.naming import rename_uses, unused_name
from engines.tensors.inputs import ComponentInput
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
        EngineFailure: INVALID_SPEC naming the input, if its channels do not fit or the network takes integers.
    """
    import onnx

    baked = onnx.ModelProto()
    baked.CopyFrom(model)
    values = {value.name: value for value in graph_inputs(baked)}
    for given in inputs:
        if not given.preprocessing.active:
            continue
        if given.name not in values:
            raise invalid(f"There is no input '{given.name}' to preprocess; the graph has {', '.join(values)}.")
        _bake_one(baked, values[given.name], given.preprocessing, given.dtype or "float32")
    return baked


def _bake_one(model: onnx.ModelProto, value: Any, preprocessing: Preprocessing, package_dtype: str) -> None:
    from onnx import helper

    name = value.name
    tensor = value.type.tensor_type
    dtype = dtype_name(tensor.elem_type)
    shape = [axis.dim_value for axis in tensor.shape.dim]
    if dtype not in _FLOATS and (preprocessing.mean_values or preprocessing.scale_values):
        raise invalid(f"Input '{name}' takes {dtype}; mean and scale need a network that takes floating-point numbers.")
    check_preprocessing(name, preprocessing, shape)
    axis = channel_axis(preprocessing, shape)
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
    rename_uses(model.graph, name, names[-1])
    nodes = []
    for source, output, (operator, constant, attributes) in zip([name, *names], names, steps, strict=False):
        operands = [source]
        if constant is not None:
            operands.append(f"{output}/value")
            model.graph.initializer.append(onnx_tensor(constant, operands[1]))
        nodes.append(helper.make_node(operator, operands, [output], name=output, **attributes))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])


def onnx_tensor(array: NDArray[Any], name: str) -> onnx.TensorProto:
    """Return an array as a tensor of a graph."""
    from onnx import numpy_helper

    return numpy_helper.from_array(array, name)


def _per_channel(values: Sequence[float], axis: int, rank: int, dtype: str) -> NDArray[Any]:
    """Return the values in a shape that broadcasts along the channel axis."""
    shape = [1] * rank
    if len(values) > 1:
        shape[axis] = len(values)
    return np.array(values, dtype).reshape(shape if len(values) > 1 else ())
