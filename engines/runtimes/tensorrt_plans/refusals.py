"""Turns what the parser and the builder say into failures that name the node and what to do.

A build that fails returns nothing; why, stands in its log alone. `_BUILD` is the table of what is known there: texts of
TensorRT-RTX 1.7 as its builder gave them; the others from reports of TensorRT's users.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.tensorrt_plans.vendor import ParserError

_EVIDENCE = 1500
_NOISE = re.compile(r"cudaError 35|CUDA initialization failure|driver version is insufficient", re.IGNORECASE)
"""What is logged if there is no driver, whatever goes wrong."""
_LESS = "Use a smaller batch or input shape, or a smaller largest extent; or build on a chip that is otherwise idle."
_ROOM = "Raise `runtime_options[workspace_mib]` of the template, or leave it out."
_PROFILE = "Declare min, opt and max of this input in the template or by tensor information."


@dataclass(frozen=True)
class Known:
    """A text of the builder's log, and the failure that it means.

    Attributes:
        text: Finds it; its groups `node`, `tensor` and others fill the message.
        reason: The kind of failure.
        message: One sentence; `{title}` is the runtime.
        fix: What to do.
    """

    text: re.Pattern[str]
    reason: FailureReason
    message: str
    fix: str


def _known(text: str, reason: FailureReason, message: str, fix: str) -> Known:
    return Known(re.compile(text, re.IGNORECASE | re.DOTALL), reason, message, fix)


_BUILD = (
    _known(
        r"OutOfMemory|out of memory|bad_alloc|requested amount of (?:GPU )?memory .*could not be allocated",
        FailureReason.OUT_OF_MEMORY,
        "{title} needs more memory than the chip has free to build the model",
        _LESS,
    ),
    _known(
        r"within workspace limit|increas\w* the (?:allowed )?workspace size|insufficient workspace",
        FailureReason.OUT_OF_MEMORY,
        "{title} has no implementation that fits in the workspace",
        _ROOM,
    ),
    _known(
        r"Cannot compile operation '(?P<node>[^']+)' for (?P<chip>\w+ \(SM\d+\)): (?P<what>[^.\]]+?) is not supported",
        FailureReason.UNSUPPORTED_PRECISION,
        "{title} does not compute the node '{node}' for {chip}: {what} is not supported there",
        "Choose the precision FP16, or another runtime or device in the template. A quantized form computes in FP32 "
        "what it does not quantize.",
    ),
    _known(
        r"Cannot compile for target\(s\) (?P<chip>\w+), because .* contains HW-specific datatypes: (?P<what>\w+)",
        FailureReason.UNSUPPORTED_PRECISION,
        "{title} does not compile for {chip}: the chip does not have the model's type {what}",
        "Choose the precision FP16 or FP32.",
    ),
    _known(
        r"Could not find any implementation for node (?P<node>.+?)\.?\)? ?(?:In \w+ at|$)",
        FailureReason.UNSUPPORTED_OPERATOR,
        "{title} found no implementation of the node '{node}' on this chip",
        "Most often its scratch memory is too small: raise `runtime_options[workspace_mib]`, or use smaller shapes.",
    ),
    _known(
        r"Invalid optimization profiles? for input tensors? (?P<tensor>[^\s,]+)",
        FailureReason.INVALID_SPEC,
        "The shapes of the input '{tensor}' are not in order: min ≤ opt ≤ max",
        _PROFILE,
    ),
    _known(
        r"Dynamic input tensor (?P<tensor>\S+) is missing dimensions",
        FailureReason.INVALID_SPEC,
        "The input '{tensor}' has axes that vary, and no shapes are declared for it",
        _PROFILE,
    ),
    _known(
        r"no optimization profile has been defined",
        FailureReason.INVALID_SPEC,
        "An input of the graph has axes that vary, and no shapes are declared",
        _PROFILE,
    ),
    _known(
        r"Dimension mismatch for tensor (?P<tensor>\S+) and profile \d+\. At dimension axis (?P<axis>\d+), profile has "
        r"min=(?P<low>\d+), opt=\d+, max=(?P<high>\d+) but tensor has (?P<has>\d+)",
        FailureReason.SHAPE_MISMATCH,
        "The input '{tensor}' is declared with {low} to {high} on axis {axis}, and the graph fixes it at {has}",
        "Declare the extent that the graph has, or export the graph with a dynamic axis.",
    ),
    _known(
        r"Network must have at least one output",
        FailureReason.INVALID_MODEL,
        "{title} finds no output in the graph",
        "Check that the file is a complete ONNX model.",
    ),
    _known(
        r"(?:Target GPU SM|compute capability) (?P<chip>[\d.]+)[^.]* is not supported",
        FailureReason.TOOLCHAIN_UNAVAILABLE,
        "This release of {title} does not support SM {chip}",
        "Install the last release that supports the chip on its workers; the catalog of devices names it.",
    ),
)


def refused_by_parser(title: str, onnx_path: Path, errors: Sequence[ParserError]) -> EngineFailure:
    """Return the failure of a graph that the parser refused: of its first error that names a node, else of the first.

    Args:
        title: Name of the runtime.
        onnx_path: The graph.
        errors: What the parser objected to; not empty.
    """
    evidence = "\n".join(f"{error.code} {error.node} {error.operator}: {error.text}" for error in errors)[:_EVIDENCE]
    first = next((error for error in errors if error.position >= 0), errors[0])
    if first.code == "MEM_ALLOC_FAILED":
        return EngineFailure(
            FailureReason.OUT_OF_MEMORY,
            f"{title} has too little memory to read the graph.",
            evidence=evidence,
            suggested_fix="Allow more memory (`memory_limit_bytes` of a task).",
        )
    if first.position < 0:
        return EngineFailure(
            FailureReason.INVALID_MODEL,
            f"{title} cannot read the graph: {first.text}",
            evidence=evidence,
            suggested_fix="Check the file with `onnx.checker`; export it again.",
        )
    found = _node(onnx_path, first)
    node = first.node or (found and (found.name or next(iter(found.output), ""))) or ""
    operator = first.operator or (found.op_type if found else "")
    full = f"{found.domain}.{operator}" if found and found.domain not in {"", "ai.onnx"} else operator
    return EngineFailure(
        FailureReason.UNSUPPORTED_OPERATOR,
        f"{title} does not take the operator {full} (node '{node}'){_why(first)}.",
        node=node,
        operator=full,
        evidence=evidence,
        suggested_fix="Express it with operators that the runtime has, or choose another runtime in the template.",
    )


def failed_build(title: str, onnx_path: Path, errors: Sequence[str]) -> EngineFailure:
    """Return the failure of a build that gave nothing, by what its log says.

    Args:
        title: Name of the runtime.
        onnx_path: The graph, which gives a node its operator.
        errors: Texts of the errors in the builder's log.
    """
    told = [text for text in errors if not _NOISE.search(text)] or list(errors)
    evidence = "\n".join(told).strip()[-_EVIDENCE:]
    node = next((match[1] for pattern in _NODES for match in map(pattern.search, told) if match), "")
    for known in _BUILD:
        for text in told:
            if match := known.text.search(text):
                return EngineFailure(
                    known.reason,
                    known.message.format(title=title, **match.groupdict()) + ".",
                    node=node,
                    operator=operator_of(onnx_path, node),
                    evidence=evidence,
                    suggested_fix=known.fix,
                )
    words = told[-1].strip().splitlines()[0][:300] if told else "its log has no error"
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED,
        f"{title} failed to build the model: {words}",
        node=node,
        operator=operator_of(onnx_path, node),
        evidence=evidence,
        suggested_fix="Read the task's log for the builder's whole text; another runtime may take this model.",
    )


_NODES = (
    re.compile(r"Cannot compile operation '([^']+)'"),
    re.compile(r"implementation for node (.+?)\.?\)? ?(?:In \w+ at|$)"),
)
"""Texts that name a node."""


def operator_of(onnx_path: Path, node: str) -> str:
    """Return the operator of a node of a graph; empty if there is none of that name: builders join several to one."""
    import onnx

    if not node:
        return ""
    graph = onnx.load(str(onnx_path), load_external_data=False).graph
    return next((str(each.op_type) for each in graph.node if each.name == node), "")


def _node(onnx_path: Path, error: ParserError) -> Any:
    """Return the node of an error by its name, else by its number in the main graph; None if it is elsewhere."""
    import onnx

    nodes = onnx.load(str(onnx_path), load_external_data=False).graph.node
    if error.node:
        return next((node for node in nodes if node.name == error.node), None)
    return nodes[error.position] if error.position < len(nodes) else None


def _why(error: ParserError) -> str:
    """Return the parser's reason as the end of a sentence; nothing if its text is only the condition that was false."""
    if error.code == "INVALID_NODE" and "Plugin not found" in error.text:
        return ": it has no such operator, and no plugin of that name is loaded"
    lines = [line.strip() for line in error.text.splitlines() if " " in line.strip()]
    inner = next((match[1] for match in map(_INNER.search, lines) if match), "")
    words = inner or next((line for line in lines if not line.startswith("Invalid Node")), "")
    return f": {words[:300].rstrip('.')}" if words else ""


_INNER = re.compile(r"Error Code \d+: [\w ]*Error \((.+?)(?:\. In \w+ at .*)?\)$")
"""An error of the network's interface, inside a parser's."""
