"""Describes an OpenVINO IR from the XML file of its graph, without OpenVINO.

Format: https://docs.openvino.ai/2026/documentation/openvino-ir-format.html
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from engines.failures import EngineFailure, FailureReason
from engines.spec.sniff import sniff

_PLUMBING = frozenset({"Const", "Parameter", "Result"})


def describe_ir(path: Path, shown_path: str) -> dict[str, Any]:
    """Return the `GraphDescription` of an IR, without its signature.

    Raises:
        EngineFailure: INVALID_MODEL if the file is no IR.
    """
    operators: Counter[str] = Counter()
    elements = size = 0
    version = ""
    try:
        # Expat bounds the expansion of entities, ElementTree opens no external ones, and the sandbox contains the rest.
        for event, element in ElementTree.iterparse(path, ("start", "end")):  # noqa: S314
            if event == "start" and element.tag == "net":
                version = element.get("version", "")
            elif event == "end" and element.tag == "layer":
                operators[element.get("type", "")] += 1
                count, taken = _weights(element)
                elements, size = elements + count, size + taken
                element.clear()
    except (ElementTree.ParseError, ValueError) as error:
        raise _invalid(path, f"it looks like {sniff(path)} ({error})") from error
    if not version:
        raise _invalid(path, "its XML has no 'net'")
    shown = {name: count for name, count in operators.items() if name not in _PLUMBING}
    ordered = sorted(shown.items(), key=lambda entry: (-entry[1], entry[0]))
    return {
        "path": shown_path,
        "component": Path(shown_path).name,
        "operators": [{"operator": name, "count": count} for name, count in ordered],
        "parameter_count": elements,
        "parameter_bytes": size,
        "metadata": {"ir_version": version},
    }


def _weights(layer: ElementTree.Element) -> tuple[int, int]:
    """Return elements and bytes of a layer of constants; nothing for others."""
    data = layer.find("data")
    if layer.get("type") != "Const" or data is None:
        return 0, 0
    extents = [int(extent) for extent in data.get("shape", "").split(",") if extent.strip()]
    return math.prod(extents), int(data.get("size", "0"))


def _invalid(path: Path, why: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_MODEL, f"'{path.name}' is no OpenVINO IR that can be used: {why}.")
