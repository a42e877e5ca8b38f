"""What ATC says when it fails, as failures with a reason, the node and what to do.

After `ATC run failed`, ATC prints the first error with its code, cause and solution, and under `TraceBack` the messages
of the others, which have no codes. Two forms of the heading are read: `[PID: 7] <time> <title>(E10001): <message>`, and
`E10001: <message>` of older versions. Messages without a code are told by their wording. Source: `error_manager.cc` of
CANN's runtime, `error_registry.cc` of its graph engine, and the reference of error codes. The wordings of EZ3002,
EZ3003 and EZ9010 stand in neither; they are those of users' reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from engines.failures import EngineFailure, FailureReason, tells_of_no_memory

_OPTION = "Correct the template: its shapes, its precision, or `runtime_options`."
_OPERATOR = (
    "Express it with operators that this version of CANN has, end the network before it with the option out_nodes, or "
    "choose another runtime."
)
_INSTALLATION = "Ask whoever runs the worker to correct its installation of CANN."
_MODEL = "Upload the model again, or convert it to ONNX first."
_MATCH = "Upload the .prototxt and the .caffemodel of the same network."
_REPORT = "Read the task's log, with the option log=debug if it says too little; report it to Huawei with that log."


@dataclass(frozen=True)
class _Rule:
    """How a code is read.

    Attributes:
        reason: The failure's.
        fix: What to do, if ATC gives no solution.
        wording: What the message is told by; it may name `node` and `operator`.
    """

    reason: FailureReason
    fix: str
    wording: str


_SPEC, _OP, _CRASH = FailureReason.INVALID_SPEC, FailureReason.UNSUPPORTED_OPERATOR, FailureReason.TOOLCHAIN_CRASHED
_BAD_MODEL, _ABSENT = FailureReason.INVALID_MODEL, FailureReason.TOOLCHAIN_UNAVAILABLE
_NODE, _KIND = r"\[?(?P<node>[^\s\[\]]+?)\]?", r"\[?(?P<operator>\w+(?:[.:]+\w+)*)\]?"
"""Older versions put names in brackets."""
_RULES = {
    "E10001": _Rule(_SPEC, _OPTION, r"Value \S* for parameter \S+ is invalid\. Reason"),
    "E10002": _Rule(_SPEC, _OPTION, r"Value .* for parameter --input_shape is invalid\. Reason"),
    "E10003": _Rule(_SPEC, _OPTION, r"Value .* for parameter --\S+ is invalid\. Reason"),
    "E10004": _Rule(_SPEC, _OPTION, r"Value for --\S+ is empty"),
    "E10005": _Rule(_SPEC, _OPTION, r"The value must be either true or false"),
    "E10006": _Rule(_SPEC, _OPTION, r"The value must be either 1 or 0"),
    "E10007": _Rule(_SPEC, _OPTION, r"--\S+ is required\. The value must be"),
    "E10008": _Rule(FailureReason.WEIGHTS_MISMATCH, _MATCH, r"--weight must not be empty"),
    "E10009": _Rule(_SPEC, _OPTION, r"--dynamic_batch_size, .* are mutually exclusive"),
    "E10010": _Rule(_SPEC, _OPTION, r"Value \S+ for parameter --log is invalid"),
    "E10011": _Rule(_SPEC, _OPTION, r"Shape values must be positive integers"),
    "E10012": _Rule(_SPEC, _OPTION, r"the dimension count of the dynamic-shape input .* is less than 1"),
    "E10016": _Rule(_SPEC, _OPTION, rf"Op name {_NODE} specified in --\S+ is not found in the model"),
    "E10017": _Rule(_SPEC, _OPTION, rf"Input Op {_NODE} specified in --\S+ is invalid"),
    "E10018": _Rule(FailureReason.SHAPE_MISMATCH, _OPTION, r"only batch size N can be -1"),
    "E10019": _Rule(FailureReason.SHAPE_MISMATCH, _OPTION, r"only the height and width axes can be -1"),
    "E10020": _Rule(_SPEC, _OPTION, r"Value .* for parameter --dynamic_image_size is invalid"),
    "E10031": _Rule(FailureReason.SHAPE_MISMATCH, _OPTION, r"has a batch size equaling -1"),
    "E10034": _Rule(_SPEC, _OPTION, rf"Nodes \(for example, {_NODE}\) connected to AIPP"),
    "E10035": _Rule(_SPEC, _OPTION, r"profiles, which is less than the minimum"),
    "E10036": _Rule(_SPEC, _OPTION, r"profiles, which is greater than the maximum"),
    "E10037": _Rule(_SPEC, _OPTION, r"have inconsistent dimension counts"),
    "E10038": _Rule(_SPEC, _OPTION, r"Dimension size \S+ is invalid"),
    "E10039": _Rule(_SPEC, _OPTION, r"argument has duplicate profiles"),
    "E10040": _Rule(FailureReason.SHAPE_MISMATCH, _OPTION, r"must have -1 axes and cannot have '~'"),
    "E10041": _Rule(_BAD_MODEL, _MODEL, r"Failed to load the model from"),
    "E10045": _Rule(FailureReason.SHAPE_MISMATCH, _OPTION, r"The number of -1 axes in the --input_shape"),
    "E10046": _Rule(FailureReason.SHAPE_MISMATCH, _OPTION, r"The total number of -1 axes in the --input_shape"),
    "E10049": _Rule(FailureReason.SHAPE_MISMATCH, _OPTION, r"Dimension count \S+ configured in --input_shape"),
    "E10052": _Rule(_SPEC, _OPTION, r"AIPP configuration is invalid"),
    "E10054": _Rule(_SPEC, _OPTION, r"The required parameter \S+ for ATC is empty"),
    "E10055": _Rule(_SPEC, _OPTION, r"The operation is not supported"),
    "E10056": _Rule(_SPEC, _OPTION, r"Cannot configure both parameters"),
    "E10501": _Rule(_OP, _OPERATOR, rf"IR for Op {_NODE} with optype {_KIND} is not registered"),
    "E11005": _Rule(FailureReason.SHAPE_MISMATCH, _OPTION, r"The shape is not defined by using --input_shape"),
    "E11008": _Rule(_OP, _OPERATOR, r"Op type (?P<operator>DetectionOutput) is unsupported"),
    "E11009": _Rule(_OP, _OPERATOR, rf"No Caffe parser is registered for Op {_NODE} with Op type {_KIND}\."),
    "E11012": _Rule(_BAD_MODEL, _MATCH, rf"Unknown bottom blob \S+ at layer {_NODE}\."),
    "E11017": _Rule(_SPEC, _OPTION, rf"Failed to find node {_NODE} specified by --out_nodes"),
    "E11022": _Rule(_BAD_MODEL, _MATCH, r"Invalid prototxt file"),
    "E11024": _Rule(_BAD_MODEL, _MATCH, r"Invalid Caffe weight file"),
    "E11029": _Rule(FailureReason.WEIGHTS_MISMATCH, _MATCH, rf"Op {_NODE} exists in the model file but is not found"),
    "E11033": _Rule(FailureReason.WEIGHTS_MISMATCH, _MATCH, rf"Blob {_NODE} of size \S+ is invalid"),
    "E13005": _Rule(_BAD_MODEL, _MODEL, r"Failed to parse file \S+\.?$"),
    "E13010": _Rule(_OP, _OPERATOR, rf"No operator plugin is registered for Op: {_NODE}, optype: {_KIND}\.?$"),
    "E13014": _Rule(_OP, _OPERATOR, rf"Value .* of parameter \S+ for Op {_NODE} is invalid"),
    "E13018": _Rule(_BAD_MODEL, _MATCH, r"through google::protobuf::TextFormat::Parse"),
    "E14001": _Rule(_OP, _OPERATOR, rf"Argument .* for Op {_NODE} with optype {_KIND} is invalid"),
    "E16002": _Rule(_OP, _OPERATOR, rf"No ONNX parser is registered for optype {_KIND}\.?$"),
    "E16004": _Rule(_BAD_MODEL, _MODEL, r"ONNX model has no graph"),
    "E16005": _Rule(_BAD_MODEL, _MODEL, r"--domain_version fields, but only one is allowed"),
    "E19010": _Rule(_OP, _OPERATOR, rf"No parser is registered for Op {_NODE}, optype {_KIND}"),
    "EZ9010": _Rule(_OP, _OPERATOR, rf"No parser is registered for Op {_NODE}, optype {_KIND}"),
    "E20001": _Rule(_OP, _OPERATOR, rf"Operator {_NODE} compilation failed\. Optype is {_KIND}\.?$"),
    "E22001": _Rule(_CRASH, _REPORT, rf"Compilation result for operator {_NODE} not found\. Optype is {_KIND}\.?$"),
    "E40001": _Rule(_ABSENT, _INSTALLATION, r"Value .* for environment variable \S+ is invalid when"),
    "E40002": _Rule(_ABSENT, _INSTALLATION, r"Unsupported Python version"),
    "E40020": _Rule(_ABSENT, _INSTALLATION, r"Failed to import Python module"),
    "E40021": _Rule(_OP, _OPERATOR, rf"Failed to compile Op {_NODE}\. oppath is .*? and optype is {_KIND}\.?$"),
    "E40024": _Rule(_ABSENT, _INSTALLATION, r"Failed to call Python Method"),
    "EZ3002": _Rule(_OP, _OPERATOR, rf"[Oo]ptype {_KIND} of [Oo]ps [Kk]ernel"),
    "EZ3003": _Rule(_OP, _OPERATOR, rf"[Kk]ernel and engine are found for {_NODE}, optype {_KIND}\.?$"),
    "EZ9999": _Rule(_CRASH, _REPORT, r"(?!)"),
    "E19999": _Rule(_CRASH, _REPORT, r"(?!)"),
}  # fmt: skip
_WORDINGS = {code: re.compile(rule.wording) for code, rule in _RULES.items()}
_FAILED = re.compile(r"^(?:ATC|AMCT) run failed", re.MULTILINE)
_HEADING = re.compile(
    r"^(?:(?P<old>E[A-Z]?\d{4,5}): (?P<told>.*)"
    r"|(?:E[A-Z]?\d{4,5} *|\s{6})?\[PID: ?\d+\] \S+ [\w ]+\((?P<new>E[A-Z]?\d{4,5})\): +(?P<said>.*))$"
)
_REPEATED = re.compile(r"^(?P<code>E[A-Z]?\d{4,5})\s{2}(?P<text>.*)$")
_CAUSE = re.compile(r"^\s+Possible ?Cause: (.*)$")
_SOLUTION = re.compile(r"^\s+Solution: (.*)$")
_TRACE = re.compile(r"^\s*TraceBack \(most recent call last\):")
_INTERNAL = re.compile(r"Internal [Ee]rror!?")
_SHOWN = 5


@dataclass(frozen=True)
class Answer:
    """One error of ATC.

    Attributes:
        code: Its code; empty if it has none and its wording is unknown.
        message: What is wrong.
        cause: Possible cause, as ATC says it.
        solution: What to do, as ATC says it.
        node: The node that it names.
        operator: The operator that it names.
    """

    code: str
    message: str
    cause: str = ""
    solution: str = ""
    node: str = ""
    operator: str = ""


def read_answers(text: str) -> list[Answer]:
    """Return the errors of an output in their order: the heading, then what the traceback adds."""
    found = _FAILED.search(text)
    return list(dict.fromkeys(_named(answer) for answer in _answers(text[found.end() :] if found else text)))


def _answers(text: str) -> Iterator[Answer]:
    current: Answer | None = None
    traced = False
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            found = Answer(heading["old"] or heading["new"], (heading["told"] or heading["said"] or "").strip())
            if current and not (current.code == found.code and _INTERNAL.fullmatch(current.message)):
                yield current
            current, traced = found, False
        elif current and (repeated := _REPEATED.match(line)) and repeated["code"] == current.code:
            current = replace(current, message=repeated["text"].strip())
        elif current and (cause := _CAUSE.match(line)) and not traced:
            current = replace(current, cause=cause[1].strip())
        elif current and (solution := _SOLUTION.match(line)) and not traced:
            current = replace(current, solution=solution[1].strip())
        elif _TRACE.match(line):
            traced = True
        elif traced and line.strip():
            if current:
                yield current
                current = None
            yield Answer("", line.strip())
        elif current and _INTERNAL.fullmatch(current.message) and line.strip():
            current = replace(current, message=line.strip())
    if current:
        yield current


def _named(answer: Answer) -> Answer:
    codes = [answer.code] if answer.code in _RULES else [] if answer.code else list(_RULES)
    for code in codes:
        if found := _WORDINGS[code].search(answer.message):
            parts = found.groupdict()
            return replace(answer, code=code, node=parts.get("node") or "", operator=parts.get("operator") or "")
    return answer


def failure_of(answers: Sequence[Answer], text: str, status: int) -> EngineFailure:
    """Return the failure of an ATC that did not succeed.

    The first error that names a node leads, else the first that says more than that something failed inside.

    Args:
        answers: The errors that it told.
        text: All that it printed.
        status: Its exit status; negative if a signal ended it.
    """
    if tells_of_no_memory(text) or status == -9:
        return EngineFailure(
            FailureReason.OUT_OF_MEMORY,
            "ATC needs more memory than it may have to compile the model.",
            evidence=text.strip()[-1000:],
            suggested_fix="Compile for fewer or smaller profiles, or allow more memory (`memory_limit_bytes`).",
        )
    known = [answer for answer in answers if answer.code and answer.code not in _INNER]
    told = next((answer for answer in answers if answer.node), None) or next(iter(known or answers), None)
    if told is None:
        ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return EngineFailure(
            _CRASH,
            f"ATC {ended} and named no error.",
            evidence=text.strip()[-1000:],
            suggested_fix=_REPORT,
        )
    rule = _RULES.get(told.code, _UNKNOWN)
    where = f" at node '{told.node}'" if told.node and told.node not in told.message else ""
    cause = f" Possible cause: {told.cause}" if _says(told.cause) else ""
    return EngineFailure(
        rule.reason,
        f"ATC{where}: {told.message.rstrip('.')}{f' ({told.code})' if told.code else ''}.{cause}",
        node=told.node,
        operator=told.operator,
        evidence="\n".join(_line(answer) for answer in answers[:_SHOWN]),
        suggested_fix=f"{rule.fix} ATC says: {told.solution}" if _says(told.solution) else rule.fix,
    )


_UNKNOWN = _Rule(_CRASH, _REPORT, "")
_INNER = ("EZ9999", "E19999")
"""Codes that say no more than that something failed inside."""


def _says(text: str) -> bool:
    return bool(text) and text.upper().rstrip(".") != "N/A"


def _line(answer: Answer) -> str:
    return f"{answer.code}: {answer.message}" if answer.code else answer.message
