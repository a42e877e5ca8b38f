"""`lathe profile`: what it asks for, and what it prints."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from lathe.optimizer.v1.profile_service_pb2 import ProfileTask
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.task_pb2 import TASK_STATE_PENDING, TASK_STATE_SUCCEEDED, TaskStatus

from services.cli.views import made
from services.platform.words import from_values
from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import Suite

PAGE = b"<html>profile</html>"
DIGEST = Digest(sha256=hashlib.sha256(PAGE).hexdigest(), size_bytes=len(PAGE))


def task() -> ProfileTask:
    rows = [
        {
            "runtime": "openvino",
            "batch_size": 8,
            "threads": 2,
            "streams": 1,
            "latency": {"median_ms": 0.5, "p99_ms": 0.7},
        }
        | {"samples_per_second": 15000.0, "memory_bytes": "83886080", "load_time_ms": 12.5},
        {"runtime": "inductor", "batch_size": 8, "threads": 2, "failure": {"message": "There is no g++."}},
    ]
    layers = [
        {
            "component": "net",
            "runtime": "openvino",
            "name": f"conv{number}",
            "operator": "Conv",
            "time_ms": 0.01 * number,
        }
        for number in range(1, 15)
    ]
    control = {"component": "net", "batch_size": 8, "rounds": 40}
    control |= {"latency": {"speedup": 1.0, "speedup_low": 0.97, "speedup_high": 1.02}}
    found = {"measurements": rows, "layers": layers, "controls": [control], "hardware": "AMD EPYC"}
    made = from_values({"name": "profileTasks/p1", "result": found}, ProfileTask())
    made.status.CopyFrom(TaskStatus(state=TASK_STATE_SUCCEEDED))
    made.result.html_report.CopyFrom(DIGEST)
    return made


@pytest.fixture
def created(suite: Suite) -> Suite:
    """Profiles succeed, with a report."""
    suite.blobs[DIGEST.sha256] = PAGE
    waiting = ProfileTask(name="profileTasks/p1", status=TaskStatus(state=TASK_STATE_PENDING))
    suite.answers |= {"CreateProfileTask": waiting, "WatchProfileTask": [task()]}
    return suite


def test_omitted_options_are_left_to_the_service(created: Suite, lathe: Lathe) -> None:
    assert lathe("profile", "digits/2", "--no-wait").code == 0
    said = created.asked["CreateProfileTask"][0].task.spec
    assert [field.name for field, _ in said.ListFields()] == ["model_version"]
    assert said.model_version == "models/digits/versions/2"


def test_all_options_are_passed_on(created: Suite, lathe: Lathe, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"npz")
    words = [
        *(
            "--device",
            "cpu-x86-64",
            "--runtime",
            "openvino",
            "--runtime",
            "onnxruntime",
            "--batch",
            "1",
            "--batch",
            "8",
        ),
        *("--threads", "1", "--threads", "4", "--streams", "2", "--rounds", "30", "--seed", "3", "--template", "own"),
        *("--tensor-information", "x:float(1*3)", "--test-data", str(tmp_path / "x.npz"), "--timeout", "60"),
        *("--name", "A name", "--label", "team=x", "--skip-cache"),
    ]
    assert lathe("profile", "digits/1", *words).code == 0
    request = created.asked["CreateProfileTask"][0]
    said = request.task.spec
    assert (request.task.display_name, dict(request.task.labels), request.skip_cache) == ("A name", {"team": "x"}, True)
    assert (said.device, list(said.runtimes)) == ("cpu-x86-64", ["openvino", "onnxruntime"])
    assert (list(said.batch_sizes), list(said.threads), list(said.streams)) == ([1, 8], [1, 4], [2])
    assert (said.rounds, said.seed, said.template, said.timeout.seconds) == (30, 3, "templates/own", 60)
    assert said.tensor_information == "x:float(1*3)"
    assert said.test_data == Digest(sha256=hashlib.sha256(b"npz").hexdigest(), size_bytes=3)


def test_it_prints_figures_noise_failures_and_the_slowest_layers(created: Suite, lathe: Lathe, tmp_path: Path) -> None:
    ended = lathe("profile", "digits/2", "--report", str(tmp_path / "p.html"))
    assert ended.code == 0
    assert (tmp_path / "p.html").read_bytes() == PAGE
    told = ended.out + ended.err
    for words in ("openvino", "0.500", "0.700", "15000.0", "12.5", "There is no g++.", "0.97–1.02", "40 rounds"):
        assert words in told
    assert "Slowest of 14 layers of net in openvino" in told
    assert "conv14" in told
    assert "conv4 " not in told


def test_a_list_shows_the_fastest_form() -> None:
    assert made(task()) == "openvino 0.500 ms"
    assert made(ProfileTask()) == ""
