"""The steps that tests of the optimizer share, and the job of their worker."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Any

from lathe.optimizer.v1 import optimization_service_pb2 as pb
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.type.v1.operation_pb2 import OPERATION_STATE_SUCCEEDED

from engines.sandbox import Progress
from services.platform.errors import LatheError
from services.platform.words import from_values
from services.tasks.worker.runner import Slot
from tests.contract.workplace import DEVICE, Workplace, graph, package_manifest


class Job:
    """What a worker does: it notes what it was given, and writes a package of one graph with the search's record."""

    def __init__(self) -> None:
        self.request: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.runs = 0
        # No two searches find the same times, so that no two records are the same.
        self._times = uuid.uuid4().hex

    async def run(
        self,
        request: dict[str, Any],
        slot: Slot,
        on_progress: Callable[[Progress], None],
        on_log: Callable[[str], None],
    ) -> dict[str, Any]:
        self.request = request
        self.runs += 1
        paths = await asyncio.to_thread(lambda: [path for path in slot.workdir.rglob("*") if path.is_file()])
        self.files = {path.relative_to(slot.workdir).as_posix(): path.read_bytes() for path in paths}
        texts = {
            "manifest.json": package_manifest(),
            "template.json": json.dumps(request["conversion"]["template"], sort_keys=True).encode(),
            "infer.py": b"print()",
            "main/model.onnx": graph("Identity"),
            "optimization.html": b"<!doctype html>",
            "record.json": json.dumps({"runs": self.runs, "times": self._times}).encode(),
        }
        for path, data in texts.items():
            target = slot.workdir / "package" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        earlier = self.files.get("record.json")
        again = {"measured_by": hashlib.sha256(earlier).hexdigest()} if earlier else {}
        candidates = [{"form": "openvino FP32", "recommended": True, "pareto": True, **again}]
        result = {"candidates": candidates, "optimization_result": {"speedup": 2.5}, "warnings": ["a warm machine"]}
        return {"files": [{"path": path} for path in texts], "result": result}


def spec_of(version: ModelVersion | str, **spec: Any) -> pb.OptimizationSpec:
    """Return a specification for a version."""
    name = version if isinstance(version, str) else version.name
    return from_values({"model_version": name, "device": DEVICE, **spec}, pb.OptimizationSpec())


async def create(workplace: Workplace, version: ModelVersion | str, **spec: Any) -> pb.OptimizationTask:
    """Create a task."""
    request = pb.CreateOptimizationTaskRequest(task=pb.OptimizationTask(spec=spec_of(version, **spec)))
    task: pb.OptimizationTask = await workplace.optimizations.CreateOptimizationTask(request)
    return task


async def refused(workplace: Workplace, version: ModelVersion | str, **spec: Any) -> LatheError:
    """Return how a task is refused."""
    return await workplace.refused(create(workplace, version, **spec))


async def save(workplace: Workplace, task: pb.OptimizationTask, model: str = "") -> pb.OptimizationTask:
    """Save the model of a task, and return the task."""
    begun = await workplace.optimizations.SaveModel(pb.SaveModelRequest(name=task.name, model=model))
    saved = await save_ended(workplace, begun)
    assert saved.state == OPERATION_STATE_SUCCEEDED, saved.failure
    done: pb.OptimizationTask = await workplace.optimizations.GetOptimizationTask(
        pb.GetOptimizationTaskRequest(name=task.name)
    )
    assert (saved.model_version, saved.saved_location) == (done.result.model_version, done.result.saved_location)
    return done


async def save_ended(workplace: Workplace, save: pb.ModelSave) -> pb.ModelSave:
    """Wait for the end of a save."""
    watching = workplace.optimizations.WatchModelSave(pb.WatchModelSaveRequest(name=save.name))
    *_, ended = [each async for each in watching]
    return ended


async def cancel(workplace: Workplace, *tasks: pb.OptimizationTask) -> None:
    """Cancel tasks that nobody works on."""
    for task in tasks:
        await workplace.optimizations.CancelOptimizationTask(pb.CancelOptimizationTaskRequest(name=task.name))
