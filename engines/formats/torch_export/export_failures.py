"""Explains why no exporter managed a network: the operator and module, the fixed batch, or the exporter's error."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.torch_export.export_job import ExportJob
from engines.formats.torch_export.forward import to_tensors
from engines.formats.torch_export.inference_form import CONVERT_FIRST
from engines.sandbox.tasklog import quiet
from engines.tensors.shapes import format_shape

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_OPERATOR = (
    re.compile(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'"),
    re.compile(r"Exporting the operator '([\w:]+)' to ONNX"),
)
_FIXED_BATCH = (
    *("specialized", "ConstraintViolation", "Constraints violated", "at batch ", "Got invalid dimensions"),
    *("conflicts between user-specified ranges and inferred ranges", "the graph gives outputs", "the graph cannot be"),
)
_INSTEAD = {
    "DictConstruct": "Return a tuple of tensors: of TorchScript, no exporter takes a dictionary.",
    "fused_moving_avg_obs_fake_quant": CONVERT_FIRST,
}
_OTHERWISE = (
    "Write this part of the network with operators that ONNX has. If it is TorchScript, try a program of torch.export, "
    "which can be exported with more operators."
)


def explain(errors: Sequence[Exception], job: ExportJob) -> EngineFailure:
    """Return the failure for the errors of all exporters, in the order in which these were tried.

    Args:
        errors: The error of each exporter.
        job: The export.
    """
    texts = [str(error) for top in errors for error in _chain(top)]
    operators = [found[1] for text in texts for pattern in _OPERATOR if (found := pattern.search(text))]
    evidence = "\n".join(f"{type(error).__name__}: {first_line(_innermost(error))}" for error in errors)
    if operators:
        return _unsupported(operators, job.network, to_tensors(job.at(job.traced)), evidence)
    fixes = any(words in text for text in texts for words in _FIXED_BATCH)
    if fixes and any(job.dynamic_axes):
        fixed = ", ".join(f"{spec.name}:{spec.dtype}({format_shape(spec.opt)})" for spec in job.inputs)
        return EngineFailure(
            FailureReason.SHAPE_MISMATCH,
            "The network cannot be exported for a range of shapes: its code fixes an axis that the inputs let vary.",
            evidence=evidence,
            suggested_fix="Take extents from the inputs (x.shape[2], -1 in reshape). If the code is not yours, declare "
            f"one fixed shape for each input, and a largest batch of 1, such as {fixed}.",
        )
    if fixes:
        return EngineFailure(
            FailureReason.SHAPE_MISMATCH,
            "The network can be exported for one batch size only: its code fixes the batch.",
            evidence=evidence,
            suggested_fix="Take the batch from the input (x.shape[0], -1 in reshape), or set the largest batch to 1.",
        )
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED,
        f"No exporter could write the network as ONNX: {first_line(_innermost(errors[-1]))}",
        evidence=evidence,
        suggested_fix="Control flow that depends on tensors' values cannot be exported; the log has the details.",
    )


def _unsupported(
    operators: Sequence[str], network: torch.nn.Module, tensors: tuple[torch.Tensor, ...], evidence: str
) -> EngineFailure:
    operator = operators[-1].replace("::", ".")
    module = _module_of(operators, network, tensors)
    where = f" in module '{module}'" if module else ""
    return EngineFailure(
        FailureReason.UNSUPPORTED_OPERATOR,
        f"The operator '{operator}'{where} has no equivalent in ONNX.",
        node=module,
        operator=operator,
        evidence=evidence,
        suggested_fix=_INSTEAD.get(operator.rpartition(".")[2], _OTHERWISE),
    )


def _module_of(operators: Sequence[str], network: torch.nn.Module, tensors: tuple[torch.Tensor, ...]) -> str:
    """Return the path of the module that calls one of the operators; empty if it cannot be found."""
    import torch

    names = {re.split(r"[.:]+", operator)[1 if ":" in operator or "." in operator else 0] for operator in operators}
    try:
        with quiet(log):
            nodes = torch.export.export(network, tensors).graph.nodes
    except Exception as error:
        log.info("The module of %s cannot be found: %s", operators, first_line(error))
        return ""
    for node in nodes:
        stack = node.meta.get("nn_module_stack") or {}
        if stack and names & set(str(node.target).split(".")):
            return str(list(stack.values())[-1][0])
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _innermost(error: BaseException) -> BaseException:
    return list(_chain(error))[-1]
