"""Opens the package's model in its runtime, set up as the package was verified; `infer.py` beside it uses it.

`open_model` returns a function from several feeds, arrays by name each, to the list of outputs of each, in order. Where
the package has streams, as many feeds are computed at the same time.
"""

from __future__ import annotations

import ctypes
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

_MALLOPT = {-1: 2**31 - 1, -2: 64 << 20, -4: 0}  # glibc's M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX: freed memory stays
PACKAGES = {"torchscript": "torch", "inductor": "torch"}
"""What `pip` calls a runtime, where that is another name."""
_CAPABILITIES = ("DEFAULT", "AVX2", "AVX512")
_EXACT = "session.x64quantprecision"
_NO_OVERFLOW = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""Flags of processors, of which one means that sums of 8-bit products do not saturate."""
_OWN = frozenset({"threads", "allocator", "inputs", "binding"})


def open_model(runtime: str, path: str, stated: dict[str, str], threads: int) -> Any:
    """Return the function that computes feeds.

    Args:
        runtime: Name of the runtime.
        path: The file that it opens.
        stated: Options of the package.
        threads: Most threads.

    Raises:
        ImportError: the runtime is not installed.
        ValueError: the runtime is none that this script knows, or the machine is not one that the package runs on.
    """
    openers = {
        "onnxruntime": open_onnxruntime,
        "openvino": open_openvino,
        "torchscript": open_torchscript,
        "inductor": open_inductor,
    }
    if runtime not in openers:
        raise ValueError(f"this script opens {', '.join(openers)}, and the package is for {runtime}")
    if stated.get("allocator") == "tuned" and sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda _name, _value: 0)
        for name, value in _MALLOPT.items():
            mallopt(name, value)
    return openers[runtime](path, stated, min(threads, int(stated.get("threads", threads))))


def open_onnxruntime(path: str, stated: dict[str, str], threads: int) -> Any:
    """Open an ONNX graph."""
    import onnxruntime as ort

    streams = int(stated.get("streams", "1"))
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, stated["graph_optimization_level"])
    options.execution_mode = getattr(ort.ExecutionMode, stated["execution_mode"])
    options.intra_op_num_threads, options.inter_op_num_threads = max(1, threads // streams), 1
    for key in (key for key in stated if key.startswith("session.")):
        if key != _EXACT or _products_saturate():
            options.add_session_config_entry(key, stated[key])
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    if streams > 1:
        callers = ThreadPoolExecutor(streams)
        return lambda feeds: list(callers.map(lambda feed: session.run(None, feed), feeds))
    run = _Bound(session).run if stated.get("binding") == "bound" else lambda feed: session.run(None, feed)
    return lambda feeds: [run(feed) for feed in feeds]


def _products_saturate() -> bool:
    """Tell whether the sums of 8-bit products may overflow here; others compute exactly, and faster, when not told."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return _NO_OVERFLOW.isdisjoint(file.read().split())
    except OSError:
        return True


class _Bound:
    """Keeps inputs and outputs in tensors of its own while their shapes stay the same."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [output.name for output in session.get_outputs()]
        self._binding: Any = None
        self._held: dict[str, Any] = {}
        self._given: list[Any] = []
        self._tensors: list[Any] = []

    def run(self, feed: dict[str, Any]) -> list[Any]:
        if self._binding is None or any(value.shape != self._held[name].shape for name, value in feed.items()):
            return self._bind(feed)
        for name, value in feed.items():
            np.copyto(self._held[name], value)
        self._session.run_with_iobinding(self._binding)
        return [value.copy() for value in self._given]

    def _bind(self, feed: dict[str, Any]) -> list[Any]:
        import onnxruntime as ort

        outputs: list[Any] = self._session.run(None, feed)
        self._binding, given = self._session.io_binding(), {}
        for name, value in feed.items():
            given[name] = ort.OrtValue.ortvalue_from_numpy(np.array(value, order="C"))
            self._binding.bind_ortvalue_input(name, given[name])
        made = [ort.OrtValue.ortvalue_from_shape_and_type(list(value.shape), value.dtype) for value in outputs]
        for name, tensor in zip(self._names, made, strict=True):
            self._binding.bind_ortvalue_output(name, tensor)
        self._held = {name: tensor.numpy() for name, tensor in given.items()}
        self._given = [tensor.numpy() for tensor in made]
        self._tensors = [*given.values(), *made]
        return outputs


def open_openvino(path: str, stated: dict[str, str], threads: int) -> Any:
    """Open an IR."""
    import openvino as ov

    config = {name: value for name, value in stated.items() if name not in _OWN}
    compiled = ov.Core().compile_model(path, "CPU", {**config, "INFERENCE_NUM_THREADS": threads})
    streams = int(stated.get("NUM_STREAMS", "1"))
    if streams == 1:
        request = compiled.create_infer_request()
        return lambda feeds: [request.infer(feed, share_inputs=True, share_outputs=False).to_tuple() for feed in feeds]
    queue = ov.AsyncInferQueue(compiled, streams)

    def compute(feeds: list[dict[str, Any]]) -> list[Any]:
        found: list[Any] = [None] * len(feeds)

        def take(request: Any, position: int) -> None:
            found[position] = [tensor.data.copy() for tensor in request.output_tensors]

        queue.set_callback(take)
        for position, feed in enumerate(feeds):
            queue.start_async(feed, position, share_inputs=True)
        queue.wait_all()
        return found

    return compute


def open_torchscript(path: str, stated: dict[str, str], threads: int) -> Any:
    """Open a frozen program, or the network as `torch.export` wrote it."""
    import torch

    torch.set_num_threads(threads)
    if stated.get("mode") == "eager":
        return _called(torch.export.load(path).module(), stated)
    jit: Any = torch.jit
    with torch.inference_mode():
        program = jit.load(path, map_location="cpu")
        return _called(jit.optimize_for_inference(program) if stated.get("graph") == "inference" else program, stated)


def open_inductor(path: str, stated: dict[str, str], threads: int) -> Any:
    """Open a compiled library."""
    import torch
    import torch._inductor

    needed, here = stated.get("cpu_capability", ""), torch.backends.cpu.get_cpu_capability()
    if needed in _CAPABILITIES and (
        here not in _CAPABILITIES or _CAPABILITIES.index(here) < _CAPABILITIES.index(needed)
    ):
        raise ValueError(f"the package was compiled for processors with {needed}; this one offers {here}")
    torch.set_num_threads(threads)
    return _called(torch._inductor.aoti_load_package(path), stated)


def _called(network: Any, stated: dict[str, str]) -> Any:
    import torch

    names = json.loads(stated["inputs"])

    def compute(feeds: list[dict[str, Any]]) -> list[Any]:
        with torch.inference_mode():
            return [
                [value.numpy() for value in network(*(torch.from_numpy(feed[name]) for name in names))]
                for feed in feeds
            ]

    return compute
