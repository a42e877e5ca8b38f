"""The API side of evaluations: what the task engine asks of this service."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationResult, EvaluationSpec, EvaluationTask
from lathe.internal.v1.evaluation_pb2 import EvaluationOutcome, EvaluationWork
from lathe.registry.v1.model_service_pb2 import ModelVersion

from engines.spec.devices import load_catalog
from services.evaluator.rules import check_dataset, check_spec, require_package
from services.platform.durations import whole_seconds
from services.siblings.datasets import Datasets
from services.siblings.holds import Holds
from services.siblings.packages import read_manifest
from services.siblings.results import Results
from services.siblings.sources import Sources
from services.storage import ContentStore
from services.tasks.kind import PreparedTask, check_memory, with_reports

REPORTS = {"report.json": "json_report", "report.html": "html_report", "predictions.parquet": "predictions"}
"""Files of an outcome, and the fields of the result that name them."""


class EvaluationKind:
    """Evaluations, as the task engine sees them."""

    name = "evaluation"
    service = "lathe.evaluator.v1.EvaluationService"
    collection = "evaluationTasks"
    task_type = EvaluationTask
    outcome_type = EvaluationOutcome

    def __init__(self, registry: grpc.aio.Channel, cas: ContentStore) -> None:
        self._sources = Sources(registry, cas)
        self._datasets = Datasets(registry)
        self._holds = Holds(registry)
        self._results = Results(registry)
        self._cas = cas

    def uses(self, spec: Message) -> Sequence[str]:
        """Return the version and the dataset."""
        assert isinstance(spec, EvaluationSpec)
        return [name for name in (spec.model_version, spec.dataset) if name]

    def check(self, spec: Message) -> None:
        """Check the limits."""
        assert isinstance(spec, EvaluationSpec)
        check_memory(spec.memory_limit_bytes)

    def figures(self, result: Message) -> Mapping[str, float]:
        """Return the main metric."""
        assert isinstance(result, EvaluationResult)
        return {each.name: each.value for each in result.metrics if each.name == result.main_metric and not each.slice}

    async def prepare(self, spec: Message, project: str) -> PreparedTask:
        """Check everything that needs no engine, and have the items of the dataset chosen.

        Raises:
            LatheError: INVALID_ARGUMENT, NOT_FOUND or FAILED_PRECONDITION for what the caller can correct.
        """
        assert isinstance(spec, EvaluationSpec)
        found = await self._sources.read(spec.model_version, project=project)
        version = found.model_version
        require_package(version)
        manifest = await read_manifest(self._cas, version)
        # In a thread: the first time it imports NumPy.
        await asyncio.to_thread(check_spec, spec, version, manifest)
        device = load_catalog().devices[version.package.device]
        return PreparedTask(
            work=await self._work(spec, version),
            device=device.id,
            project=project or found.model.project,
            display_name=f"{found.model.display_name} {datetime.now():%Y-%m-%d %H:%M:%S}",
            timeout_seconds=whole_seconds(spec.timeout) or device.timeout_seconds,
            memory_limit_bytes=spec.memory_limit_bytes or device.memory_limit_bytes,
        )

    async def hold(self, task_name: str, spec: Message) -> bool:
        """Keep version and dataset from being deleted while the task runs."""
        await self._holds.hold(task_name, self.uses(spec))
        return True

    async def renew(self, task_names: Sequence[str]) -> None:
        """Let the holds last for another hour."""
        await self._holds.renew(task_names)

    async def release(self, task_name: str, spec: Message) -> None:
        """End the holds."""
        await self._holds.release(task_name, self.uses(spec))

    async def complete(self, task: Message, outcome: Message, work: AnyMessage) -> EvaluationResult:
        """Return the result with the digests of the stored reports."""
        assert isinstance(outcome, EvaluationOutcome)
        result = with_reports(outcome.result, outcome.files, REPORTS)
        await self._results.keep(task, result)
        return result

    def unverified(self, outcome: Message) -> bool:
        """Return False: an evaluation is made on the device alone."""
        return False

    async def share(
        self, task: Message, original: Message, outcome: Message, work: AnyMessage, standing: Collection[str]
    ) -> Message | None:
        """Return the result of the same outcome; None if its reports are gone."""
        result = await self.complete(task, outcome, work)
        # The reports were stored together: one stands for all.
        return result if await self._cas.exists(result.json_report) else None

    async def _work(self, spec: EvaluationSpec, version: ModelVersion) -> EvaluationWork:
        work = EvaluationWork(package=version.files, spec=spec)
        asked = work.spec
        asked.ClearField("model_version")
        asked.ClearField("timeout")
        asked.ClearField("memory_limit_bytes")
        # Equal meaning is written equally: equal work is equal bytes.
        asked.device, asked.precision = version.package.device, version.package.precision
        asked.batch_size, asked.loops = spec.batch_size or 1, spec.loops or 1
        asked.iou_thresholds[:] = sorted(set(spec.iou_thresholds))
        if spec.HasField("images"):
            await self._sources.require_stored(spec.images, "images")
            return work
        check_dataset(spec, await self._datasets.ready(spec.dataset))
        work.dataset.CopyFrom(await self._datasets.select(spec.dataset, spec.samples, spec.seed))
        asked.ClearField("dataset")
        return work
