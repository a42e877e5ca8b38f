"""Reads TensorFlow's graphs without TensorFlow: GraphDef and SavedModel, binary and text."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from engines.failures import EngineFailure, FailureReason
from engines.formats.protobuf_marks import is_text
from engines.formats.tensorflow import messages_pb2 as messages
from engines.graph.wire import LENGTH_DELIMITED, fields, varint_bytes
from engines.spec.sniff import sniff
from engines.tensors.shapes import OPEN_EXTENT
from engines.tensors.signature import TensorSpec

_UNSAFE = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile"})
"""Operators that run Python of the process, or read and write files of the machine."""
_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
_DTYPES = {
    messages.DT_FLOAT: "float32",
    messages.DT_DOUBLE: "float64",
    messages.DT_INT32: "int32",
    messages.DT_UINT8: "uint8",
    messages.DT_INT16: "int16",
    messages.DT_INT8: "int8",
    messages.DT_STRING: "string",
    messages.DT_INT64: "int64",
    messages.DT_BOOL: "bool",
    messages.DT_BFLOAT16: "bfloat16",
    messages.DT_UINT16: "uint16",
    messages.DT_HALF: "float16",
    messages.DT_UINT32: "uint32",
    messages.DT_UINT64: "uint64",
}
"""Element types that tensors of a package may have, as NumPy writes them."""

_GRAPH, _SAVED_MODEL = "TensorFlow graph", "TensorFlow SavedModel"
_SHORT = 1024
"""Bytes below which a message is parsed as it is: it holds no weights."""
_Message = TypeVar("_Message", bound=Message)


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph.

    Attributes:
        name: Its name.
        op: Its operator.
        inputs: Its inputs: `node`, `node:1`, or `^node` for one that only has to run before.
        dtype: Element type that it states, as NumPy writes it: of a placeholder, variable or constant; else empty.
        shape: Extents that it states, None for an open one; None instead of all if it states none.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def elements(self) -> int:
        """Elements of the weight that the node holds; 0 for an open shape, and for single numbers such as axes."""
        if self.shape is None or not (self.op in _VARIABLES or (self.op == "Const" and self.shape)):
            return 0
        return math.prod(extent or 0 for extent in self.shape)


@dataclass(frozen=True)
class Graph:
    """A graph and the functions that it calls."""

    nodes: tuple[Node, ...]
    functions: dict[str, tuple[Node, ...]]

    def all_nodes(self) -> Iterator[tuple[str, Node]]:
        """Yield every node with the function that it is in, empty for the graph itself."""
        yield from (("", node) for node in self.nodes)
        yield from ((name, node) for name, nodes in self.functions.items() for node in nodes)

    @property
    def variables(self) -> list[str]:
        """Names of the nodes that hold variables."""
        return [node.name for _, node in self.all_nodes() if node.op in _VARIABLES]


@dataclass(frozen=True)
class SavedModelContent:
    """The contents of a SavedModel's file.

    Attributes:
        graph: The graph of the first MetaGraphDef for serving.
        signatures: Inputs and outputs by the name of the signature.
        version: The TensorFlow that wrote it.
    """

    graph: Graph
    signatures: dict[str, tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]]
    version: str


def parse_graph(path: Path) -> Graph:
    """Return the graph of a frozen graph's file, binary or text.

    Raises:
        EngineFailure: INVALID_MODEL for a damaged or another file, with what it looks like.
    """
    message = _parse(path, messages.GraphDef(), _GRAPH)
    if not message.node or not all(node.op for node in message.node):
        _refuse(path, _GRAPH, f"it holds no graph; it looks like {sniff(path)}")
    return _graph(message)


def parse_saved_model(path: Path) -> SavedModelContent:
    """Return what a SavedModel's `saved_model.pb` or `saved_model.pbtxt` says.

    Raises:
        EngineFailure: INVALID_MODEL for a damaged or another file, with what it looks like.
    """
    metas = _parse(path, messages.SavedModel(), _SAVED_MODEL).meta_graphs
    if not metas:
        _refuse(path, _SAVED_MODEL, f"it holds no graph; it looks like {sniff(path)}")
    meta = next((each for each in metas if "serve" in each.meta_info_def.tags), metas[0])
    signatures = {
        key: (_specs(entry.inputs), _specs(entry.outputs))
        for key, entry in sorted(meta.signature_def.items())
        if not key.startswith("__")
    }
    return SavedModelContent(_graph(meta.graph_def), signatures, meta.meta_info_def.tensorflow_version)


def check_safe(graph: Graph, path: Path) -> None:
    """Refuse graphs that reach out of themselves, before anything of them is run.

    Raises:
        EngineFailure: UNSAFE_MODEL naming the first such node.
    """
    for function, node in graph.all_nodes():
        if node.op in _UNSAFE:
            where = f" of the function '{function}'" if function else ""
            files = node.op.endswith("File")
            does = "reads or writes files of the machine" if files else "calls Python that is not in the file"
            raise EngineFailure(
                FailureReason.UNSAFE_MODEL,
                f"The node '{node.name}'{where} in '{path.name}' is a {node.op}, which {does}; nothing was run.",
                node=node.name,
                operator=node.op,
                suggested_fix="Save the model without file access."
                if files
                else "Write what tf.py_function calls with operators of TensorFlow, and save the model again.",
            )


def _parse(path: Path, message: _Message, what: str) -> _Message:
    if not path.stat().st_size:
        _refuse(path, what, "it is empty")
    try:
        if is_text(path):
            text_format.Parse(path.read_text(encoding="utf-8"), message, allow_unknown_field=True)
        else:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            message.ParseFromString(b"".join(_declared(memoryview(data), message.DESCRIPTOR)))
    except (ValueError, RecursionError, DecodeError, text_format.ParseError) as error:
        looks = sniff(path)
        known = is_text(path) or looks.startswith(("a protobuf", "a TensorFlow", "an ONNX", "nothing"))
        _refuse(path, what, f"it is damaged or truncated ({str(error)[:300]})" if known else f"it looks like {looks}")
    return message


def _declared(message: memoryview, descriptor: Any) -> Iterator[bytes]:
    """Yield the bytes of the fields that messages.proto declares.

    protobuf keeps a copy of each field that it does not know, and those of a graph are its weights: gigabytes. Of a
    mapped file, skipped fields are not even read.
    """
    for field in fields(message):
        declared = descriptor.fields_by_number.get(field.number)
        if declared is None:
            continue
        if isinstance(field.value, int) or declared.message_type is None or len(field.value) < _SHORT:
            yield bytes(field.whole)
        else:
            value = b"".join(_declared(field.value, declared.message_type))
            yield varint_bytes(field.number << 3 | LENGTH_DELIMITED) + varint_bytes(len(value)) + value


def _refuse(path: Path, what: str, why: str) -> NoReturn:
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"'{path.name}' is not a usable {what}: {why}.",
        suggested_fix="Upload the file that TensorFlow wrote, whole.",
    )


def _graph(message: messages.GraphDef) -> Graph:
    functions = {each.signature.name: tuple(map(_node, each.node_def)) for each in message.library.function}
    return Graph(tuple(map(_node, message.node)), functions)


def _node(message: messages.NodeDef) -> Node:
    value, dtype, shape = (message.attr.get(key, messages.AttrValue()) for key in ("value", "dtype", "shape"))
    stated = value.tensor.tensor_shape if value.tensor.HasField("tensor_shape") else None
    if stated is None and shape.HasField("shape"):
        stated = shape.shape
    number = value.tensor.dtype or dtype.type
    return Node(message.name, message.op, tuple(message.input), _DTYPES.get(number, ""), _shape(stated))


def _shape(message: messages.TensorShapeProto | None) -> tuple[int | None, ...] | None:
    if message is None or message.unknown_rank:
        return None
    return tuple(axis.size if axis.size >= 0 else None for axis in message.dim)


def tensor_spec(name: str, dtype: str, shape: Sequence[int | None] | None) -> TensorSpec:
    """Return the spec of a tensor as TensorFlow states it: an open extent is 1 to `OPEN_EXTENT`."""
    if shape is None or 0 in shape:
        return TensorSpec.unknown(name, dtype)
    least = tuple(extent or 1 for extent in shape)
    return TensorSpec(name, dtype, least, least, tuple(extent or OPEN_EXTENT for extent in shape))


def _specs(entries: Mapping[str, messages.TensorInfo]) -> tuple[TensorSpec, ...]:
    """Return the specs of a signature, by name; those of an element type that no package has are left out."""
    return tuple(
        tensor_spec(name, dtype, _shape(info.tensor_shape if info.HasField("tensor_shape") else None))
        for name, info in sorted(entries.items())
        if (dtype := _DTYPES.get(info.dtype, ""))
    )
