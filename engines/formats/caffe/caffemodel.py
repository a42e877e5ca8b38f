"""Reads a caffemodel: the weights of each layer, as views into the mapped file."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.formats.caffe.failures import refused
from engines.graph.wire import LENGTH_DELIMITED, Field, MalformedMessageError, fields, read_varint
from engines.spec.sniff import sniff
from engines.tensors import Array

_NET_LAYER, _NET_LAYER_V1 = 100, 2
_NAME, _BLOBS = 1, 7
_V1_V0, _V1_NAME, _V1_BLOBS = 1, 4, 6
_V0_NAME, _V0_BLOBS = 1, 50
_SHAPE, _DATA, _DOUBLE_DATA = 7, 5, 8
_LEGACY = (1, 2, 3, 4)
_MAX_AXES = 32


@dataclass(frozen=True)
class Blob:
    """Weights of a layer.

    Attributes:
        shape: Extents; four of them in files of Caffe's first years, where a vector is 1×1×1×n.
        values: float32 or float64, flat.
    """

    shape: tuple[int, ...]
    values: Array

    def shaped(self, shape: tuple[int, ...]) -> Array:
        """Return the values as float32 in a shape of as many elements."""
        return np.ascontiguousarray(self.values, dtype=np.float32).reshape(shape)


def read_caffemodel(path: Path) -> dict[str, tuple[Blob, ...]]:
    """Return the weights of a file by the name of their layer; layers without weights are left out.

    Raises:
        EngineFailure: INVALID_MODEL for a file that is no caffemodel or is cut off, or shapes that contradict values.
    """
    if path.stat().st_size == 0:
        raise refused(f"'{path.name}' is empty.")
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    try:
        layers = list(_layers(data, path.name))
    except (MalformedMessageError, UnicodeDecodeError, ValueError) as error:
        raise refused(f"'{path.name}' is no whole caffemodel: {error}; it looks like {sniff(path)}.") from error
    if not layers:
        raise refused(
            f"'{path.name}' holds no layer; it looks like {sniff(path)}.",
            "Upload the .caffemodel that training wrote; a .solverstate or a mean file is none.",
        )
    return {name: blobs for name, blobs in layers if blobs}


def _layers(data: memoryview, file: str) -> Iterator[tuple[str, tuple[Blob, ...]]]:
    for field in fields(data):
        if field.kind != LENGTH_DELIMITED:
            continue
        if field.number == _NET_LAYER:
            yield _layer(field, _NAME, _BLOBS, file)
        elif field.number == _NET_LAYER_V1:
            old = next((inner for inner in fields(_bytes(field)) if inner.number == _V1_V0), None)
            yield _layer(old, _V0_NAME, _V0_BLOBS, file) if old else _layer(field, _V1_NAME, _V1_BLOBS, file)


def _layer(field: Field, name_field: int, blobs_field: int, file: str) -> tuple[str, tuple[Blob, ...]]:
    name, blobs = "", []
    for inner in fields(_bytes(field)):
        if inner.number == name_field:
            name = str(_bytes(inner), "utf-8")
        elif inner.number == blobs_field:
            blobs.append(_bytes(inner))
    return name, tuple(_blob(blob, name, file) for blob in blobs)


def _blob(data: memoryview, layer: str, file: str) -> Blob:
    shape: tuple[int, ...] | None = None
    legacy: dict[int, int] = {}
    parts: list[Array] = []
    for field in fields(data):
        if field.number == _SHAPE:
            shape = tuple(_numbers(_bytes(field)))
        elif field.number in _LEGACY and isinstance(field.value, int):
            legacy[field.number] = field.value
        elif field.number in {_DATA, _DOUBLE_DATA}:  # packed, or one value at a time
            kind = "<f4" if field.number == _DATA else "<f8"
            parts.append(np.frombuffer(_bytes(field), dtype=kind))
    if shape is None:
        shape = tuple(legacy.get(number, 0) for number in _LEGACY) if legacy else ()
    values = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0, np.float32)])
    if len(shape) > _MAX_AXES or min(shape, default=1) < 0 or math.prod(shape) != values.size:
        raise refused(f"'{file}' holds {values.size} values for weights of '{layer}', whose shape is {list(shape)}.")
    return Blob(shape, values)


def _numbers(data: memoryview) -> Iterator[int]:
    for field in fields(data):
        if isinstance(field.value, int):
            yield field.value
            continue
        position = 0
        while position < len(field.value):
            number, position = read_varint(field.value, position)
            yield number


def _bytes(field: Field) -> memoryview:
    if isinstance(field.value, int):
        raise MalformedMessageError(f"field {field.number} should hold bytes")
    return field.value


def parameter_count(weights: Mapping[str, tuple[Blob, ...]]) -> int:
    """Return the number of values of all weights."""
    return sum(blob.values.size for blobs in weights.values() for blob in blobs)
