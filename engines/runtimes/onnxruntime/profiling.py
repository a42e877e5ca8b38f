"""Times of nodes by ONNX Runtime's profiler, which writes an event for each kernel of each call."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from engines.runtimes.host import PROFILED_RUNS
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
    warm = min(event["ts"] + event["dur"] for event in events if event["name"] == "model_run")
    found: dict[tuple[str, str], float] = {}
    for event in sorted(events, key=lambda each: each["ts"]):
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL) and event["ts"] >= warm:
            key = event["name"].removesuffix(_KERNEL), _operator(event)
            found[key] = found.get(key, 0.0) + event["dur"] / 1000 / PROFILED_RUNS
    return [Layer(name, operator, milliseconds) for (name, operator), milliseconds in found.items()]


def _operator(event: dict[str, Any]) -> str:
    return str(event["args"]["op_name"])
