"""The protocol of a runtime's room: build a model for the runtime, and open what was built.

BuildSource (graph, network, native files) ──build──▶ BuiltForm (files, options) ──open──▶ Session ──run──▶ arrays
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from engines.runtimes.opened import CallTimes
from engines.runtimes.source import GRAPH, BuildSource
from engines.spec.devices import Device
from engines.tensors import Array, Arrays
from engines.tensors.signature import TensorSpec

if TYPE_CHECKING:
    from engines.runtimes.candidates import Candidate, Situation
    from engines.runtimes.knobs import Knob


@dataclass(frozen=True)
class BuildOptions:
    """How a form is built.

    Attributes:
        precision: Arithmetic to compute in, as the API names it.
        knobs: Differences from the runtime's defaults, by name; each room declares the knobs that it takes.
        progress: Takes the fraction that is done, and what is being done.
        timings: Folder of what earlier builds have timed, to which a build adds (see `engines.runtimes.timings`). It
            may not exist yet. None if nothing is to be kept.
    """

    precision: str
    knobs: Mapping[str, str] = field(default_factory=dict)
    progress: Callable[[float, str], None] = lambda fraction, message: None
    timings: Path | None = None


@dataclass(frozen=True)
class BuiltForm:
    """A form that a runtime built of a source, with everything that is needed to open it again.

    Attributes:
        runtime: Name of the runtime.
        device: Device of the catalog that it was built for.
        precision: Arithmetic that the form computes in, as the API names it.
        directory: Folder of the files.
        files: Paths in `directory`, the one that the runtime opens first.
        outputs: Names of the outputs, in the order of the graph.
        options: Options of the runtime under which the form was verified; a serving system sets the same.
        warnings: Warnings of the build for the user.
        inputs: Inputs that it takes in place of the package's, in their order; nothing if they are the same. Such a
            form is compared with its source by nobody: what the package is fed with does not fit it.
    """

    runtime: str
    device: str
    precision: str
    directory: Path
    files: tuple[str, ...]
    outputs: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()

    @property
    def entry(self) -> Path:
        """The file that the runtime opens."""
        return self.directory / self.files[0]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum((self.directory / name).stat().st_size for name in self.files)


class Session(ABC):
    """A form that is ready to run; a context manager that closes it.

    Attributes:
        requests: How many calls it computes at the same time.
    """

    requests = 1

    @abstractmethod
    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name; the arrays belong to the caller."""

    def timed(self, inputs: Mapping[str, Array]) -> tuple[Arrays, CallTimes]:
        """Return the outputs of a call and its times: of copying to the device, computing, and copying back."""
        start = time.perf_counter()
        outputs = self.run(inputs)
        return outputs, CallTimes(0.0, (time.perf_counter() - start) * 1e3, 0.0)

    def run_many(self, feeds: Sequence[Mapping[str, Array]]) -> list[Arrays]:
        """Return the outputs of many calls, in order, as many computed at the same time as the form has streams."""
        return [self.run(feed) for feed in feeds]

    @abstractmethod
    def close(self) -> None:
        """Release the runtime, its threads and its memory. Closing twice is harmless; nothing runs afterwards."""

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


@dataclass(frozen=True)
class Layer:
    """A step of a call, as a runtime's profiler names it.

    Attributes:
        name: Name of the node; the number of the step and its operator if the runtime keeps no names.
        operator: Kind of node: the ONNX operator if there is one; a product in integers is `integer Gemm`.
        milliseconds: Time that it takes in a call. The profiler's own cost is in it.
        kernel: The code that computes it, as the runtime names it; empty if it does not say.
    """

    name: str
    operator: str
    milliseconds: float
    kernel: str = ""


class Where(StrEnum):
    """Where a form can run."""

    HERE = "here"
    EMULATOR = "in an emulator"
    DEVICE = "only on the device"


@dataclass(frozen=True)
class Integers:
    """How a runtime takes quantized models; quantizers go by it.

    Attributes:
        form: The form of a source that quantizers write for it: a graph, or the runtime's own.
        saturate: Whether its sums of 8-bit products overflow on processors without instructions for them, so that
            weights take seven bits there.
        signed: Whether it takes signed bytes about zero alone, and biases in floating point.
        block: Inputs of a channel that share a scale in weights of four bits which the graph dequantizes; 0 if the
            runtime does not take such graphs.
        tool: Name of a quantizer of its vendor, which is tried first if it is installed; empty if there is none.
    """

    form: str = GRAPH
    saturate: bool = False
    signed: bool = False
    block: int = 0
    tool: str = ""


class Runtime(Protocol):
    """Everything that Lathe knows of one runtime."""

    name: str
    """Name in the catalog of devices."""
    title: str
    """Name for people."""
    packages: tuple[str, ...]
    """Packages, as `pip` names them, that a form needs to run; the version of the first is the runtime's."""
    modules: tuple[str, ...]
    """Modules of its framework, which a worker imports ahead of its tasks."""
    takes: tuple[str, ...]
    """Forms of a source that it builds from, in order of preference."""
    integers: Integers | None
    """How it takes quantized models; None if it takes none."""
    knobs: tuple[Knob, ...]
    """The settings of `build` that differ from the runtime's defaults."""
    keeps_timings: bool
    """Whether it times kernels while it builds, and keeps the times, so that the next build need not."""

    def available(self, device: Device | None = None) -> str | None:
        """Return None if the runtime is installed, for a device if one is given, else what is missing.

        Imports no framework.
        """
        ...

    def version(self) -> str:
        """Return the version of the runtime that is installed here; empty if it is not known. Imports no framework."""
        ...

    def where(self, device: Device) -> Where:
        """Return where forms for a device can run, as seen from this machine."""
        ...

    def runs_on(self, device: Device) -> str:
        """Return what forms for a device run on, seen from this machine: its processor, accelerator or emulator.

        Empty if they run only on the device, and this is not one.
        """
        ...

    def build(self, source: BuildSource, target: Device, options: BuildOptions, out_dir: Path) -> BuiltForm:
        """Build the source in `out_dir`, which is created if it is not there.

        Raises:
            EngineFailure: UNSUPPORTED_PRECISION, UNSUPPORTED_OPERATOR (with node and operator), TOOLCHAIN_CRASHED;
                INVALID_SPEC if the source offers no form that the runtime takes, or the runtime has no such knob.
        """
        ...

    def open(self, form: BuiltForm, device: Device, threads: int) -> Session:
        """Open a form that this runtime built, on a device, with that many threads of the host.

        Raises:
            EngineFailure: as `build`; some runtimes look at operators and precision only here.
        """
        ...

    def layers(self, form: BuiltForm, feed: Arrays, threads: int) -> list[Layer]:
        """Return the steps of a call in their order, by the runtime's own profiler; nothing if it has none.

        The times are medians over a few calls.
        """
        ...

    def candidates(self, now: Situation) -> Iterable[Candidate]:
        """Yield the forms that a search should try, each with its promise."""
        ...

    def baselines(self, now: Situation) -> Iterable[Candidate]:
        """Yield the forms that can stand for the source, each with its promise."""
        ...

    def environment(self, target: Device) -> dict[str, str]:
        """Return what may change a form or its results: versions of packages, driver and chip. Imports no framework."""
        ...
