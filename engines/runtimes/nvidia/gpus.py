"""The NVIDIA GPUs that this process may use, as the driver's library states them.

No framework is imported and no context is made. The library hides what CUDA_VISIBLE_DEVICES hides, so what is found
here is what frameworks find.
"""

from __future__ import annotations

import ctypes
import functools
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.spec.devices import Device

_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_NAME_BYTES = 256
VENDOR = "nvidia"
"""The vendor of these devices, as the catalog writes it."""
_DRIVER = Path("/sys/module/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process may use.

    Attributes:
        name: Its name: `Tesla T4`.
        uuid: What tells it from all others, or the slice of one that this is.
        architecture: Its compute capability as the catalog writes it: `sm_75`.
        driver: Version of the driver, and the newest CUDA that it runs: `580.65.06, CUDA 13.0`.
    """

    name: str
    uuid: str
    architecture: str
    driver: str


@dataclass(frozen=True)
class Gpus:
    """The GPUs in the order in which frameworks number them.

    Attributes:
        found: The GPUs.
        missing: Why there is none; empty if there is one.
    """

    found: tuple[Gpu, ...] = ()
    missing: str = ""


@functools.cache
def gpus() -> Gpus:
    """Return the GPUs that this process may use."""
    try:
        return _Driver().gpus()
    except OSError as error:
        return Gpus(missing=str(error))


def is_gpu(device: Device) -> bool:
    """Return whether a device of the catalog is one of NVIDIA's GPUs."""
    return device.vendor == VENDOR


def gpu_for(device: Device) -> Gpu | None:
    """Return the GPU that frameworks use, the first one, if it is of a device's kind; else None."""
    return next((gpu for gpu in gpus().found[:1] if _is_a(gpu, device)), None)


def missing_gpu(device: Device) -> str | None:
    """Return None if the GPU that frameworks use, the first one, is of a device's kind; else what is missing."""
    here = gpus()
    if here.missing:
        return here.missing
    if gpu_for(device):
        return None
    first = here.found[0]
    others = any(_is_a(gpu, device) for gpu in here.found)
    fits = "; a later one is: choose it by CUDA_VISIBLE_DEVICES" if others else ""
    wanted = " ".join(filter(None, (device.product, f"with {device.architecture}")))
    return f"an NVIDIA {wanted}; the first GPU here is a {first.name} with {first.architecture}{fits}"


def gpu_environment(device: Device) -> dict[str, str]:
    """Return what of GPU and driver may change a form or its results; nothing without a GPU of the device's kind."""
    gpu = gpu_for(device)
    return {"NVIDIA GPU": gpu.name, "NVIDIA driver": gpu.driver} if gpu else {}


def gpu_identity(device: Device) -> str:
    """Return what tells the GPU of a device's kind from all others; empty if there is none here."""
    gpu = gpu_for(device)
    return gpu.uuid if gpu else ""


def unavailable(title: str, device: Device, missing: str) -> EngineFailure:
    """Return the failure of a runtime that lacks something on this machine for a device."""
    return EngineFailure(
        FailureReason.TOOLCHAIN_UNAVAILABLE,
        f"{title} cannot build or run forms for {device.id} here: missing is {missing}.",
        suggested_fix=f"Run the task on a worker for {device.id} that has it, or choose another runtime.",
    )


def _is_a(gpu: Gpu, device: Device) -> bool:
    """Return whether a GPU is of a device's kind, by its architecture and the product's word in its name."""
    return gpu.architecture == device.architecture and bool(re.search(rf"\b{re.escape(device.product)}\b", gpu.name))


class _Driver:
    """The few functions of the driver's library that are needed."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError:
            raise OSError(f"an NVIDIA driver: there is no {_LIBRARY}") from None
        self._call("cuInit", 0)

    def gpus(self) -> Gpus:
        count, newest = ctypes.c_int(), ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        self._call("cuDriverGetVersion", ctypes.byref(newest))
        if not count.value:
            return Gpus(missing="an NVIDIA GPU: the driver shows none to this process")
        cuda = f"CUDA {newest.value // 1000}.{newest.value % 1000 // 10}"
        return Gpus(tuple(self._gpu(number, f"{_driver_version()}, {cuda}") for number in range(count.value)))

    def _gpu(self, number: int, driver: str) -> Gpu:
        handle, name, identity = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES), (ctypes.c_ubyte * 16)()
        self._call("cuDeviceGet", ctypes.byref(handle), number)
        self._call("cuDeviceGetName", name, _NAME_BYTES, handle)
        self._call("cuDeviceGetUuid_v2", ctypes.byref(identity), handle)
        major, minor = (self._attribute(attribute, handle) for attribute in (_MAJOR, _MINOR))
        given = name.value.decode(errors="replace")
        return Gpu(given, str(uuid.UUID(bytes=bytes(identity))), f"sm_{major}{minor}", driver)

    def _attribute(self, attribute: int, handle: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, handle)
        return value.value

    def _call(self, function: str, *arguments: Any) -> None:
        """Call a function of the library; raises OSError with the driver's words."""
        code = getattr(self._library, function)(*arguments)
        if code:
            words = ctypes.c_char_p()
            self._library.cuGetErrorString(code, ctypes.byref(words))
            said = (words.value or b"").decode(errors="replace")
            raise OSError(f"a working NVIDIA driver: {function} answers {code}{f' ({said})' if said else ''}")


def _driver_version() -> str:
    try:
        return _DRIVER.read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown version"
