"""The failures of runtimes, in words that all rooms share."""

from __future__ import annotations

from pathlib import Path

from engines.failures import EngineFailure, FailureReason, first_line, tells_of_no_memory


def unsupported_precision(runtime: str, precision: str, why: str, offered_by: str) -> EngineFailure:
    """Return the failure of a runtime that cannot compute in a precision, naming one that can."""
    return EngineFailure(
        FailureReason.UNSUPPORTED_PRECISION,
        f"{runtime} cannot compute in {precision} here: {why}",
        suggested_fix=f"{offered_by} Or choose the precision FP32.",
    )


def unsupported_operator(runtime: str, onnx_path: Path, operator: str, domain: str, raw: str) -> EngineFailure:
    """Return the failure that names the first node whose operator a runtime does not have."""
    import onnx

    graph = onnx.load(str(onnx_path), load_external_data=False).graph
    matching = [node for node in graph.node if node.op_type == operator and (not domain or node.domain == domain)]
    node = (matching[0].name or matching[0].output[0]) if matching else ""
    full = f"{domain}.{operator}" if domain else operator
    where = f" (node '{node}')" if node else ""
    return EngineFailure(
        FailureReason.UNSUPPORTED_OPERATOR,
        f"{runtime} has no implementation of the operator {full}{where} for the types that it is used with.",
        node=node,
        operator=full,
        evidence=raw.strip()[-500:],
        suggested_fix="Express it with operators that the runtime has, or choose another runtime in the template.",
    )


def crashed(runtime: str, action: str, error: Exception) -> EngineFailure:
    """Return the failure of a runtime that failed: OUT_OF_MEMORY if it says so."""
    if tells_of_no_memory(str(error)):
        return EngineFailure(
            FailureReason.OUT_OF_MEMORY,
            f"{runtime} needs more memory than it may have to {action}.",
            evidence=str(error).strip()[-1000:],
            suggested_fix="Use a smaller batch or input shape, or allow more memory (`memory_limit_bytes` of a task).",
        )
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED,
        f"{runtime} failed to {action}: {first_line(error)}",
        evidence=str(error).strip()[-1000:],
        suggested_fix="Read the task's log for the runtime's whole message; another runtime may take this model.",
    )
