"""What projects use: of the object store, and how many tasks and uploads they have."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

import grpc
from lathe.internal.v1.usage_service_pb2 import CountTasksRequest, TaskCounts
from lathe.internal.v1.usage_service_pb2_grpc import UsageServiceStub
from lathe.registry.v1.artifact_service_pb2 import UPLOAD_STATE_OPEN
from lathe.registry.v1.project_service_pb2 import Quotas
from lathe.registry.v1.storage_service_pb2 import (
    GetProjectUsageRequest,
    ListProjectUsagesRequest,
    ListProjectUsagesResponse,
    ProjectUsage,
)

from services.database.pool import Record
from services.platform.access import readable
from services.platform.errors import from_rpc_error, is_transient
from services.process.composition import Platform
from services.process.references import others
from services.registry.allowance import Allowance
from services.registry.projects import Projects
from services.resources.paging import Position, decode_token, encode_token, page_size

__all__ = ["Usages"]

PATIENCE_SECONDS = 10.0
_WITHOUT_TASKS = ("registry", "template")
_USAGES = """
    SELECT p.name, u.files, u.bytes, u.measure_time, o.open FROM projects p
    LEFT JOIN project_usages u ON u.project = p.name
    LEFT JOIN (SELECT project, count(*) AS open FROM uploads WHERE state = $1 GROUP BY project) o ON o.project = p.name
"""
_PAGE = f"{_USAGES} WHERE p.name > $2 AND ($3::text[] IS NULL OR p.name = ANY ($3)) ORDER BY p.name LIMIT $4"
_ONE = f"{_USAGES} WHERE p.name = $2"


class Usages:
    """Reads what the last collection measured, and counts the rest."""

    def __init__(self, platform: Platform, projects: Projects) -> None:
        self._database = platform.database
        self._projects = projects
        self._allowance = Allowance()
        services = (service for service in others("registry") if service not in _WITHOUT_TASKS)
        self._siblings = {service: UsageServiceStub(platform.channel(service)) for service in services}

    async def get(self, request: GetProjectUsageRequest) -> ProjectUsage:
        """Return what a project uses; LatheError NOT_FOUND if there is none."""
        await self._projects.get(request.project)
        rows = await self._database.fetch(_ONE, UPLOAD_STATE_OPEN, request.project)
        (usage,) = await self._told(rows)
        async with self._database.connection() as connection:
            usage.open_uploads, usage.quota_bytes = await self._allowance.used(connection, request.project)
        return usage

    async def page(self, request: ListProjectUsagesRequest) -> ListProjectUsagesResponse:
        """Return one page of the projects that the caller may see, and the token of the next.

        Raises:
            LatheError: INVALID_ARGUMENT for a token that this did not return.
        """
        size, query = page_size(request.page_size), request.DESCRIPTOR.full_name
        after = decode_token(request.page_token, query, [str]).values[0] if request.page_token else ""
        rows = await self._database.fetch(_PAGE, UPLOAD_STATE_OPEN, after, readable(), size + 1)
        response = ListProjectUsagesResponse(project_usages=await self._told(rows[:size]))
        if len(rows) > size:
            response.next_page_token = encode_token(Position((rows[size - 1]["name"],)), query)
        return response

    async def _told(self, rows: Sequence[Record]) -> list[ProjectUsage]:
        """Return the messages of projects, with the tasks that the other services count."""
        wanted = CountTasksRequest(projects=[row["name"] for row in rows])
        limits, answers = (
            await self._projects.limits(),
            await asyncio.gather(*(self._ask(each, wanted) for each in self._siblings)),
        )
        silent = [name for name, answer in zip(self._siblings, answers, strict=True) if answer is None]
        usages = []
        for row in rows:
            project = row["name"]
            usage = ProjectUsage(project=project, open_uploads=row["open"] or 0, unreachable=silent)
            usage.quotas.CopyFrom(Quotas(**asdict(limits.of(project))))
            if row["measure_time"] is not None:
                usage.stored.files, usage.stored.bytes = row["files"], row["bytes"]
                usage.measure_time.FromDatetime(row["measure_time"])
            for answer in answers:
                if answer is not None and project in answer.projects:
                    usage.tasks.extend(answer.projects[project].tasks)
            usages.append(usage)
        return usages

    async def _ask(self, service: str, wanted: CountTasksRequest) -> TaskCounts | None:
        """Return what a sibling counts; None if it does not answer."""
        try:
            counts: TaskCounts = await self._siblings[service].CountTasks(wanted, timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            # One of an earlier release does not know the method.
            if is_transient(error.code()) or error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise from_rpc_error(error) from error
        return counts
