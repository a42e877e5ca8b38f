"""Writes TensorFlow's messages as bytes, by the schema that reads them: graphs without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.formats.tensorflow.schema import GRAPH, SAVED_MODEL
from engines.graph.wire import Message, Schema


def encode(message: Message, schema: Schema) -> bytes:
    numbers = {name: number for number, name in schema.names.items()}
    parts = []
    for name, values in message.items():
        for value in values:
            inner = schema.messages.get(name)
            if isinstance(value, int):
                parts.append(_varint(numbers[name] << 3) + _varint(value))
                continue
            data = encode(value, inner) if inner else value.encode()
            parts.append(_varint(numbers[name] << 3 | 2) + _varint(len(data)) + data)
    return b"".join(parts)


def node(name: str, op: str, inputs: Sequence[str] = (), shape: Sequence[int] | None = None) -> Message:
    """A node; `shape` makes it state float32 and these extents."""
    message: Message = {"name": [name], "op": [op], "input": list(inputs)}
    if shape is not None:
        stated = {"dim": [{"size": [extent]} for extent in shape]}
        dtype: Message = {"key": ["dtype"], "value": [{"type": [1]}]}
        message["attr"] = [dtype, {"key": ["shape"], "value": [{"shape": [stated]}]}]
    return message


def const(name: str, shape: Sequence[int]) -> Message:
    tensor = {"dtype": [1], "tensor_shape": [{"dim": [{"size": [extent]} for extent in shape]}]}
    return {"name": [name], "op": ["Const"], "attr": [{"key": ["value"], "value": [{"tensor": [tensor]}]}]}


def write_graph(path: Path, *nodes: Message) -> Path:
    path.write_bytes(encode({"node": list(nodes)}, GRAPH))
    return path


def write_saved_model(folder: Path, *nodes: Message, signatures: Sequence[str] = (), function: str = "") -> Path:
    """A SavedModel whose nodes lie in the graph, or in a function of this name."""
    folder.mkdir(parents=True, exist_ok=True)
    graph: dict[str, Any] = {"node": list(nodes)}
    if function:
        body = {"signature": [{"name": [function]}], "node_def": list(nodes)}
        graph = {"node": [node("call", "StatefulPartitionedCall")], "library": [{"function": [body]}]}
    info = {"name": ["x:0"], "dtype": [1], "tensor_shape": [{"dim": [{"size": [-1]}, {"size": [4]}]}]}
    takes = {"inputs": [{"key": ["x"], "value": [info]}], "outputs": [{"key": ["y"], "value": [info]}]}
    meta = {
        "meta_info_def": [{"tags": ["serve"], "tensorflow_version": ["2.21.0"]}],
        "graph_def": [graph],
        "signature_def": [{"key": [key], "value": [takes]} for key in signatures],
    }
    message: Message = {"saved_model_schema_version": [1], "meta_graphs": [meta]}
    (folder / "saved_model.pb").write_bytes(encode(message, SAVED_MODEL))
    return folder


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
