"""The methods of OptimizationService that no other task service has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.empty_pb2 import Empty
from lathe.optimizer.v1.optimization_service_pb2 import (
    ListModelSavesResponse,
    ListOptimizationTaskGroupsResponse,
    ModelSave,
    OptimizationTaskGroup,
)

from services.operations.verbs import operation_verbs
from services.optimizer.groups import Groups
from services.optimizer.saver import Saver
from services.resources.batches import deleted
from services.tasks.api.servicer import Method


class OptimizationServicer:
    """Serves saving and groups, beside the verbs of tasks."""

    def __init__(self, saver: Saver, groups: Groups) -> None:
        self._saver = saver
        self._groups = groups

    @property
    def methods(self) -> Mapping[str, Method]:
        """The methods by name."""
        own = (
            self.SaveModel,
            self.CancelModelSave,
            self.CreateOptimizationTaskGroup,
            self.GetOptimizationTaskGroup,
            self.ListOptimizationTaskGroups,
            self.DeleteOptimizationTaskGroup,
        )
        saves = operation_verbs("ModelSave", self._saver.operations, ListModelSavesResponse)
        return {**saves, **{method.__name__: method for method in own}}

    async def SaveModel(self, request: Any, _context: Any) -> ModelSave:
        """Begin to lay a result out and register it."""
        return await self._saver.save(request)

    async def CancelModelSave(self, request: Any, _context: Any) -> ModelSave:
        """End a save."""
        return await self._saver.cancel(request.name)

    async def CreateOptimizationTaskGroup(self, request: Any, _context: Any) -> OptimizationTaskGroup:
        """Create a group with its tasks."""
        return await self._groups.create(request)

    async def GetOptimizationTaskGroup(self, request: Any, _context: Any) -> OptimizationTaskGroup:
        """Return a group."""
        return await self._groups.get(request.name)

    async def ListOptimizationTaskGroups(self, request: Any, _context: Any) -> ListOptimizationTaskGroupsResponse:
        """Return a page of groups."""
        groups, token = await self._groups.page(request)
        return ListOptimizationTaskGroupsResponse(groups=groups, next_page_token=token)

    async def DeleteOptimizationTaskGroup(self, request: Any, _context: Any) -> Empty:
        """Delete a group."""
        deletion = self._groups.delete(request.name, request.etag)
        return await deleted(deletion, allow_missing=request.allow_missing)
