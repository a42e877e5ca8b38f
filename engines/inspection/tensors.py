"""What descriptions of models say of their tensors and operators, whatever the format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.inspection.restricted import TensorInfo
from engines.signature import DTYPES, TensorSpec

MAX_LISTED = 10_000
"""Most tensors that a description lists."""


def describe_tensors(tensors: Mapping[str, TensorInfo], shown_path: str) -> dict[str, Any]:
    """Return a `GraphDescription` of tensors alone: how many elements and bytes, and the list of them.

    Args:
        tensors: The tensors, by name.
        shown_path: Path of their file in the model version.
    """
    listed = list(tensors.items())[:MAX_LISTED]
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


def _spec(name: str, tensor: TensorInfo) -> TensorSpec:
    if 0 in tensor.shape:
        return TensorSpec.unknown(name, tensor.dtype)
    return TensorSpec(name, tensor.dtype, tensor.shape, tensor.shape, tensor.shape)
