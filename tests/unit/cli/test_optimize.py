from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from lathe.converter.v1.conversion_service_pb2 import ConversionTaskGroup
from lathe.optimizer.v1 import optimization_service_pb2 as pb
from lathe.type.v1 import failure_pb2, task_group_pb2, task_pb2
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.operation_pb2 import OPERATION_STATE_RUNNING, OPERATION_STATE_SUCCEEDED
from lathe.type.v1.precision_pb2 import PRECISION_FP32, PRECISION_INT8
from lathe.type.v1.task_group_pb2 import TaskGroupMember, TaskGroupState
from lathe_client import calls
from lathe_client.tasks import KINDS

from services.cli import groups, watching
from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import RefusedError, Suite

PAGE = b"<html>report</html>"
NAME = "optimizationTasks/o1"
VERSIONS = ["models/digits/versions/1", "models/net/versions/2"]


def task(state: task_pb2.TaskState.ValueType, **fields: Any) -> pb.OptimizationTask:
    return pb.OptimizationTask(name=NAME, status=task_pb2.TaskStatus(state=state, **fields))


def group(state: TaskGroupState.ValueType, *members: TaskGroupMember) -> pb.OptimizationTaskGroup:
    return pb.OptimizationTaskGroup(
        name="optimizationTaskGroups/nightly", display_name="nightly", state=state, members=members
    )


@pytest.fixture
def created(suite: Suite) -> Suite:
    """Tasks succeed, with a report, and are saved as version 9."""
    digest = Digest(sha256=hashlib.sha256(PAGE).hexdigest(), size_bytes=len(PAGE))
    suite.blobs[digest.sha256] = PAGE
    candidates = [
        pb.Candidate(form="openvino [FP32]", recommended=True, pareto=True, size_bytes=2048),
        pb.Candidate(form="onnxruntime FP32", note="eliminated after 2 rounds"),
        pb.Candidate(
            form="inductor FP32",
            failure=failure_pb2.Failure(reason=failure_pb2.FAILURE_REASON_TOOLCHAIN_CRASHED, message="g++ is missing"),
        ),
    ]
    figures = pb.OptimizationFigures(baseline_time_ms=2.0, optimized_time_ms=1.0, speedup=2.0)
    done = task(task_pb2.TASK_STATE_SUCCEEDED)
    done.result.CopyFrom(
        pb.OptimizationResult(candidates=candidates, optimization_result=figures, html_report=digest, warnings=["hot"])
    )
    saved = pb.ModelSave(
        name=f"{NAME}/saves/s1",
        state=OPERATION_STATE_SUCCEEDED,
        model_version="models/digits/versions/9",
        saved_location="optimized/m-digits/mv-1",
    )
    suite.answers |= {
        "CreateOptimizationTask": task(task_pb2.TASK_STATE_PENDING),
        "WatchOptimizationTask": [done],
        "GetOptimizationTask": done,
        "SaveModel": pb.ModelSave(name=saved.name, state=OPERATION_STATE_RUNNING),
        "WatchModelSave": [saved],
    }
    return suite


def spec(suite: Suite) -> pb.OptimizationSpec:
    request: pb.CreateOptimizationTaskRequest = suite.asked["CreateOptimizationTask"][-1]
    return request.task.spec


def test_omitted_options_are_left_to_the_service(created: Suite, lathe: Lathe) -> None:
    assert lathe("optimize", "digits/1", "--no-wait").code == 0
    said = spec(created)
    assert (said.device, said.precision_goal, said.objective) == ("cpu-x86-64", PRECISION_FP32, pb.OBJECTIVE_LATENCY)
    set_fields = {field.name for field, _ in said.ListFields()}
    assert set_fields == {"model_version", "device", "precision_goal", "objective"}


def test_all_options_are_passed_on(created: Suite, lathe: Lathe, tmp_path: Path) -> None:
    arrays, inputs = tmp_path / "a.npz", tmp_path / "inputs.txt"
    arrays.write_bytes(b"npz")
    inputs.write_text("input_0:float(1*3)\n")
    words = [
        *("--goal", "int8", "--objective", "throughput", "--budget", "30", "--dataset", "seen", "--metric", "top1"),
        *("--max-degradation", "0.5", "--step", "cvtRGB", "--calibration", str(arrays), "--test-data", str(arrays)),
        *("--tensor-information-file", str(inputs), "--error-threshold", "0.01", "--max-batch", "8", "--seed", "3"),
        *("--quantization-aware", "--engine-version", "0.2.0", "--template", "mine", "--output-model", "fast"),
        *("--output-location", "vision", "--name", "A name", "--label", "team=x", "--timeout", "60", "--skip-cache"),
    ]
    assert lathe("optimize", "digits/1", *words, "--no-wait").code == 0
    request = created.asked["CreateOptimizationTask"][0]
    said = request.task.spec
    assert (said.precision_goal, said.objective, said.search_budget.seconds) == (
        PRECISION_INT8,
        pb.OBJECTIVE_THROUGHPUT,
        30,
    )
    assert (said.dataset, said.metric, said.max_degradation) == ("datasets/seen", "top1", 0.5)
    assert said.calibration_samples == said.test_data == Digest(sha256=hashlib.sha256(b"npz").hexdigest(), size_bytes=3)
    assert said.tensor_information == "input_0:float(1*3)\n"
    assert (said.template, said.output_model, said.output_location) == ("templates/mine", "models/fast", "vision")
    assert (said.quantization_aware, said.engine_version, said.max_batch, said.seed) == (True, "0.2.0", 8, 3)
    assert (request.task.display_name, dict(request.task.labels), request.skip_cache) == ("A name", {"team": "x"}, True)


def test_candidates_are_shown_and_nothing_is_saved(created: Suite, lathe: Lathe, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    ended = lathe("optimize", "digits/1", "--report", str(report))
    assert ended.code == 0
    assert "openvino [FP32]" in ended.out
    assert "recommended" in ended.out
    assert "eliminated after 2 rounds" in ended.out
    assert "TOOLCHAIN_CRASHED: g++ is missing" in ended.out
    assert "2.00×" in ended.err
    assert "warning: hot" in ended.err
    assert f"lathe save {NAME}" in ended.err
    assert report.read_bytes() == PAGE
    assert "SaveModel" not in created.asked


def test_a_result_is_saved_at_once_or_later(created: Suite, lathe: Lathe) -> None:
    told = lathe("optimize", "digits/1", "--save").err
    assert "saved as digits/9." in told
    assert "in optimized/m-digits/mv-1, next to a copy of" in told
    assert "saved as digits/9" in lathe("save", "o1", "--model", "fast").err
    request = created.asked["SaveModel"][-1]
    assert (request.name, request.model) == (NAME, "models/fast")
    assert '"model_version": "models/digits/versions/9"' in lathe("save", NAME, "-o", "json").out
    assert "2.00×, not saved" in lathe("tasks", "get", NAME).out


def test_a_required_gain_has_an_exit_code_and_nothing_is_saved_without_one(created: Suite, lathe: Lathe) -> None:
    words = ("optimize", "digits/1", "--require-gain", "--save")
    assert lathe(*words).code == 0
    assert len(created.asked["SaveModel"]) == 1
    result = created.answers["WatchOptimizationTask"][0].result
    result.no_gain, result.no_gain_reason = True, "nothing is faster"
    ended = lathe(*words)
    assert ended.code == 11
    assert "Nothing is saved" in ended.err
    assert len(created.asked["SaveModel"]) == 1
    assert lathe("optimize", "digits/1").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("digits/1", "--save", "--no-wait"),
        ("digits/1", "--require-gain", "--no-wait"),
        ("digits/1", "net/2", "--save"),
        ("digits/1", "net/2", "--report", "r.html"),
        ("digits/1", "--goal", "FP7"),
        ("digits/1", "--objective", "beauty"),
        ("digits/1", "--tensor-information", "x:float(1)", "--tensor-information-file", "x"),
        ("digits/1", "--tensor-information-file", "/absent/x"),
        ("digits",),
    ],
)
def test_conflicting_options_are_rejected(created: Suite, lathe: Lathe, words: tuple[str, ...]) -> None:
    ended = lathe("optimize", *words)
    assert ended.code == 2
    assert "error:" in ended.err
    assert "CreateOptimizationTask" not in created.asked


def test_several_versions_are_a_group(suite: Suite, lathe: Lathe) -> None:
    first, second = (TaskGroupMember(model_version=each, task=f"optimizationTasks/{each[7]}") for each in VERSIONS)
    first.state, second.state = task_pb2.TASK_STATE_RUNNING, task_pb2.TASK_STATE_PENDING
    suite.answers["CreateOptimizationTaskGroup"] = group(task_group_pb2.TASK_GROUP_STATE_IN_PROGRESS, first, second)
    ended = [
        TaskGroupMember(
            model_version=VERSIONS[0], task=first.task, state=task_pb2.TASK_STATE_SUCCEEDED, figures={"speedup": 3.0}
        ),
        TaskGroupMember(
            model_version=VERSIONS[1], task=second.task, state=task_pb2.TASK_STATE_FAILED, error="it is no model"
        ),
    ]
    suite.answers["WatchOptimizationTaskGroup"] = [group(task_group_pb2.TASK_GROUP_STATE_PARTLY_SUCCEEDED, *ended)]
    told = lathe("optimize", "digits/1", "net/2", "--name", "nightly", "--label", "team=x")
    assert told.code == 5
    assert "nightly: partly succeeded" in told.out
    assert "3.00×" in told.out
    assert "it is no model" in told.out
    request = suite.asked["CreateOptimizationTaskGroup"][0]
    assert list(request.group.model_versions) == VERSIONS
    assert (request.group.spec.model_version, request.group.display_name) == ("", "nightly")
    succeeded = group(task_group_pb2.TASK_GROUP_STATE_ALL_SUCCEEDED, ended[0])
    suite.answers |= {"GetOptimizationTaskGroup": succeeded, "WatchOptimizationTaskGroup": [succeeded]}
    suite.answers["GetOptimizationTask"] = task(task_pb2.TASK_STATE_SUCCEEDED)
    assert lathe("groups", "watch", "nightly").code == 0
    assert lathe("optimize", "digits/1", "net/2", "--no-wait").code == 0
    slow = task(task_pb2.TASK_STATE_SUCCEEDED)
    slow.result.no_gain = True
    suite.answers["GetOptimizationTask"] = slow
    missing = lathe("optimize", "digits/1", "net/2", "--require-gain")
    assert (missing.code, "without a gain: digits/1" in missing.err) == (11, True)


def test_a_call_is_repeated_if_its_server_goes_away(
    created: Suite, lathe: Lathe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PAUSES", (0.0, 0.0))
    for method, words in (
        ("CreateOptimizationTask", ("digits/1",)),
        ("CreateOptimizationTaskGroup", ("digits/1", "net/2")),
    ):
        answers = iter(
            [
                RefusedError(grpc.StatusCode.UNAVAILABLE),
                created.answers.get(method, group(task_group_pb2.TASK_GROUP_STATE_IN_PROGRESS)),
            ]
        )
        created.answers[method] = lambda _, answers=answers: next(answers)
        assert lathe("optimize", *words, "--no-wait").code == 0
        first, second = created.asked[method]
        assert first.request_id
        assert first == second
    created.answers["CreateOptimizationTask"] = RefusedError(grpc.StatusCode.UNAVAILABLE)
    assert lathe("optimize", "digits/1").code != 0


def test_interrupting_the_wait_tells_how_to_resume_it(
    created: Suite, lathe: Lathe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "follow", interrupted)
    monkeypatch.setattr(groups, "wait_for_group", interrupted)
    created.answers["CreateOptimizationTaskGroup"] = group(task_group_pb2.TASK_GROUP_STATE_IN_PROGRESS)
    assert f"lathe tasks watch {NAME}" in lathe("optimize", "digits/1").err
    assert "lathe groups watch optimizationTaskGroups/nightly" in lathe("optimize", "digits/1", "net/2").err


def test_groups_are_listed_shown_and_deleted(suite: Suite, lathe: Lathe) -> None:
    member = TaskGroupMember(model_version=VERSIONS[0], error="There is no such version.")
    one = group(task_group_pb2.TASK_GROUP_STATE_NONE_SUCCEEDED, member)
    for kind in KINDS.values():
        method = f"List{kind.name.capitalize()}TaskGroups"
        suite.answers[method] = kind.message(f"{method}Response")()
    other = ConversionTaskGroup(name="conversionTaskGroups/weekly", state=task_group_pb2.TASK_GROUP_STATE_IN_PROGRESS)
    suite.answers["ListConversionTaskGroups"].groups.append(other)
    suite.answers |= {
        "ListOptimizationTaskGroups": pb.ListOptimizationTaskGroupsResponse(groups=[one]),
        "GetOptimizationTaskGroup": one,
        "CancelOptimizationTaskGroup": one,
        "DeleteOptimizationTaskGroup": Empty(),
    }
    assert "There is no such version." in lathe("groups", "cancel", "optimizationTaskGroups/nightly").out
    assert suite.asked["CancelOptimizationTaskGroup"][0].name == "optimizationTaskGroups/nightly"
    out = lathe("groups", "list", "--label", "team=x", "--mine").out
    assert [line.split("│")[1].strip() for line in out.splitlines()[2:]] == ["conversion", "optimization"]
    assert "NONE_SUCCEEDED" in out
    assert lathe("groups", "list", "--page", "5").code == 2
    assert lathe("groups", "list", "--kind", "optimization", "--page", "5").code == 0
    assert suite.asked["ListOptimizationTaskGroups"][-1].page_token == "5"
    asked = suite.asked["ListOptimizationTaskGroups"][0]
    assert (asked.filter, asked.mine_only) == ('labels."team" = "x"', True)
    assert "There is no such version." in lathe("groups", "get", "nightly").out
    assert '"model_version"' in lathe("groups", "get", "nightly", "-o", "json").out
    assert "deleted optimizationTaskGroups/nightly" in lathe("groups", "delete", "nightly").err
    suite.answers["GetOptimizationTaskGroup"] = RefusedError(grpc.StatusCode.NOT_FOUND, "There is no group.")
    assert lathe("groups", "get", "absent").code == 3
