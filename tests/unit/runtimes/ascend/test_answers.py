# ruff: noqa: E501 - what a program printed
"""ATC's answers as failures, in the forms that versions of CANN print."""

from __future__ import annotations

import pytest

from engines.failures import FailureReason
from engines.runtimes.ascend.answers import failure_of, read_answers
from tests.unit.runtimes.ascend.atc_stand_in import FAILURE, START, Refusal, told

NEW = f"""{START}
...
{FAILURE}
[PID: 7] 2026-08-21-10:00:00.123.456 Not_Supported_Operator(E10501): IR for Op net/foo with optype Foo is not registered.
        Possible Cause: 1. The environment variable ASCEND_OPP_PATH is not configured. 2. IR is not registered.
        Solution: 1. Check whether ASCEND_OPP_PATH is correctly set.
TraceBack (most recent call last):
        No supported Ops kernel and engine are found for [Bar_3], optype [Bar].
        build graph failed, graph id:0, ret:1343242270[FUNC:BuildModel][FILE:ge_generator.cc][LINE:1615]
"""
OLD = f"""{START}
{FAILURE}
E10016: Op name [prob] specified in --out_nodes is not found in the model. Confirm whether this node name exists, or not.
        Solution: Specify the name of an existing node in the graph.
        TraceBack (most recent call last):
        Failed to compile Op [conv1]. oppath is [/opp] and optype is [Conv2D].
"""
INNER = f"""{START}
[ERROR] AMCT(757013,atc.bin):2023-03-14-14:15:56[inner_graph_calibration.cpp:77]Failed to execute InnerQuantizeGraph.
{FAILURE}
EZ9999: Internal Error!
EZ9999  Aicore kernel execute failed, device_id=0, stream_id=11, fault kernel_name=1_vgg_16/conv1_histo
        TraceBack (most recent call last):
        Model synchronize execute failed, model_id=1![FUNC:GetStreamToSyncExecute][FILE:model.cc][LINE:630]
        An unknown error occurred. Please check the log.
"""


def test_several_errors_are_read_each_with_its_code_cause_solution_node_and_operator() -> None:
    first, second, third = read_answers(NEW)
    assert (first.code, first.node, first.operator) == ("E10501", "net/foo", "Foo")
    assert first.cause.startswith("1. The environment variable")
    assert first.solution == "1. Check whether ASCEND_OPP_PATH is correctly set."
    assert (second.code, second.node, second.operator) == ("EZ3003", "Bar_3", "Bar")  # told by its wording
    assert (third.code, third.node) == ("", "")
    failure = failure_of([first, second, third], NEW, 255)
    assert (failure.reason, failure.node, failure.operator) == (FailureReason.UNSUPPORTED_OPERATOR, "net/foo", "Foo")
    assert "IR for Op net/foo with optype Foo is not registered (E10501)" in failure.message
    assert "out_nodes" in failure.suggested_fix
    assert "ATC says: 1. Check whether ASCEND_OPP_PATH" in failure.suggested_fix
    assert "EZ3003: No supported Ops kernel" in failure.evidence


def test_the_first_error_that_names_a_node_leads() -> None:
    text = NEW.replace(
        "Not_Supported_Operator(E10501): IR for Op net/foo with optype Foo is not registered",
        "Oh(E19999): Unknown error occurred",
    )
    failure = failure_of(read_answers(text), text, 255)
    assert (failure.node, failure.operator, failure.reason) == ("Bar_3", "Bar", FailureReason.UNSUPPORTED_OPERATOR)


def test_brackets_and_the_headings_of_older_versions_are_read() -> None:
    first, second = read_answers(OLD)
    assert (first.code, first.node) == ("E10016", "prob")
    assert (second.code, second.node, second.operator) == ("E40021", "conv1", "Conv2D")
    assert failure_of([first, second], OLD, 255).reason is FailureReason.INVALID_SPEC


def test_an_inner_error_keeps_what_it_says() -> None:
    answers = read_answers(INNER)
    assert answers[0].code == "EZ9999"
    assert answers[0].message.startswith("Aicore kernel execute failed")
    failure = failure_of(answers, INNER, 255)
    assert failure.reason is FailureReason.TOOLCHAIN_CRASHED
    assert "Aicore kernel execute failed" in failure.message
    assert "log=debug" in failure.suggested_fix


def test_the_form_in_which_the_newest_runtime_prints_an_inner_error_is_read() -> None:
    refusal = Refusal("E19999", "Call Foo failed[FUNC:A][FILE:b.cc][LINE:1]", title="Inner_Error")
    refusal.more.append("IR for Op a/b with optype Foo is not registered.")
    answers = read_answers("\n".join([FAILURE, *told(refusal)]))
    assert (answers[0].code, answers[0].message) == ("E19999", refusal.message)
    assert failure_of(answers, "", 255).node == "a/b"


def test_a_code_that_nobody_knows_stays_readable() -> None:
    text = f"{FAILURE}\nE99001: The moon is in the wrong place.\n        Solution: Wait.\n"
    failure = failure_of(read_answers(text), text, 1)
    assert failure.message == "ATC: The moon is in the wrong place (E99001)."
    assert "ATC says: Wait." in failure.suggested_fix
    assert failure.reason is FailureReason.TOOLCHAIN_CRASHED


@pytest.mark.parametrize(
    ("text", "status", "reason", "words"),
    [
        ("", -11, FailureReason.TOOLCHAIN_CRASHED, "was ended by signal 11"),
        ("", 3, FailureReason.TOOLCHAIN_CRASHED, "ended with status 3"),
        ("", -9, FailureReason.OUT_OF_MEMORY, "needs more memory"),
        ("std::bad_alloc", 255, FailureReason.OUT_OF_MEMORY, "needs more memory"),
    ],
)
def test_an_end_without_a_word_is_a_failure_too(text: str, status: int, reason: FailureReason, words: str) -> None:
    failure = failure_of(read_answers(text), text, status)
    assert failure.reason is reason
    assert words in failure.message


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("No Caffe parser is registered for Op l1 with Op type Silence.", "E11009", FailureReason.UNSUPPORTED_OPERATOR),
        ("Op ip1 exists in the model file but is not found in weight file.", "E11029", FailureReason.WEIGHTS_MISMATCH),
        ("No ONNX parser is registered for optype ai.onnx::17::Foo.", "E16002", FailureReason.UNSUPPORTED_OPERATOR),
        ("AIPP configuration is invalid. Reason: src_image_size_w.", "E10052", FailureReason.INVALID_SPEC),
        (
            "Failed to import Python module te. Reason: ModuleNotFoundError.",
            "E40020",
            FailureReason.TOOLCHAIN_UNAVAILABLE,
        ),
        ("Operator Exp_2 compilation failed. Optype is Exp.", "E20001", FailureReason.UNSUPPORTED_OPERATOR),
        ("No parser is registered for Op [a, optype [Foo]", "E19010", FailureReason.UNSUPPORTED_OPERATOR),
        ("The model has 2 --domain_version fields, but only one is allowed.", "E16005", FailureReason.INVALID_MODEL),
    ],
)
def test_a_message_is_known_by_its_wording(message: str, code: str, reason: FailureReason) -> None:
    (answer,) = read_answers(f"{FAILURE}\n[PID: 1] 2026-1-1 T({code}): {message}\n")
    assert answer.code == code
    traced = read_answers(
        f"{FAILURE}\nE19999: Internal Error!\nTraceBack (most recent call last):\n        {message}\n"
    )
    assert traced[-1].code == code
    assert failure_of([answer], "", 255).reason is reason
