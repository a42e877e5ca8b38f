"""The optimizer's main job by the command line, the stubs and `buf curl`: search, look, save, use, search again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from lathe.optimizer.v1 import optimization_service_pb2 as optimizer
from lathe.registry.v1 import model_service_pb2 as model
from lathe.type.v1 import failure_pb2, task_pb2

from tests.e2e.calls import buf_call, refusal
from tests.e2e.desk import Desk
from tests.e2e.loop import self_contained
from tests.e2e.optimizing import DEVICE, create, good_graph, nan_graph, save_cnn
from tests.eventually import wait_for

SERVICE = "lathe.optimizer.v1.OptimizationService"
SHAPE = "input_0:float(1*1*8*8)"
LONG = Duration(seconds=600)
BUDGETS = (8, 32, 128)
"""Budgets in seconds, of which the first is long enough to measure some candidates, unless the machine is busy."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_cnn(tmp_path_factory.mktemp("cnn") / "cnn.pt")


@pytest.fixture(scope="module")
def source(desk: Desk, archive: Path) -> str:
    """The archive, pushed: its format is told from the file."""
    pushed = desk.suite.json("models", "push", "optimized-cnn", str(archive), "--create")
    assert pushed["format"] == "MODEL_FORMAT_TORCHSCRIPT"
    return str(pushed["name"])


@pytest.fixture(scope="module")
def found(desk: Desk, source: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    page = tmp_path_factory.mktemp("page") / "page.html"
    words = ("--tensor-information", SHAPE, "--budget", "2", "--label", "team=search", "--report", str(page))
    task: dict[str, Any] = desk.suite.json("optimize", source, *words)
    assert self_contained(page)
    return task


def test_a_search_measures_and_recommends_one(desk: Desk, found: dict[str, Any]) -> None:
    result = found["result"]
    assert found["labels"] == {"team": "search"}
    assert len([each for each in result["candidates"] if each.get("recommended")]) == 1
    measured = [each for each in result["candidates"] if "latency" in each]
    assert all(each["parity"]["verdict"] == "VERDICT_PASS" for each in measured)
    assert all(each.get("note") or each.get("failure") for each in result["candidates"] if each not in measured)
    assert result["test_data_info"]["test_data_source"] == "SAMPLE_SOURCE_GENERATED"
    assert result["hardware_environment"]["device_type"] == DEVICE
    assert {each["name"] for each in result["software"]} >= {"torch", "onnxruntime", "openvino"}
    assert result["optimization_result"]["baseline_qps"] > 0
    assert "model_version" not in result


def test_what_is_saved_lies_beside_its_source_and_runs_alone(
    desk: Desk, source: str, found: dict[str, Any], archive: Path, tmp_path: Path
) -> None:
    assert len(desk.versions("optimized-cnn")) == 1
    saved = desk.suite.json("save", found["name"])
    place = f"optimized/{found['uid']}/m-optimized-cnn/mv-1"
    assert (saved["saved_location"], saved["model_version"]) == (place, f"{source[:-1]}2")
    keys = desk.keys(f"{place}/")
    assert {f"{place}/cnn.pt", f"{place}/model/infer.py", f"{place}/model/manifest.json"} <= keys
    assert desk.read(f"{place}/cnn.pt") == archive.read_bytes()
    assert desk.suite.json("save", found["name"].partition("/")[2])["model_version"] == saved["model_version"]

    desk.suite.lathe("models", "download", saved["model_version"], "-d", str(tmp_path / "package"))
    given = np.random.default_rng(0).standard_normal((1, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "given.npy", given)
    command = [sys.executable, "-I", "package/infer.py", "--input", "given.npy", "--output", "answers.npz"]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "answers.npz") as answers:
        (scores,) = answers.values()
    np.testing.assert_allclose(scores, reference(archive, given), rtol=1e-3, atol=1e-4)


def reference(archive: Path, given: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    import torch

    jit: Any = torch.jit
    scores: np.ndarray[Any, np.dtype[np.float32]] = jit.load(str(archive))(torch.from_numpy(given)).detach().numpy()
    return scores


def test_a_second_search_goes_on_from_the_record(desk: Desk, source: str, found: dict[str, Any]) -> None:
    words = {"tensor_information": SHAPE}
    for seconds in BUDGETS:
        same = desk.finish(create(desk, source, search_budget=Duration(seconds=seconds), seed=0, **words))
        assert same.status.state == task_pb2.TASK_STATE_SUCCEEDED
        if recorded(desk, same):
            break
    other = desk.finish(create(desk, source, search_budget=Duration(seconds=1), seed=0, **words))
    assert other.status.state == task_pb2.TASK_STATE_SUCCEEDED
    assert not other.origin.cache_hit
    assert len(other.attempts) == 1
    # A second is too short for all that is in the record, so that it can only have come with it.
    first, second = (recorded(desk, task) for task in (same, other))
    assert first
    assert first <= second
    measured_by = {each.measured_by for each in other.result.candidates if each.measured_by}
    assert measured_by <= {same.name, found["name"]}


def recorded(desk: Desk, task: optimizer.OptimizationTask) -> set[str]:
    """Return the keys of all measurements that a search hands to the next."""
    (digest,) = [file.digest.sha256 for file in task.result.files if file.path == "record.json"]
    (key,) = [key for key in desk.keys("cas/") if key.endswith(digest)]
    return set(json.loads(desk.read(key))["measurements"])


@pytest.fixture(scope="module")
def graphs(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Versions of which one can be optimized, and one cannot."""
    folder = tmp_path_factory.mktemp("graphs")
    names = []
    for name, content in (("sound", good_graph(7)), ("unsound", nan_graph())):
        (folder / f"{name}.onnx").write_bytes(content)
        names.append(desk.push(name, folder / f"{name}.onnx", "", format=model.MODEL_FORMAT_ONNX))
    return names[0], names[1]


def test_a_group_says_that_it_succeeded_in_part(desk: Desk, graphs: tuple[str, str]) -> None:
    words = ("--budget", "1", "--name", "pair", "--label", "team=pair", "--output", "json")
    done = desk.suite.lathe("optimize", *graphs, *words, check=False)
    assert done.returncode == 5
    (group,) = desk.suite.json("groups", "list", "--label", "team=pair")
    group = desk.suite.json("groups", "get", group["name"].partition("/")[2])
    assert group["state"] == "TASK_GROUP_STATE_PARTLY_SUCCEEDED"
    assert [each["state"] for each in group["members"]] == ["TASK_STATE_SUCCEEDED", "TASK_STATE_FAILED"]
    assert "output 'y'" in group["members"][1]["error"]
    names = {each["display_name"] for each in desk.suite.json("tasks", "list", "--label", "team=pair")}
    assert names == {"pair-sound-1#1", "pair-unsound-1#2"}
    desk.suite.lathe("groups", "delete", group["name"])
    assert desk.suite.json("tasks", "get", group["members"][0]["task"])["result"]


def test_cancel_retry_resubmit_and_delete(desk: Desk, graphs: tuple[str, str]) -> None:
    sound, rpc = graphs[0], desk.rpc.optimizations
    spec = {"output_location": "steps", "search_budget": LONG}
    running = create(desk, sound, tensor_information="x:float(1*4)", timeout=Duration(seconds=1200), **spec)
    waiting = create(desk, sound, seed=9, **(spec | {"output_location": "waiting"}))
    wait_for(lambda: desk.get(running).status.stage == failure_pb2.TASK_STAGE_EXECUTING)
    delete = optimizer.DeleteOptimizationTaskRequest(name=running.name)
    assert refusal(rpc.DeleteOptimizationTask, delete).code == "FAILED_PRECONDITION"
    save = optimizer.SaveModelRequest(name=running.name)
    assert refusal(rpc.SaveModel, save).reason == "TASK_NOT_SUCCEEDED"
    desk.suite.lathe("tasks", "cancel", waiting.name)
    desk.suite.lathe("tasks", "cancel", running.name)
    assert {desk.finish(task).status.state for task in (waiting, running)} == {task_pb2.TASK_STATE_CANCELLED}

    again = rpc.RetryOptimizationTask(optimizer.RetryOptimizationTaskRequest(name=waiting.name))
    assert again.spec == waiting.spec
    desk.cancel(again)
    edited = optimizer.OptimizationSpec()
    edited.CopyFrom(running.spec)
    edited.search_budget.FromSeconds(1)
    request = optimizer.ResubmitOptimizationTaskRequest(name=running.name, spec=edited, display_name="shorter")
    shorter = desk.finish(rpc.ResubmitOptimizationTask(request))
    assert (shorter.display_name, shorter.status.state) == ("shorter", task_pb2.TASK_STATE_SUCCEEDED)

    desk.finish(again)
    rpc.DeleteOptimizationTask(optimizer.DeleteOptimizationTaskRequest(name=shorter.name))
    names = [running.name, waiting.name, again.name, "optimizationTasks/none"]
    answer = rpc.BatchDeleteOptimizationTasks(optimizer.BatchDeleteOptimizationTasksRequest(names=names))
    assert set(answer.deleted) == set(names[:3])
    assert [each.name for each in answer.errors] == names[3:]
    assert desk.suite.lathe("tasks", "get", shorter.name, check=False).returncode == 3
    wait_for(desk.clean)


def test_any_client_can_do_it(desk: Desk, graphs: tuple[str, str]) -> None:
    address = desk.suite.address("optimizer")
    place = {"output_location": "curled", "search_budget": "1s", "seed": 5}
    spec = {"model_version": graphs[0], "device": DEVICE, "objective": "OBJECTIVE_SIZE", **place}
    (task,) = buf_call(address, f"{SERVICE}/CreateOptimizationTask", {"task": {"spec": spec}})
    *_, last = buf_call(address, f"{SERVICE}/WatchOptimizationTask", {"name": task["name"]})
    assert last["status"]["state"] == "TASK_STATE_SUCCEEDED", last
    (begun,) = buf_call(address, f"{SERVICE}/SaveModel", {"name": task["name"]})
    *_, saved = buf_call(address, f"{SERVICE}/WatchModelSave", {"name": begun["name"]})
    assert saved["savedLocation"] == "curled/m-sound/mv-1"
