"""Errors as `google.rpc.Status`."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.platform import errors
from services.platform.errors import LatheError, is_transient, to_status, trailers

_TEXT = st.text(max_size=3000)


def test_the_status_has_code_message_and_always_an_error_info() -> None:
    status = to_status(errors.not_found("model", "models/x"))
    assert status.code == code_pb2.NOT_FOUND
    assert "models/x" in status.message
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("NOT_FOUND", "lathe")


def test_only_a_verdict_on_the_request_is_no_reason_to_try_again() -> None:
    verdicts = {code for code in grpc.StatusCode if not is_transient(code)}
    assert {code.name for code in verdicts} == {
        "OK",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
    }


def test_a_field_without_a_path_is_told_without_a_colon() -> None:
    assert errors.invalid_argument("", "No such message.").message == "No such message."


def test_every_wrong_field_is_in_the_message() -> None:
    error = errors.invalid_fields([("a", "is missing"), ("b.c", "is negative")])
    assert error.message == "a: is missing; b.c: is negative"


@given(
    message=_TEXT,
    fields=st.lists(st.tuples(_TEXT, _TEXT), max_size=40),
    preconditions=st.lists(st.tuples(st.just("STATE"), _TEXT, _TEXT), max_size=10),
    name=_TEXT,
)
def test_whatever_it_says_fits_into_the_trailers_with_its_reason(
    message: str, fields: list[tuple[str, str]], preconditions: list[tuple[str, str, str]], name: str
) -> None:
    error = LatheError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "REASON",
        message,
        fields=fields,
        preconditions=preconditions,
        resource=("model", name),
    )
    status = to_status(error)
    (_, details) = trailers(status)[0]
    # As base64, plus the message percent-encoded, under the 8 KiB that peers accept.
    assert len(details) * 4 / 3 + len(status.message.encode()) * 3 < 8000
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "REASON"


@pytest.mark.parametrize("text", ["é" * 600, "x" * 5000])
def test_a_long_message_is_cut_between_characters(text: str) -> None:
    message = to_status(errors.aborted("R", text)).message
    assert message.endswith("…")
    assert len(message.encode()) <= 1000
