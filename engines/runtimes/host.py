"""Code shared by the runtimes whose forms need only the processor of a device."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median

from engines.runtimes.candidates import Candidate, Situation
from engines.runtimes.emulator import Emulator, emulator_of
from engines.runtimes.protocol import BuiltForm, Integers, Layer, Where
from engines.spec.devices import Device
from engines.spec.toolchain import cpu, version_of, versions
from engines.tensors import Arrays

PROFILED_RUNS = 9
"""Calls over which the times of layers are counted, after one that warms up."""


def usual_layers(calls: Sequence[Sequence[Layer]]) -> list[Layer]:
    """Return the layers of some calls of one form, each with its median time: one call may be disturbed.

    A node that a call runs several times, as in a loop, is one layer with the sum of its times.
    """
    times: dict[Layer, list[float]] = {}
    for position, call in enumerate(calls):
        for layer in call:
            found = times.setdefault(replace(layer, milliseconds=0.0), [0.0] * len(calls))
            found[position] += layer.milliseconds
    return [replace(layer, milliseconds=median(each)) for layer, each in times.items()]


class HostRuntime:
    """A runtime whose forms run on any machine with the device's kind of processor."""

    packages: tuple[str, ...]
    integers: Integers | None = None
    keeps_timings = False
    tools: tuple[str, ...] = ()
    """More packages that take part in building, for some forms."""
    emulated = False
    """Whether its forms run in an emulator of the device's processor, if one is set up."""

    def available(self, device: Device | None = None) -> str | None:
        """Return None if the runtime is installed, else what is missing. Imports no framework."""
        missing = [name for name in self.packages if not importlib.util.find_spec(name)]
        return f"the package `{missing[0]}`" if missing else None

    def version(self) -> str:
        """Return the version of the first package."""
        return version_of(self.packages[0])

    def where(self, device: Device) -> Where:
        """Return HERE on a machine with the device's kind of processor."""
        if platform.machine() == device.architecture:
            return Where.HERE
        return Where.EMULATOR if self.emulator(device) else Where.DEVICE

    def runs_on(self, device: Device) -> str:
        """Return the model of this machine's processor if forms run on it, else the emulator."""
        emulator = self.emulator(device)
        return emulator.version if emulator else cpu()[0] if self.where(device) is Where.HERE else ""

    def emulator(self, device: Device) -> Emulator | None:
        """Return the emulator that forms for a device run in; None if they do not need one, or there is none."""
        if not self.emulated or platform.machine() == device.architecture:
            return None
        return emulator_of(device.architecture)

    def layers(self, form: BuiltForm, feed: Arrays, threads: int) -> list[Layer]:
        """Return nothing: a runtime has no profiler unless it says so."""
        return []

    def baselines(self, now: Situation) -> Iterable[Candidate]:
        """Yield nothing: a runtime has none unless it says so."""
        return ()

    def environment(self, target: Device) -> dict[str, str]:
        """Return the versions of what builds and runs; an emulator is part of it, as its kernels are the device's."""
        emulator = self.emulator(target)
        own = {"emulator": emulator.version} if emulator else {}
        return versions((*self.packages, *self.tools)) | own
