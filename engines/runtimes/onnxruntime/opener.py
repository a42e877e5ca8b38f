"""Opens an ONNX graph in ONNX Runtime on the CPU. Packages carry this file: see `engines/runtimes/opened.py`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from ..opened import CallTimes, OpenedForm, products_saturate

PACKAGES = ("onnxruntime",)
EXACT = "session.x64quantprecision"
"""Makes ONNX Runtime compute 8-bit products exactly, by slower kernels. Set only if this processor's sums overflow."""

_ERRORS_ONLY = 3


def open_file(path: str, options: Mapping[str, str], threads: int) -> OpenedForm:
    """Open a graph as its options say, with at most that many threads over all streams."""
    import onnxruntime as ort

    streams = int(options.get("streams", "1"))
    session = ort.InferenceSession(path, settings_of(options, threads), providers=["CPUExecutionProvider"])
    if streams > 1:
        return StreamedForm(session, streams)
    return BoundForm(session) if options.get("binding") == "bound" else GraphForm(session)


def settings_of(options: Mapping[str, str], threads: int) -> Any:
    """Return the settings of a session as the options of a form say."""
    import onnxruntime as ort

    streams = int(options.get("streams", "1"))
    settings = ort.SessionOptions()
    settings.graph_optimization_level = getattr(
        ort.GraphOptimizationLevel, options.get("graph_optimization_level", "ORT_ENABLE_ALL")
    )
    settings.execution_mode = getattr(ort.ExecutionMode, options.get("execution_mode", "ORT_SEQUENTIAL"))
    settings.intra_op_num_threads, settings.inter_op_num_threads = max(1, threads // streams), 1
    settings.log_severity_level = _ERRORS_ONLY
    for key, value in options.items():
        if key.startswith("session.") and (key != EXACT or products_saturate()):
            settings.add_session_config_entry(key, value)
    return settings


class GraphForm(OpenedForm):
    """A session of ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.outputs = tuple(output.name for output in session.get_outputs())

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs in order."""
        values: list[Any] = self._session.run(self.outputs, dict(feed))
        return values

    def close(self) -> None:
        """Release the session, and with it its threads."""
        self._session = None


class StreamedForm(GraphForm):
    """A session that several threads call at the same time, each call with its part of the threads."""

    def __init__(self, session: Any, streams: int) -> None:
        super().__init__(session)
        self._callers = ThreadPoolExecutor(streams)
        self.requests = streams

    def run_many(self, feeds: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        """Return the outputs of each feed, in order."""
        return list(self._callers.map(self.run, feeds))

    def close(self) -> None:
        """End the callers, and release the session that they share."""
        self._callers.shutdown()
        super().close()


class BoundForm(GraphForm):
    """A session that keeps its inputs and outputs in tensors of its own: a call copies into and out of them.

    They are bound anew if the shapes of a feed differ from those of the feed before, at the price of one usual call.
    """

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self._release()

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs in order."""
        if {name: value.shape for name, value in feed.items()} != self._shapes:
            return self._bind(feed)
        self._copy_in(feed)
        self._session.run_with_iobinding(self._binding)
        return self._copied_out()

    def timed(self, feed: Mapping[str, Any]) -> tuple[list[Any], CallTimes]:
        """Return the outputs of a call, and how long it copied and computed."""
        if {name: value.shape for name, value in feed.items()} != self._shapes:
            self._bind(feed)
        moments = [time.perf_counter()]
        self._copy_in(feed)
        moments.append(time.perf_counter())
        self._session.run_with_iobinding(self._binding)
        moments.append(time.perf_counter())
        outputs = self._copied_out()
        moments.append(time.perf_counter())
        return outputs, CallTimes(*((end - start) * 1e3 for start, end in pairwise(moments)))

    def _copy_in(self, feed: Mapping[str, Any]) -> None:
        for name, value in feed.items():
            np.copyto(self._held[name], value, casting="no")

    def _copied_out(self) -> list[Any]:
        return [value.copy() for value in self._given]

    def close(self) -> None:
        """Release the bound tensors and the session."""
        self._release()
        super().close()

    def _release(self) -> None:
        self._binding: Any = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._held: dict[str, Any] = {}
        self._given: list[Any] = []
        self._tensors: list[Any] = []

    def _bind(self, feed: Mapping[str, Any]) -> list[Any]:
        """Compute one feed the usual way, and bind tensors of the shapes that it takes and gives."""
        import onnxruntime as ort

        outputs = super().run(feed)
        binding, self._shapes = self._session.io_binding(), {}
        given = {name: ort.OrtValue.ortvalue_from_numpy(np.array(value, order="C")) for name, value in feed.items()}
        made = [ort.OrtValue.ortvalue_from_shape_and_type(list(value.shape), value.dtype) for value in outputs]
        for name, tensor in given.items():
            binding.bind_ortvalue_input(name, tensor)
        for name, tensor in zip(self.outputs, made, strict=True):
            binding.bind_ortvalue_output(name, tensor)
        self._held = {name: tensor.numpy() for name, tensor in given.items()}
        self._given, self._tensors = [tensor.numpy() for tensor in made], [*given.values(), *made]
        self._binding, self._shapes = binding, {name: value.shape for name, value in self._held.items()}
        return outputs
