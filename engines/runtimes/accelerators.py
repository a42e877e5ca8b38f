"""Which accelerator of this machine the forms for a device compute on."""

from __future__ import annotations

from collections.abc import Callable

from engines.runtimes.nvidia import gpus
from engines.spec.devices import Device

_FINDERS: dict[str, Callable[[Device], str]] = {gpus.VENDOR: gpus.gpu_identity}


def accelerator(device: Device) -> str:
    """Return what tells the accelerator of a device's kind from all others; empty if none is known here.

    What computes on one accelerator at the same time would be measured wrong.
    """
    finder = _FINDERS.get(device.vendor)
    return finder(device) if finder else ""
