"""The typed interface of an ONNX graph, and its element types by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason
from engines.tensors.shapes import OPEN_EXTENT
from engines.tensors.signature import DTYPES, MAX_AXIS_NAME, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

_NAMES = {"float": "float32", "double": "float64"}


def signature_of(model: onnx.ModelProto) -> Signature:
    """Return inputs (without weights) and outputs, in the order of the graph.

    A symbolic extent ranges from 1 to `OPEN_EXTENT`, tuned for 1, and keeps its name.

    Raises:
        EngineFailure: INVALID_MODEL for an input or output that is no tensor, or of an unsupported type.
    """
    return Signature(
        tuple(_spec(value) for value in graph_inputs(model)), tuple(_spec(value) for value in model.graph.output)
    )


def graph_inputs(model: onnx.ModelProto) -> list[Any]:
    """Return the graph's inputs without the weights that old files list among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def refuse_empty_inputs(model: onnx.ModelProto) -> None:
    """Refuse a graph with an input that is always empty.

    Raises:
        EngineFailure: INVALID_MODEL naming the input and the axis.
    """
    for value in graph_inputs(model):
        extents = [_extent(axis) for axis in value.type.tensor_type.shape.dim]
        if 0 in extents:
            raise EngineFailure(
                FailureReason.INVALID_MODEL,
                f"The input '{value.name}' of the graph has the extent 0 on axis {extents.index(0)}, so that it is "
                "always empty and nothing can be compared.",
                node=value.name,
                suggested_fix="Export the model with a larger extent there, or with an open axis.",
            )


def dtype_name(element_type: int) -> str:
    """Return an ONNX element type as NumPy writes it: `float32`, `bfloat16`, `float8e4m3fn`."""
    import onnx

    name = onnx.TensorProto.DataType.Name(element_type).lower()
    return _NAMES.get(name, name)


def element_type(dtype: str) -> int:
    """Return the ONNX element type of a name of `dtype_name`."""
    import onnx

    onnx_name = {value: key for key, value in _NAMES.items()}.get(dtype, dtype)
    return int(onnx.TensorProto.DataType.Value(onnx_name.upper()))


def _spec(value: Any) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind not in {"tensor_type", None}:
        words = kind.removesuffix("_type").replace("_", " ")
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"'{value.name}' of the graph is of the type '{words}'; inputs and outputs must be tensors.",
            node=value.name,
            suggested_fix="Pass the values of a sequence or an optional as tensors. A scikit-learn classifier returns "
            "tensors if it is converted with options={'zipmap': False}.",
        )
    tensor = value.type.tensor_type
    try:
        dtype = dtype_name(tensor.elem_type)
    except ValueError:
        dtype = "unknown"
    if dtype not in DTYPES:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"'{value.name}' of the graph has the element type '{dtype}'; known are {', '.join(DTYPES)}.",
            node=value.name,
            suggested_fix="Pass the real and the imaginary part as an axis of two, or as two tensors."
            if dtype.startswith("complex")
            else "Convert it inside the graph, with a Cast to one of these.",
        )
    extents = [_extent(axis) for axis in tensor.shape.dim]
    if not tensor.HasField("shape") or 0 in extents:
        return TensorSpec.unknown(value.name, dtype)
    least = tuple(extent or 1 for extent in extents)
    most = tuple(extent or OPEN_EXTENT for extent in extents)
    names = tuple(axis.dim_param[:MAX_AXIS_NAME] for axis in tensor.shape.dim)
    return TensorSpec(value.name, dtype, least, least, most, axis_names=names if any(names) else ())


def _extent(axis: Any) -> int | None:
    """Return an axis' extent; None for a symbolic one."""
    if axis.WhichOneof("value") != "dim_value" or axis.dim_value < 0:
        return None
    return int(axis.dim_value)
