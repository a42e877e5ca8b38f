"""Describes torch.export programs by their zip entries, without torch."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.formats.described_tensors import TensorInfo, describe_tensors, most_frequent
from engines.formats.torch_files.archives import opened
from engines.formats.torch_files.restricted import MalformedPickleError
from engines.tensors.shapes import OPEN_EXTENT

_MAX_JSON_BYTES = 512 << 20
_SYMBOL = re.compile(r"Symbol\('(\w+)'.*\)|(\w+)")
_EXPORTED_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
}
"""Element types by the numbers of torch/_export/serde/schema.py."""


def describe_exported_program(path: Path, shown_path: str) -> dict[str, Any]:
    """Return the `GraphDescription` of a torch.export program.

    Raises:
        EngineFailure: INVALID_MODEL for another or a damaged file.
    """
    with opened(path, "a torch.export program") as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        graphs = [name for inner, name in names.items() if re.fullmatch(r"models/[^/]+\.json", inner)]
        weights = [name for inner, name in names.items() if re.fullmatch(r"data/weights/.*_config\.json", inner)]
        legacy = names.get("serialized_exported_program.json")
        if not (graphs or legacy):
            raise MalformedPickleError("it holds no graph")
        program = _json(archive, graphs[0] if graphs else str(legacy))
        tensors = {
            str(name): _tensor(entry["tensor_meta"])
            for config in weights
            for name, entry in _json(archive, config)["config"].items()
        }
        return _describe_program(program, tensors, shown_path)


def _describe_program(program: Mapping[str, Any], tensors: dict[str, TensorInfo], shown_path: str) -> dict[str, Any]:
    nodes = program["graph_module"]["graph"]["nodes"]
    targets = Counter(str(node["target"]).removeprefix("torch.ops.").removesuffix(".default") for node in nodes)
    return {
        **describe_tensors(tensors, shown_path),
        "signature": _signature(program),
        "operators": most_frequent(targets),
        "metadata": {"format": "torch.export", "torch": str(program.get("torch_version", ""))},
    }


def _signature(program: Mapping[str, Any]) -> dict[str, Any]:
    module = program["graph_module"]
    ranges = program.get("range_constraints", {})
    values = module["graph"]["tensor_values"]
    kinds = {"inputs": ("user_input", "input_specs"), "outputs": ("user_output", "output_specs")}
    signature: dict[str, list[dict[str, Any]]] = {}
    for part, (kind, specs) in kinds.items():
        names = [_name(spec[kind]["arg"]) for spec in module["signature"][specs] if kind in spec]
        signature[part] = [_spec(name, values[name], ranges) for name in names if name in values]
    return signature


def _name(argument: Mapping[str, Any]) -> str:
    return str(argument.get("as_tensor", {}).get("name", ""))


def _spec(name: str, meta: Mapping[str, Any], ranges: Mapping[str, Any]) -> dict[str, Any]:
    profile = [_extents(size, ranges) for size in meta["sizes"]]
    low, tuned, high = (list(part) for part in zip(*profile, strict=True)) if profile else ([], [], [])
    shape = {"min": low, "opt": tuned, "max": high}
    return {"name": name, "dtype": _EXPORTED_DTYPES.get(meta["dtype"], "float32"), "shape": shape}


def _extents(size: Mapping[str, Any], ranges: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return least, tuned and largest extent of an axis; an expression of several symbols has no known bounds."""
    if "as_int" in size:
        fixed = max(1, int(size["as_int"]))
        return fixed, fixed, fixed
    expression = str(size["as_expr"]["expr_str"])
    found = _SYMBOL.fullmatch(expression)
    between = ranges.get(found[1] or found[2], {}) if found else {}
    low = max(1, int(between.get("min_val") or 1))
    high = min(OPEN_EXTENT, int(between.get("max_val") or OPEN_EXTENT))
    hint = (size["as_expr"].get("hint") or {}).get("as_int") or low
    return low, min(max(low, int(hint)), high), high


def _tensor(meta: Mapping[str, Any]) -> TensorInfo:
    return TensorInfo(
        _EXPORTED_DTYPES.get(meta["dtype"], "uint8"), tuple(int(size["as_int"]) for size in meta["sizes"])
    )


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    if archive.getinfo(name).file_size > _MAX_JSON_BYTES:
        raise MalformedPickleError(f"its entry {name} is larger than that of any network")
    return json.loads(archive.read(name))
