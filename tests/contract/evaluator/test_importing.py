"""Evaluations that were made elsewhere are recorded, marked, and counted only where they are accepted."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest
from lathe.evaluator.v1 import evaluation_service_pb2 as pb
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED

from services.evaluator.work import EvaluationWorkKind
from services.platform.words import from_values
from tests.contract.evaluator.jobs import evaluate
from tests.contract.workplace import DEVICE, Workplace

FOUND = {
    "metrics": [{"name": "top1", "value": 0.9}, {"name": "top1", "value": 0.8, "slice": "scene=night"}],
    "samples": 50,
    "hardware": "a board",
    "software": [{"name": "snpe", "version": "2.28"}],
}


def asked(version: str, **more: Any) -> pb.ImportEvaluationRequest:
    values = {"model_version": version, "result": FOUND, "origin": {"source": "run 4711"}, **more}
    return from_values(values, pb.ImportEvaluationRequest())


async def record(workplace: Workplace, request: pb.ImportEvaluationRequest, user: str = "ann") -> pb.EvaluationTask:
    made: pb.EvaluationTask = await workplace.evaluations.ImportEvaluation(request, metadata=(("x-lathe-user", user),))
    return made


async def test_an_imported_evaluation_is_a_task_that_has_succeeded_and_says_where_it_comes_from(
    workplace: Workplace, package: ModelVersion, digits: Dataset
) -> None:
    report = await workplace.registry.file("report.pdf", b"%PDF")
    origin = {"source": "run 4711", "report": {"path": report.path}, "owner": "somebody else"}
    request = asked(
        package.name, dataset=digits.name, origin=origin, labels={"team": "vision"}, display_name="on a board"
    )
    request.origin.report.CopyFrom(report)
    request.result.html_report.CopyFrom(Digest(sha256="0" * 64, size_bytes=1))
    request.request_id = str(uuid.uuid4())
    made = await record(workplace, request)
    assert (made.status.state, made.status.progress) == (TASK_STATE_SUCCEEDED, 1.0)
    assert (made.owner, made.display_name, dict(made.labels)) == ("ann", "on a board", {"team": "vision"})
    assert (made.spec.model_version, made.spec.dataset, made.device) == (package.name, digits.name, DEVICE)
    assert (made.result.imported.owner, made.result.imported.source) == ("ann", "run 4711")
    assert made.result.imported.report == report
    assert not made.result.HasField("html_report")
    assert [metric.value for metric in made.result.metrics] == [0.9, 0.8]
    assert await record(workplace, request) == made
    got = await workplace.evaluations.GetEvaluationTask(pb.GetEvaluationTaskRequest(name=made.name))
    assert got == made
    listed = await workplace.evaluations.ListEvaluationTasks(
        pb.ListEvaluationTasksRequest(filter=f"uses:{digits.name} AND state = SUCCEEDED AND labels.team = vision")
    )
    assert made.name in {task.name for task in listed.tasks}
    watched = workplace.evaluations.WatchEvaluationTask(pb.WatchEvaluationTaskRequest(name=made.name))
    assert [task.name async for task in watched] == [made.name]


async def test_it_answers_no_task_that_asks_for_the_work(workplace: Workplace, digits: Dataset) -> None:
    version = await workplace.package()
    imported = await record(workplace, asked(version.name, dataset=digits.name))
    spec = pb.EvaluationSpec(model_version=version.name, dataset=digits.name)
    create = pb.CreateEvaluationTaskRequest(task=pb.EvaluationTask(spec=spec))
    async with workplace.worker(EvaluationWorkKind(DEVICE), evaluate):
        task = await workplace.evaluated(await workplace.evaluations.CreateEvaluationTask(create))
    assert task.origin.cache_hit != imported.name, "an equal task of another test may answer, an import never"
    assert not task.result.HasField("imported")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"result": {}}, "result.metrics"),
        ({"result": {"metrics": [{"value": 1.0}]}}, "result.metrics[0].name"),
        ({"result": {"metrics": [{"name": "top1", "value": "NaN"}]}}, "result.metrics[0]"),
        ({"result": {"metrics": [{"name": "a"}, {"name": "a"}]}}, "result.metrics[1]"),
        ({"origin": {}}, "origin.source"),
    ],
)
async def test_what_is_no_evaluation_is_refused(
    workplace: Workplace, package: ModelVersion, more: dict[str, Any], field: str
) -> None:
    refused = await workplace.refused(record(workplace, asked(package.name, **more)))
    assert (refused.code, refused.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_what_it_names_has_to_exist(workplace: Workplace, package: ModelVersion) -> None:
    for request in (asked("models/absent/versions/1"), asked(package.name, dataset="datasets/absent")):
        assert (await workplace.refused(record(workplace, request))).code is grpc.StatusCode.NOT_FOUND
    origin = {"source": "s", "report": {"path": "a.pdf", "digest": {"sha256": "1" * 64, "size_bytes": 3}}}
    missing = await workplace.refused(record(workplace, asked(package.name, origin=origin)))
    assert missing.reason == "BLOB_NOT_FOUND"


async def test_it_cannot_be_compared_sample_by_sample(workplace: Workplace, package: ModelVersion) -> None:
    names = [(await record(workplace, asked(package.name))).name for _ in range(2)]
    comparison = pb.EvaluationComparison(tasks=names)
    request = pb.CreateEvaluationComparisonRequest(evaluation_comparison=comparison)
    refused = await workplace.refused(workplace.evaluations.CreateEvaluationComparison(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EVALUATION_IMPORTED")
