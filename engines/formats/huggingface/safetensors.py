"""Reads the header of a safetensors file: its tensors, not their elements.

Format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from engines.failures import EngineFailure, FailureReason
from engines.formats.described_tensors import TensorInfo
from engines.spec.sniff import sniff

_MAX_HEADER_BYTES = 100_000_000
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


def read_safetensors(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors of a file by name.

    Raises:
        EngineFailure: INVALID_MODEL for another, a truncated or an empty file.
    """
    size = path.stat().st_size
    if not size:
        _refuse(path, "it is empty; its weights did not arrive")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER_BYTES, size):
                _refuse(path, f"it looks like {sniff(path)}")
            header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        if 8 + length + end > size:
            _refuse(path, f"it is truncated: {size} bytes are there, {8 + length + end} belong there")
        return {name: _tensor(path, name, entry) for name, entry in entries.items()}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        _refuse(path, f"its header is damaged ({str(error)[:200]}); it looks like {sniff(path)}")


def _tensor(path: Path, name: str, entry: dict[str, Any]) -> TensorInfo:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        _refuse(path, f"its tensor '{name}' has the unknown element type '{entry['dtype']}'")
    tensor = TensorInfo(dtype, tuple(int(extent) for extent in entry["shape"]))
    start, end = entry["data_offsets"]
    if end - start != tensor.bytes or start < 0 or min(tensor.shape, default=0) < 0:
        _refuse(path, f"its tensor '{name}' of {tensor.bytes} bytes is in {end - start}")
    return tensor


def _refuse(path: Path, why: str) -> NoReturn:
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"'{path.name}' is not a usable safetensors file: {why}.",
        suggested_fix="Upload the file as it was saved, whole.",
    )
