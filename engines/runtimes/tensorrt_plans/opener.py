"""Opens a plan of TensorRT or TensorRT-RTX on a GPU. Packages carry this file: see `engines/runtimes/opened.py`.

A call copies its inputs to pinned memory and from there to the GPU, computes, and copies back, all on one stream. If no
shape can vary, the computation is captured once as a CUDA graph, and a call launches it. Buffers of varying shapes are
kept as long as the shapes of the calls stay the same. An output whose shape depends on the values is allocated by the
runtime while it computes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..opened import CallTimes, OpenedForm, UnfitMachineError
from .memory import Buffer, checked, late_output

ARCHITECTURE = "architecture"
"""Option of a form: the chip that it was built for: `sm_86`."""
VERSION = "version"
"""Option of a form: the version that built it."""
VERSION_COMPATIBLE = "version_compatible"
"""Option of a form: `on` if later versions may run it; the plan has code of its own, which runs on the host."""
HARDWARE_COMPATIBLE = "hardware_compatible"
"""Option of a form: what other chips may run it, by the name of the vendor's level; absent if none may."""
CUDA_GRAPH = "cuda_graph"
"""Option of a form: `off` if calls are not captured."""

_AMPERE = 80


def open_plan(trt: Any, path: str, options: Mapping[str, str]) -> OpenedForm:
    """Open a plan on the first GPU.

    Args:
        trt: The vendor's module.
        path: The plan.
        options: Options of the form.

    Raises:
        UnfitMachineError: There is no GPU, it is another chip, or the version is another one.
        RuntimeError: The plan cannot be opened; the message is the runtime's.
    """
    architecture = gpu_architecture()
    wanted, version = options.get(ARCHITECTURE, ""), options.get(VERSION, trt.__version__)
    if not runs_on_chip(options, architecture):
        raise UnfitMachineError(f"the plan was built for {wanted}, and the GPU here is {architecture}")
    if version != trt.__version__ and options.get(VERSION_COMPATIBLE) != "on":
        raise UnfitMachineError(f"the plan was built by version {version}, and here is {trt.__version__}")
    said: list[str] = []
    runtime = trt.Runtime(_logger(trt, said))
    if options.get(VERSION_COMPATIBLE) == "on":
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(Path(path).read_bytes())
    if engine is None:
        raise RuntimeError("\n".join(said) or "the plan cannot be read")
    return PlanForm(trt, runtime, engine, captured=options.get(CUDA_GRAPH) != "off")


def runs_on_chip(options: Mapping[str, str], architecture: str) -> bool:
    """Return whether a plan with some options runs on an architecture: its own, or a later one if it is built so."""
    chip = architecture.removeprefix("sm_")
    if options.get(HARDWARE_COMPATIBLE) == "AMPERE_PLUS" and chip.isdecimal():
        return int(chip) >= _AMPERE
    return architecture == options.get(ARCHITECTURE, architecture)


def gpu_architecture() -> str:
    """Return the compute capability of the first GPU as `sm_86`.

    Raises:
        UnfitMachineError: There is no GPU, or no driver.
    """
    from cuda.bindings import runtime as cudart

    kinds = cudart.cudaDeviceAttr
    try:
        major, minor = (
            checked(cudart.cudaDeviceGetAttribute(kind, 0))
            for kind in (kinds.cudaDevAttrComputeCapabilityMajor, kinds.cudaDevAttrComputeCapabilityMinor)
        )
    except RuntimeError as error:
        raise UnfitMachineError(f"there is no NVIDIA GPU to run on ({error})") from error
    return f"sm_{major}{minor}"


def _logger(trt: Any, said: list[str]) -> Any:
    class Errors(trt.ILogger):  # type: ignore[misc] # the base is known when the vendor's module is
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in {trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR}:
                said.append(text)

    return Errors()


class PlanForm(OpenedForm):
    """A plan with its buffers and its stream."""

    def __init__(self, trt: Any, runtime: Any, engine: Any, *, captured: bool) -> None:
        from cuda.bindings import runtime as cudart

        self._trt, self._runtime, self._engine = trt, runtime, engine
        self._context: Any = engine.create_execution_context()
        if self._context is None:
            raise RuntimeError("out of memory: the GPU has no room for the model's activations")
        names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
        self.outputs = tuple(name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT)
        self._inputs = [name for name in names if name not in self.outputs]
        self._dtypes = {name: trt.nptype(engine.get_tensor_dtype(name)) for name in names}
        self._on_host = {name for name in names if engine.get_tensor_location(name) == trt.TensorLocation.HOST}
        fixed = all(extent >= 0 for name in names for extent in engine.get_tensor_shape(name))
        self._capturable = captured and fixed
        self._stream: Any = checked(cudart.cudaStreamCreate())
        self._buffers: dict[str, Buffer] = {}
        self._late: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._graph: Any = None

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs in order."""
        self._bind(feed)
        self._copy_in(feed)
        self._compute()
        return self._copied_out()

    def timed(self, feed: Mapping[str, Any]) -> tuple[list[Any], CallTimes]:
        """Return the outputs of a call, and how long it copied and computed."""
        self._bind(feed)
        moments = [time.perf_counter()]
        self._copy_in(feed)
        self._wait()
        moments.append(time.perf_counter())
        self._compute()
        self._wait()
        moments.append(time.perf_counter())
        outputs = self._copied_out()
        moments.append(time.perf_counter())
        return outputs, CallTimes.between(moments)

    def profiled(self, feed: Mapping[str, Any], profiler: Any) -> None:
        """Compute one call whose layers a profiler of the vendor's takes the times of."""
        self._bind(feed)
        self._context.profiler = profiler
        self._copy_in(feed)
        self._enqueue()
        self._wait()

    def close(self) -> None:
        """Release buffers, stream, and with the plan its memory on the GPU."""
        from cuda.bindings import runtime as cudart

        self._release()
        if self._stream is not None:
            cudart.cudaStreamDestroy(self._stream)
        self._stream = self._context = self._engine = self._runtime = None

    def _bind(self, feed: Mapping[str, Any]) -> None:
        """Allocate for the shapes of a feed, unless they are those of the feed before."""
        shapes = {name: tuple(feed[name].shape) for name in self._inputs}
        if shapes == self._shapes and self._buffers:
            return
        self._release()
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise ValueError(f"the input {name!r} cannot have the shape {shape}: the plan was built for others")
        if unknown := self._context.infer_shapes():
            raise ValueError(f"the inputs {', '.join(unknown)} have no shape")
        for name in (*self._inputs, *self.outputs):
            shape = tuple(self._context.get_tensor_shape(name))
            if min(shape, default=0) < 0:
                self._late[name] = late_output(self._trt)
                self._context.set_output_allocator(name, self._late[name])
                continue
            made = self._buffers[name] = Buffer(shape, self._dtypes[name])
            address = made.host.ctypes.data if name in self._on_host else made.device
            self._context.set_tensor_address(name, address)
        self._shapes = shapes
        if self._capturable and not self._late:
            self._capture(feed)

    def _capture(self, feed: Mapping[str, Any]) -> None:
        """Capture a call as a CUDA graph; a plan whose call cannot be captured goes without."""
        from cuda.bindings import runtime as cudart

        self._copy_in(feed)
        self._enqueue()  # the first call sets the plan up, which cannot be captured
        self._wait()
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cudart.cudaStreamBeginCapture(self._stream, mode))
        enqueued = self._context.execute_async_v3(self._stream_handle)
        code, graph = cudart.cudaStreamEndCapture(self._stream)
        if not enqueued or code != cudart.cudaError_t.cudaSuccess:
            cudart.cudaGetLastError()  # the failed capture is no failure of the calls that follow
            self._capturable = False
            return
        self._graph = checked(cudart.cudaGraphInstantiate(graph, 0))
        cudart.cudaGraphDestroy(graph)

    @property
    def _stream_handle(self) -> int:
        return int(self._stream)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream_handle):
            raise RuntimeError("the plan could not be executed")

    def _compute(self) -> None:
        from cuda.bindings import runtime as cudart

        if self._graph is None:
            self._enqueue()
        else:
            checked(cudart.cudaGraphLaunch(self._graph, self._stream))

    def _copy_in(self, feed: Mapping[str, Any]) -> None:
        for name in self._inputs:
            np.copyto(self._buffers[name].host, feed[name], casting="same_kind")
            self._buffers[name].to_device(self._stream)

    def _copied_out(self) -> list[Any]:
        for name in self.outputs:
            if name in self._buffers and name not in self._on_host:
                self._buffers[name].to_host(self._stream)
        self._wait()
        return [
            self._buffers[name].host.copy() if name in self._buffers else self._late[name].values(self._dtypes[name])
            for name in self.outputs
        ]

    def _wait(self) -> None:
        from cuda.bindings import runtime as cudart

        checked(cudart.cudaStreamSynchronize(self._stream))

    def _release(self) -> None:
        from cuda.bindings import runtime as cudart

        if self._graph is not None:
            cudart.cudaGraphExecDestroy(self._graph)
        for buffer in self._buffers.values():
            buffer.free()
        for late in self._late.values():
            late.free()
        self._graph, self._buffers, self._late, self._shapes = None, {}, {}, {}
