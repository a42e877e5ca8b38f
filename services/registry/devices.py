"""The devices of the catalog, and what the task services say of their queues."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import nats.errors
from google.protobuf.message import DecodeError
from lathe.internal.v1.queue_pb2 import QueueOfDevice, QueueReport
from lathe.registry.v1.device_service_pb2 import (
    BUILD_PLACE_ANYWHERE,
    BUILD_PLACE_HERE,
    BUILD_PLACE_ON_DEVICE,
    BUILD_PLACE_UNSPECIFIED,
    ConfinedWorkers,
    Device,
    DeviceQueue,
    DeviceRuntime,
    ListDevicesRequest,
    RuntimeOption,
    Toleration,
    WorkerPod,
)
from lathe.type.v1.precision_pb2 import Precision
from lathe.type.v1.sandbox_pb2 import Sandbox

from engines.failures import count
from engines.runtimes.targets import options_of
from engines.spec.devices import Device as Entry
from engines.spec.devices import DeviceRuntime as Runtime
from engines.spec.devices import load_catalog
from services.bus.connection import Bus, BusUnavailableError
from services.bus.streams import projected_kinds
from services.bus.topology import queues_subject
from services.platform.errors import not_found
from services.platform.words import number
from services.resources.filters.fields import FLAG, TEXT, TEXTS, Fields, checked
from services.resources.filters.matching import matches
from services.resources.paging import Position, decode_token, encode_token, page_size

PATIENCE_SECONDS = 2.0
FIELDS: Fields = {
    "name": TEXT,
    "description": TEXT,
    "vendor": TEXT,
    "architecture": TEXT,
    "runtimes": TEXTS,
    "served": FLAG,
}
_PLACES = {
    "": BUILD_PLACE_UNSPECIFIED,
    "here": BUILD_PLACE_HERE,
    "anywhere": BUILD_PLACE_ANYWHERE,
    "on the device": BUILD_PLACE_ON_DEVICE,
}
# A kind of task, and what its service has told: the queue by device; None if it did not answer.
Reports = Mapping[str, Mapping[str, QueueOfDevice] | None]


class Devices:
    """What can be asked about devices."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def get(self, name: str) -> Device:
        """Return a device."""
        entry = load_catalog().devices.get(name.removeprefix("devices/"))
        if entry is None:
            raise not_found("device", name)
        return described(entry, await self._reports(), datetime.now(UTC))

    async def page(self, request: ListDevicesRequest) -> tuple[list[Device], str]:
        """Return a page of the devices that pass the filter, and the token of the next."""
        tests = checked(request.filter, FIELDS) if request.filter.strip() else None
        after = decode_token(request.page_token, request.filter, [int]).values[0] if request.page_token else -1
        reports, now = await self._reports(), datetime.now(UTC)
        found: list[Device] = []
        places: list[int] = []
        for place, entry in enumerate(load_catalog().devices.values()):
            device = described(entry, reports, now)
            if place > int(str(after)) and (tests is None or matches(tests, _values(device))):
                found.append(device)
                places.append(place)
        size = page_size(request.page_size)
        token = encode_token(Position((places[size - 1],)), request.filter) if len(found) > size else ""
        return found[:size], token

    async def _reports(self) -> Reports:
        try:
            kinds = await projected_kinds(self._bus)
        except (nats.errors.Error, BusUnavailableError, OSError, TimeoutError):
            return {}
        answers = await asyncio.gather(*(self._report(kind) for kind in kinds))
        return dict(zip(kinds, answers, strict=True))

    async def _report(self, kind: str) -> Mapping[str, QueueOfDevice] | None:
        try:
            answer = await self._bus.nc.request(queues_subject(kind), b"", timeout=PATIENCE_SECONDS)
            return {queue.device: queue for queue in QueueReport.FromString(answer.data).queues}
        except (nats.errors.Error, OSError, TimeoutError, DecodeError):
            return None


def described(entry: Entry, reports: Reports, now: datetime) -> Device:
    """Return a device of the catalog, with what the task services have told of it."""
    device = Device(
        name=f"devices/{entry.id}",
        description=entry.description,
        vendor=entry.vendor,
        architecture=entry.architecture,
        runtimes=[_runtime(runtime) for runtime in entry.runtimes.values()],
        memory_limit_bytes=entry.memory_limit_bytes,
        queues=[_queue(kind, report, entry.id, now) for kind, report in reports.items()],
        product=entry.product,
        pod=WorkerPod(
            image=entry.pod.image,
            node_selector=entry.pod.node_selector,
            builders=entry.pod.builders,
            tolerations=[Toleration(**taint.model_dump()) for taint in entry.pod.tolerations],
            resources=entry.pod.resources,
        ),
        evidence=load_catalog().evidence(entry),
    )
    device.timeout.FromSeconds(entry.timeout_seconds)
    device.served = any(queue.workers for queue in device.queues)
    device.sandboxes.extend(_sandboxes(entry.id, reports))
    device.missing = _missing(entry, device)
    return device


def _runtime(runtime: Runtime) -> DeviceRuntime:
    return DeviceRuntime(
        runtime=runtime.name,
        precisions=[number(Precision, word) for word in runtime.precisions],
        quantized=[number(Precision, word) for word in runtime.quantized],
        built=_PLACES[runtime.built],
        toolchain=runtime.toolchain,
        emulator=runtime.emulator,
        options=[
            RuntimeOption(name=knob.name, purpose=knob.good_for, values=list(knob.values))
            for knob in (options_of(runtime.name) if runtime.built else ())
        ],
        evidence=load_catalog().evidence(runtime),
    )


def _queue(kind: str, report: Mapping[str, QueueOfDevice] | None, device: str, now: datetime) -> DeviceQueue:
    if report is None:
        return DeviceQueue(kind=kind)
    told = report.get(device, QueueOfDevice())
    queue = DeviceQueue(
        kind=kind,
        workers=told.workers,
        workers_on_device=told.workers_on_device,
        slots=told.slots,
        waiting=told.waiting,
        running=told.running,
        known=True,
    )
    if told.HasField("oldest_create_time"):
        waited = now - told.oldest_create_time.ToDatetime(UTC)
        queue.oldest_wait.FromMilliseconds(max(0, round(waited.total_seconds() * 1000)))
    return queue


def _sandboxes(device: str, reports: Reports) -> list[ConfinedWorkers]:
    """Return how the live workers confine what models bring, one that serves several kinds once."""
    names: dict[bytes, set[str]] = {}
    for report in reports.values():
        for told in (report or {}).get(device, QueueOfDevice()).sandboxes:
            names.setdefault(told.sandbox.SerializeToString(deterministic=True), set()).update(told.workers)
    return [
        ConfinedWorkers(workers=sorted(workers), sandbox=Sandbox.FromString(sandbox))
        for sandbox, workers in names.items()
    ]


def _missing(entry: Entry, device: Device) -> str:
    queues = device.queues
    if not entry.buildable_runtimes:
        return "This release has no builder for any runtime of this device, so that no task can ask for it."
    told: list[str] = []
    if silent := [queue.kind for queue in queues if not queue.known]:
        told.append(f"The services for {_listed(silent)} tasks do not answer: whether those are served is not known.")
    if unserved := [queue.kind for queue in queues if queue.known and not queue.workers]:
        told.append(
            f"No worker takes {_listed(unserved)} tasks for it: start one with LATHE_DEVICE={entry.id}. Tasks that are "
            "created meanwhile wait; a pool that is scaled from zero starts a worker for them. What runs forms needs a "
            "machine that is the device."
        )
    taken = [queue for queue in queues if queue.workers]
    if taken and not any(queue.workers_on_device for queue in taken):
        told.append("None of its live workers is the device: what they make is not verified on it.")
    told += [
        f"{count(len(alike.workers), 'live worker')} cannot confine code that models bring; missing: "
        f"{', '.join(alike.sandbox.missing)}. LATHE_SANDBOX=required keeps such workers from starting."
        for alike in device.sandboxes
        if not alike.sandbox.confined
    ]
    if not queues:
        told.append("No task service has told of its queues: the message bus does not answer, or none has run yet.")
    return " ".join(told)


def _listed(kinds: Sequence[str]) -> str:
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} and {kinds[-1]}"


def _values(device: Device) -> dict[str, Any]:
    built = [each.runtime for each in device.runtimes if each.built != BUILD_PLACE_UNSPECIFIED]
    return {**{name: getattr(device, name) for name in FIELDS}, "runtimes": built}
