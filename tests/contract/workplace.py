"""The task services that work on packages and datasets, in this process, with a worker whose job a test chooses."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import httpx
import numpy as np
from lathe.converter.v1.conversion_service_pb2 import ConversionTask, GetConversionTaskRequest
from lathe.converter.v1.conversion_service_pb2_grpc import ConversionServiceStub
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationTask, GetEvaluationTaskRequest
from lathe.evaluator.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from lathe.optimizer.v1.optimization_service_pb2 import GetOptimizationTaskRequest, OptimizationTask
from lathe.optimizer.v1.optimization_service_pb2_grpc import OptimizationServiceStub
from lathe.optimizer.v1.profile_service_pb2_grpc import ProfileServiceStub
from lathe.quantizer.v1.quantization_service_pb2 import GetQuantizationTaskRequest, QuantizationTask
from lathe.quantizer.v1.quantization_service_pb2_grpc import QuantizationServiceStub
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_ONNX,
    MODEL_FORMAT_PACKAGE,
    DeleteModelVersionRequest,
    Lineage,
    ModelVersion,
    PackageInfo,
)
from lathe.type.v1.task_pb2 import TASK_STATE_CANCELLED, TASK_STATE_FAILED, TASK_STATE_SUCCEEDED, TaskState
from lathe.watch.v1.watch_service_pb2_grpc import WatchServiceStub

from services.bus.connection import Bus
from services.bus.topology import ensure_topology, on_device
from services.converter import main as converter
from services.evaluator import main as evaluator
from services.optimizer import main as optimizer
from services.platform.settings import Settings
from services.platform.words import word
from services.quantizer import main as quantizer
from services.registry import main as registry
from services.storage import S3ContentStore
from services.tasks.kind import WorkKind
from services.tasks.worker.presence import Pool
from services.tasks.worker.worker import Worker
from services.template import main as template
from tests.contract.registry.conftest import Registry
from tests.contract.registry.dataset_desk import Desk
from tests.contract.registry.samples import manifest, onnx_model
from tests.eventually import PATIENCE_SECONDS
from tests.in_process import Function, InProcessRunner, serve_in_process, with_free_addresses

DEVICE = "cpu-x86-64"
CLASSES = ("0", "1", "2")
ENDED = frozenset({TASK_STATE_SUCCEEDED, TASK_STATE_FAILED, TASK_STATE_CANCELLED})


class Workplace:
    """Stubs of the services, and the steps that many tests share."""

    def __init__(self, settings: Settings, channels: Mapping[str, grpc.aio.Channel], http: httpx.AsyncClient) -> None:
        self.settings = settings
        self.channels = channels
        self.registry = Registry(channels["registry"], http, channels["template"])
        self.desk = Desk(self.registry)
        self.conversions = ConversionServiceStub(channels["converter"])
        self.evaluations = EvaluationServiceStub(channels["evaluator"])
        self.quantizations = QuantizationServiceStub(channels["quantizer"])
        self.optimizations = OptimizationServiceStub(channels["optimizer"])
        self.profiles = ProfileServiceStub(channels["optimizer"])
        self.watches = WatchServiceStub(channels["registry"])
        self.refused = self.registry.refused

    async def source(self, operator: str = "Identity") -> ModelVersion:
        """Register a graph of one node, whose three outputs are scores of the classes."""
        files = [await self.registry.file("model.onnx", graph(operator))]
        return await self.registry.version(
            await self.registry.model(), ModelVersion(format=MODEL_FORMAT_ONNX, files=files)
        )

    async def open_source(self) -> ModelVersion:
        """Register a graph of tokens: batch and length are open."""
        files = [await self.registry.file("model.onnx", graph("Identity", "length"))]
        return await self.registry.version(
            await self.registry.model(), ModelVersion(format=MODEL_FORMAT_ONNX, files=files)
        )

    async def package(
        self,
        source: ModelVersion | None = None,
        *,
        own: Mapping[str, Any] | None = None,
        architectures: Mapping[str, str] | None = None,
        made_by: str = "conversionTasks/made",
        **fields: Any,
    ) -> ModelVersion:
        """Register a package that a task might have made of `source`, or one that a user uploads.

        `made_by` is the task, `own` its template, `architectures` have the digests as used, `fields` replace those of
        its manifest.
        """
        texts = {"manifest.json": package_manifest(**fields), "main/model.onnx": graph("Identity")}
        lineage = Lineage()
        if source is not None:
            texts["template.json"] = json.dumps(own or package_template()).encode()
            lineage = Lineage(sources=[source.name], task=made_by, architectures=architectures)
        files = [await self.registry.file(path, data) for path, data in texts.items()]
        info = PackageInfo(repo="vision", package_name="digits", method="classification", version="1")
        version = ModelVersion(format=MODEL_FORMAT_PACKAGE, files=files, package=info, lineage=lineage)
        model = source.name.partition("/versions/")[0] if source is not None else await self.registry.model()
        return await self.registry.version(model, version)

    async def delete(self, version: str) -> None:
        """Delete a version once nothing holds it: ended tasks let go of what they read in the background."""
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=version))
                    return
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                        raise
                await asyncio.sleep(0.05)

    async def digits(self, count: int = 12, wrong: int = 0) -> Dataset:
        """Import tensors that the Identity network classifies rightly, but for the first `wrong`."""
        labels = np.arange(count) % len(CLASSES)
        scores = np.eye(len(CLASSES), dtype=np.float32)[labels] * 4 + np.random.default_rng(count).random(
            (count, len(CLASSES)), np.float32
        )
        labels[:wrong] = (labels[:wrong] + 1) % len(CLASSES)
        buffer = io.BytesIO()
        np.savez(buffer, x=scores, label=labels)
        entry = {"task": "digit", "key": "class", "classes": list(CLASSES)}
        file = await self.registry.file("digits.npz", buffer.getvalue())
        return await self.desk.from_files([file], mapping={"entries": [entry]})

    @asynccontextmanager
    async def worker(self, kind: WorkKind, job: Function, *, here: bool = False) -> AsyncIterator[None]:
        """Work on tasks of a kind as `job` does; `here` says that this machine is the device."""
        bus = await Bus.connect(self.settings.nats_url, "worker")
        if here:
            await ensure_topology(bus, [kind.name], [on_device(DEVICE)])
        runner = InProcessRunner(job, self.settings.work_dir)
        worker = Worker(
            Pool([kind], DEVICE, on_device=here), bus, S3ContentStore(self.settings), runner, drain_seconds=0.1
        )
        running = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()
            await running
            await bus.close()

    async def converted(self, task: ConversionTask) -> ConversionTask:
        """Wait for the end of a conversion."""
        request = GetConversionTaskRequest(name=task.name)
        ended: ConversionTask = await self._ended(task, self.conversions.GetConversionTask, request)
        return ended

    async def evaluated(self, task: EvaluationTask) -> EvaluationTask:
        """Wait for the end of an evaluation."""
        request = GetEvaluationTaskRequest(name=task.name)
        ended: EvaluationTask = await self._ended(task, self.evaluations.GetEvaluationTask, request)
        return ended

    async def quantized(self, task: QuantizationTask) -> QuantizationTask:
        """Wait for the end of a quantization."""
        request = GetQuantizationTaskRequest(name=task.name)
        ended: QuantizationTask = await self._ended(task, self.quantizations.GetQuantizationTask, request)
        return ended

    async def optimized(self, task: OptimizationTask) -> OptimizationTask:
        """Wait for the end of an optimization."""
        request = GetOptimizationTaskRequest(name=task.name)
        ended: OptimizationTask = await self._ended(task, self.optimizations.GetOptimizationTask, request)
        return ended

    async def _ended(self, task: Any, get: Any, request: Any) -> Any:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while task.status.state not in ENDED:
                    await asyncio.sleep(0.02)
                    task = await get(request)
        except TimeoutError:
            raise AssertionError(f"it stays {word(TaskState, task.status.state)}: {task.status}") from None
        return task


def graph(operator: str, width: int | str = 3) -> bytes:
    """Return an ONNX file of one node, in a version of the format that runtimes read."""
    import onnx

    model = onnx.load_from_string(onnx_model(operator, width))
    model.ir_version = 10
    return bytes(model.SerializeToString())


def package_manifest(**fields: Any) -> bytes:
    """Return the manifest of a classifier of three classes, with some fields replaced."""
    values = json.loads(manifest())
    taxonomies = [{"task": "digit", "classes": list(CLASSES)}]
    parity = {"verdict": "PASS", "threshold": 1e-4, "outputs": [], "samples": 3}
    values["components"][0] |= {"parity": parity}
    values |= {"method": "classification", "taxonomies": taxonomies} | fields
    return json.dumps(values).encode()


def package_template(**fields: Any) -> dict[str, Any]:
    """Return the specification that the package was made with."""
    return {
        "repo": "vision",
        "version": "1",
        "method": "classification",
        "source_format": "ONNX",
        "device": DEVICE,
        "runtime": "onnxruntime",
        "precision": "FP32",
        "taxonomies": [{"task": "digit", "classes": list(CLASSES)}],
        "components": [{"name": "main", "source_file": "model.onnx", "max_batch": 8}],
    } | fields


@asynccontextmanager
async def open_workplace(settings: Settings) -> AsyncIterator[Workplace]:
    """Serve registry, templates, converter, quantizer, optimizer and evaluator."""
    channels: dict[str, grpc.aio.Channel] = {}
    services: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("registry", registry.build, {"needs": registry.NEEDS}),
        ("template", template.build, {"needs": template.NEEDS}),
        ("converter", converter.build, {}),
        ("quantizer", quantizer.build, {}),
        ("optimizer", optimizer.build, {}),
        ("evaluator", evaluator.build, {}),
    )
    settings = with_free_addresses(settings, *(name for name, _, _ in services))
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient())
        for name, build, more in services:
            serving = serve_in_process(name, build, settings, listen=settings.address_of(name), **more)
            address = await stack.enter_async_context(serving)
            channels[name] = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        yield Workplace(settings, channels, http)
