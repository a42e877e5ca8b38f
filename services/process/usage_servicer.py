"""UsageService: how many tasks of projects a process keeps, for the registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import grpc
from lathe.internal.v1 import usage_service_pb2 as pb
from lathe.internal.v1.usage_service_pb2_grpc import UsageServiceServicer
from lathe.registry.v1.storage_service_pb2 import TaskUsage

__all__ = ["CountTasks", "UsageServicer"]

CountTasks = Callable[[Sequence[str]], Awaitable[Mapping[str, TaskUsage]]]
"""Counts the tasks of one kind, by project."""


class UsageServicer(UsageServiceServicer):
    """Answers the calls of UsageService; the server lets no user call it."""

    def __init__(self, counts: Sequence[CountTasks]) -> None:
        """Count with each of `counts`, one for each kind of the process."""
        self._counts = counts

    async def CountTasks(
        self, request: pb.CountTasksRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> pb.TaskCounts:
        answer = pb.TaskCounts()
        for count in self._counts:
            for project, tasks in (await count(list(request.projects))).items():
                answer.projects[project].tasks.append(tasks)
        return answer
