"""ProjectService: requests and answers."""

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty
from lathe.registry.v1 import project_service_pb2 as pb
from lathe.registry.v1.project_service_pb2_grpc import ProjectServiceServicer

from services.registry.projects import Projects
from services.resources.batches import deleted

Context = grpc.aio.ServicerContext[object, object]


class ProjectServicer(ProjectServiceServicer):
    """Answers the calls of ProjectService."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects

    async def CreateProject(self, request: pb.CreateProjectRequest, context: Context) -> pb.Project:
        return await self._projects.create(request)

    async def GetProject(self, request: pb.GetProjectRequest, context: Context) -> pb.Project:
        return await self._projects.get(request.name)

    async def ListProjects(self, request: pb.ListProjectsRequest, context: Context) -> pb.ListProjectsResponse:
        answer = pb.ListProjectsResponse()
        answer.next_page_token = await self._projects.page(request, answer.projects)
        return answer

    async def UpdateProject(self, request: pb.UpdateProjectRequest, context: Context) -> pb.Project:
        return await self._projects.update(request)

    async def DeleteProject(self, request: pb.DeleteProjectRequest, context: Context) -> Empty:
        deletion = self._projects.delete(request.name, request.etag)
        return await deleted(deletion, allow_missing=request.allow_missing)
