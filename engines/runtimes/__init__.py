"""The table of runtimes. Each room's module is imported when it is asked for; frameworks, when it builds or opens."""

import functools
import importlib
from collections.abc import Collection, Iterable

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.protocol import (
    BuildOptions,
    BuiltForm,
    Integers,
    Runtime,
    Session,
    Where,
)
from engines.runtimes.source import GRAPH, BuildSource, Network
from engines.spec.devices import Device, load_catalog

ROOMS = (
    "onnxruntime",
    "openvino",
    "inductor",
    "torchscript",
    "tensorrt",
    "tensorrt-rtx",
    "onnxruntime-cuda",
    "litert",
    "ascend",
)
"""The table: the runtimes' names in the device catalog, each the name of a folder beside this file (see `module_of`).

Each has a module `runtime`, whose `RUNTIME` follows the protocol, and a module `serving`.
"""


def module_of(runtime: str, part: str) -> str:
    """Return the name of a module in a runtime's room; its folder has the runtime's name with `_` for `-`."""
    return f"{__name__}.{runtime.replace('-', '_')}.{part}"


@functools.cache
def runtimes() -> dict[str, Runtime]:
    """Return every runtime of the table by name, whether it is installed or not."""
    return {name: importlib.import_module(module_of(name, "runtime")).RUNTIME for name in ROOMS}


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
            suggested_fix="Install it on the worker, or choose another runtime in the template.",
        )
    return found


def builds_from(name: str, forms: Collection[str]) -> bool:
    """Return whether a runtime builds from one of the forms that a source offers."""
    return name in runtimes() and not set(forms).isdisjoint(runtimes()[name].takes)


def graph_runtime(device: Device) -> str:
    """Return the first runtime of a device that builds from graphs, which every source can become; empty if none."""
    return next((name for name in device.buildable_runtimes if builds_from(name, {GRAPH})), "")


def keep_timings(names: Iterable[str]) -> bool:
    """Return whether one of these runtimes keeps timings: its builds then depend on what was built before."""
    return any(runtimes()[name].keeps_timings for name in names if name in runtimes())


def runtime_packages() -> tuple[str, ...]:
    """Return the packages of all runtimes, whose versions may change a result."""
    return tuple(dict.fromkeys(name for room in runtimes().values() for name in room.packages))


def installed(device: Device) -> list[Runtime]:
    """Return the runtimes that this release builds with for a device and that are installed, in the catalog's order."""
    named = (runtimes().get(name) for name in device.buildable_runtimes)
    return [room for room in named if room and not room.available(device)]


def measurable(device: Device) -> list[Runtime]:
    """Return the installed runtimes of a device whose forms can be timed on this machine, in the catalog's order.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if there are runtimes and none of them can: nothing could be ranked.
    """
    rooms = installed(device)
    found = [room for room in rooms if room.where(device) is Where.HERE]
    if rooms and not found:
        check_timed(rooms[0], device)
    return found


def check_timed(room: Runtime, device: Device) -> None:
    """Refuse to time forms that do not run on their device here.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE.
    """
    where = room.where(device)
    if where is not Where.HERE:
        emulated = f"run only in {room.runs_on(device)} on this machine, whose times are not the device's"
        found = emulated if where is Where.EMULATOR else "do not run on this machine"
        raise EngineFailure(
            FailureReason.TOOLCHAIN_UNAVAILABLE,
            f"There is nothing to measure: forms of {room.title} for {device.id} {found}.",
            suggested_fix=f"Run it on a worker for {device.id}; or convert the version, which measures no time.",
        )


def open_form(form: BuiltForm, threads: int) -> Session:
    """Open a form on the device that it was built for.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if it cannot run here, and what the runtime raises.
    """
    room, device = runtime(form.runtime), load_catalog().device(form.device)
    if room.where(device) is Where.DEVICE:
        raise EngineFailure(
            FailureReason.TOOLCHAIN_UNAVAILABLE,
            f"The form runs on {device.id} only, and this machine is another device.",
            suggested_fix=f"Run it on a worker for {device.id}.",
        )
    return room.open(form, device, threads)


__all__ = [
    "GRAPH",
    "ROOMS",
    "BuildOptions",
    "BuildSource",
    "BuiltForm",
    "Integers",
    "Network",
    "Runtime",
    "Session",
    "Where",
    "builds_from",
    "check_timed",
    "graph_runtime",
    "installed",
    "measurable",
    "module_of",
    "open_form",
    "runtime",
    "runtime_packages",
    "runtimes",
]
