"""The methods of OptimizationService that no other task service has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.empty_pb2 import Empty
from lathe.optimizer.v1.optimization_service_pb2 import ListModelSavesResponse, ModelSave

from services.operations.verbs import operation_verbs
from services.optimizer.saver import Saver
from services.resources.batches import deleted
from services.tasks.api.servicer import Method


class OptimizationServicer:
    """Serves saving, beside the verbs of tasks."""

    def __init__(self, saver: Saver, task: Callable[[str], Awaitable[object]]) -> None:
        """Serve saves; `task` reads a task by name, and raises LatheError NOT_FOUND if there is none."""
        self._saver = saver
        self._task = task

    @property
    def methods(self) -> Mapping[str, Method]:
        """The methods by name."""
        saves = operation_verbs("ModelSave", self._saver.operations, ListModelSavesResponse, self._task)
        own = (self.SaveModel, self.CancelModelSave, self.DeleteModelSave)
        return {**saves, **{method.__name__: method for method in own}}

    async def SaveModel(self, request: Any, _context: Any) -> ModelSave:
        """Begin to lay a result out and register it."""
        return await self._saver.save(request)

    async def CancelModelSave(self, request: Any, _context: Any) -> ModelSave:
        """End a save."""
        return await self._saver.cancel(request.name)

    async def DeleteModelSave(self, request: Any, _context: Any) -> Empty:
        """Delete a save, and end it if it goes on."""
        return await deleted(self._saver.delete(request.name, request.etag), allow_missing=request.allow_missing)
