"""What a request to create a task asks for, whichever verb it came by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import Message

from services.tasks.kind import PreparedTask
from services.tasks.state.rows import TaskRow


@dataclass(frozen=True)
class TaskRequest:
    """A request to create a task: the specification and what surrounds it. `fingerprint` tells two requests apart.

    `project` is empty for that of the model that the specification works on.
    `retried` is the row of the task that this one retries: its outcome can be used again, whichever workers live.
    `done`, for work that was done elsewhere, checks the request and returns the task's result: it needs no worker.
    """

    spec: Message
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    skip_cache: bool = False
    request_id: str = ""
    fingerprint: bytes = b""
    retry_of: str = ""
    retried: TaskRow | None = None
    resubmission_of: str = ""
    priority: int = 0
    group: str = ""
    project: str = ""
    done: Callable[[], Awaitable[tuple[PreparedTask, Message]]] | None = None
