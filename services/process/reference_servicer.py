"""ReferenceService: what the tables of a process refer to in the object store, for the registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import grpc
from lathe.internal.v1 import reference_service_pb2 as pb
from lathe.internal.v1.reference_service_pb2_grpc import ReferenceServiceServicer

from services.database.pool import Database
from services.process.references import oldest_work, references

Context = grpc.aio.ServicerContext[object, object]


class ReferenceServicer(ReferenceServiceServicer):
    """Answers the calls of ReferenceService; the server lets no user call it."""

    def __init__(self, databases: Sequence[Database]) -> None:
        """Tell what the schemas of these databases refer to."""
        self._databases = databases

    async def ListReferences(
        self, request: pb.ListReferencesRequest, context: Context
    ) -> AsyncIterator[pb.ListReferencesResponse]:
        first = pb.ListReferencesResponse()
        works = [await oldest_work(database) for database in self._databases]
        if oldest := min((time for time in works if time is not None), default=None):
            first.oldest_work.FromDatetime(oldest)
        yield first
        for database in self._databases:
            async for project, part in references(database):
                yield pb.ListReferencesResponse(project=project, sha256s=b"".join(part))
