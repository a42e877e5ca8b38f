"""A worker of the chaos: all of a real one, its start, queues, fetches, uploads and events, but for the engines.

Conversions, quantizations and optimizations are stand-ins that write a small package after a moment, in which they can
be killed. Evaluations are real, of a network of one node.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engines.sandbox import Progress
from services.tasks.worker import process
from services.tasks.worker.runner import Slot
from services.worker import KINDS
from tests.contract.evaluator.jobs import evaluate
from tests.contract.workplace import graph, package_manifest
from tests.in_process import InProcessRunner, InProcessSlot

Request = dict[str, Any]


async def convert(request: Request, slot: Slot, on_progress: Callable[[Progress], None], _on_log: Any) -> Request:
    """Write a package."""
    return await _package(slot, on_progress, {}, {"description": {"graphs": _GRAPHS}})


async def quantize(request: Request, slot: Slot, on_progress: Callable[[Progress], None], _on_log: Any) -> Request:
    """Write a package in INT8."""
    texts = {
        "manifest.json": package_manifest(precision="INT8"),
        "template.json": _template(request),
        "quantization.html": b"<!doctype html>",
    }
    result = {"source_size_bytes": "40", "size_bytes": "10"}
    return await _package(slot, on_progress, texts, {"result": result, "description": {"graphs": _GRAPHS}})


async def optimize(request: Request, slot: Slot, on_progress: Callable[[Progress], None], _on_log: Any) -> Request:
    """Write the package that a search might have found."""
    texts = {
        "template.json": _template(request),
        "infer.py": b"print()",
        "optimization.html": b"<!doctype html>",
        "record.json": json.dumps({"runs": 1, "times": random.random()}).encode(),
    }
    candidates = [{"form": "openvino FP32", "recommended": True, "pareto": True}]
    return await _package(
        slot, on_progress, texts, {"result": {"candidates": candidates, "optimization_result": {"speedup": 2.5}}}
    )


JOBS = {
    "engines.api.conversion:run": convert,
    "engines.api.quantization:run": quantize,
    "engines.api.optimization:run": optimize,
    "engines.api.evaluation:run": evaluate,
}
_GRAPHS = [{"component": "main", "path": "main/model.onnx", "parameter_count": "7"}]


class StandIns(InProcessRunner):
    """Gives each job the function of its kind."""

    def __init__(self, _preload: Sequence[str], folder: Path, **_: Any) -> None:
        super().__init__(convert, folder)
        self._folder = folder

    async def acquire(self, entry: str) -> Slot:
        """Return a slot for a job that the function `entry` would do."""
        return InProcessSlot(JOBS[entry], self._folder)


async def _package(
    slot: Slot, on_progress: Callable[[Progress], None], more: dict[str, bytes], result: Request
) -> Request:
    texts = {"manifest.json": package_manifest(), "main/model.onnx": graph("Identity"), **more}
    on_progress(Progress(0.5, "build"))
    await asyncio.sleep(random.uniform(0.05, 0.4))
    for path, data in texts.items():
        target = slot.workdir / "package" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return {"files": [{"path": path} for path in texts], **result}


def _template(request: Request) -> bytes:
    return json.dumps(request["conversion"]["template"], sort_keys=True).encode()


if __name__ == "__main__":
    setattr(process, "SandboxRunner", StandIns)  # noqa: B010 - it is not exported
    process.run_worker(KINDS)
