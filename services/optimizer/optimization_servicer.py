"""The methods of OptimizationService that no other task service has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lathe.optimizer.v1.optimization_service_pb2 import ListModelSavesResponse, ModelSave

from services.operations.verbs import operation_verbs
from services.optimizer.saver import Saver
from services.tasks.api.servicer import Method


class OptimizationServicer:
    """Serves saving, beside the verbs of tasks."""

    def __init__(self, saver: Saver) -> None:
        self._saver = saver

    @property
    def methods(self) -> Mapping[str, Method]:
        """The methods by name."""
        saves = operation_verbs("ModelSave", self._saver.operations, ListModelSavesResponse)
        return {**saves, "SaveModel": self.SaveModel, "CancelModelSave": self.CancelModelSave}

    async def SaveModel(self, request: Any, _context: Any) -> ModelSave:
        """Begin to lay a result out and register it."""
        return await self._saver.save(request)

    async def CancelModelSave(self, request: Any, _context: Any) -> ModelSave:
        """End a save."""
        return await self._saver.cancel(request.name)
