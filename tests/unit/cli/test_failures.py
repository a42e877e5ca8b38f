"""What a person sees of an error, from a real call to a real server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_status import rpc_status
from lathe.registry.v1.model_service_pb2 import ModelVersionImport
from lathe.type.v1.failure_pb2 import FAILURE_REASON_INVALID_SPEC
from lathe.type.v1.failure_pb2 import Failure as Cause
from lathe_client import ImportEndedError

from engines.failures import EngineFailure, FailureReason
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError, Failure, explain
from services.local.errors import LocalError
from services.platform import errors

ERRORS = {
    "not-found": errors.not_found("model", "models/a"),
    "fields": errors.invalid_fields([("page_size", "must not be negative"), ("filter.format", "is unknown")]),
    "etag": errors.aborted("ETAG_MISMATCH", "models/a changed meanwhile; read it again."),
    "held": errors.failed_precondition("MODEL_IN_USE", "models/a cannot be deleted.", "models/a"),
    "long": errors.failed_precondition("TOO_LONG", "The word" + " word" * 150 + "."),
    "down": errors.unavailable("PostgreSQL", "PostgreSQL does not answer."),
    "who": errors.unauthenticated("A token is needed."),
}


class Answers(grpc.GenericRpcHandler):
    """Answers /test/<key> with that error."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            key = details.method.rpartition("/")[2]
            if key == "plain":
                context.abort(grpc.StatusCode.INTERNAL, "broken")
            context.abort_with_status(rpc_status.to_status(errors.to_status(ERRORS[key])))

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    server.add_generic_rpc_handlers([Answers()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(0)


def failure_of(channel: grpc.Channel, key: str) -> Failure | None:
    call = channel.unary_unary(f"/test/{key}", empty_pb2.Empty.SerializeToString, empty_pb2.Empty.FromString)
    with pytest.raises(grpc.RpcError) as caught:
        call(empty_pb2.Empty(), timeout=60)
    return explain(caught.value)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("not-found", Failure("There is no model named 'models/a'. [NOT_FOUND]", (), ExitCode.NOT_FOUND)),
        (
            "fields",
            Failure(
                "page_size: must not be negative; filter.format: is unknown [INVALID_ARGUMENT]", (), ExitCode.USAGE
            ),
        ),
        ("etag", Failure("models/a changed meanwhile; read it again. [ETAG_MISMATCH]", (), ExitCode.CONFLICT)),
        (
            "held",
            Failure("models/a cannot be deleted. [MODEL_IN_USE]", (), ExitCode.CONFLICT),
        ),
        ("long", Failure("The word" + " word" * 150 + ". [TOO_LONG]", (), ExitCode.CONFLICT)),
        ("down", Failure("PostgreSQL does not answer. [UNAVAILABLE]", (), ExitCode.UNAVAILABLE)),
        (
            "who",
            Failure("A token is needed. [UNAUTHENTICATED]", ("Set LATHE_TOKEN to your token.",), ExitCode.DENIED),
        ),
        ("plain", Failure("broken [INTERNAL]", (), ExitCode.FAILED)),
    ],
)
def test_a_failure_is_a_sentence_with_its_reason(
    channel: grpc.Channel, key: str, expected: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LATHE_TOKEN", raising=False)
    assert failure_of(channel, key) == expected


def test_a_missing_service_is_reported_with_advice() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as absent:
        failure = failure_of(absent, "not-found")
    assert failure
    assert (failure.sentence, failure.code) == ("The service does not answer.", ExitCode.UNAVAILABLE)
    assert "lathe up" in failure.details[1]


def test_expected_failures_of_the_command_line() -> None:
    assert explain(CliError("No.", ExitCode.USAGE)) == Failure("No.", (), ExitCode.USAGE)
    assert explain(KeyboardInterrupt()) == Failure("interrupted", (), ExitCode.INTERRUPTED)
    assert explain(LocalError("one\ntwo\nthree")) == Failure("one", ("two", "three"))
    unsafe = EngineFailure(FailureReason.UNSAFE_MODEL, "It runs code.", suggested_fix="Save weights only.")
    assert explain(unsafe) == Failure("It runs code. [UNSAFE_MODEL]", ("Save weights only.",))
    assert explain(FileNotFoundError(2, "No such file or directory", "a.pth")) == Failure(
        "a.pth: No such file or directory"
    )


def test_a_bug_of_the_program_is_not_a_failure() -> None:
    assert explain(ZeroDivisionError()) is None


def test_an_import_that_failed_has_its_reason_and_exit_code() -> None:
    failure = Cause(reason=FAILURE_REASON_INVALID_SPEC, message="a.onnx is no model.", evidence="INVALID_MODEL")
    told = explain(ImportEndedError(ModelVersionImport(name="models/m/imports/i", failure=failure)))
    assert told is not None
    assert told.sentence == "models/m/imports/i failed: a.onnx is no model. [INVALID_SPEC]"
    assert (told.details, told.code) == (("evidence: INVALID_MODEL",), ExitCode.TASK_FAILED)


def test_an_import_that_was_cancelled_is_told_apart() -> None:
    told = explain(ImportEndedError(ModelVersionImport(name="models/m/imports/i")))
    assert told is not None
    assert (told.sentence, told.code) == ("models/m/imports/i was cancelled.", ExitCode.TASK_CANCELLED)
