"""Times of nodes by ONNX Runtime's profiler, which writes an event for each kernel of each call."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from engines.runtimes.host import PROFILED_RUNS, usual_layers
from engines.runtimes.onnxruntime.opener import settings_of
from engines.runtimes.protocol import BuiltForm, Layer
from engines.tensors import Arrays

_KERNEL = "_kernel_time"


def profiled_layers(form: BuiltForm, feed: Arrays, threads: int) -> list[Layer]:
    """Return the nodes of a form that compute something, in the order in which they ran."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as directory:
        settings = settings_of(form.options, threads)
        settings.enable_profiling, settings.profile_file_prefix = True, str(Path(directory) / "run")
        session = ort.InferenceSession(str(form.entry), settings, providers=["CPUExecutionProvider"])
        for _ in range(1 + PROFILED_RUNS):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs = sorted((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"])
    kernels = sorted((event for event in events if _is_kernel(event)), key=lambda event: event["ts"])
    calls = [
        [_layer(event) for event in kernels if run["ts"] <= event["ts"] <= run["ts"] + run["dur"]] for run in runs[1:]
    ]
    return usual_layers(calls)


def _is_kernel(event: dict[str, Any]) -> bool:
    return event.get("cat") == "Node" and event["name"].endswith(_KERNEL)


def _layer(event: dict[str, Any]) -> Layer:
    return Layer(event["name"].removesuffix(_KERNEL), str(event["args"]["op_name"]), event["dur"] / 1000)
