"""Imports of versions: operations that read files of any size and create a version of them."""

from __future__ import annotations

from datetime import timedelta

from lathe.registry.v1.model_service_pb2 import (
    CreateModelVersionImportRequest,
    CreateModelVersionRequest,
    ModelVersionImport,
)
from lathe.type.v1.failure_pb2 import TASK_STAGE_FETCHING_INPUTS
from lathe.type.v1.operation_pb2 import OperationState

from services.operations.backlog import Backlog
from services.operations.operations import Operations
from services.operations.runner import Standing
from services.process.composition import Platform
from services.registry.creation import Creation
from services.registry.kinds import OF_MODEL
from services.resources.filters.fields import word_field
from services.resources.kind import ResourceKind

KIND = ResourceKind(
    ModelVersionImport,
    table="model_version_imports",
    collection="imports",
    noun="model version import",
    columns={"state": lambda each: each.state},
    detail_fields=("model_version",),
    fields={"state": word_field(OperationState)},
    scope=OF_MODEL,
)


class VersionImports:
    """Creates imports, and does them, one at a time in a process: each may read many GiB."""

    noun = "model version import"
    at_once = 1

    def __init__(self, platform: Platform, creation: Creation) -> None:
        settings, database = platform.settings, platform.database
        backlog = Backlog(database, "model_version_import_work", "import", timedelta(seconds=settings.ack_wait_seconds))
        self.operations = Operations(database, KIND, backlog, self, max_attempts=settings.max_attempts)
        self._creation = creation

    async def create(self, request: CreateModelVersionImportRequest) -> ModelVersionImport:
        """Create an import; what can be said without reading the files is checked at once.

        Raises:
            LatheError: NOT_FOUND for the model, and for what the version refers to (REFERENCE_NOT_FOUND);
                INVALID_ARGUMENT and FAILED_PRECONDITION as `Creation.check`.
        """
        if first := await self.operations.store.first_made(request):
            return await self.operations.get(first.name)
        wanted = request.model_version_import
        inside = "model_version_import.model_version"
        _, version = await self._creation.check(_creation(request.parent, wanted), inside=inside)
        # The work is the registry's own: it may see everything.
        await self._creation.check_references(version, inside)
        asked = ModelVersionImport(
            display_name=wanted.display_name, labels=wanted.labels, model_version=wanted.model_version
        )
        return await self.operations.create(request, asked, parent=request.parent)

    async def do(self, operation: ModelVersionImport, standing: Standing) -> ModelVersionImport:
        """Create the version; under the import's uid, so that an interrupted attempt creates no second one."""
        request = _creation(operation.name.partition("/imports/")[0], operation)
        request.request_id = operation.uid
        created = await self._creation.create(request, lambda part: standing.at(TASK_STAGE_FETCHING_INPUTS, part))
        return ModelVersionImport(created_version=created.name)


def _creation(model: str, asked: ModelVersionImport) -> CreateModelVersionRequest:
    return CreateModelVersionRequest(parent=model, model_version=asked.model_version)
