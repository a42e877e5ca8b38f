"""Changes the versions that an ONNX file states to ones that ONNX Runtime reads, if that changes no meaning.

The `onnx` package is released ahead of runtimes, and states its newest versions by default. The IR version describes
how the file is written; a lower one is legal as long as the runtime reads the file. The operator set selects the schema
of each operator; a lower one is legal if every operator has the same schema in both. ONNX's own converter rewrites a
model of an operator set that is too old.
"""

from __future__ import annotations

import functools
import logging
import re
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason
from engines.graph.walk import all_nodes

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

OLDEST_OPSET = 7
"""The oldest operator set that ONNX Runtime implements completely."""

_MISREAD = frozenset({"PRelu"})
"""Operators that the converter does not change, although they broadcast along another axis before."""

_MAIN = ("", "ai.onnx")
_COMPARABLE = 18
"""The operator set from which schemas record changes; before it, attributes became inputs."""
_REWRITTEN = frozenset({"GridSample", "GroupNormalization", "DFT", "AffineGrid"})
"""Operators whose meaning changed after that set under the same names."""


def lower_versions(model: onnx.ModelProto) -> bool:
    """Lower the versions of a model in place, and return whether it was changed.

    Raises:
        EngineFailure: INVALID_MODEL if a version is newer than every tool here; UNSUPPORTED_OPERATOR with the node
            whose operator differs in the operator sets that ONNX Runtime reads.
    """
    import onnx

    most_ir, most_opset = runtime_limits()
    imports = [*model.opset_import, *(entry for function in model.functions for entry in function.opset_import)]
    entries = [entry for entry in imports if entry.domain in _MAIN]
    stated = max((entry.version for entry in entries), default=0)
    _check_known("IR version", model.ir_version, onnx.IR_VERSION, most_ir)
    _check_known("operator set", stated, onnx.defs.onnx_opset_version(), most_opset)
    if stated > most_opset:
        _check_same_schemas(model, stated, most_opset)
    changed = model.ir_version > most_ir or stated > most_opset
    model.ir_version = min(model.ir_version, most_ir)
    for entry in entries:
        entry.version = min(entry.version, most_opset)
    return changed


def is_old(model: onnx.ModelProto) -> bool:
    """Return whether a model states an operator set of which ONNX Runtime lacks operators."""
    return any(entry.domain in _MAIN and entry.version < OLDEST_OPSET for entry in model.opset_import)


def modernized(model: onnx.ModelProto, wanted: int = OLDEST_OPSET) -> onnx.ModelProto | None:
    """Return a model of an older operator set in the wanted one; None if ONNX's converter cannot convert it."""
    import onnx.version_converter

    if not _MISREAD.isdisjoint(node.op_type for node in all_nodes(model)):
        return None
    try:
        return onnx.version_converter.convert_version(model, wanted)
    except Exception as error:
        log.info("ONNX's version converter cannot raise the operator set to %d: %s", wanted, error)
        return None


def raise_opset(model: onnx.ModelProto, wanted: int) -> bool:
    """State a newer operator set in place if that changes no meaning; return whether it is stated now.

    The set is raised if each operator that is redefined in the newer set has the same inputs, outputs and attributes
    there, or only additional optional attributes: such versions differ in the types that they allow.
    """
    import onnx

    entry = next((entry for entry in model.opset_import if entry.domain in _MAIN), None)
    if entry is None or entry.version >= wanted:
        return entry is not None
    operators = {node.op_type for node in all_nodes(model) if node.domain in _MAIN}
    if entry.version < _COMPARABLE or not _REWRITTEN.isdisjoint(operators):
        return False
    for operator in operators:
        if not onnx.defs.has(operator):
            return False
        old, new = (onnx.defs.get_schema(operator, version) for version in (entry.version, wanted))
        names = [[formal.name for formal in (*schema.inputs, *schema.outputs)] for schema in (old, new)]
        added = new.attributes.keys() - old.attributes.keys()
        if names[0] != names[1] or old.attributes.keys() - new.attributes.keys():
            return False
        if any(new.attributes[name].required for name in added):
            return False
    entry.version = wanted
    return True


@functools.cache
def runtime_limits() -> tuple[int, int]:
    """Return the newest IR version and operator set that ONNX Runtime reads, from its refusals of newer ones."""
    import onnx

    ir = _limit(_probe(onnx.IR_VERSION, 1), r"max supported IR version: (\d+)", onnx.IR_VERSION)
    newest = onnx.defs.onnx_opset_version()
    return ir, _limit(_probe(ir, newest), r"till opset (\d+)", newest)


def _probe(ir: int, opset: int) -> Any:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def _limit(model: Any, words: str, newest: int) -> int:
    import onnxruntime

    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:
        found = re.search(words, str(error))
        if found is None:
            raise
        return int(found[1])
    return newest


def _check_known(what: str, stated: int, known: int, readable: int) -> None:
    if stated > known:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The ONNX file states {what} {stated}; the newest known here is {known}.",
            suggested_fix=f"Export it with {what} {readable} or an older one.",
        )


def _check_same_schemas(model: onnx.ModelProto, stated: int, most: int) -> None:
    import onnx

    for node in all_nodes(model):
        if node.domain not in _MAIN or not onnx.defs.has(node.op_type):
            continue
        since = onnx.defs.get_schema(node.op_type, stated).since_version
        if since > most:
            raise EngineFailure(
                FailureReason.UNSUPPORTED_OPERATOR,
                f"The ONNX file states operator set {stated}, in which {node.op_type} (node "
                f"'{node.name or node.output[0]}') was redefined in set {since}; ONNX Runtime reads sets up to {most}.",
                node=node.name or node.output[0],
                operator=node.op_type,
                suggested_fix=f"Export the model with operator set {most} or an older one.",
            )
