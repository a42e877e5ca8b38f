"""Comparisons of evaluations: made once per request, stored, and listed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from lathe.evaluator.v1.evaluation_service_pb2 import (
    CompareEvaluationsRequest,
    EvaluationComparison,
    EvaluationTask,
    ListEvaluationComparisonsRequest,
)
from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED, TaskState
from lathe.type.v1.view_pb2 import VIEW_FULL
from uuid_utils.compat import uuid7

from services.database.leases import Leases
from services.database.pool import Database
from services.evaluator.comparer import Comparer
from services.platform.errors import failed_precondition, not_found
from services.platform.identity import current_user
from services.platform.words import word
from services.resources.idempotency import claim_first, find_first, made_once
from services.resources.listing import Listing, ListQuery, list_page
from services.tasks.api.handlers import TaskHandlers

COLLECTION = "evaluationComparisons"
# An answer has to stay under gRPC's 4 MiB; the reports hold everything.
MAX_ANSWER_BYTES = 3_500_000
_DETAILS = ("deltas", "regressions")
_LISTING = Listing("comparisons", details=_DETAILS, order_fields={"create_time": datetime}, arrays=frozenset({"tasks"}))
_FULL_LISTING = replace(_LISTING, columns="body || detail AS body", stored=("body", "detail"))
_INSERT = """
    INSERT INTO comparisons (uid, name, owner, create_time, tasks, body, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


class Comparisons:
    """Makes and reads comparisons."""

    def __init__(self, database: Database, comparer: Comparer, tasks: TaskHandlers) -> None:
        self._database = database
        self._comparer = comparer
        self._leases = Leases(database)
        self._tasks = tasks

    async def compare(self, request: CompareEvaluationsRequest) -> EvaluationComparison:
        """Compare evaluations and store the result, once per request id.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION if one has not SUCCEEDED (EVALUATION_NOT_SUCCEEDED), or if
                they are on different data (DATASETS_DIFFER), or as Comparer says.
        """
        return await made_once(
            self._leases,
            request,
            find=lambda: self._made_before(request),
            make=lambda: self._make(request),
        )

    async def _made_before(self, request: CompareEvaluationsRequest) -> EvaluationComparison | None:
        uid = await find_first(self._database, request)
        return None if uid is None else await self._stored(uid)

    async def _make(self, request: CompareEvaluationsRequest) -> EvaluationComparison:
        owner = current_user()
        tasks = [self._tasks.present(await self._tasks.row(name)) for name in request.names]
        _require_comparable(tasks)
        comparison = fitted(await self._comparer.compare(tasks))
        uid = uuid7()
        comparison.name, comparison.owner = f"{COLLECTION}/{uid}", owner
        comparison.tasks[:] = request.names
        comparison.dataset = tasks[0].spec.dataset
        comparison.create_time.FromDatetime(datetime.now(UTC))
        async with self._database.transaction() as transaction:
            first = await claim_first(transaction, request, uid)
            if first is None:
                await transaction.execute(_INSERT, *_values(uid, comparison))
        return comparison if first is None else await self._stored(first)

    async def get(self, name: str) -> EvaluationComparison:
        """Return a stored comparison. Raises LatheError NOT_FOUND."""
        collection, _, identifier = name.partition("/")
        try:
            uid = UUID(identifier)
        except ValueError:
            raise not_found("comparison", name) from None
        if collection != COLLECTION or str(uid) != identifier:
            raise not_found("comparison", name)
        return await self._stored(uid)

    async def list(self, request: ListEvaluationComparisonsRequest) -> tuple[list[EvaluationComparison], str]:
        """Return a page of comparisons, the newest first, and the next token; in a basic view without details."""
        query = ListQuery(
            method=request.DESCRIPTOR.full_name,
            page_size=request.page_size,
            page_token=request.page_token,
            owner=current_user() if request.mine_only else "",
            filters={"tasks": request.task} if request.task else {},
            full=request.view == VIEW_FULL,
        )
        listing = _FULL_LISTING if query.full else _LISTING
        return await list_page(self._database, listing, query, lambda row: EvaluationComparison.FromString(row["body"]))

    async def _stored(self, uid: UUID) -> EvaluationComparison:
        body = await self._database.fetchval("SELECT body || detail FROM comparisons WHERE uid = $1", uid)
        if body is None:
            raise not_found("comparison", f"{COLLECTION}/{uid}")
        return EvaluationComparison.FromString(body)


def fitted(comparison: EvaluationComparison) -> EvaluationComparison:
    """Return the comparison cut to the size of an answer: if it is too large, its longest list is shortened."""
    lists: list[Any] = [comparison.deltas, comparison.regressions]
    while comparison.ByteSize() > MAX_ANSWER_BYTES:
        longest = max(lists, key=len)
        del longest[len(longest) // 2 :]
    return comparison


def _values(uid: UUID, comparison: EvaluationComparison) -> tuple[Any, ...]:
    # Two serialized messages one after the other parse as their merge: a list reads the small one alone.
    detail = EvaluationComparison(deltas=comparison.deltas, regressions=comparison.regressions)
    body = EvaluationComparison()
    body.CopyFrom(comparison)
    body.ClearField("deltas")
    body.ClearField("regressions")
    made = comparison.create_time.ToDatetime(tzinfo=UTC)
    names = list(comparison.tasks)
    return uid, comparison.name, comparison.owner, made, names, body.SerializeToString(), detail.SerializeToString()


def _require_comparable(tasks: Sequence[EvaluationTask]) -> None:
    for task in tasks:
        if task.status.state != TASK_STATE_SUCCEEDED:
            state = word(TaskState, task.status.state)
            raise failed_precondition(
                "EVALUATION_NOT_SUCCEEDED",
                f"'{task.name}' is {state}; only evaluations that SUCCEEDED can be compared.",
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
