"""What descriptions of models say of their tensors and operators, whatever the format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.pytorch.restricted import TensorInfo
from engines.tensors.signature import DTYPES, TensorSpec

MAX_LISTED = 10_000
"""Most tensors that a description lists."""
_MAX_BYTES = 1 << 50


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
