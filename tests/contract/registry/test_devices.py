"""Devices: what the catalog says, and what task services tell of their queues, or do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from lathe.internal.v1.queue_pb2 import QueueOfDevice, QueueReport
from lathe.registry.v1.device_service_pb2 import (
    BUILD_PLACE_HERE,
    GetDeviceRequest,
    ListDevicesRequest,
)
from lathe.type.v1.precision_pb2 import PRECISION_FP32, PRECISION_INT8
from lathe.type.v1.sandbox_pb2 import Sandbox
from nats.aio.msg import Msg

from services.bus.connection import Bus
from services.bus.topology import ensure_topology, queues_subject
from services.platform.settings import Settings
from services.registry.devices import described
from tests.contract.registry.conftest import Registry
from tests.unit.spec.planned import planned


@pytest.fixture
async def report(shared_settings: Settings) -> AsyncIterator[QueueReport]:
    """What a service of a kind of its own answers as long as the test runs."""
    bus = await Bus.connect(shared_settings.nats_url)
    await ensure_topology(bus, ["polishing"], [])
    report = QueueReport(kind="polishing")

    async def answer(message: Msg) -> None:
        await message.respond(report.SerializeToString())

    await bus.subscribe(queues_subject("polishing"), answer)
    await bus.nc.flush()
    yield report
    await bus.js.delete_consumer("EVENTS", "polishing-projector")
    await bus.close()


async def test_a_device_shows_runtimes_and_queues(registry: Registry, report: QueueReport) -> None:
    oldest = Timestamp()
    oldest.GetCurrentTime()
    oldest.seconds -= 90
    told = QueueOfDevice(device="cpu-x86-64", workers=2, slots=4, waiting=3, running=4, oldest_create_time=oldest)
    told.workers_on_device = 1
    held, bare = (Sandbox(confined=sure, missing=[] if sure else ["landlock (no)"]) for sure in (True, False))
    told.sandboxes.add(workers=["b", "a"], sandbox=held)
    told.sandboxes.add(workers=["c"], sandbox=bare)
    report.queues.append(told)
    device = await registry.devices.GetDevice(GetDeviceRequest(name="devices/cpu-x86-64"))
    runtimes = {runtime.runtime: runtime for runtime in device.runtimes}
    assert PRECISION_FP32 in runtimes["openvino"].precisions
    assert PRECISION_INT8 in runtimes["openvino"].quantized
    assert runtimes["openvino"].built == BUILD_PLACE_HERE
    assert device.timeout.seconds == 3600
    assert {"streams", "threads"} <= {option.name for option in runtimes["openvino"].options}
    assert set(runtimes["inductor"].evidence) == {"FP32", "BF16", "toolchain"}
    assert (device.pod.image, dict(device.pod.node_selector)) == ("cpu", {"kubernetes.io/arch": "amd64"})
    queue = next(queue for queue in device.queues if queue.kind == "polishing")
    assert (queue.known, queue.workers, queue.slots, queue.waiting, queue.running) == (True, 2, 4, 3, 4)
    assert queue.workers_on_device == 1
    assert "is the device" not in device.missing
    assert [(list(alike.workers), alike.sandbox) for alike in device.sandboxes] == [(["a", "b"], held), (["c"], bare)]
    assert "1 live worker cannot confine code that models bring; missing: landlock (no)." in device.missing
    assert 90 <= queue.oldest_wait.seconds < 120
    assert device.served


async def test_a_device_says_what_is_missing(
    registry: Registry, report: QueueReport, shared_settings: Settings
) -> None:
    bus = await Bus.connect(shared_settings.nats_url)
    await ensure_topology(bus, ["silence"], [])
    device = await registry.devices.GetDevice(GetDeviceRequest(name="devices/cpu-x86-64"))
    await bus.js.delete_consumer("EVENTS", "silence-projector")
    await bus.close()
    assert [queue.known for queue in device.queues if queue.kind in ("silence", "polishing")] == [True, False]
    assert "silence" in device.missing.partition("do not answer")[0]
    assert "polishing" in device.missing.partition("start one with LATHE_DEVICE=cpu-x86-64")[0]
    none = described(planned("nvidia-p4"), {}, datetime.now(UTC))
    assert "no builder" in none.missing
    assert not none.served
    assert (none.product, dict(none.pod.resources)) == ("P4", {"nvidia.com/gpu": "1"})
    assert none.pod.tolerations[0].effect == "NoSchedule"
    assert "not checked" in none.evidence["limits"]
    assert not any(runtime.options for runtime in none.runtimes)


async def test_devices_are_paged_and_filtered(registry: Registry, report: QueueReport) -> None:
    report.queues.append(QueueOfDevice(device="cpu-x86-64", workers=1, slots=1))
    elsewhere = await registry.devices.GetDevice(GetDeviceRequest(name="devices/cpu-x86-64"))
    assert "None of its live workers is the device" in elsewhere.missing
    names: list[str] = []
    token = ""
    while True:
        page = await registry.devices.ListDevices(ListDevicesRequest(page_size=4, page_token=token))
        names += [device.name for device in page.devices]
        token = page.next_page_token
        if not token:
            break
    assert len(names) == len(set(names)) > 8
    asked = ListDevicesRequest(filter="served = true AND runtimes:openvino")
    assert [device.name for device in (await registry.devices.ListDevices(asked)).devices] == ["devices/cpu-x86-64"]
    wrong = await registry.refused(registry.devices.ListDevices(ListDevicesRequest(filter="colour = red")))
    assert wrong.code == grpc.StatusCode.INVALID_ARGUMENT
    other = ListDevicesRequest(page_token=page.next_page_token or "x")
    assert (await registry.refused(registry.devices.ListDevices(other))).code == grpc.StatusCode.INVALID_ARGUMENT


async def test_an_unknown_device_is_not_found(registry: Registry) -> None:
    refused = await registry.refused(registry.devices.GetDevice(GetDeviceRequest(name="devices/abacus")))
    assert refused.code == grpc.StatusCode.NOT_FOUND
