"""Tasks of every kind: create, watch, wait, cancel, read the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from lathe_client.calls import repeated, resumed
from lathe_client.errors import TaskEndedError

if TYPE_CHECKING:
    from lathe.type.v1.task_pb2 import LogLine

    from lathe_client.connection import Connection

M = TypeVar("M")


class Kind(NamedTuple):
    """A kind of task.

    Attributes:
        name: `conversion`.
        service: Process that serves it: `converter`.
    """

    name: str
    service: str

    @property
    def collection(self) -> str:
        """First part of the names of its tasks: `conversionTasks`."""
        return f"{self.name}Tasks"

    def message(self, name: str) -> Any:
        """Return a message type of its service by its name."""
        return getattr(import_module(f"lathe.{self.service}.v1.{self.name}_service_pb2"), name)

    def request(self, verb: str, **fields: Any) -> Any:
        """Return the request of a verb: `request("Get", name=…)` is a GetConversionTaskRequest."""
        return self.message(f"{self._method(verb)}Request")(**fields)

    def method(self, client: Connection, verb: str) -> Callable[..., Any]:
        """Return the method of a verb, ready to be called."""
        stubs = import_module(f"lathe.{self.service}.v1.{self.name}_service_pb2_grpc")
        stub = getattr(stubs, f"{self.name.capitalize()}ServiceStub")(client.channel(self.service))
        found: Callable[..., Any] = getattr(stub, self._method(verb))
        return found

    def call(self, client: Connection, verb: str, **fields: Any) -> Any:
        """Call a verb and return its answer."""
        return self.method(client, verb)(self.request(verb, **fields))

    def _method(self, verb: str) -> str:
        endings = {
            "List": "Tasks",
            "BatchGet": "Tasks",
            "BatchCancel": "Tasks",
            "BatchDelete": "Tasks",
            "Logs": "TaskLogs",
        }
        if verb.endswith(("Group", "Groups")):  # `GetGroup` is GetConversionTaskGroup
            word, _, plural = verb.partition("Group")
            return f"{word}{self.name.capitalize()}TaskGroup{plural}"
        word = "Stream" if verb == "Logs" else verb
        return f"{word}{self.name.capitalize()}{endings.get(verb, 'Task')}"


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("conversion", "converter"),
        Kind("quantization", "quantizer"),
        Kind("optimization", "optimizer"),
        Kind("profile", "optimizer"),
        Kind("evaluation", "evaluator"),
    )
}


def kind_of(name: str) -> Kind:
    """Return the kind of a task by the task's name.

    Raises:
        ValueError: The name is not that of a task.
    """
    for kind in KINDS.values():
        if name.startswith(f"{kind.collection}/"):
            return kind
    names = ", ".join(f"{kind.collection}/…" for kind in KINDS.values())
    raise ValueError(f"{name!r} is not a task; task names are {names}")


def watch(client: Connection, kind: Kind, name: str) -> Iterator[Any]:
    """Yield a task now and after every change until it ends; a broken stream is resumed."""
    request = kind.request("Watch", name=name)

    def advance(task: Any) -> None:
        request.after_revision = task.status.revision

    return resumed(kind.method(client, "Watch"), request, advance)


def read_log(
    client: Connection, kind: Kind, name: str, *, attempt: int = 0, tail_lines: int = 0, follow: bool = False
) -> Iterator[LogLine]:
    """Yield the lines of a task's log; a broken stream is resumed.

    Args:
        client: To the services.
        kind: Of the task.
        name: Of the task.
        attempt: The attempt; the newest if 0.
        tail_lines: Begins with this many lines from the end; with the whole log if 0.
        follow: Goes on until the task ends.
    """
    request = kind.request("Logs", name=name, attempt=attempt, tail_lines=tail_lines, follow=follow)

    def advance(batch: Any) -> None:
        request.after_line, request.tail_lines = batch.lines[-1].number, 0

    for batch in resumed(kind.method(client, "Logs"), request, advance):
        yield from batch.lines


class Task(Generic[M]):
    """One task.

    Attributes:
        name: `conversionTasks/{task}`.
        message: The task as it was last seen.
    """

    def __init__(self, client: Connection, message: M) -> None:
        self._client = client
        self.message = message
        self.name: str = message.name  # type: ignore[attr-defined]
        self._kind = kind_of(self.name)

    def watch(self) -> Iterator[M]:
        """Yield the task now and after every change until it ends; a broken stream is resumed."""
        for message in watch(self._client, self._kind, self.name):
            self.message = message
            yield message

    def wait(self, on_change: Callable[[M], None] | None = None) -> M:
        """Return the task once it SUCCEEDED.

        Args:
            on_change: Called with the task after every change, for progress.

        Raises:
            TaskEndedError: It FAILED or was cancelled.
            LatheError: Its service refuses, or stays away.
        """
        from lathe.type.v1 import task_pb2

        for task in self.watch():
            if on_change is not None:
                on_change(task)
        status: Any = self.message.status  # type: ignore[attr-defined]
        if status.state == task_pb2.TASK_STATE_SUCCEEDED:
            return self.message
        raise TaskEndedError(self.message, status.failure if status.state == task_pb2.TASK_STATE_FAILED else None)

    def refresh(self) -> M:
        """Read the task again and return it."""
        self.message = repeated(self._kind.method(self._client, "Get"), self._kind.request("Get", name=self.name))
        return self.message

    def cancel(self) -> M:
        """Ask for the task's end and return it; `wait` tells when it has ended."""
        self.message = self._kind.call(self._client, "Cancel", name=self.name)
        return self.message

    def log(self, *, attempt: int = 0, tail_lines: int = 0, follow: bool = False) -> Iterator[LogLine]:
        """Yield the lines of the task's log; see `read_log`."""
        return read_log(self._client, self._kind, self.name, attempt=attempt, tail_lines=tail_lines, follow=follow)
