"""The products of a .tflite file, and whether their weights are integers."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_WEIGHTS = {
    "CONV_2D": 1,
    "CONV_3D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 1,
    "BATCH_MATMUL": 1,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 1,
    "EMBEDDING_LOOKUP": 1,
}
"""Position of the weights among the inputs of each operator that multiplies, or looks up."""
_INTEGERS = ("INT8", "UINT8", "INT4", "INT16")


@dataclass(frozen=True)
class Product:
    """A product of a file.

    Attributes:
        weights: Name of the tensor of its weights.
        size: Elements of it; 0 if it is computed, and no constant.
        quantized: Whether it is of integers.
    """

    weights: str
    size: int
    quantized: bool


def products_of(content: bytes) -> list[Product]:
    """Return the products of a file in their order, those of branches and loops included."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    return [found for graph in model.subgraphs for found in _products(schema, model, graph)]


def _products(schema: Any, model: Any, graph: Any) -> Iterator[Product]:
    names, types = _words(schema.BuiltinOperator), _words(schema.TensorType)
    kinds = [names.get(model.operatorCodes[operator.opcodeIndex].builtinCode, "") for operator in graph.operators]
    widened = {
        operator.outputs[0]: operator.inputs[0]
        for operator, kind in zip(graph.operators, kinds, strict=True)
        if kind == "DEQUANTIZE"
    }
    for operator, kind in zip(graph.operators, kinds, strict=True):
        if kind not in _WEIGHTS:
            continue
        index = operator.inputs[_WEIGHTS[kind]]
        tensor = graph.tensors[widened.get(index, index)]
        data = model.buffers[tensor.buffer].data
        constant = data is not None and len(data) > 0
        size = math.prod(tensor.shape) if constant else 0
        yield Product(tensor.name.decode(), size, types[tensor.type] in _INTEGERS)


@functools.cache
def _words(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
