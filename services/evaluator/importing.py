"""Evaluations that were made elsewhere: recorded as tasks that have succeeded, and marked."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from lathe.evaluator.v1.evaluation_service_pb2 import (
    EvaluationResult,
    EvaluationSpec,
    EvaluationTask,
    ImportEvaluationRequest,
)
from lathe.internal.v1.evaluation_pb2 import EvaluationWork

from services.platform.errors import invalid_argument
from services.platform.identity import current_user
from services.process.composition import Platform
from services.siblings.datasets import Datasets
from services.siblings.sources import Sources
from services.tasks.api.handlers import TaskHandlers, fingerprint_of
from services.tasks.api.request import TaskRequest
from services.tasks.kind import PreparedTask

MAX_METRICS = 10_000
# What only an evaluation of Lathe's own has.
_OWN = ("json_report", "html_report", "predictions", "imported")


class Imports:
    """Records evaluations."""

    def __init__(self, platform: Platform, tasks: TaskHandlers) -> None:
        self._sources = Sources(platform.channel("registry"), platform.cas)
        self._datasets = Datasets(platform.channel("registry"))
        self._tasks = tasks

    async def import_evaluation(self, request: ImportEvaluationRequest, _context: Any) -> EvaluationTask:
        """Record an evaluation, once per request id.

        Raises:
            LatheError: NOT_FOUND for the version or the dataset; INVALID_ARGUMENT for figures that cannot be;
                FAILED_PRECONDITION for a report that is not stored (BLOB_NOT_FOUND).
        """
        spec = EvaluationSpec(model_version=request.model_version)
        if request.dataset:
            spec.dataset = request.dataset
        wanted = TaskRequest(
            spec=spec,
            display_name=request.display_name,
            labels=dict(request.labels),
            project=request.project,
            request_id=request.request_id,
            fingerprint=fingerprint_of(request),
            done=lambda: self._done(request),
        )
        task: EvaluationTask = await self._tasks.record(wanted)
        return task

    async def _done(self, request: ImportEvaluationRequest) -> tuple[PreparedTask, EvaluationResult]:
        _check_figures(request.result)
        found = await self._sources.read(request.model_version, project=request.project)
        if request.dataset:
            await self._datasets.ready(request.dataset)
        if request.origin.HasField("report"):
            await self._sources.require_stored(request.origin.report.digest, "bytes of the report")
        result = EvaluationResult()
        result.CopyFrom(request.result)
        for field in _OWN:
            result.ClearField(field)  # type: ignore[arg-type]  # all of them are fields
        result.imported.CopyFrom(request.origin)
        result.imported.owner = current_user()
        name = f"{found.model.display_name} {datetime.now():%Y-%m-%d %H:%M:%S}"
        prepared = PreparedTask(
            work=EvaluationWork(),
            device=found.model_version.package.device,
            project=request.project or found.model.project,
            display_name=name,
        )
        return prepared, result


def _check_figures(result: EvaluationResult) -> None:
    field = "result.metrics"
    if not 1 <= len(result.metrics) <= MAX_METRICS:
        raise invalid_argument(field, f"An import has 1 to {MAX_METRICS} metrics; this one has {len(result.metrics)}.")
    seen = set()
    for index, metric in enumerate(result.metrics):
        if not metric.name:
            raise invalid_argument(f"{field}[{index}].name", "A metric needs a name, such as 'top1'.")
        if not all(math.isfinite(value) for value in (metric.value, metric.low, metric.high)):
            raise invalid_argument(f"{field}[{index}]", f"A figure of '{metric.name}' is not a finite number.")
        if (metric.name, metric.slice) in seen:
            raise invalid_argument(f"{field}[{index}]", f"'{metric.name}' is there twice; give it once per slice.")
        seen.add((metric.name, metric.slice))
