"""The audit log of all services as one: AuditService."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import grpc
from lathe.internal.v1.audit_service_pb2 import AuditLogPage, ReadAuditLogRequest
from lathe.internal.v1.audit_service_pb2_grpc import AuditLogServiceStub
from lathe.registry.v1.audit_service_pb2 import ListAuditEntriesRequest, ListAuditEntriesResponse
from lathe.registry.v1.audit_service_pb2_grpc import AuditServiceServicer

from services.platform import access
from services.platform.errors import from_rpc_error, is_transient
from services.process.audit_servicer import FIELDS, AuditLogServicer, joined
from services.process.composition import Platform
from services.process.references import others
from services.resources.filters.fields import checked
from services.resources.paging import Position, decode_token, encode_token, page_size

PATIENCE_SECONDS = 10.0


class AuditServicer(AuditServiceServicer):
    """Answers the calls of AuditService."""

    def __init__(self, platform: Platform) -> None:
        self._own = AuditLogServicer([platform.database])
        self._siblings = {service: AuditLogServiceStub(platform.channel(service)) for service in others("registry")}

    async def ListAuditEntries(
        self, request: ListAuditEntriesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ListAuditEntriesResponse:
        checked(request.filter, FIELDS)
        projects = access.projects_with(access.Role.ADMIN)
        if projects is not None and not projects:
            raise access.role_required("any project", access.Role.ADMIN, access.Role.NONE)
        query = [request.DESCRIPTOR.full_name, request.filter]
        before = decode_token(request.page_token, query, [UUID]).values[0] if request.page_token else ""
        wanted = ReadAuditLogRequest(
            filter=request.filter, before=str(before), limit=page_size(request.page_size), projects=projects or ()
        )
        answers = await asyncio.gather(
            self._own.ReadAuditLog(wanted, context), *(self._ask(service, wanted) for service in self._siblings)
        )
        page = joined([answer for answer in answers if answer is not None], wanted.limit)
        response = ListAuditEntriesResponse(
            audit_entries=page.entries,
            unreachable=[name for name, answer in zip(self._siblings, answers[1:], strict=True) if answer is None],
        )
        if page.more:
            last = UUID(page.entries[-1].name.partition("/")[2])
            response.next_page_token = encode_token(Position((last,)), query)
        return response

    async def _ask(self, service: str, wanted: ReadAuditLogRequest) -> AuditLogPage | None:
        """Return the entries of a sibling; None if it does not answer."""
        try:
            page: AuditLogPage = await self._siblings[service].ReadAuditLog(wanted, timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            if is_transient(error.code()):
                return None
            raise from_rpc_error(error) from error
        return page
