"""Reads TensorFlow's graphs without TensorFlow: GraphDef and SavedModel, binary and text."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from engines.failures import EngineFailure, FailureReason
from engines.formats.protobuf_marks import is_text
from engines.formats.tensorflow.schema import GRAPH, SAVED_MODEL, dtype_name
from engines.graph.wire import Message, Schema, read_bytes, read_text
from engines.spec.sniff import sniff
from engines.tensors.shapes import OPEN_EXTENT
from engines.tensors.signature import TensorSpec

_UNSAFE = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile"})
"""Operators that run Python of the process, or read and write files of the machine."""
_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph.

    Attributes:
        name: Its name.
        op: Its operator.
        inputs: Its inputs: `node`, `node:1`, or `^node` for one that only has to run before.
        dtype: Element type that it states, as NumPy writes it: of a placeholder, variable or constant; else empty.
        shape: Extents that it states, None for an open one; None where it states none.
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
        """Yield every node with the function that it lies in, empty for the graph itself."""
        yield from (("", node) for node in self.nodes)
        yield from ((name, node) for name, nodes in self.functions.items() for node in nodes)

    @property
    def variables(self) -> list[str]:
        """Names of the nodes that hold variables."""
        return [node.name for _, node in self.all_nodes() if node.op in _VARIABLES]


@dataclass(frozen=True)
class SavedModel:
    """What the file of a SavedModel says.

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
    message = _read(path, GRAPH, "TensorFlow graph", "node")
    return _graph(message)


def parse_saved_model(path: Path) -> SavedModel:
    """Return what a SavedModel's `saved_model.pb` or `saved_model.pbtxt` says.

    Raises:
        EngineFailure: INVALID_MODEL for a damaged or another file, with what it looks like.
    """
    metas = _read(path, SAVED_MODEL, "TensorFlow SavedModel", "meta_graphs")["meta_graphs"]
    meta = next((each for each in metas if "serve" in _one(each, "meta_info_def", {}).get("tags", [])), metas[0])
    info = _one(meta, "meta_info_def", {})
    signatures = {
        str(_one(entry, "key", "")): (
            _specs(_one(entry, "value", {}).get("inputs", [])),
            _specs(_one(entry, "value", {}).get("outputs", [])),
        )
        for entry in meta.get("signature_def", [])
    }
    shown = {key: value for key, value in sorted(signatures.items()) if not key.startswith("__")}
    return SavedModel(_graph(_one(meta, "graph_def", {})), shown, str(_one(info, "tensorflow_version", "")))


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


def _read(path: Path, schema: Schema, what: str, needed: str) -> Message:
    if not path.stat().st_size:
        _refuse(path, what, "it is empty")
    try:
        if is_text(path):
            message = read_text(path.read_text(encoding="utf-8"), schema)
        else:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            message = read_bytes(memoryview(data), schema)
    except ValueError as error:
        looks = sniff(path)
        known = is_text(path) or looks.startswith(("a protobuf", "a TensorFlow", "an ONNX", "nothing"))
        _refuse(path, what, f"it is damaged or truncated ({error})" if known else f"it looks like {looks}")
    if not message.get(needed) or (needed == "node" and not all("op" in node for node in message["node"])):
        _refuse(path, what, f"it holds no graph; it looks like {sniff(path)}")
    return message


def _refuse(path: Path, what: str, why: str) -> NoReturn:
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"'{path.name}' is no {what} that can be used: {why}.",
        suggested_fix="Upload the file that TensorFlow wrote, whole.",
    )


def _graph(message: Message) -> Graph:
    functions = {
        str(_one(_one(function, "signature", {}), "name", "")): _nodes(function.get("node_def", []))
        for library in message.get("library", [])
        for function in library.get("function", [])
    }
    return Graph(_nodes(message.get("node", [])), functions)


def _nodes(messages: Iterable[Message]) -> tuple[Node, ...]:
    return tuple(_node(message) for message in messages)


def _node(message: Message) -> Node:
    attributes = {_one(entry, "key", ""): _one(entry, "value", {}) for entry in message.get("attr", [])}
    tensor = _one(attributes.get("value", {}), "tensor", {})
    dtype = _one(tensor, "dtype", _one(attributes.get("dtype", {}), "type", 0))
    shape = _one(tensor, "tensor_shape", _one(attributes.get("shape", {}), "shape", None))
    return Node(
        str(_one(message, "name", "")),
        str(_one(message, "op", "")),
        tuple(map(str, message.get("input", []))),
        dtype_name(dtype),
        _shape(shape),
    )


def _shape(message: Message | None) -> tuple[int | None, ...] | None:
    if message is None or _one(message, "unknown_rank", 0) in {1, "true"}:
        return None
    sizes = [_one(axis, "size", 0) for axis in message.get("dim", [])]
    return tuple(size if isinstance(size, int) and size >= 0 else None for size in sizes)


def tensor_spec(name: str, dtype: str, shape: Sequence[int | None] | None) -> TensorSpec:
    """Return the spec of a tensor as TensorFlow states it: an open extent is 1 to `OPEN_EXTENT`."""
    if shape is None or 0 in shape:
        return TensorSpec.unknown(name, dtype)
    least = tuple(extent or 1 for extent in shape)
    return TensorSpec(name, dtype, least, least, tuple(extent or OPEN_EXTENT for extent in shape))


def _specs(entries: Iterable[Message]) -> tuple[TensorSpec, ...]:
    """Return the specs of a signature, by name; those of an element type that no package has are left out."""
    found = []
    for entry in sorted(entries, key=lambda each: str(_one(each, "key", ""))):
        info = _one(entry, "value", {})
        dtype = dtype_name(_one(info, "dtype", 0))
        if dtype:
            found.append(tensor_spec(str(_one(entry, "key", "")), dtype, _shape(_one(info, "tensor_shape", None))))
    return tuple(found)


def _one(message: Message, name: str, default: Any) -> Any:
    """Return the value of a field that is there once: the last, as protobuf reads it."""
    values = message.get(name)
    return values[-1] if values else default
