"""The main job through the command line: a trained network goes in, a verified package comes out and runs alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.calls import Watching, documents
from tests.e2e.conftest import COMMAND
from tests.e2e.desk import Desk
from tests.e2e.spans import Receiver
from tests.e2e.tiny import MEAN, SCALE, network_source

RUNTIMES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Converted:
    """One conversion as the command line showed it: the first answer, every change, and the last of them."""

    created: dict[str, Any]
    changes: list[dict[str, Any]]

    @property
    def task(self) -> dict[str, Any]:
        return self.changes[-1]

    @property
    def version(self) -> str:
        name: str = self.task["result"]["model_version"]
        return name


@pytest.fixture(scope="module")
def converted(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Converted]:
    """Both checkpoints, each for one runtime; the second waits while the first runs, and both are watched from then on.

    No work begins before that, however long the commands take.
    """
    suite, folder = desk.suite, tmp_path_factory.mktemp("watched")
    arguments = {
        "onnxruntime": [desk.keyed],
        "openvino": [desk.plain, "--set", "runtime=openvino", "--set", "components.net.state_dict_key="],
    }
    made, watches = {}, {}
    with desk.paused():
        for runtime in RUNTIMES:
            made[runtime] = suite.json("convert", *arguments[runtime], "-t", "tiny", "--no-wait", "--skip-cache")
            command = [*COMMAND, "tasks", "watch", made[runtime]["name"], "--output", "json"]
            watches[runtime] = Watching(command, folder / runtime, suite.environment())
    return {runtime: Converted(made[runtime], watches[runtime].documents()) for runtime in RUNTIMES}


@pytest.fixture(scope="module", params=RUNTIMES)
def one(converted: dict[str, Converted], request: pytest.FixtureRequest) -> Converted:
    runtime: str = request.param
    return converted[runtime]


def runtime_of(one: Converted) -> str:
    runtime: str = one.task["resolved"]["template"]["runtime"]
    return runtime


def test_the_task_starts_by_itself_and_is_named_after_model_and_time(one: Converted) -> None:
    name, date, time = one.created["display_name"].split(" ")
    assert name == "tiny"
    assert len(date.split("-")) == len(time.split(":")) == 3
    assert one.task["status"]["state"] == "TASK_STATE_SUCCEEDED"


def test_progress_moves_and_says_what_it_is_doing(converted: dict[str, Converted]) -> None:
    statuses = [change["status"] for each in converted.values() for change in each.changes]
    for each in converted.values():
        progress = [change["status"].get("progress", 0.0) for change in each.changes]
        # While it waits, it is told again whenever its place in the queue moves.
        begun = [change["status"] for change in each.changes if change["status"]["state"] != "TASK_STATE_PENDING"]
        revisions = [int(status["revision"]) for status in begun]
        assert progress == sorted(progress)
        assert progress[-1] == 1.0
        assert revisions == sorted(set(revisions))
    assert len({status.get("progress", 0.0) for status in statuses}) >= 4
    said = [status.get("message", "") for status in statuses if status["state"] == "TASK_STATE_RUNNING"]
    assert len({message for message in said if message}) >= 3, said
    assert "TASK_STAGE_EXECUTING" in {status.get("stage") for status in statuses}


def test_parity_and_latency_are_reported(one: Converted) -> None:
    (component,) = one.task["result"]["components"]
    (output,) = component["parity"]["outputs"]
    assert component["parity"]["verdict"] == "VERDICT_PASS"
    assert output["output"] == "logits"
    assert output["cosine"] > 0.9999
    assert [form["form"] for form in component["profile"]["forms"]] == ["torchscript", runtime_of(one)]
    assert component["profile"]["control"]["form"] == "torchscript"


def test_the_result_is_a_version_that_knows_where_it_comes_from(desk: Desk, one: Converted) -> None:
    version = desk.suite.json("models", "get", one.version)
    assert version["format"] == "MODEL_FORMAT_PACKAGE"
    assert version["package"]["runtime"] == runtime_of(one)
    assert version["package"]["device"] == "cpu-x86-64"
    lineage = version["lineage"]
    assert lineage["sources"] == [one.task["spec"]["model_version"]]
    assert list(lineage["architectures"]) == ["architectures/tinynet"]
    assert lineage["template"] == "templates/tiny"
    assert lineage["task"] == one.task["name"]
    graph = desk.suite.json("models", "lineage", one.version)
    before = {node["name"]: node["kind"] for node in graph["nodes"] if node.get("distance", 0) < 0}
    assert before == {
        one.task["spec"]["model_version"]: "LINEAGE_KIND_MODEL_VERSION",
        "architectures/tinynet": "LINEAGE_KIND_ARCHITECTURE",
        "templates/tiny": "LINEAGE_KIND_TEMPLATE",
        one.task["name"]: "LINEAGE_KIND_TASK",
    }
    forward = desk.suite.json("models", "lineage", one.task["spec"]["model_version"])
    assert one.version in {node["name"] for node in forward["nodes"] if node.get("distance", 0) > 0}


def test_success_certifies_the_architecture_until_it_changes(desk: Desk, converted: dict[str, Converted]) -> None:
    assert converted
    assert desk.suite.json("architectures", "get", "tinynet")["certification"] == "CERTIFICATION_CERTIFIED"


def test_describe_shows_graphs_and_diff_shows_what_differs(desk: Desk, converted: dict[str, Converted]) -> None:
    (graph,) = desk.suite.json("models", "describe", converted["onnxruntime"].version)["graphs"]
    (image,) = graph["signature"]["inputs"]
    assert (image["name"], image["dtype"]) == ("image", "float32")
    assert (image["shape"]["min"], image["shape"]["max"]) == (["1", "3", "8", "8"], ["4", "3", "8", "8"])
    assert {"Conv", "Gather", "Sub", "Div"} <= {each["operator"] for each in graph["operators"]}
    differences = desk.suite.json("models", "diff", *(converted[runtime].version for runtime in RUNTIMES))
    assert {"path": "package.runtime", "before": "onnxruntime", "after": "openvino"} in differences
    (source,) = desk.suite.json("models", "describe", desk.keyed)["graphs"]
    assert {tensor["name"] for tensor in source["parameters"]} >= {"0.weight", "5.bias"}


def test_the_downloaded_package_runs_alone(desk: Desk, one: Converted, tmp_path: Path) -> None:
    desk.suite.lathe("models", "download", one.version, "-d", str(tmp_path / "package"))
    verify = ("verify", str(tmp_path / "package"), "--key", str(desk.suite.data_dir / "signing.pub"))
    verified = desk.suite.json(*verify)
    definition = verified["statement"]["predicate"]["buildDefinition"]
    assert (verified["signature"], verified["findings"]) == ("GOOD", [])
    assert definition["externalParameters"]["spec"]["model_version"] == one.task["spec"]["model_version"]
    assert {each["name"].partition("/")[0] for each in definition["resolvedDependencies"]} == {"source", "architecture"}
    images = np.random.default_rng(0).uniform(0, 255, (3, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-I", "package/infer.py", "--input", "images.npy", "--output", "answers.npz"]
    # No variable of this process, and no other folder on the path: only the runtime and numpy are needed.
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch" not in (tmp_path / "package" / "infer.py").read_text().partition('"""')[2].partition('"""')[2]
    with np.load(tmp_path / "answers.npz") as answers:
        logits = answers["logits"]
    assert desk.suite.lathe(*verify, check=False).returncode == 1  # Python has left compiled modules in it
    keyed = one.task["spec"]["model_version"] == desk.keyed
    np.testing.assert_allclose(logits, reference(desk.weights[0 if keyed else 1], images), rtol=1e-3, atol=1e-4)
    manifest = json.loads((tmp_path / "package" / "manifest.json").read_text())
    assert (manifest["precision"], manifest["device"]) == ("FP32", "cpu-x86-64")


def reference(weights: Path, images: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return what the trained network itself says of pixels in BGR order."""
    import torch

    names: dict[str, Any] = {"architecture": lambda _name: lambda function: function}
    exec(network_source("TinyNet"), names)
    network = names["build"]()
    checkpoint = torch.load(weights, weights_only=True)
    network.load_state_dict(checkpoint.get("state_dict", checkpoint))
    rgb = images[:, ::-1].copy()
    normalized = (rgb - np.array(MEAN, np.float32).reshape(3, 1, 1)) / np.array(SCALE, np.float32).reshape(3, 1, 1)
    with torch.inference_mode():
        logits: np.ndarray[Any, np.dtype[np.float32]] = network.eval()(torch.from_numpy(normalized)).numpy()
    return logits


def test_the_second_request_does_no_work_and_names_the_first(desk: Desk, converted: dict[str, Converted]) -> None:
    first = converted["onnxruntime"]
    again = desk.suite.json("convert", desk.keyed, "-t", "tiny")
    assert again["status"]["state"] == "TASK_STATE_SUCCEEDED"
    assert again["origin"]["cache_hit"] == first.task["name"]
    assert again["result"]["model_version"] == first.version
    assert not again.get("attempts")
    told = desk.suite.lathe("tasks", "get", again["name"])
    assert first.task["name"] in told.stderr


def test_skip_cache_does_the_work_again(desk: Desk, converted: dict[str, Converted]) -> None:
    again = desk.suite.json("convert", desk.keyed, "-t", "tiny", "--skip-cache", "--name", "again")
    assert again["display_name"] == "again"
    assert not again.get("origin", {}).get("cache_hit")
    assert len(again["attempts"]) == 1
    assert again["result"]["model_version"] != converted["onnxruntime"].version


def test_the_log_tells_the_story(desk: Desk, one: Converted) -> None:
    lines = list(documents(desk.suite.lathe("tasks", "logs", one.task["name"], "--output", "json").stdout))
    assert [int(line["number"]) for line in lines] == list(range(1, len(lines) + 1))
    story = "\n".join(line["text"] for line in lines)
    assert "parity" in story
    assert "logits" in story


def test_a_trace_leads_from_the_call_to_the_steps_of_the_engine(one: Converted, received: Receiver) -> None:
    uid = one.task["uid"]
    create = "lathe.converter.v1.ConversionService/CreateConversionTask"
    register = "lathe.internal.v1.RegistryService/RegisterModelVersion"
    patience = time.monotonic() + 60
    # Each process sends its own, some seconds after they ended.
    while not {create, "conversion.run", "conversion.complete", register} <= (spans := received.of_task(uid)).keys():
        assert time.monotonic() < patience, sorted(spans)
        time.sleep(0.2)
    above = {name: next((each for each in spans if spans[each].id == span.parent), "") for name, span in spans.items()}
    assert above["conversion.run"] == create
    assert above["executing"] == above["conversion.complete"] == "conversion.run"
    assert above[register] == "conversion.complete"
    steps = [name for name, parent in above.items() if parent == "executing"]
    assert len(steps) >= 3, "the engine says what it is doing"
    assert {spans[name].task for name in (create, "conversion.run", "executing", "conversion.complete", *steps)} == {
        uid
    }
    assert {spans[name].service for name in steps} == {spans["conversion.run"].service} != {spans[create].service}
    attempt = one.task["attempts"][-1]
    assert len(attempt["stage_times"]) == 3
    assert int(attempt["peak_memory_bytes"]) > 50 << 20
