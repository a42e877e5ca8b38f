"""Describes ONNX files without their weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.described_tensors import most_frequent
from engines.graph.hygiene import external_files, load_model
from engines.graph.interface import dtype_name, signature_of
from engines.graph.repair import defaults, type_outputs
from engines.graph.soundness import refuse_broken
from engines.graph.walk import all_nodes, all_tensors

if TYPE_CHECKING:
    import onnx

_BITS = {
    "bool": 8,
    "float32": 32,
    "float64": 64,
    "complex64": 64,
    "complex128": 128,
    "bfloat16": 16,
    "float8e4m3fn": 8,
    "float8e4m3fnuz": 8,
    "float8e5m2": 8,
    "float8e5m2fnuz": 8,
    "float8e8m0": 8,
    "float4e2m1": 4,
}
WITH_DEFAULT = "inputs_with_default"
"""Key of the metadata that names inputs which callers may leave out."""
_DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})


def describe_onnx(path: Path, shown_path: str) -> dict[str, Any]:
    """Return the `GraphDescription` of an ONNX file; weights in other files are counted, not read.

    Args:
        path: The file.
        shown_path: Its path in the model version.

    Raises:
        EngineFailure: INVALID_MODEL or UNSAFE_MODEL, as `load_model` and `refuse_broken`.
    """
    model = load_model(path, weights=False)
    try:
        refuse_broken(model)
        type_outputs(model)
        operators = Counter(_operator(node) for node in all_nodes(model))
        weights = [(_elements(tensor), _bits(tensor)) for tensor in all_tensors(model)]
    except (ValueError, RecursionError) as error:
        raise EngineFailure(
            FailureReason.INVALID_MODEL, f"'{path.name}' is not a usable ONNX model: {error}."
        ) from error
    metadata = _metadata(model)
    if beside := external_files(model, path):
        metadata["external_data"] = ", ".join(beside)
    if optional := defaults(model):
        metadata[WITH_DEFAULT] = ", ".join(optional)
    return {
        "path": shown_path,
        "component": Path(shown_path).name,
        "signature": signature_of(model).to_dict(),
        "operators": most_frequent(operators),
        "parameter_count": sum(elements for elements, _ in weights),
        "parameter_bytes": sum((elements * bits + 7) // 8 for elements, bits in weights),
        "metadata": metadata,
    }


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    metadata = {
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "ir_version": str(model.ir_version),
        "opset": ", ".join(f"{domain} {version}" for domain, version in sorted(opsets.items())),
    }
    if model.functions:
        metadata["functions"] = ", ".join(sorted(function.name for function in model.functions))
    return {key: value[:1000] for key, value in metadata.items() if value}


def _operator(node: Any) -> str:
    return str(node.op_type) if node.domain in _DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}"


def _elements(tensor: Any) -> int:
    count = 1
    for extent in tensor.dims:
        if extent < 0:
            raise ValueError(f"the tensor '{tensor.name}' has the extent {extent}")
        count *= extent
    return count


def _bits(tensor: Any) -> int:
    name = dtype_name(tensor.data_type)
    digits = "".join(char for char in name if char.isdigit())
    return _BITS.get(name) or int(digits or 0)
