"""Descriptions of tensors and operators, the same in every format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.tensors.signature import DTYPES, TensorSpec

MAX_LISTED = 10_000
"""Most tensors that a description lists."""
_MAX_BYTES = 1 << 50


ITEM_BYTES = {
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
}
"""Bytes per element, by element type."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of a checkpoint, without its elements."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of all elements."""
        return self.elements * ITEM_BYTES[self.dtype]


def describe_tensors(tensors: Mapping[str, TensorInfo], shown_path: str) -> dict[str, Any]:
    """Return a `GraphDescription` of tensors alone: how many elements and bytes, and the list of them.

    Args:
        tensors: The tensors, by name.
        shown_path: Path of their file in the model version.

    Raises:
        EngineFailure: INVALID_MODEL for a shape that no tensor can have.
    """
    listed = list(tensors.items())[:MAX_LISTED]
    _check_extents(tensors)
    return {
        "path": shown_path,
        "component": Path(shown_path).name,
        "parameter_count": sum(tensor.elements for tensor in tensors.values()),
        "parameter_bytes": sum(tensor.bytes for tensor in tensors.values()),
        "parameters": [_spec(name, tensor).to_dict() for name, tensor in listed if tensor.dtype in DTYPES],
    }


def most_frequent(operators: Counter[str]) -> list[dict[str, Any]]:
    """Return operators with their counts, the most frequent first."""
    ordered = sorted(operators.items(), key=lambda entry: (-entry[1], entry[0]))
    return [{"operator": name, "count": count} for name, count in ordered]


def _check_extents(tensors: Mapping[str, TensorInfo]) -> None:
    """Refuse what a file may say of its tensors, and no machine can hold."""
    for name, tensor in tensors.items():
        if min(tensor.shape, default=0) < 0 or tensor.bytes > _MAX_BYTES:
            raise _impossible(f"The tensor '{name}' cannot have the shape that the file says: {list(tensor.shape)}.")
    if sum(tensor.bytes for tensor in tensors.values()) > _MAX_BYTES:
        raise _impossible(f"The {len(tensors)} tensors are said to take more than {_MAX_BYTES >> 50} PiB.")


def _spec(name: str, tensor: TensorInfo) -> TensorSpec:
    if 0 in tensor.shape:
        return TensorSpec.unknown(name, tensor.dtype)
    return TensorSpec(name, tensor.dtype, tensor.shape, tensor.shape, tensor.shape)


def _impossible(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_MODEL, message, suggested_fix="Upload the file as it was saved, whole.")
