"""Reads an ONNX file without its weights, so that memory depends on the graph and not on the size of the file.

The file is mapped, and its messages are walked with the descriptors of the `onnx` package. Long values outside the
structure are skipped, and their pages never read: the elements of tensors, and long lists of attributes.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.graph.wire import LENGTH_DELIMITED, fields, varint_bytes

if TYPE_CHECKING:
    import onnx

_SKIPPED_FROM = 1024
"""Size in bytes from which contents are skipped; axes, shapes and scales are shorter."""

_CONTENTS = {
    "TensorProto": frozenset(
        {"raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"}
    ),
    "AttributeProto": frozenset({"floats", "ints"}),
}
_WHOLE = frozenset({"SparseTensorProto"})
"""Messages whose contents the checker compares with each other."""


def read_light(path: Path) -> onnx.ModelProto:
    """Return the model of an ONNX file without its weights.

    A tensor whose elements were skipped states external data in the file itself, without an offset.

    Raises:
        ValueError: The file is no whole message, or protobuf does not take it.
        google.protobuf.message.DecodeError: as above.
    """
    import onnx

    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    light = b"".join(_light(memoryview(data), onnx.ModelProto.DESCRIPTOR, _elsewhere(path.name)))
    return onnx.ModelProto.FromString(light)


def _light(message: memoryview, descriptor: Any, elsewhere: bytes) -> Iterator[bytes]:
    inner, skipped = _plan(descriptor)
    moved = False
    for field in fields(message):
        if isinstance(field.value, int) or len(field.value) < _SKIPPED_FROM:
            yield bytes(field.whole)
        elif field.number in skipped:
            moved = True
        elif field.number in inner:
            value = b"".join(_light(field.value, inner[field.number], elsewhere))
            yield varint_bytes(field.number << 3 | LENGTH_DELIMITED) + varint_bytes(len(value)) + value
        else:
            yield bytes(field.whole)
    if moved and descriptor.name == "TensorProto":
        yield elsewhere


@functools.cache
def _plan(descriptor: Any) -> tuple[dict[int, Any], frozenset[int]]:
    """Return the submessages that may hold weights, by field number, and the fields to skip."""
    inner = {
        field.number: field.message_type
        for field in descriptor.fields
        if field.message_type is not None and field.message_type.name not in _WHOLE
    }
    contents = _CONTENTS.get(descriptor.name, frozenset())
    return inner, frozenset(field.number for field in descriptor.fields if field.name in contents)


def _elsewhere(name: str) -> bytes:
    """Return the fields of a tensor that locate its elements."""
    import onnx

    tensor = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=name)
    return tensor.SerializeToString()
