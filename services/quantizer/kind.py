"""The API side of quantizations: what the task engine asks of this service."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.internal.v1.quantization_pb2 import QuantizationOutcome, QuantizationWork
from lathe.quantizer.v1.quantization_service_pb2 import QuantizationResult, QuantizationSpec, QuantizationTask
from lathe.registry.v1.model_service_pb2 import GetModelVersionRequest
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
from lathe.template.v1.template_service_pb2 import Template

from engines.runtimes import keep_timings
from engines.spec.devices import load_catalog
from services.platform.durations import whole_seconds
from services.quantizer.rules import check_calibration_dataset, check_judged_dataset, check_target, normalized
from services.siblings.datasets import Datasets
from services.siblings.fitting import check_inputs, description_of, formats_to_describe
from services.siblings.holds import Holds
from services.siblings.packages import Packages, manifest_of, package_version, require_target
from services.siblings.recipes import RecipeRequest, Recipes
from services.siblings.sources import Sources, require_same_architectures
from services.storage import ContentStore
from services.tasks.kind import PreparedTask, unpack

# Fields that name a resource, or do not change the work: equal work is equal bytes.
_NAMES = ("model_version", "template", "output_model", "timeout", "memory_limit_bytes", "tensor_information")

HTML_REPORT = "quantization.html"


class QuantizationKind:
    """Quantizations, as the task engine sees them."""

    name = "quantization"
    service = "lathe.quantizer.v1.QuantizationService"
    collection = "quantizationTasks"
    task_type = QuantizationTask
    outcome_type = QuantizationOutcome

    def __init__(self, registry: grpc.aio.Channel, template: grpc.aio.Channel, cas: ContentStore) -> None:
        self._models = ModelServiceStub(registry)
        self._sources = Sources(registry, cas)
        self._recipes = Recipes(template)
        self._datasets = Datasets(registry)
        self._packages = Packages(registry, cas)
        self._holds = Holds(registry)
        self._cas = cas

    def uses(self, spec: Message) -> Sequence[str]:
        """Return version, datasets, template and output model."""
        assert isinstance(spec, QuantizationSpec)
        return list(dict.fromkeys(name for name in (*_read(spec), spec.template, spec.output_model) if name))

    def check(self, spec: Message) -> None:
        """Check what needs no version."""
        assert isinstance(spec, QuantizationSpec)
        normalized(spec)

    def figures(self, result: Message) -> Mapping[str, float]:
        """Return the speed-up, and the metric if the dataset was judged."""
        assert isinstance(result, QuantizationResult)
        figures = {"speedup": result.profile.forms[-1].speedup} if result.profile.forms else {}
        return figures | ({"accuracy": result.accuracy} if result.HasField("accuracy") else {})

    async def prepare(self, spec: Message, project: str) -> PreparedTask:
        """Find out how the source is read, have items chosen, and gather all that a worker needs.

        Raises:
            LatheError: INVALID_ARGUMENT, NOT_FOUND or FAILED_PRECONDITION for what the caller can correct.
        """
        assert isinstance(spec, QuantizationSpec)
        asked = normalized(spec)
        found = await self._sources.read(
            spec.model_version,
            output_model=spec.output_model,
            described=formats_to_describe(asked.tensor_information, has_samples=False),
            project=project,
        )
        require_target(found.model, project)
        source, own = await self._sources.original(found)
        wanted = RecipeRequest(spec.template, spec.device, spec.runtime)
        template = await self._recipes.resolve(wanted, source, own)
        check_target(template, asked.precision)
        asked.device, asked.runtime = template.device, template.runtime
        text = asked.tensor_information
        check_inputs(template, description_of(found), text, has_samples=False)
        conversion = await self._sources.compose(source, template, known=found.architectures)
        work = QuantizationWork(conversion=conversion, spec=asked)
        work.conversion.tensor_information = text
        if own is not None:
            require_same_architectures(work.conversion, found.model_version)
        await self._choose(work, asked, template)
        _forget_names(work.spec)
        device = load_catalog().devices[template.device]
        return PreparedTask(
            work=work,
            device=device.id,
            project=project or found.model.project,
            display_name=f"{found.model.display_name} {datetime.now():%Y-%m-%d %H:%M:%S}",
            timeout_seconds=whole_seconds(spec.timeout) or device.timeout_seconds,
            memory_limit_bytes=spec.memory_limit_bytes or device.memory_limit_bytes,
            owned=keep_timings([template.runtime]),
            standing=found.made,
        )

    async def hold(self, task_name: str, spec: Message) -> bool:
        """Keep version and datasets from being deleted while the task runs."""
        assert isinstance(spec, QuantizationSpec)
        await self._holds.hold(task_name, _read(spec))
        return True

    async def renew(self, task_names: Sequence[str]) -> None:
        """Let the holds last for another hour."""
        await self._holds.renew(task_names)

    async def release(self, task_name: str, spec: Message) -> None:
        """End the holds."""
        assert isinstance(spec, QuantizationSpec)
        await self._holds.release(task_name, _read(spec))

    async def complete(self, task: Message, outcome: Message, work: AnyMessage) -> Message:
        """Register the package as a version; a request id made from the task's uid makes a repeat harmless."""
        assert isinstance(task, QuantizationTask)
        assert isinstance(outcome, QuantizationOutcome)
        quantized, manifest = await asyncio.gather(
            self._models.GetModelVersion(GetModelVersionRequest(name=task.spec.model_version)),
            self._cas.read(manifest_of(outcome.files)),
        )
        asked = QuantizationWork()
        unpack(work, asked)
        made = package_version(task, outcome.files, outcome.architecture_digests, quantized, manifest)
        name = await self._packages.register(task, asked, made, description_of(outcome))
        return result_of(outcome, name)

    def unverified(self, outcome: Message) -> bool:
        """Return whether the form was not compared with its source on the device."""
        assert isinstance(outcome, QuantizationOutcome)
        return not outcome.result.parity.device

    async def share(
        self, task: Message, original: Message, outcome: Message, work: AnyMessage, standing: Collection[str]
    ) -> Message | None:
        """Return the original's version, or register the outcome under another model; None if its bytes are gone."""
        complete = partial(self.complete, work=work)
        return await self._packages.share(task, original, outcome, complete, standing)

    async def _choose(self, work: QuantizationWork, asked: QuantizationSpec, template: Template) -> None:
        """Have the items of the datasets chosen that the specification names."""
        data = asked.calibration_data
        if data.HasField("artifact"):
            await self._sources.require_stored(data.artifact, "calibration data")
        if data.dataset:
            check_calibration_dataset(asked, await self._datasets.ready(data.dataset))
            chosen = await self._datasets.select(data.dataset, data.samples, data.seed)
            work.calibration.CopyFrom(chosen)
        if asked.HasField("accuracy"):
            bound = asked.accuracy
            check_judged_dataset(asked, await self._datasets.ready(bound.dataset), template)
            work.evaluation.CopyFrom(await self._datasets.select(bound.dataset, bound.samples, data.seed))


def _read(spec: QuantizationSpec) -> list[str]:
    """Return the names of what the worker reads."""
    names = (spec.model_version, spec.calibration_data.dataset, spec.accuracy.dataset)
    return list(dict.fromkeys(name for name in names if name))


def _forget_names(spec: QuantizationSpec) -> None:
    message: Message = spec
    for field in _NAMES:
        message.ClearField(field)
    if spec.calibration_data.dataset:
        spec.calibration_data.ClearField("dataset")
    if spec.HasField("accuracy"):
        spec.accuracy.ClearField("dataset")


def result_of(outcome: QuantizationOutcome, name: str) -> QuantizationResult:
    """Return the result of a task whose package is the version `name`."""
    result = QuantizationResult()
    result.CopyFrom(outcome.result)
    result.model_version = name
    result.manifest.CopyFrom(manifest_of(outcome.files))
    for file in outcome.files:
        if file.path == HTML_REPORT:
            result.html_report.CopyFrom(file.digest)
    return result
