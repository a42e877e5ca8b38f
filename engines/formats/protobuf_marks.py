"""Tells the protobuf files of models apart by their first fields, without their schemas.

Wire format: https://protobuf.dev/programming-guides/encoding/ — a tag is `field << 3 | wire type`.
"""

from __future__ import annotations

import re
from pathlib import Path

from engines.graph.wire import MalformedMessageError, read_varint

_HEAD = 65536
_NODE = 0x0A
_NAME, _OP = 0x0A, 0x12
_NEWEST_SCHEMA = 1
_TEXT = rb"\s*(#[^\n]*\n\s*)*"
_GRAPH_TEXT = re.compile(_TEXT + rb"(node|library|versions)\s*:?\s*\{")
_SAVED_MODEL_TEXT = re.compile(_TEXT + rb"(saved_model_schema_version\s*:|meta_graphs\s*:?\s*\{)")


def is_onnx(path: Path) -> bool:
    """Return whether a file begins as a ModelProto: `ir_version` of 2 or more, as no SavedModel has."""
    head = _head(path)
    return len(head) > 3 and head[0] == 0x08 and _NEWEST_SCHEMA < head[1] < 32


def is_saved_model(path: Path) -> bool:
    """Return whether a file begins as a SavedModel: `saved_model_schema_version` 1, then a MetaGraphDef."""
    head = _head(path)
    return len(head) > 3 and head[0] == 0x08 and head[1] <= _NEWEST_SCHEMA and head[2] == 0x12


def is_frozen_graph(path: Path) -> bool:
    """Return whether a file begins as a GraphDef: a node with a name and then an operator, or the text of one."""
    head = _head(path)
    if _GRAPH_TEXT.match(head):
        return True
    inside = _field(head, 0, _NODE)
    name = _field(head, inside[0], _NAME) if inside else None
    operator = _field(head, name[1], _OP) if name else None
    if name is None or operator is None:
        return False
    return _is_word(head[slice(*name)]) and _is_word(head[slice(*operator)])


def is_text(path: Path) -> bool:
    """Return whether a file begins as the text of a GraphDef or SavedModel (.pbtxt)."""
    head = _head(path)
    return bool(_GRAPH_TEXT.match(head) or _SAVED_MODEL_TEXT.match(head))


def _field(data: bytes, position: int, tag: int) -> tuple[int, int] | None:
    """Return where the value of a length-delimited field begins and ends; None if there is another field."""
    if position >= len(data) or data[position] != tag:
        return None
    try:
        length, start = read_varint(data, position + 1)
    except MalformedMessageError:
        return None
    return start, start + length


def _is_word(data: bytes) -> bool:
    return 0 < len(data) < 1024 and data.isascii() and data.decode("ascii").isprintable()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)
