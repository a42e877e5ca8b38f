"""The ONNX file as ATC reads it: one operator set, within those that the manual names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from engines.failures import EngineFailure, FailureReason, first_line
from engines.graph.hygiene import load_model, save_model
from engines.graph.precision import QUANTIZED, not_quantized
from engines.graph.quantized import quantized_nodes
from engines.graph.walk import all_nodes

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

OLDEST, NEWEST = 11, 18
"""Operator sets that ATC takes, by the manual's page on `--framework`."""
_MAIN = ("", "ai.onnx")


def write_for_atc(graph: Path, precision: str, folder: Path) -> str:
    """Write a graph into a folder as ATC reads it, and return the name of the file.

    Operator sets that no node uses are dropped, because ATC takes one (E16005). The graph is converted to a set that it
    takes by ONNX's own converter.

    Raises:
        EngineFailure: UNSUPPORTED_PRECISION if a graph in floating point is to be built in integers;
            UNSUPPORTED_OPERATOR if it uses operators outside of ONNX, or cannot be converted.
    """
    import onnx

    model = load_model(graph)
    if precision in QUANTIZED and not quantized_nodes(model):
        raise not_quantized(precision)
    onnx.load_external_data_for_model(model, str(graph.parent))
    return save_model(converted(model), folder / "model.onnx")[0].name


def converted(model: onnx.ModelProto, newest: int = NEWEST) -> onnx.ModelProto:
    """Return the model with one operator set, from `OLDEST` to the newest that is allowed.

    Raises:
        EngineFailure: UNSUPPORTED_OPERATOR if it uses operators outside of ONNX, or cannot be converted.
    """
    import onnx
    import onnx.version_converter

    used = {node.domain for node in all_nodes(model)} - {*_MAIN}
    for entry in list(model.opset_import):
        if entry.domain not in _MAIN and entry.domain not in used:
            model.opset_import.remove(entry)
    stated = max((entry.version for entry in model.opset_import if entry.domain in _MAIN), default=0)
    if used:
        node = next(node for node in all_nodes(model) if node.domain in used)
        raise EngineFailure(
            FailureReason.UNSUPPORTED_OPERATOR,
            f"The operator {node.domain}.{node.op_type} is none of ONNX, and ATC takes a graph of one domain.",
            node=node.name or next(iter(node.output), ""),
            operator=f"{node.domain}.{node.op_type}",
            suggested_fix="Express it with operators of ONNX, or choose another runtime in the template.",
        )
    if OLDEST <= stated <= newest:
        return model
    wanted = newest if stated > newest else OLDEST
    try:
        model = onnx.version_converter.convert_version(model, wanted)
    except Exception as error:
        raise EngineFailure(
            FailureReason.UNSUPPORTED_OPERATOR,
            f"CANN takes the operator sets {OLDEST} to {newest} here. The graph has {stated}, and ONNX's converter "
            f"cannot change it: {first_line(error)}",
            evidence=str(error)[-1000:],
            suggested_fix=f"Export the model with the operator set {newest}.",
        ) from error
    log.info("The graph's operator set %d became %d, which CANN takes.", stated, wanted)
    return model
