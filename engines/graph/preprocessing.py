"""Bakes preprocessing into a graph: colour order, `(x - mean) / scale` and the cast of raw pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.failures import EngineFailure, FailureReason
from engines.graph.interface import dtype_name, element_type, graph_inputs
from engines.graph.naming import rename_uses, unused_name
from engines.tensors.signature import format_shape

if TYPE_CHECKING:
    import onnx

_FLOATS = frozenset({"float16", "float32", "float64"})


@dataclass(frozen=True)
class InputPreprocessing:
    """What happens to one input before the network sees it.

    Attributes:
        mean: Subtracted: one value, or one per channel in the network's order; nothing where empty.
        scale: Divided by, likewise.
        swap_channels: True reverses the three channels, before mean and scale.
        dtype: Element type that the package takes; that of the graph where empty.
    """

    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    swap_channels: bool = False
    dtype: str = ""

    @property
    def empty(self) -> bool:
        """True where there is nothing to do."""
        return not (self.mean or self.scale or self.swap_channels or self.dtype)


def bake(model: onnx.ModelProto, inputs: Mapping[str, InputPreprocessing]) -> onnx.ModelProto:
    """Return the model with preprocessing in front of its inputs, which keep their names.

    Args:
        model: A model whose inputs take what the network takes.
        inputs: Preprocessing by input; others stay as they are.

    Raises:
        EngineFailure: INVALID_SPEC that names the input, where a number of values does not match the channels, a scale
            is 0, or the input takes integers.
    """
    import onnx

    baked = onnx.ModelProto()
    baked.CopyFrom(model)
    values = {value.name: value for value in graph_inputs(baked)}
    for name, preprocessing in inputs.items():
        if name not in values:
            raise _invalid(f"There is no input '{name}' to preprocess; the graph has {', '.join(values)}.")
        if not preprocessing.empty:
            _bake_one(baked, values[name], preprocessing)
    return baked


def _bake_one(model: onnx.ModelProto, value: Any, preprocessing: InputPreprocessing) -> None:
    from onnx import helper

    name = value.name
    tensor = value.type.tensor_type
    dtype = dtype_name(tensor.elem_type)
    shape = [axis.dim_value for axis in tensor.shape.dim]
    if dtype not in _FLOATS and (preprocessing.mean or preprocessing.scale):
        raise _invalid(
            f"Input '{name}' takes {dtype}; mean and scale need a network that takes floating-point numbers."
        )
    axis = _channel_axis(name, preprocessing, shape)
    steps: list[tuple[str, NDArray[Any] | None, dict[str, Any]]] = []
    if preprocessing.dtype and preprocessing.dtype != dtype:
        steps.append(("Cast", None, {"to": tensor.elem_type}))
        tensor.elem_type = element_type(preprocessing.dtype)
    if preprocessing.swap_channels:
        steps.append(("Gather", np.array([2, 1, 0], np.int64), {"axis": axis}))
    if preprocessing.mean:
        steps.append(("Sub", _per_channel(preprocessing.mean, axis, len(shape), dtype), {}))
    if preprocessing.scale:
        steps.append(("Div", _per_channel(preprocessing.scale, axis, len(shape), dtype), {}))
    if not steps:
        return
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


def _channel_axis(name: str, preprocessing: InputPreprocessing, shape: Sequence[int]) -> int:
    """Return the axis of the channels: axis 1 (NCHW) where its extent is that of the values, else the last (NHWC)."""
    counts = {len(values) for values in (preprocessing.mean, preprocessing.scale) if len(values) > 1}
    counts |= {3} if preprocessing.swap_channels else set()
    if 0.0 in preprocessing.scale:
        raise _invalid(f"A scale value of input '{name}' is 0; values are divided by it.")
    if not counts:
        return 0
    if len(shape) < 2:
        raise _invalid(f"Input '{name}' of shape {format_shape(shape)} has no channel axis to preprocess.")
    if len(counts) > 1:
        raise _invalid(
            f"Input '{name}' has preprocessing for {' and '.join(map(str, sorted(counts)))} channels at once."
        )
    count = counts.pop()
    for axis in (1, len(shape) - 1):
        if shape[axis] == count:
            return axis
    raise _invalid(
        f"Input '{name}' of shape {format_shape(shape)} has no axis of {count} channels (second or last); "
        f"give one mean and scale value, or one per channel."
    )


def _per_channel(values: Sequence[float], axis: int, rank: int, dtype: str) -> NDArray[Any]:
    """Return the values in a shape that broadcasts along the channel axis."""
    shape = [1] * rank
    if len(values) > 1:
        shape[axis] = len(values)
    return np.array(values, dtype).reshape(shape if len(values) > 1 else ())


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)
