"""A package that is built on a machine that is not the device is verified in the device's own pool.

Who is not the device is decided by a stand-in (`stand_in.py`); the worker that verifies is the suite's own.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from lathe.registry.v1.device_service_pb2 import GetDeviceRequest
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_ONNX, GetModelVersionRequest
from lathe.type.v1 import measurement_pb2, task_pb2

from tests.contract.workplace import graph
from tests.e2e.desk import Desk
from tests.eventually import wait_for


def test_the_device_verifies_what_another_machine_built(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(graph("Relu"))
    source = desk.push("elsewhere", tmp_path / "net.onnx", "", format=MODEL_FORMAT_ONNX)
    go = tmp_path / "go"
    command = [sys.executable, "-m", "tests.e2e.stand_in", str(go)]
    with (
        desk.paused() as device,
        subprocess.Popen(command, env=device.environ(), cwd=Path(__file__).parents[2]) as stand_in,
    ):
        try:
            task = desk.create(source, template="templates/onnx-cpu-x86-64-onnxruntime-fp32")
            wait_for(lambda: desk.get(task).status.state == task_pb2.TASK_STATE_RUNNING)
            device.resume()
            wait_for(lambda: _conversions(desk) == (2, 1))
            go.touch()
            done = desk.finish(task)
        finally:
            stand_in.send_signal(signal.SIGTERM)
    assert done.status.state == task_pb2.TASK_STATE_SUCCEEDED, done.status
    assert [attempt.outcome for attempt in done.attempts] == [
        task_pb2.ATTEMPT_OUTCOME_HANDED_ON,
        task_pb2.ATTEMPT_OUTCOME_SUCCEEDED,
    ]
    assert [attempt.worker == "stand-in" for attempt in done.attempts] == [True, False]
    (component,) = done.result.components
    assert (component.parity.verdict, component.parity.device) == (measurement_pb2.VERDICT_PASS, "cpu-x86-64")
    assert component.parity.verified_on
    assert component.HasField("profile")
    log = desk.suite.lathe("tasks", "logs", done.name).stdout
    assert "going on from model.onnx, which another machine built" in log
    version = desk.rpc.models.GetModelVersion(GetModelVersionRequest(name=done.result.model_version))
    assert version.parity[component.component] == component.parity


def _conversions(desk: Desk) -> tuple[int, int]:
    """Return how many workers take conversions, and how many of them are the device."""
    device = desk.rpc.devices.GetDevice(GetDeviceRequest(name="devices/cpu-x86-64"))
    (queue,) = (each for each in device.queues if each.kind == "conversion")
    return queue.workers, queue.workers_on_device
