"""Comparisons of evaluations: real reports, compared in the real sandbox, stored and listed."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from lathe.evaluator.v1 import evaluation_service_pb2 as pb
from lathe.registry.v1.artifact_service_pb2 import GetArtifactRequest
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.type.v1.operation_pb2 import (
    OPERATION_STATE_CANCELLED,
    OPERATION_STATE_FAILED,
    OPERATION_STATE_RUNNING,
    OPERATION_STATE_SUCCEEDED,
)

from engines.failures import EngineFailure, FailureReason
from services.evaluator.comparer import Comparer, refusal
from services.evaluator.comparisons import MAX_ANSWER_BYTES, fitted
from services.evaluator.work import EvaluationWorkKind
from services.operations import runner
from services.operations.runner import Standing
from services.platform.errors import LatheError, failed_precondition
from tests.contract.evaluator.jobs import evaluate
from tests.contract.evaluator.test_tasks import create
from tests.contract.workplace import DEVICE, Workplace

Names = list[str]


@pytest.fixture(scope="session")
async def evaluated(workplace: Workplace, digits: Dataset, package: ModelVersion) -> Names:
    """Two evaluations of one package on one dataset, the second at another batch."""
    async with workplace.worker(EvaluationWorkKind(DEVICE), evaluate):
        tasks = [
            await workplace.evaluated(await create(workplace, package, dataset=digits.name, batch_size=size))
            for size in (2, 3)
        ]
    return [task.name for task in tasks]


async def compare(workplace: Workplace, names: Names, **fields: Any) -> pb.EvaluationComparison:
    comparison: pb.EvaluationComparison = await workplace.evaluations.CreateEvaluationComparison(
        pb.CreateEvaluationComparisonRequest(evaluation_comparison=pb.EvaluationComparison(tasks=names), **fields)
    )
    return await ended(workplace, comparison.name)


async def ended(workplace: Workplace, name: str) -> pb.EvaluationComparison:
    watching = workplace.evaluations.WatchEvaluationComparison(pb.WatchEvaluationComparisonRequest(name=name))
    *_, last = [comparison async for comparison in watching]
    return last


async def listed(workplace: Workplace, **fields: Any) -> tuple[list[pb.EvaluationComparison], str]:
    request = pb.ListEvaluationComparisonsRequest(**fields)
    answer = await workplace.evaluations.ListEvaluationComparisons(request)
    return list(answer.evaluation_comparisons), answer.next_page_token


async def test_a_comparison_is_made_once_and_stored(workplace: Workplace, evaluated: Names, digits: Dataset) -> None:
    request_id = str(uuid.uuid4())
    first, second = await asyncio.gather(
        *(compare(workplace, evaluated, request_id=request_id) for _ in range(2)),
    )
    assert first == second == await compare(workplace, evaluated, request_id=request_id)
    assert len((await listed(workplace, filter=f"tasks:{evaluated[0]}"))[0]) == 1
    assert (first.state, first.progress) == (OPERATION_STATE_SUCCEEDED, 1.0)
    assert list(first.tasks) == evaluated
    assert (first.dataset, first.samples, first.agreement) == (digits.name, 12, 1.0)
    assert {delta.task for delta in first.deltas} == {evaluated[1]}
    assert not first.regressions
    for report in (first.html_report, first.json_report):
        await workplace.registry.artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{report.sha256}"))
    found = await workplace.evaluations.GetEvaluationComparison(pb.GetEvaluationComparisonRequest(name=first.name))
    assert found == first

    other = await compare(workplace, evaluated[::-1])
    assert other.name != first.name
    (newest, *_), token = await listed(workplace, filter=f"tasks:{evaluated[0]}", page_size=1)
    assert newest.name == other.name
    assert not newest.deltas
    (before,), token = await listed(workplace, filter=f"tasks:{evaluated[0]}", page_size=1, page_token=token)
    assert (before.name, token) == (first.name, "")
    assert (await listed(workplace, mine_only=True, filter=f"tasks:{evaluated[0]}"))[0] == [newest, before]
    assert await listed(workplace, filter="tasks:evaluationTasks/none") == ([], "")

    error = await workplace.refused(compare(workplace, evaluated[::-1], request_id=request_id))
    assert error.reason == "REQUEST_ID_REUSED"


async def test_what_cannot_be_compared(workplace: Workplace, evaluated: Names, package: ModelVersion) -> None:
    waiting = await create(workplace, package, dataset=(await workplace.digits(count=6)).name)
    error = await workplace.refused(compare(workplace, [evaluated[0], waiting.name]))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EVALUATION_NOT_SUCCEEDED")
    async with workplace.worker(EvaluationWorkKind(DEVICE), evaluate):
        await workplace.evaluated(waiting)
    error = await workplace.refused(compare(workplace, [*evaluated, waiting.name]))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DATASETS_DIFFER")
    assert f"{waiting.name} on {waiting.spec.dataset}" in error.message
    for names in (evaluated[:1], evaluated[:1] * 2):
        assert (await workplace.refused(compare(workplace, names))).code is grpc.StatusCode.INVALID_ARGUMENT
    absent = [evaluated[0], "evaluationTasks/none"]
    assert (await workplace.refused(compare(workplace, absent))).code is grpc.StatusCode.NOT_FOUND


class Held:
    """Compares nothing before it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun, self.opened = asyncio.Semaphore(0), asyncio.Event()

        async def compare(_: Comparer, tasks: Any, standing: Standing) -> pb.EvaluationComparison:
            standing.progress = 0.5
            self.begun.release()
            await self.opened.wait()
            raise failed_precondition("COMPARISON_TOO_LARGE", "It is too large.")

        patch.setattr(Comparer, "compare", compare)


async def test_a_comparison_can_be_watched_cancelled_and_deleted(
    workplace: Workplace, evaluated: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_BEAT_SECONDS", 0.02)
    held = Held(monkeypatch)
    rpc = workplace.evaluations
    request = pb.CreateEvaluationComparisonRequest(
        evaluation_comparison=pb.EvaluationComparison(tasks=evaluated, display_name="Long", samples=7)
    )
    begun, other, third = [await rpc.CreateEvaluationComparison(request) for _ in range(3)]
    assert (begun.state, begun.display_name, begun.samples) == (OPERATION_STATE_RUNNING, "Long", 0)
    watching = rpc.WatchEvaluationComparison(pb.WatchEvaluationComparisonRequest(name=begun.name))
    seen = []
    async for each in watching:
        seen.append(each)
        if each.progress == 0.5:
            await rpc.CancelEvaluationComparison(pb.CancelEvaluationComparisonRequest(name=begun.name))
    assert seen[-1].state == OPERATION_STATE_CANCELLED
    again = await rpc.CancelEvaluationComparison(pb.CancelEvaluationComparisonRequest(name=begun.name))
    assert again.state == OPERATION_STATE_CANCELLED
    await rpc.DeleteEvaluationComparison(pb.DeleteEvaluationComparisonRequest(name=other.name))
    error = await workplace.refused(rpc.GetEvaluationComparison(pb.GetEvaluationComparisonRequest(name=other.name)))
    assert error.code is grpc.StatusCode.NOT_FOUND
    held.opened.set()
    failed = await ended(workplace, third.name)
    assert (failed.state, failed.failure.evidence) == (OPERATION_STATE_FAILED, "COMPARISON_TOO_LARGE")
    assert failed.failure.message == "It is too large."
    cancel = rpc.CancelEvaluationComparison(pb.CancelEvaluationComparisonRequest(name=third.name))
    error = await workplace.refused(cancel)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "OPERATION_ENDED")
    assert error.message == f"'{third.name}' is FAILED already; there is nothing to cancel."


async def test_a_long_comparison_delays_no_other(
    workplace: Workplace, evaluated: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        held = Held(patch)
        new = pb.EvaluationComparison(tasks=evaluated)
        request = pb.CreateEvaluationComparisonRequest(evaluation_comparison=new)
        long = await workplace.evaluations.CreateEvaluationComparison(request)
        await held.begun.acquire()
    assert (await compare(workplace, evaluated)).state == OPERATION_STATE_SUCCEEDED
    now = await workplace.evaluations.GetEvaluationComparison(pb.GetEvaluationComparisonRequest(name=long.name))
    assert now.state == OPERATION_STATE_RUNNING
    held.opened.set()
    await ended(workplace, long.name)


# Named, because processes that share the tests must all call each by the same name.
@pytest.mark.parametrize(
    "identifier",
    ["none", str(uuid.uuid4()), str(uuid.uuid4()).upper(), "\0"],
    ids=["no uuid", "absent", "in capitals", "zero byte"],
)
async def test_a_comparison_that_is_not_there(workplace: Workplace, identifier: str) -> None:
    request = pb.GetEvaluationComparisonRequest(name=f"evaluationComparisons/{identifier}")
    error = await workplace.refused(workplace.evaluations.GetEvaluationComparison(request))
    assert error.code is grpc.StatusCode.NOT_FOUND


def test_an_answer_that_is_too_large_is_cut() -> None:
    whole = pb.EvaluationComparison(samples=7)
    for number in range(30_000):
        whole.regressions.add(sample="x" * 200, task="evaluationTasks/a", loss=number)
    whole.deltas.add(task="evaluationTasks/a")
    cut = fitted(whole)
    assert cut.ByteSize() <= MAX_ANSWER_BYTES
    assert cut.regressions[0].loss == 0
    assert (len(cut.deltas), cut.samples) == (1, 7)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (FailureReason.INVALID_DATA, "NOT_COMPARABLE"),
        (FailureReason.OUT_OF_MEMORY, "COMPARISON_TOO_LARGE"),
        (FailureReason.TIMEOUT, "COMPARISON_TOO_LARGE"),
        (FailureReason.TOOLCHAIN_UNAVAILABLE, "TOOLCHAIN_UNAVAILABLE"),
    ],
)
def test_failures_are_told_as_what_the_caller_can_do(reason: FailureReason, told: str) -> None:
    error = refusal(EngineFailure(reason, "It went wrong."))
    assert isinstance(error, LatheError)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, told)
    fault = EngineFailure(FailureReason.INTERNAL_ERROR, "It went wrong.")
    assert refusal(fault) is fault
