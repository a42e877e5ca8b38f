"""The task services: the same verbs for each kind of task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError

if TYPE_CHECKING:
    from services.cli.client import Connection


@dataclass(frozen=True)
class TaskService:
    """One task service.

    Attributes:
        kind: Kind of task: `conversion`.
        service: Process that serves it: `converter`.
    """

    kind: str
    service: str

    @property
    def collection(self) -> str:
        """First part of the names of its tasks: `conversionTasks`."""
        return f"{self.kind}Tasks"

    def messages(self) -> Any:
        """Return the module of its messages."""
        return import_module(f"lathe.{self.service}.v1.{self.kind}_service_pb2")

    def request(self, verb: str, **fields: Any) -> Any:
        """Return the request of a verb: `request("Get", name=…)` is a GetConversionTaskRequest."""
        return getattr(self.messages(), f"{self._method(verb)}Request")(**fields)

    def method(self, connection: Connection, verb: str) -> Callable[[Any], Any]:
        """Return the method of a verb, ready to be called."""
        stubs = import_module(f"lathe.{self.service}.v1.{self.kind}_service_pb2_grpc")
        stub = getattr(stubs, f"{self.kind.capitalize()}ServiceStub")(connection.channel(self.service))
        found: Callable[[Any], Any] = getattr(stub, self._method(verb))
        return found

    def call(self, connection: Connection, verb: str, **fields: Any) -> Any:
        """Call a verb and return its answer."""
        return self.method(connection, verb)(self.request(verb, **fields))

    def _method(self, verb: str) -> str:
        endings = {"List": "Tasks", "BatchDelete": "Tasks", "Logs": "TaskLogs"}
        word = "Stream" if verb == "Logs" else verb
        return f"{word}{self.kind.capitalize()}{endings.get(verb, 'Task')}"


TASK_SERVICES = (
    TaskService("conversion", "converter"),
    TaskService("quantization", "quantizer"),
    TaskService("optimization", "optimizer"),
    TaskService("evaluation", "evaluator"),
)


def service_of(name: str) -> TaskService:
    """Return the service of a task by the task's whole name.

    Raises:
        CliError: The name is not that of a task.
    """
    found = next((each for each in TASK_SERVICES if name.startswith(f"{each.collection}/")), None)
    if found is None:
        kinds = ", ".join(f"{each.collection}/…" for each in TASK_SERVICES)
        raise CliError(f"{name!r} is not a task; task names are {kinds}.", ExitCode.USAGE)
    return found


def find_task(connection: Connection, text: str) -> tuple[TaskService, str]:
    """Return the service and the whole name of a task; for a bare id, all services are asked.

    Raises:
        CliError: The name is not that of a task, or no service knows the id.
    """
    import grpc

    if "/" in text:
        return service_of(text), text
    for service in TASK_SERVICES:
        name = f"{service.collection}/{text}"
        try:
            service.call(connection, "Get", name=name)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
        else:
            return service, name
    raise CliError(f"No service has a task with the id {text!r}.", ExitCode.NOT_FOUND)
