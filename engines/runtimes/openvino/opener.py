"""Opens an OpenVINO IR on the CPU. Packages carry this file: see `engines/runtimes/opened.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..opened import OWN_OPTIONS, OpenedForm

PACKAGES = ("openvino",)


def open_file(path: str, options: Mapping[str, str], threads: int) -> OpenedForm:
    """Compile an IR as its options say, for that many threads."""
    import openvino as ov

    config = {name: value for name, value in options.items() if name not in OWN_OPTIONS}
    compiled = ov.Core().compile_model(path, "CPU", {**config, "INFERENCE_NUM_THREADS": threads})
    return CompiledForm(compiled, int(options.get("NUM_STREAMS", "1")))


class CompiledForm(OpenedForm):
    """A compiled model: one inference request for single calls, and a queue of them if it has streams."""

    def __init__(self, compiled: Any, streams: int) -> None:
        import openvino as ov

        self._request: Any = compiled.create_infer_request()
        self._queue: Any = ov.AsyncInferQueue(compiled, streams) if streams > 1 else None
        self.requests = streams

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs in order."""
        return list(self._request.infer(dict(feed), share_inputs=True, share_outputs=False).to_tuple())

    def run_many(self, feeds: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        """Return the outputs of each feed, one feed on each stream at a time."""
        if self._queue is None:
            return super().run_many(feeds)
        found: list[list[Any]] = [[] for _ in feeds]

        def take(request: Any, position: int) -> None:
            found[position] = [tensor.data.copy() for tensor in request.output_tensors]

        self._queue.set_callback(take)
        for position, feed in enumerate(feeds):
            self._queue.start_async(dict(feed), position, share_inputs=True)
        self._queue.wait_all()
        return found

    def close(self) -> None:
        """Release the requests, and with the last of them the compiled model and its threads."""
        self._request = self._queue = None
