"""WatchService over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from lathe.watch.v1 import watch_service_pb2 as pb
from lathe.watch.v1.watch_service_pb2_grpc import WatchServiceServicer

from services.registry.watch.tasks import TaskWatch


class WatchServicer(WatchServiceServicer):
    """Answers the calls of WatchService."""

    def __init__(self, tasks: TaskWatch) -> None:
        self._tasks = tasks

    async def WatchTasks(
        self, request: pb.WatchTasksRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> AsyncIterator[pb.WatchTasksResponse]:
        async for response in self._tasks.follow(request):
            yield response
