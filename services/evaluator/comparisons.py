"""Comparisons of evaluations: operations that are checked when they are created, and compared in the background."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import grpc
from lathe.evaluator.v1.evaluation_service_pb2 import (
    CreateEvaluationComparisonRequest,
    EvaluationComparison,
    EvaluationTask,
    ListEvaluationComparisonsResponse,
)
from lathe.type.v1.failure_pb2 import TASK_STAGE_EXECUTING
from lathe.type.v1.operation_pb2 import OPERATION_STATE_RUNNING, OperationState
from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED, TaskState

from services.audit.entries import become
from services.evaluator.comparer import SLOTS, Comparer
from services.evaluator.kind import EvaluationKind
from services.operations.backlog import Backlog
from services.operations.operations import Operations
from services.operations.runner import Standing
from services.operations.verbs import operation_verbs
from services.platform import access
from services.platform.errors import LatheError, failed_precondition
from services.platform.words import word
from services.process.composition import Platform
from services.resources.filters.fields import TEXTS, word_field
from services.resources.kind import ResourceKind
from services.resources.scope import Stated
from services.siblings.results import Results
from services.tasks.api.handlers import TaskHandlers
from services.tasks.api.retention import KEEP, by_itself
from services.tasks.api.servicer import Method

# An answer has to stay under gRPC's 4 MiB; the reports hold everything.
MAX_ANSWER_BYTES = 3_500_000
_EXPIRED = """
    SELECT name, body FROM comparisons WHERE state <> $1 AND update_time < $2 AND NOT labels ? $3 AND name > $4
    ORDER BY name LIMIT 200
"""
KIND = ResourceKind(
    EvaluationComparison,
    table="comparisons",
    collection="evaluationComparisons",
    noun="comparison",
    columns={"tasks": lambda comparison: list(comparison.tasks), "state": lambda comparison: comparison.state},
    fields={"tasks": TEXTS, "state": word_field(OperationState)},
    detail_fields=("deltas", "regressions"),
    scope=Stated(),
)


class Comparisons:
    """Creates comparisons, and makes them."""

    noun = "comparison"
    at_once = SLOTS

    def __init__(self, platform: Platform, comparer: Comparer, tasks: TaskHandlers) -> None:
        settings, database = platform.settings, platform.database
        lease = timedelta(seconds=settings.ack_wait_seconds)
        backlog = Backlog(database, "comparison_work", "comparison", lease)
        self.operations = Operations(database, KIND, backlog, self, max_attempts=settings.max_attempts)
        self._database = database
        self._comparer = comparer
        self._results = Results(platform.channel("registry"))
        self._tasks = tasks

    @property
    def methods(self) -> Mapping[str, Method]:
        """The methods of EvaluationService for comparisons, by name."""
        verbs = operation_verbs("EvaluationComparison", self.operations, ListEvaluationComparisonsResponse)
        return {**verbs, "CreateEvaluationComparison": self._create}

    async def _create(self, request: CreateEvaluationComparisonRequest, _context: Any) -> EvaluationComparison:
        """Create a comparison, once per request id.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION if an evaluation has not SUCCEEDED (EVALUATION_NOT_SUCCEEDED),
                was imported (EVALUATION_IMPORTED), or if they are on different data (DATASETS_DIFFER) or of different
                projects (PROJECTS_DIFFER).
        """
        if first := await self.operations.store.first_made(request):
            return await self.operations.get(first.name)
        asked = request.evaluation_comparison
        tasks = await self._evaluations(asked)
        project = asked.project or tasks[0].project
        access.require_project(project)
        _require_comparable(tasks, project)
        new = EvaluationComparison(
            display_name=asked.display_name,
            labels=asked.labels,
            tasks=asked.tasks,
            dataset=tasks[0].spec.dataset,
            project=project,
        )
        return await self.operations.create(request, new)

    async def do(self, operation: EvaluationComparison, standing: Standing) -> EvaluationComparison:
        """Compare the evaluations, which may be gone by now."""
        standing.at(TASK_STAGE_EXECUTING, 0.0)
        comparison = await self._comparer.compare(await self._evaluations(operation), standing)
        await self._results.keep(operation, comparison)
        return fitted(comparison)

    async def expire(self, before: datetime) -> None:
        """Delete what ended, and was last changed, before a time, but for what has the label `keep`."""
        become(by_itself(f"{EvaluationKind.service}/DeleteEvaluationComparison"))
        after = ""
        while rows := await self._database.fetch(_EXPIRED, OPERATION_STATE_RUNNING, before, KEEP, after):
            for row in rows:
                try:
                    await self.operations.delete(row["name"], EvaluationComparison.FromString(row["body"]).etag)
                except LatheError as error:  # one that was changed in this very moment stays until the next time
                    if error.code not in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED}:
                        raise
            after = rows[-1]["name"]

    async def _evaluations(self, comparison: EvaluationComparison) -> list[EvaluationTask]:
        return [self._tasks.present(await self._tasks.row(name)) for name in comparison.tasks]


def fitted(comparison: EvaluationComparison) -> EvaluationComparison:
    """Return the comparison cut to the size of an answer: if it is too large, its longest list is shortened."""
    lists: list[Any] = [comparison.deltas, comparison.regressions]
    while comparison.ByteSize() > MAX_ANSWER_BYTES:
        longest = max(lists, key=len)
        del longest[len(longest) // 2 :]
    return comparison


def _require_comparable(tasks: Sequence[EvaluationTask], project: str) -> None:
    for task in tasks:
        if task.project != project:
            raise failed_precondition(
                "PROJECTS_DIFFER",
                f"'{task.name}' is in '{task.project}', and the comparison in '{project}', whose members would read of "
                f"it. Compare evaluations of one project; evaluate '{task.spec.model_version}' in '{project}' if it is "
                "shared with that.",
                task.name,
            )
        if task.status.state != TASK_STATE_SUCCEEDED:
            state = word(TaskState, task.status.state)
            raise failed_precondition(
                "EVALUATION_NOT_SUCCEEDED",
                f"'{task.name}' is {state}; only evaluations that SUCCEEDED can be compared.",
                task.name,
            )
        if task.result.HasField("imported"):
            raise failed_precondition(
                "EVALUATION_IMPORTED",
                f"'{task.name}' was made elsewhere and has no predictions, which comparisons are made of. Evaluate "
                f"'{task.spec.model_version}' here to compare it.",
                task.name,
            )
    by_data: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        by_data[task.spec.dataset or f"the uploaded images {task.spec.images.sha256}"].append(task.name)
    if len(by_data) > 1:
        told = "; ".join(f"{', '.join(names)} on {data}" for data, names in by_data.items())
        raise failed_precondition(
            "DATASETS_DIFFER",
            f"Evaluations are compared sample by sample, so all have to be on the same data. These are not: {told}. "
            "Evaluate them on one dataset first.",
        )
