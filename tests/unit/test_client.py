"""The Python client against a server of its own: what it sends, what it raises, how it waits."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import failure_pb2, task_pb2
from lathe_client import Lathe, LatheError, TaskEndedError, calls

CLIENT = Path(calls.__file__).parent
NAME = "conversionTasks/1"


def refusal() -> Any:
    """Return a refusal with every kind of detail."""
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="The batch is too large.")
    for detail in (
        error_details_pb2.ErrorInfo(reason="BATCH_TOO_LARGE", domain="lathe"),
        error_details_pb2.BadRequest(
            field_violations=[{"field": "task.spec.batch", "description": "at most 8: ask for fewer"}]
        ),
        error_details_pb2.ResourceInfo(resource_name="templates/t"),
    ):
        status.details.add().Pack(detail)
    return rpc_status.to_status(status)


class Service:
    """Answers as each test says, and records what it is asked."""

    def __init__(self) -> None:
        self.created: list[pb.CreateConversionTaskRequest] = []
        self.watched: list[int] = []
        self.away = 0
        self.end = task_pb2.TASK_STATE_SUCCEEDED

    def handlers(self) -> grpc.GenericRpcHandler:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        methods: dict[str, tuple[Any, Any]] = {
            "CreateConversionTask": (unary, self.create),
            "GetConversionTask": (unary, self.get),
            "CancelConversionTask": (unary, self.cancel),
            "WatchConversionTask": (stream, self.watch),
            "StreamConversionTaskLogs": (stream, self.logs),
        }
        handlers = {
            name: kind(answer, getattr(pb, f"{name}Request").FromString, lambda message: message.SerializeToString())
            for name, (kind, answer) in methods.items()
        }
        return grpc.method_handlers_generic_handler("lathe.converter.v1.ConversionService", handlers)

    def create(self, request: Any, context: grpc.ServicerContext) -> pb.ConversionTask:
        self.created.append(request)
        if self.away:
            self.away -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        if request.task.spec.template == "templates/t":
            context.abort_with_status(refusal())
        return pb.ConversionTask(name=NAME, display_name=request.task.display_name)

    def get(self, request: Any, context: grpc.ServicerContext) -> pb.ConversionTask:
        return self.task(1, self.end)

    def cancel(self, request: Any, context: grpc.ServicerContext) -> pb.ConversionTask:
        return self.task(2, task_pb2.TASK_STATE_CANCELLING)

    def watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.ConversionTask]:
        self.watched.append(request.after_revision)
        if request.after_revision < 5:
            yield self.task(5, task_pb2.TASK_STATE_RUNNING)
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        yield self.task(6, self.end)

    def logs(self, request: Any, context: grpc.ServicerContext) -> Iterator[task_pb2.LogLines]:
        first = request.after_line + 1
        yield task_pb2.LogLines(lines=[task_pb2.LogLine(number=n, text=f"line {n}") for n in (first, first + 1)])
        if request.follow and first < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

    def task(self, revision: int, state: Any) -> pb.ConversionTask:
        task = pb.ConversionTask(name=NAME, status=task_pb2.TaskStatus(state=state, revision=revision))
        if state == task_pb2.TASK_STATE_FAILED:
            task.status.failure.CopyFrom(
                failure_pb2.Failure(
                    reason=failure_pb2.FAILURE_REASON_PARITY_FAILED, message="It differs.", suggested_fix="Try FP32."
                )
            )
        return task


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def lathe(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lathe]:
    monkeypatch.setattr(calls, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(calls, "RECONNECT_PAUSES", (0.0, 0.0))
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([service.handlers()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Lathe({"converter": f"127.0.0.1:{port}"}) as lathe:
        yield lathe
    server.stop(0)


def test_a_task_is_created_with_its_fields_and_waited_for(lathe: Lathe, service: Service) -> None:
    seen: list[int] = []
    task = lathe.convert("models/m/versions/1", "templates/x", display_name="One", seed=3, labels={"a": "b"})
    done = task.wait(lambda each: seen.append(each.status.revision))
    assert (done.name, seen, task.message) == (NAME, [5, 6], done)
    assert service.watched == [0, 5], "a broken watch goes on at the revision that it has seen"
    (request,) = service.created
    assert (request.task.spec.seed, request.task.display_name, dict(request.task.labels)) == (3, "One", {"a": "b"})


def test_a_creation_whose_server_goes_away_is_repeated_under_one_request_id(lathe: Lathe, service: Service) -> None:
    service.away = 2
    assert lathe.convert("models/m/versions/1", "templates/x").name == NAME
    assert len({each.request_id for each in service.created}) == 1
    assert len(service.created) == 3
    service.away = 3
    with pytest.raises(LatheError, match="restarting"):
        lathe.convert("models/m/versions/1", "templates/x")


def test_a_refusal_tells_reason_field_and_fix(lathe: Lathe) -> None:
    with pytest.raises(LatheError) as caught:
        lathe.convert("models/m/versions/1", "templates/t")
    error = caught.value
    assert isinstance(error, grpc.RpcError)
    assert (error.code(), error.reason, error.resource) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "BATCH_TOO_LARGE",
        "templates/t",
    )
    assert error.violations == [("task.spec.batch", "at most 8: ask for fewer")]
    assert str(error) == "The batch is too large. [BATCH_TOO_LARGE]\ntask.spec.batch: at most 8: ask for fewer"


def test_a_task_that_ends_without_a_result_raises(lathe: Lathe, service: Service) -> None:
    service.end = task_pb2.TASK_STATE_FAILED
    with pytest.raises(TaskEndedError, match=r"failed: It differs\. \[PARITY_FAILED\]\nfix: Try FP32\.") as caught:
        lathe.task(NAME).wait()
    assert caught.value.failure is not None
    service.end = task_pb2.TASK_STATE_CANCELLED
    with pytest.raises(TaskEndedError, match="was cancelled") as cancelled:
        lathe.task(NAME).wait()
    assert cancelled.value.failure is None


def test_a_task_is_cancelled_and_read_again(lathe: Lathe) -> None:
    task = lathe.task(NAME)
    assert task.cancel().status.state == task_pb2.TASK_STATE_CANCELLING
    assert task.refresh().status.state == task_pb2.TASK_STATE_SUCCEEDED


def test_a_broken_log_goes_on_after_the_last_line(lathe: Lathe) -> None:
    assert [line.text for line in lathe.task(NAME).log()] == ["line 1", "line 2"]
    assert [line.number for line in lathe.task(NAME).log(follow=True)] == [1, 2, 3, 4]


def test_what_is_no_kind_field_or_name_is_a_value_error(lathe: Lathe) -> None:
    with pytest.raises(ValueError, match="kinds are conversion, quantization"):
        lathe.create("training")
    with pytest.raises(ValueError, match="nothing"):
        lathe.convert("models/m/versions/1", "templates/x", nothing=1)
    with pytest.raises(ValueError, match="task names are"):
        lathe.task("models/m")


def test_addresses_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATHE_TEMPLATE_ADDRESS", "there:2")
    lathe = Lathe({"registry": "here:1"})
    assert lathe.addresses["registry"] == "here:1"
    assert lathe.addresses["template"] == "there:2"
    assert lathe.addresses["converter"] == "127.0.0.1:50053"


def test_the_client_is_written_for_the_python_of_the_stubs() -> None:
    for path in CLIENT.glob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
