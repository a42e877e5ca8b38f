"""What an exception becomes."""

from __future__ import annotations

import errno
import socket
from typing import Any

import grpc
import pytest

from services.platform import errors
from services.platform.interceptors.error_mapping import explain


def test_an_answer_stays_what_it_is() -> None:
    error = errors.not_found("model", "models/x")
    assert explain(error).error is error
    assert explain(error).cause is None


@pytest.mark.parametrize("error", [KeyError("secret"), TimeoutError("secret"), ConnectionResetError("secret")])
def test_what_nobody_foresaw_is_internal_with_an_id_and_keeps_its_text_back(error: Exception) -> None:
    explanation = explain(error)
    assert explanation.error.code is grpc.StatusCode.INTERNAL
    assert "secret" not in explanation.error.message
    assert explanation.error.metadata["error_id"] in explanation.error.message
    assert explanation.cause is error


def test_two_failures_have_two_ids() -> None:
    ids = {explain(KeyError()).error.metadata["error_id"] for _ in range(100)}
    assert len(ids) == 100


@pytest.mark.parametrize(
    ("module", "name", "code"),
    [
        ("asyncpg.exceptions", "TooManyConnectionsError", grpc.StatusCode.UNAVAILABLE),
        ("asyncpg.exceptions", "DeadlockDetectedError", grpc.StatusCode.ABORTED),
        ("asyncpg.exceptions", "UniqueViolationError", grpc.StatusCode.INTERNAL),
        ("nats.errors", "NoRespondersError", grpc.StatusCode.UNAVAILABLE),
        ("nats.errors", "BadSubjectError", grpc.StatusCode.INTERNAL),
        ("urllib3.exceptions", "ReadTimeoutError", grpc.StatusCode.UNAVAILABLE),
        ("minio.error", "InvalidResponseError", grpc.StatusCode.INTERNAL),
    ],
)
def test_drivers_errors_are_told_apart(module: str, name: str, code: grpc.StatusCode) -> None:
    import importlib

    kind = getattr(importlib.import_module(module), name)
    assert explain(kind.__new__(kind)).error.code is code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError(), grpc.StatusCode.UNAVAILABLE),
        (OSError(errno.EHOSTUNREACH, "No route to host"), grpc.StatusCode.UNAVAILABLE),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), grpc.StatusCode.UNAVAILABLE),
        (OSError(errno.EMFILE, "Too many open files"), grpc.StatusCode.INTERNAL),
    ],
)
def test_a_server_that_cannot_be_reached_does_not_answer(error: OSError, code: grpc.StatusCode) -> None:
    driver: dict[str, Any] = {"__name__": "asyncpg.connect_utils"}
    exec("def connect(error): raise error", driver)
    with pytest.raises(type(error)) as caught:
        driver["connect"](error)
    assert explain(caught.value).error.code is code


def test_groups_are_opened() -> None:
    inner = errors.aborted("CONFLICT", "Try again.")
    group = BaseExceptionGroup("outer", [ExceptionGroup("inner", [KeyError(), inner])])
    assert explain(group).error is inner
