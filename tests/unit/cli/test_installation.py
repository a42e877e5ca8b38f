"""`lathe devices`, `lathe info`, `lathe whoami`, and the place of a task that waits."""

from __future__ import annotations

import json

from lathe.converter.v1.conversion_service_pb2 import ConversionTask
from lathe.registry.v1.device_service_pb2 import Device, ListDevicesResponse
from lathe.registry.v1.info_service_pb2 import Identity, Info

from services.cli.views import doing
from services.platform.words import from_values
from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import Suite


def device() -> Device:
    values = {
        "name": "devices/cpu-x86-64",
        "runtimes": [
            {"runtime": "openvino", "precisions": ["FP32", "BF16"], "quantized": ["INT8"], "built": "HERE"},
            {"runtime": "litert", "precisions": ["FP32"]},
            {
                "runtime": "tensorrt-rtx",
                "built": "ANYWHERE",
                "emulator": "qemu",
                "options": [{"name": "workspace", "purpose": "large models"}],
                "evidence": {"FP32": "a matrix", "toolchain": "a matrix"},
            },
        ],
        "pod": {"image": "nvidia", "node_selector": {"chip": "t4"}, "resources": {"nvidia.com/gpu": "1"}},
        "queues": [
            {"kind": "conversion", "workers": 2, "running": 2, "waiting": 7, "oldest_wait": "75s", "known": True},
            {"kind": "profile"},
        ],
        "served": True,
        "missing": "The services for profile tasks do not answer.",
        "sandboxes": [{"workers": ["host-1"], "sandbox": {"active": ["seccomp"], "missing": ["landlock (off)"]}}],
    }
    return from_values(values, Device())


def test_devices_show_who_serves_them(suite: Suite, lathe: Lathe) -> None:
    suite.answers["ListDevices"] = ListDevicesResponse(devices=[device()])
    result = lathe("devices", "list", "--filter", "served = true")
    assert result.code == 0
    for text in (
        "cpu-x86-64",
        "openvino, litert (no builder)",
        "0:01:15",
        "7",
        "unknown: profile",
        "do not confine code",
    ):
        assert text in result.out
    assert suite.asked["ListDevices"][0].filter == "served = true"


def test_a_worker_of_several_kinds_is_no_several_workers(suite: Suite, lathe: Lathe) -> None:
    queues = [{"kind": kind, "workers": count, "known": True} for kind, count in (("conversion", 1), ("profile", 0))]
    found = from_values({"name": "devices/cpu-arm64", "queues": queues, "served": True}, Device())
    suite.answers["ListDevices"] = ListDevicesResponse(devices=[found])
    assert "0–1" in lathe("devices", "list").out
    suite.answers["ListDevices"] = ListDevicesResponse(devices=[device()])
    (row,) = [line for line in lathe("devices", "list").out.splitlines() if line.startswith("cpu-x86-64")]
    assert row.split("│")[2].strip() == "2"


def test_a_device_shows_its_runtimes_and_queues(suite: Suite, lathe: Lathe) -> None:
    suite.answers["GetDevice"] = device()
    result = lathe("devices", "get", "cpu-x86-64")
    assert result.code == 0
    for text in ("FP32, BF16", "INT8", "no builder", "conversion", "?", "do not answer"):
        assert text in result.out
    for text in ("anywhere", "on the device, or in qemu", "lathe-worker-nvidia on chip=t4, 1 nvidia.com/gpu"):
        assert text in result.out
    for text in ("host-1", "NO", "seccomp", "landlock (off)"):
        assert text in result.out
    for text in ("workspace", "number or text", "large models", "FP32, toolchain", "a matrix"):
        assert text in result.out
    assert suite.asked["GetDevice"][0].name == "devices/cpu-x86-64"


def test_info_shows_versions_and_services(suite: Suite, lathe: Lathe) -> None:
    values = {
        "version": "0.2.0",
        "build": "abc",
        "services": [{"service": "registry", "address": "h:1", "serving": True}, {"service": "template"}],
        "stores": [{"store": "database", "kind": "PostgreSQL 18.0"}],
        "authentication": "TOKEN",
        "task_kinds": ["conversion"],
        "model_formats": ["ONNX"],
    }
    suite.answers["GetInfo"] = from_values(values, Info())
    result = lathe("info")
    assert result.code == 0
    for text in ("0.2.0 abc", "token", "PostgreSQL 18.0", "ONNX", "serving", "does not answer"):
        assert text in result.out


def test_whoami_shows_user_and_roles(suite: Suite, lathe: Lathe) -> None:
    suite.answers["WhoAmI"] = from_values({"user": "ann", "authentication": "TOKEN", "roles": ["USER"]}, Identity())
    assert "ann" in lathe("whoami").out
    told = json.loads(lathe("whoami", "-o", "json").out)
    assert told["user"] == "ann"


def test_a_waiting_task_says_its_place() -> None:
    values = {
        "status": {"state": "PENDING", "queue": {"position": "3", "estimated_start_time": "2026-06-01T10:00:00Z"}}
    }
    assert doing(from_values(values, ConversionTask())).startswith("place 3 in the queue, starts about 2026-06-01")
