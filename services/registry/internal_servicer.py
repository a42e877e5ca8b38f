"""The registry's calls for Lathe's other services over gRPC."""

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty
from lathe.internal.v1 import registry_service_pb2 as pb
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceServicer
from lathe.internal.v1.selection_pb2 import DatasetSelection
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.type.v1.access_pb2 import Role

from services.database.pool import Database
from services.registry.creation import Creation
from services.registry.datasets.holds import Holds
from services.registry.datasets.selection import Selections
from services.registry.projects import Projects
from services.registry.releases.rows import evidence_among
from services.registry.task_sources import TaskSources
from services.registry.versions import Versions

Context = grpc.aio.ServicerContext[object, object]


class InternalServicer(RegistryServiceServicer):
    """Answers the calls of lathe.internal.v1.RegistryService; the server lets no user call it."""

    def __init__(  # noqa: PLR0917 - one for each kind of call
        self,
        database: Database,
        projects: Projects,
        versions: Versions,
        creation: Creation,
        sources: TaskSources,
        selections: Selections,
        holds: Holds,
    ) -> None:
        self._database = database
        self._projects = projects
        self._versions = versions
        self._creation = creation
        self._sources = sources
        self._selections = selections
        self._dataset_holds = holds

    async def ReadGrants(self, request: pb.ReadGrantsRequest, context: Context) -> pb.Grants:
        roles = await self._projects.roles(request.user, frozenset(request.groups))
        return pb.Grants(roles={project: Role.ValueType(role) for project, role in roles.items()})

    async def ReadQuotas(self, request: pb.ReadQuotasRequest, context: Context) -> pb.QuotaTable:
        return await self._projects.quotas()

    async def ReadReleaseEvidence(self, request: pb.ReadReleaseEvidenceRequest, context: Context) -> pb.ReleaseEvidence:
        return pb.ReleaseEvidence(evaluation_tasks=await evidence_among(self._database, request.evaluation_tasks))

    async def ReadTaskSource(self, request: pb.ReadTaskSourceRequest, context: Context) -> pb.TaskSource:
        return await self._sources.read(request)

    async def RegisterModelVersion(self, request: pb.RegisterModelVersionRequest, context: Context) -> ModelVersion:
        return await self._creation.create(request)

    async def HoldModelVersion(self, request: pb.HoldModelVersionRequest, context: Context) -> Empty:
        await self._versions.hold(request.name, request.holder, request.ttl)
        return Empty()

    async def UnholdModelVersion(self, request: pb.UnholdModelVersionRequest, context: Context) -> Empty:
        await self._versions.unhold(request.name, request.holder)
        return Empty()

    async def RenewHolds(self, request: pb.RenewHoldsRequest, context: Context) -> Empty:
        await self._versions.renew_holds(request.holders, request.ttl)
        await self._dataset_holds.renew(request.holders, request.ttl)
        return Empty()

    async def UseArtifacts(self, request: pb.UseArtifactsRequest, context: Context) -> Empty:
        await self._projects.use_artifacts(request)
        return Empty()

    async def SelectDatasetItems(self, request: pb.SelectDatasetItemsRequest, context: Context) -> DatasetSelection:
        return await self._selections.select(request)

    async def HoldDataset(self, request: pb.HoldDatasetRequest, context: Context) -> Empty:
        await self._dataset_holds.hold(request.name, request.holder, request.ttl)
        return Empty()

    async def UnholdDataset(self, request: pb.UnholdDatasetRequest, context: Context) -> Empty:
        await self._dataset_holds.unhold(request.name, request.holder)
        return Empty()
