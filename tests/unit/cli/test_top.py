"""`lathe top`."""

from __future__ import annotations

import io
import json
from typing import Any

import grpc
import pytest
from lathe.converter.v1.conversion_service_pb2 import ConversionTask, ListConversionTasksResponse
from lathe.evaluator.v1.evaluation_service_pb2 import ListEvaluationTasksResponse
from lathe.optimizer.v1.optimization_service_pb2 import ListOptimizationTasksResponse
from lathe.optimizer.v1.profile_service_pb2 import ListProfileTasksResponse
from lathe.quantizer.v1.quantization_service_pb2 import ListQuantizationTasksResponse
from lathe.registry.v1.device_service_pb2 import Device, DeviceQueue, ListDevicesResponse
from lathe.type.v1 import failure_pb2, task_pb2
from rich.console import Console

from services.cli.top import View, look_patiently, show
from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import Suite


def queue(kind: str, workers: int = 1, waiting: int = 0, running: int = 0, *, known: bool = True) -> DeviceQueue:
    told = DeviceQueue(kind=kind, workers=workers, slots=workers, waiting=waiting, running=running, known=known)
    if waiting:
        told.oldest_wait.seconds = 3700
    return told


def running(name: str, **fields: Any) -> ConversionTask:
    status = task_pb2.TaskStatus(
        state=fields.pop("state", task_pb2.TASK_STATE_RUNNING),
        stage=failure_pb2.TASK_STAGE_EXECUTING,
        progress=0.4,
        message="building for OpenVINO",
    )
    status.start_time.GetCurrentTime()
    attempts = [task_pb2.Attempt(number=1, worker="host-7")]
    return ConversionTask(name=f"conversionTasks/{name}", status=status, attempts=attempts, owner="ada", **fields)


@pytest.fixture
def busy(suite: Suite) -> Suite:
    devices = [
        Device(name="devices/cpu-x86-64", queues=[queue("conversion", waiting=3, running=1), queue("profile")]),
        Device(name="devices/nvidia-t4", queues=[queue("conversion", workers=0, waiting=2)]),
        Device(name="devices/nvidia-a10", queues=[queue("conversion", workers=0)]),
    ]
    suite.answers |= {
        "ListDevices": ListDevicesResponse(devices=devices),
        "ListConversionTasks": ListConversionTasksResponse(tasks=[running("c1", device="cpu-x86-64")]),
        "ListQuantizationTasks": ListQuantizationTasksResponse(),
        "ListOptimizationTasks": ListOptimizationTasksResponse(),
        "ListProfileTasks": ListProfileTasksResponse(),
        "ListEvaluationTasks": ListEvaluationTasksResponse(),
    }
    return suite


def test_it_shows_what_waits_who_works_and_what_runs(busy: Suite, lathe: Lathe) -> None:
    ended = lathe("top")
    assert "5 waiting" in ended.out
    assert "1 running" in ended.out
    lines = {line.split()[0]: line for line in ended.out.splitlines() if line.strip()}
    assert "1:01:40" in lines["cpu-x86-64"]
    assert "no worker" in lines["nvidia-t4"]
    assert "nvidia-a10" not in ended.out
    for word in ("c1", "ada", "cpu-x86-64", "host-7", "40%", "building for OpenVINO"):
        assert word in lines["conversion"]
    assert busy.asked["ListConversionTasks"][0].filter == "state = RUNNING OR state = CANCELLING"


def test_it_shows_a_device_that_is_asked_for_even_if_idle(busy: Suite, lathe: Lathe) -> None:
    ended = lathe("top", "--once", "--device", "nvidia-a10")
    assert "nvidia-a10" in ended.out
    assert "evaluation" not in ended.out
    assert "profile" not in ended.out
    asked = busy.asked["ListConversionTasks"][0].filter
    assert asked == '(state = RUNNING OR state = CANCELLING) AND device:("nvidia-a10")'


def test_it_tells_of_a_device_that_does_not_exist(busy: Suite, lathe: Lathe) -> None:
    ended = lathe("top", "--device", "toaster")
    assert ended.code == 2
    assert "devices/toaster" in ended.err


def test_scripts_get_it_as_json(busy: Suite, lathe: Lathe) -> None:
    found = json.loads(lathe("top", "--once", "-o", "json").out)
    assert [each["name"] for each in found["devices"]] == ["devices/cpu-x86-64", "devices/nvidia-t4"]
    assert found["devices"][0]["queues"][0]["waiting"] == "3"
    assert found["tasks"][0]["name"] == "conversionTasks/c1"


def test_a_service_that_is_away_is_named_and_not_asked(busy: Suite, lathe: Lathe) -> None:
    silent = Device(
        name="devices/cpu-x86-64", queues=[queue("conversion", running=1), queue("profile", 0, known=False)]
    )
    busy.answers["ListDevices"] = ListDevicesResponse(devices=[silent])
    ended = lathe("top", "--once")
    assert "The service of profile tasks does not answer." in ended.out
    assert "ListProfileTasks" not in busy.asked


def test_while_it_runs_an_outage_is_a_line_and_no_end() -> None:
    class Away:
        class devices:  # noqa: N801
            @staticmethod
            def ListDevices(_request: Any) -> Any:  # noqa: N802
                raise _away()

    view = look_patiently(Away(), [])  # type: ignore[arg-type]
    assert view.devices == []
    assert view.missing == ["Restarting. [UNAVAILABLE]"]


def _away() -> grpc.RpcError:
    class AwayError(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

        def details(self) -> str:
            return "Restarting."

        def trailing_metadata(self) -> tuple[()]:
            return ()

    return AwayError()


@pytest.mark.parametrize("width", [80, 110, 130, 150, 200])
def test_a_page_fits_and_keeps_what_people_copy(width: int) -> None:
    tasks = [running(f"01a22bca-a119-7373-b9cc-abb24455{number:04}", display_name="x" * 60) for number in range(9)]
    tasks.append(running("cancelled", state=task_pb2.TASK_STATE_CANCELLING))
    out = io.StringIO()
    console = Console(file=out, width=width, height=40)
    devices = [Device(name="devices/nvidia-l40s", queues=[queue("optimization", workers=0, waiting=2)])]
    console.print(show(View(devices, tasks), 6, width))
    lines = out.getvalue().splitlines()
    for whole in ("nvidia-l40s", "optimization", "workers", "waiting", "1:01:40", "no worker"):
        assert whole in out.getvalue()
    assert max(map(len, lines)) <= width
    assert sum("01a22bca-a119-7373-b9cc-abb24455" in line for line in lines) == 6
    assert sum("40%" in line for line in lines) == 6
    assert "and 4 more" in out.getvalue()
