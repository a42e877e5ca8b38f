"""The table of runtimes. Each room's module is imported when it is asked for; frameworks, when it builds or opens."""

import functools
import importlib

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.protocol import (
    BuildOptions,
    BuildSource,
    BuiltForm,
    Network,
    Runtime,
    Session,
    Where,
)
from engines.spec.devices import Device, load_catalog

ROOMS = ("onnxruntime", "openvino", "inductor", "torchscript")
"""Folders beside this file. Each has a module `runtime`, whose `RUNTIME` says and does what the protocol asks for."""


@functools.cache
def runtimes() -> dict[str, Runtime]:
    """Return every runtime by name, whether it is installed or not."""
    rooms = (importlib.import_module(f"{__name__}.{room}.runtime").RUNTIME for room in ROOMS)
    return {room.name: room for room in rooms}


def runtime(name: str) -> Runtime:
    """Return a runtime of the device catalog that is installed.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if there is no such runtime, or it is not installed.
    """
    found = runtimes().get(name)
    missing = found.available() if found else f"a runtime named '{name}'; there are {', '.join(sorted(runtimes()))}"
    if found is None or missing:
        raise EngineFailure(
            FailureReason.TOOLCHAIN_UNAVAILABLE,
            f"Forms for the runtime '{name}' cannot be built or run here: missing is {missing}.",
            suggested_fix="Install it where the worker runs, or choose another runtime in the template.",
        )
    return found


def installed(device: Device) -> list[Runtime]:
    """Return the runtimes that this release builds with for a device and that are installed, in the catalog's order."""
    named = (runtimes().get(name) for name in device.buildable_runtimes)
    return [room for room in named if room and not room.available()]


def open_form(form: BuiltForm, threads: int) -> Session:
    """Open a form on the device that it was built for.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if it cannot run here, and what the runtime raises.
    """
    room, device = runtime(form.runtime), load_catalog().device(form.device)
    if room.where(device) is Where.DEVICE:
        raise EngineFailure(
            FailureReason.TOOLCHAIN_UNAVAILABLE,
            f"The form runs on {device.id} only, and this machine is none.",
            suggested_fix=f"Run it where a worker serves {device.id}.",
        )
    return room.open(form, device, threads)


__all__ = [
    "ROOMS",
    "BuildOptions",
    "BuildSource",
    "BuiltForm",
    "Network",
    "Runtime",
    "Session",
    "Where",
    "installed",
    "open_form",
    "runtime",
    "runtimes",
]
