"""`lathe devices`: what models can be made for, who serves it, and how much waits."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.cli.client import connect
from services.cli.listing import Filter, Limit, Page, pages
from services.cli.output import TABLE, Column, Output, OutputFormat, plain, print_rows, show_message, show_messages

devices = typer.Typer(help="Devices: runtimes, precisions, live workers and queues.", no_args_is_help=True)


def _runtimes(device: Any) -> str:
    return plain(", ".join(each.runtime if each.built else f"{each.runtime} (no builder)" for each in device.runtimes))


def _short(device: Any) -> str:
    """Return in a few words what is missing; `lathe devices get` says it in full."""
    if not device.queues or not any(runtime.built for runtime in device.runtimes):
        return plain(device.missing)
    silent = [queue.kind for queue in device.queues if not queue.known]
    unserved = [queue.kind for queue in device.queues if queue.known and not queue.workers]
    told = [f"unknown: {', '.join(silent)}"] if silent else []
    if len(unserved) == len(device.queues):
        told.append("no worker")
    elif unserved:
        told.append(f"no worker for {', '.join(unserved)}")
    if device.served and not any(queue.workers_on_device for queue in device.queues):
        told.append("no worker is the device")
    if not all(alike.sandbox.confined for alike in device.sandboxes):
        told.append("workers do not confine code")
    return plain("; ".join(told))


def _span(device: Any, figure: str) -> str:
    """Return a figure of the queues that are known, such as `1`, or `0–2`: a worker of several kinds is in several."""
    figures = [getattr(queue, figure) for queue in device.queues if queue.known]
    if not figures:
        return "?"
    return str(min(figures)) if min(figures) == max(figures) else f"{min(figures)}–{max(figures)}"


def _oldest(queues: Any) -> str:
    waits = [queue.oldest_wait.ToTimedelta() for queue in queues if queue.HasField("oldest_wait")]
    return str(max(waits)).partition(".")[0] if waits else "–"


def _pod(pod: Any) -> str:
    """Return what a worker's pod needs: `lathe-worker-nvidia on nvidia.com/gpu.product=NVIDIA-L4, 1 nvidia.com/gpu`."""
    nodes = _labels(pod.node_selector)
    building = f"; to build, on {_labels(pod.builders)}" if pod.builders else ""
    asked = "".join(f", {count} {name}" for name, count in sorted(pod.resources.items()))
    return f"lathe-worker-{pod.image} on {nodes or 'any node'}{asked}{building}"


def _labels(values: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(values.items()))


_BUILT = ("no builder", "here", "on the device", "anywhere")


def _verified(runtime: Any) -> str:
    if not runtime.built:
        return "–"
    return f"on the device, or in {runtime.emulator}" if runtime.emulator else "on the device"


COLUMNS: list[Column[Any]] = [
    Column("device", lambda device: plain(device.name.removeprefix("devices/")), whole=True),
    Column("runtimes", _runtimes),
    Column("workers per kind", lambda device: _span(device, "workers"), numeric=True),
    Column("on the device", lambda device: _span(device, "workers_on_device"), numeric=True),
    Column("running", lambda device: str(sum(queue.running for queue in device.queues)), numeric=True),
    Column("waiting", lambda device: str(sum(queue.waiting for queue in device.queues)), numeric=True),
    Column("oldest waits", lambda device: _oldest(device.queues), whole=True),
]
LIST: list[Column[Any]] = [*COLUMNS, Column("missing", _short)]
WHOLE: list[Column[Any]] = [
    *COLUMNS,
    Column("missing", lambda device: plain(device.missing)),
    Column("pod", lambda device: plain(_pod(device.pod))),
]


def _precisions(values: Any) -> str:
    from lathe.type.v1.precision_pb2 import Precision

    return ", ".join(Precision.Name(value).removeprefix("PRECISION_") for value in values) or "–"


RUNTIMES: list[Column[Any]] = [
    Column("runtime", lambda runtime: plain(runtime.runtime), whole=True),
    Column("precisions", lambda runtime: _precisions(runtime.precisions)),
    Column("quantized", lambda runtime: _precisions(runtime.quantized)),
    Column("built", lambda runtime: _BUILT[runtime.built]),
    Column("verified", lambda runtime: plain(_verified(runtime))),
    Column("toolchain", lambda runtime: plain(", ".join(runtime.toolchain))),
]
# Rows of runtime and option; of runtime, claim and its evidence.
OPTIONS: list[Column[Any]] = [
    Column("runtime", lambda row: plain(row[0]), whole=True),
    Column("option", lambda row: plain(row[1].name), whole=True),
    Column("values", lambda row: plain(", ".join(row[1].values)) or "number or text"),
    Column("for", lambda row: plain(row[1].purpose)),
]
EVIDENCE: list[Column[Any]] = [
    Column("runtime", lambda row: plain(row[0]), whole=True),
    Column("claims", lambda row: plain(", ".join(row[1]))),
    Column("stand on", lambda row: plain(row[2])),
]
QUEUES: list[Column[Any]] = [
    Column("tasks", lambda queue: plain(queue.kind), whole=True),
    Column("workers", lambda queue: str(queue.workers) if queue.known else "?", numeric=True),
    Column("on the device", lambda queue: str(queue.workers_on_device) if queue.known else "?", numeric=True),
    Column("running", lambda queue: str(queue.running) if queue.known else "?", numeric=True),
    Column("waiting", lambda queue: str(queue.waiting) if queue.known else "?", numeric=True),
    Column("oldest waits", lambda queue: _oldest([queue]), whole=True),
]
SANDBOXES: list[Column[Any]] = [
    Column("workers", lambda alike: plain(", ".join(alike.workers))),
    Column("confine code", lambda alike: "yes" if alike.sandbox.confined else "NO"),
    Column("active", lambda alike: plain(", ".join(alike.sandbox.active)) or "–"),
    Column("missing", lambda alike: plain(", ".join(alike.sandbox.missing)) or "–"),
]


@devices.command("list")
def list_devices(filter_: Filter = "", limit: Limit = 50, page: Page = "", output: Output = TABLE) -> None:
    """List the devices that this release knows."""
    from lathe.registry.v1.device_service_pb2 import ListDevicesRequest

    with connect() as connection:
        request = ListDevicesRequest(filter=filter_)
        show_messages(pages(connection.devices.ListDevices, request, "devices", limit, page), LIST, output)


@devices.command("get")
def get(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Such as 'cpu-x86-64'.")], output: Output = TABLE
) -> None:
    """Show a device: its runtimes, and the queue of each kind of task."""
    from lathe.registry.v1.device_service_pb2 import GetDeviceRequest

    with connect() as connection:
        name = f"devices/{device.removeprefix('devices/')}"
        found = connection.devices.GetDevice(GetDeviceRequest(name=name))
    show_message(found, WHOLE, output)
    if output is not OutputFormat.JSON:
        print_rows(found.runtimes, RUNTIMES)
        print_rows(found.queues, QUEUES)
        if found.sandboxes:
            print_rows(found.sandboxes, SANDBOXES, title="How workers confine what models bring")
        if options := [(each.runtime, option) for each in found.runtimes for option in each.options]:
            print_rows(options, OPTIONS, title="Options of the runtimes (runtime_options)")
        if evidence := _evidence(found):
            print_rows(evidence, EVIDENCE, title="What this stands on")


def _evidence(device: Any) -> list[tuple[str, list[str], str]]:
    """Return what the claims of a device and its runtimes stand on, claims of equal evidence together."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name, entry in [("", device), *((each.runtime, each) for each in device.runtimes)]:
        for claim, words in sorted(entry.evidence.items()):
            rows.setdefault((name, words), []).append(claim)
    return [(name, claims, words) for (name, words), claims in rows.items()]
