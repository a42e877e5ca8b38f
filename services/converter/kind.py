"""The API side of conversions: what the task engine asks of this service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import grpc
from google.protobuf.message import Message
from lathe.converter.v1.conversion_service_pb2 import (
    ConversionOutcome,
    ConversionResult,
    ConversionSpec,
    ConversionTask,
)
from lathe.registry.v1.model_service_pb2 import (
    PACKAGE,
    GetModelRequest,
    GetModelVersionRequest,
    Lineage,
    Model,
    ModelVersion,
    PackageInfo,
)
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
from lathe.template.v1.template_service_pb2 import ResolvedTemplate, ResolveTemplateRequest
from lathe.template.v1.template_service_pb2_grpc import TemplateServiceStub

from engines.spec.devices import load_catalog
from services.converter.uses import used_by
from services.platform.errors import invalid_argument
from services.siblings.fitting import check_inputs
from services.siblings.holds import Holds
from services.siblings.overrides import named_only
from services.siblings.packages import Packages, manifest_of, output_model
from services.siblings.sources import Sources
from services.storage import ContentStore
from services.tasks.kind import MINIMUM_MEMORY, Prepared


class ConversionKind:
    """Conversions, as the task engine sees them."""

    name = "conversion"
    service = "lathe.converter.v1.ConversionService"
    collection = "conversionTasks"
    task_type = ConversionTask
    outcome_type = ConversionOutcome

    def __init__(self, registry: grpc.aio.Channel, template: grpc.aio.Channel, cas: ContentStore) -> None:
        self._models = ModelServiceStub(registry)
        self._templates = TemplateServiceStub(template)
        self._sources = Sources(registry, cas)
        self._packages = Packages(registry, cas)
        self._holds = Holds(registry)

    def uses(self, spec: Message) -> Sequence[str]:
        """Return version, template, output model and architectures."""
        assert isinstance(spec, ConversionSpec)
        return used_by(spec)

    async def prepare(self, spec: Message) -> Prepared:
        """Resolve the template for the version and gather all that a worker needs.

        Raises:
            LatheError: INVALID_ARGUMENT, NOT_FOUND or FAILED_PRECONDITION for what the caller can mend.
        """
        assert isinstance(spec, ConversionSpec)
        version, model, resolved = await self._look_up(spec)
        template = resolved.template
        device = load_catalog().devices[template.device]
        unknown = set(spec.parity_waivers) - {component.name for component in template.components}
        if unknown:
            raise invalid_argument("task.spec.parity_waivers", f"no component is named {', '.join(sorted(unknown))}")
        if 0 < spec.memory_limit_bytes < MINIMUM_MEMORY:
            raise invalid_argument("task.spec.memory_limit_bytes", f"at least {MINIMUM_MEMORY} bytes are needed, or 0")
        await check_inputs(
            self._models, version.name, template, spec.tensor_information, has_samples=spec.HasField("samples")
        )
        work = await self._sources.compose(
            version,
            template,
            seed=spec.seed,
            parity_waivers=spec.parity_waivers,
            samples=spec.samples if spec.HasField("samples") else None,
        )
        work.tensor_information = spec.tensor_information
        return Prepared(
            work=work,
            device=template.device,
            display_name=f"{model.display_name} {datetime.now():%Y-%m-%d %H:%M:%S}",
            timeout_seconds=spec.timeout_seconds or device.timeout_seconds,
            memory_limit_bytes=spec.memory_limit_bytes or device.memory_limit_bytes,
            fill=partial(_fill, resolved),
        )

    async def hold(self, task_name: str, spec: Message) -> bool:
        """Keep the source version from being deleted while the task runs."""
        assert isinstance(spec, ConversionSpec)
        await self._holds.hold(task_name, [spec.model_version])
        return True

    async def release(self, task_name: str, spec: Message) -> None:
        """End the hold."""
        assert isinstance(spec, ConversionSpec)
        await self._holds.release(task_name, [spec.model_version])

    async def complete(self, task: Message, outcome: Message) -> Message:
        """Register the package as a version; a request id made from the task's uid makes a repeat harmless."""
        assert isinstance(task, ConversionTask)
        assert isinstance(outcome, ConversionOutcome)
        template = task.resolved.template
        version = ModelVersion(
            format=PACKAGE,
            files=outcome.files,
            description=f"{task.spec.model_version} for {template.device} with {template.runtime}",
            package=PackageInfo(
                repo=template.repo,
                package_name=output_model(task.spec).removeprefix("models/"),
                method=template.method,
                version=template.version,
                template=task.spec.template,
                device=template.device,
                runtime=template.runtime,
                precision=template.precision,
            ),
            lineage=Lineage(
                sources=[task.spec.model_version],
                architectures=outcome.architecture_digests,
                template=task.spec.template,
                task=task.name,
            ),
        )
        for component in outcome.components:
            version.parity[component.component].CopyFrom(component.parity)
        return ConversionResult(
            model_version=await self._packages.register(task, version),
            manifest=manifest_of(outcome.files),
            components=outcome.components,
            software=outcome.software,
            hardware=outcome.hardware,
        )

    async def share(self, task: Message, original: Message, outcome: Message) -> Message | None:
        """Return the original's version, or register the outcome under another model; None where its bytes are gone."""
        return await self._packages.share(task, original, outcome, self.complete)

    async def _look_up(self, spec: ConversionSpec) -> tuple[ModelVersion, Model, ResolvedTemplate]:
        version, model, resolved = await asyncio.gather(
            self._models.GetModelVersion(GetModelVersionRequest(name=spec.model_version)),
            self._models.GetModel(GetModelRequest(name=output_model(spec))),
            self._templates.ResolveTemplate(
                ResolveTemplateRequest(name=spec.template, overrides=spec.overrides, model_version=spec.model_version)
            ),
        )
        return version, model, resolved


def _fill(resolved: ResolvedTemplate, task: Message) -> None:
    assert isinstance(task, ConversionTask)
    task.resolved.CopyFrom(resolved)
    if task.spec.HasField("overrides"):
        task.spec.overrides.CopyFrom(named_only(task.spec.overrides))
