"""What is read of TensorFlow's messages, and its element types.

Source: tensorflow/core/framework/{graph,node_def,function,types}.proto and
tensorflow/core/protobuf/{saved_model,meta_graph}.proto.
"""

from __future__ import annotations

from engines.graph.wire import Schema

DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
"""Element types of TensorFlow by their numbers, those that tensors of a package may have."""

_WORDS = {"FLOAT": 1, "DOUBLE": 2, "HALF": 19, "BFLOAT16": 14} | {name.upper(): key for key, name in DTYPES.items()}

_SHAPE = Schema({2: "dim", 3: "unknown_rank"}, {"dim": Schema({1: "size"})})
_TENSOR = Schema({1: "dtype", 2: "tensor_shape"}, {"tensor_shape": _SHAPE})
_ATTRIBUTE = Schema({6: "type", 7: "shape", 8: "tensor"}, {"shape": _SHAPE, "tensor": _TENSOR})
_NODE = Schema(
    {1: "name", 2: "op", 3: "input", 5: "attr"}, {"attr": Schema({1: "key", 2: "value"}, {"value": _ATTRIBUTE})}
)
_FUNCTION = Schema({1: "signature", 3: "node_def"}, {"signature": Schema({1: "name"}), "node_def": _NODE})
GRAPH = Schema({1: "node", 2: "library"}, {"node": _NODE, "library": Schema({1: "function"}, {"function": _FUNCTION})})
_INFO = Schema({1: "name", 2: "dtype", 3: "tensor_shape"}, {"tensor_shape": _SHAPE})
_NAMED_INFO = Schema({1: "key", 2: "value"}, {"value": _INFO})
_SIGNATURE = Schema({1: "inputs", 2: "outputs"}, {"inputs": _NAMED_INFO, "outputs": _NAMED_INFO})
_META = Schema(
    {1: "meta_info_def", 2: "graph_def", 5: "signature_def"},
    {
        "meta_info_def": Schema({4: "tags", 5: "tensorflow_version"}),
        "graph_def": GRAPH,
        "signature_def": Schema({1: "key", 2: "value"}, {"value": _SIGNATURE}),
    },
)
SAVED_MODEL = Schema({1: "saved_model_schema_version", 2: "meta_graphs"}, {"meta_graphs": _META})


def dtype_name(value: int | str) -> str:
    """Return the name of an element type of TensorFlow, from its number or its word (`DT_FLOAT`); empty for others."""
    number = _WORDS.get(value.removeprefix("DT_"), 0) if isinstance(value, str) else value
    return DTYPES.get(number, "")
