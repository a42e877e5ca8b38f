"""The main of every worker process: it serves one device, and of the kinds of task those that it is told."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from engines.failures import EngineFailure
from engines.runtimes import installed, measurable, runtimes
from engines.runtimes.accelerators import accelerator
from engines.spec.devices import Device, load_catalog
from services.bus.connection import Bus
from services.bus.topology import Timing, find_queues, on_device
from services.platform import telemetry
from services.platform.settings import ConfigurationError, Settings, load_settings
from services.platform.work_folders import remove_folder, work_folder
from services.process.confinement import confinement
from services.process.startup import StartupError, refuse, tune_collector, wait_for
from services.storage import CachingStore, ContentStore, MeteredStore, S3ContentStore, hash_bytes
from services.tasks.worker.engine_work import EngineWork
from services.tasks.worker.presence import Pool
from services.tasks.worker.runner import SandboxRunner
from services.tasks.worker.worker import Worker

log: Any = structlog.get_logger("lathe.worker")


def run_worker(known: Sequence[type[EngineWork]]) -> None:
    """Serve until SIGTERM or SIGINT, or until idle for LATHE_IDLE_EXIT_SECONDS.

    Ends the process with an explanation if it cannot start. `known` are the kinds that there are, of which LATHE_KINDS
    names some.
    """
    import uvloop

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    name = "worker"
    try:
        settings = load_settings()
        if len(settings.kind_names) == 1:
            name = f"worker-{settings.kind_names[0]}"
        telemetry.configure(settings, name)
        device = served_device(settings.device)
        kinds = [kind(device.id) for kind in served_kinds(known, settings.kind_names, device)]
        uvloop.run(_serve(name, kinds, device, settings))
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


def served_kinds(known: Sequence[type[EngineWork]], names: Sequence[str], device: Device) -> Sequence[type[EngineWork]]:
    """Return the kinds of task that this process serves: those that are named, or all that it can.

    Raises:
        ConfigurationError: A kind is not known, or its tasks run forms, which this machine cannot for the device.
    """
    by_name = {kind.name: kind for kind in known}
    if strange := [name for name in names if name not in by_name]:
        told = f"LATHE_KINDS names '{strange[0]}', but the kinds of task are: {', '.join(by_name)}."
        raise ConfigurationError(told)
    chosen = [by_name[name] for name in names] or known
    if not any(kind.runs_forms for kind in chosen) or not (missing := why_not_run(device)):
        return chosen
    if names:
        (first, *_) = [kind.name for kind in chosen if kind.runs_forms]
        raise ConfigurationError(f"A worker for {first} tasks runs forms. {missing}")
    building = [kind for kind in known if not kind.runs_forms]
    log.info("builds_only", device=device.id, kinds=[kind.name for kind in building], missing=missing)
    return building


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


async def opened_store(settings: Settings) -> ContentStore:
    """Return the store when it has answered: a worker without it would take tasks and fail each of them."""
    store = MeteredStore(S3ContentStore(settings))
    nothing = hash_bytes(b"")
    seconds = settings.startup_wait_seconds
    await wait_for("the S3 store", "LATHE_S3_ENDPOINT", settings.s3_endpoint, seconds, lambda: store.exists(nothing))
    return store


async def _serve(name: str, kinds: Sequence[EngineWork], device: Device, settings: Settings) -> None:
    sandbox = await confinement(settings)
    timing = Timing(settings.ack_wait_seconds, settings.heartbeat_seconds, max_deliver=settings.max_attempts)
    bus = await wait_for(
        "NATS",
        "LATHE_NATS_URL",
        settings.nats_url,
        settings.startup_wait_seconds,
        lambda: Bus.connect(settings.nats_url, f"lathe-{name}", settings.tls_ca_file),
    )
    try:
        store = await opened_store(settings)
        timings = {room.name: room.version() for room in installed(device) if room.keeps_timings}
        pool = Pool(kinds, device.id, on_device=not why_not_run(device), timings=timings, sandbox=sandbox)
        queues = [(kind.name, device.id) for kind in kinds]
        queues += [(kind, on_device(device.id)) for kind in pool.handed_on]
        await wait_for(
            "the queues of the task services",
            "LATHE_NATS_URL",
            settings.nats_url,
            settings.startup_wait_seconds,
            lambda: find_queues(bus, queues),
        )
        folder = work_folder(settings.work_dir)
        blobs = CachingStore(store, settings.data_dir / "cache", settings.cache_bytes)
        preload = dict.fromkeys(module for kind in kinds for module in kind.preload)
        runner = SandboxRunner(
            list(preload), folder, devices=device.device_files, turns=turns_on(device, settings.data_dir)
        )
        worker = Worker(
            pool,
            bus,
            blobs,
            runner,
            timing=timing,
            drain_seconds=settings.drain_seconds,
            idle_exit_seconds=settings.idle_exit_seconds,
        )
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, worker.stop)
        tune_collector()
        log.info("ready", kinds=[kind.name for kind in kinds], device=device.id, worker=worker.name)
        try:
            await worker.run()
        finally:
            remove_folder(folder)
        log.info("stopped")
    finally:
        await bus.close()
