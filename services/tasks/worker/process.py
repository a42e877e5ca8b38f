"""The main of every worker process: `run_worker(name, ConversionWorkKind)` serves one kind for one device."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from engines.failures import EngineFailure
from engines.runtimes import installed, measurable, runtimes
from engines.runtimes.accelerators import accelerator
from engines.spec.devices import Device, load_catalog
from services.bus.connection import Bus
from services.bus.topology import Timing, ensure_topology
from services.platform import telemetry
from services.platform.settings import ConfigurationError, Settings, load_settings
from services.platform.work_folders import work_folder
from services.process.startup import StartupError, refuse, tune_collector, wait_for
from services.storage import CachingStore, MeteredStore, S3ContentStore
from services.tasks.kind import WorkKind
from services.tasks.worker.runner import SandboxRunner
from services.tasks.worker.worker import Pool, Worker

log: Any = structlog.get_logger("lathe.worker")


def run_worker(name: str, kind_for: Callable[[str], WorkKind]) -> None:
    """Serve until SIGTERM or SIGINT; ends the process with an explanation if it cannot start.

    Args:
        name: Of the process, in logs.
        kind_for: Makes the kind of work for a device of the catalog.
    """
    import uvloop

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = load_settings()
        telemetry.configure(settings, name)
        device = served_device(settings.device)
        kind = kind_for(device.id)
        if kind.runs_forms and (missing := why_not_run(device)):
            raise ConfigurationError(f"A worker for {kind.name} tasks runs forms. {missing}")
        uvloop.run(_serve(name, kind, device, settings))
    except ConfigurationError as error:
        refuse(name, error, status=2)
    except StartupError as error:
        refuse(name, error)
    except KeyboardInterrupt:
        sys.exit(0)


def served_device(name: str, setting: str = "LATHE_DEVICE") -> Device:
    """Return the device that this process can serve; `setting` is where its name was given.

    Raises:
        ConfigurationError: The catalog has no such device, this release builds nothing for it, or no toolchain of its
            is installed here: a worker that could only fail does not take tasks.
    """
    devices = load_catalog().devices
    device = devices.get(name)
    if device is None:
        raise ConfigurationError(f"{setting} is '{name}', but the catalog has: {', '.join(devices)}.")
    if not device.buildable_runtimes:
        raise ConfigurationError(f"{setting} is '{name}', for which this release has no builder.")
    if not installed(device):
        rooms = [runtimes()[runtime] for runtime in device.buildable_runtimes]
        told = "; ".join(f"{room.name} needs {room.available(device)}" for room in rooms)
        raise ConfigurationError(f"No toolchain for {setting} '{name}' is installed here: {told}.")
    return device


def why_not_run(device: Device) -> str:
    """Return why forms for a device that is served do not run on this machine as on the device; empty if they do."""
    try:
        measurable(device)
    except EngineFailure as failure:
        return failure.message
    return ""


def turns_on(device: Device, folder: Path) -> Path | None:
    """Return the file by which jobs on this machine's accelerator of a kind take turns; None without one."""
    identity = accelerator(device)
    return folder / "turns" / f"{identity}.lock" if identity else None


async def _serve(name: str, kind: WorkKind, device: Device, settings: Settings) -> None:
    timing = Timing(settings.ack_wait_seconds, settings.heartbeat_seconds, max_deliver=settings.max_attempts)
    bus = await wait_for(
        "NATS",
        "LATHE_NATS_URL",
        settings.nats_url,
        settings.startup_wait_seconds,
        lambda: Bus.connect(settings.nats_url, f"lathe-{name}"),
    )
    try:
        await ensure_topology(bus, [kind.name], [settings.device], timing)
        folder = work_folder(settings.data_dir / "work")
        store = MeteredStore(S3ContentStore(settings))
        blobs = CachingStore(store, settings.data_dir / "cache", settings.cache_bytes)
        runner = SandboxRunner(
            kind.entry, kind.preload, folder, devices=device.device_files, turns=turns_on(device, settings.data_dir)
        )
        worker = Worker(
            Pool(kind, settings.device), bus, blobs, runner, timing=timing, drain_seconds=settings.drain_seconds
        )
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, worker.stop)
        tune_collector()
        log.info("ready", kind=kind.name, device=settings.device, worker=worker.name)
        try:
            await worker.run()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        log.info("stopped")
    finally:
        await bus.close()
