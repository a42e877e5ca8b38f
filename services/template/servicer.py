"""TemplateService over gRPC: requests in, answers out."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty
from lathe.internal.v1.resolution_service_pb2 import ResolveTaskTemplateRequest
from lathe.internal.v1.resolution_service_pb2_grpc import ResolutionServiceServicer
from lathe.template.v1.template_service_pb2 import (
    BatchDeleteTemplatesRequest,
    BatchDeleteTemplatesResponse,
    CreateTemplateRequest,
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    ListTemplatesResponse,
    ResolvedTemplate,
    ResolveTemplateRequest,
    Template,
    UpdateTemplateRequest,
)
from lathe.template.v1.template_service_pb2_grpc import TemplateServiceServicer

from services.resources.batches import deleted, in_batch
from services.template.handlers import Templates


class TemplateServicer(TemplateServiceServicer):
    """Answers for the handlers."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    async def CreateTemplate(self, request: CreateTemplateRequest, _context: Any) -> Template:
        """Create a template."""
        return await self._templates.create(request)

    async def GetTemplate(self, request: GetTemplateRequest, _context: Any) -> Template:
        """Return a template."""
        return await self._templates.get(request.name)

    async def ListTemplates(self, request: ListTemplatesRequest, _context: Any) -> ListTemplatesResponse:
        """Return one page of templates."""
        answer = ListTemplatesResponse()
        answer.next_page_token = await self._templates.list(request, answer.templates)
        return answer

    async def UpdateTemplate(self, request: UpdateTemplateRequest, _context: Any) -> Template:
        """Change fields of a template."""
        return await self._templates.update(request)

    async def DeleteTemplate(self, request: DeleteTemplateRequest, _context: Any) -> Empty:
        """Delete a template."""
        deletion = self._templates.delete(request.name, request.etag)
        return await deleted(deletion, allow_missing=request.allow_missing)

    async def BatchDeleteTemplates(
        self, request: BatchDeleteTemplatesRequest, _context: Any
    ) -> BatchDeleteTemplatesResponse:
        """Delete many templates."""
        gone, errors = await in_batch(
            request.names, lambda name: self._templates.delete(name, ""), allow_missing=request.allow_missing
        )
        return BatchDeleteTemplatesResponse(deleted=gone, errors=errors)

    async def ResolveTemplate(self, request: ResolveTemplateRequest, _context: Any) -> ResolvedTemplate:
        """Return the full specification of a task."""
        return await self._templates.resolve(request)


class ResolutionServicer(ResolutionServiceServicer):
    """Answers Lathe's other services for the handlers."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    async def ResolveTaskTemplate(self, request: ResolveTaskTemplateRequest, _context: Any) -> ResolvedTemplate:
        """Return the specification of a task, without what its version says."""
        return await self._templates.resolve_for_task(request)
