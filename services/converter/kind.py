"""The API side of conversions: what the task engine asks of this service."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.converter.v1.conversion_service_pb2 import ConversionResult, ConversionSpec, ConversionTask
from lathe.internal.v1.conversion_pb2 import ConversionOutcome, ConversionWork
from lathe.internal.v1.registry_service_pb2 import TaskSource
from lathe.internal.v1.resolution_service_pb2 import ResolveTaskTemplateRequest
from lathe.internal.v1.resolution_service_pb2_grpc import ResolutionServiceStub
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_PACKAGE, Lineage, ModelVersion, PackageInfo
from lathe.template.v1.template_service_pb2 import ResolvedTemplate

from engines.runtimes import keep_timings
from engines.spec.devices import load_catalog
from engines.spec.request import check_waivers
from services.converter.uses import architectures_of, used_by
from services.platform.durations import whole_seconds
from services.platform.errors import engine_rules, invalid_argument
from services.siblings.fitting import check_inputs, description_of, formats_to_describe
from services.siblings.holds import Holds
from services.siblings.overrides import named_only
from services.siblings.packages import Packages, manifest_of, output_model, require_target
from services.siblings.resolution import complete as complete_template
from services.siblings.sources import Sources, require_same_architectures
from services.storage import ContentStore
from services.tasks.kind import PreparedTask, check_memory, unpack


class ConversionKind:
    """Conversions, as the task engine sees them."""

    name = "conversion"
    service = "lathe.converter.v1.ConversionService"
    collection = "conversionTasks"
    task_type = ConversionTask
    outcome_type = ConversionOutcome

    def __init__(self, registry: grpc.aio.Channel, template: grpc.aio.Channel, cas: ContentStore) -> None:
        self._templates = ResolutionServiceStub(template)
        self._sources = Sources(registry, cas)
        self._packages = Packages(registry, cas)
        self._holds = Holds(registry)

    def uses(self, spec: Message) -> Sequence[str]:
        """Return version, template, output model and architectures."""
        assert isinstance(spec, ConversionSpec)
        return used_by(spec)

    def check(self, spec: Message) -> None:
        """Check the limits."""
        assert isinstance(spec, ConversionSpec)
        check_memory(spec.memory_limit_bytes)

    def figures(self, result: Message) -> Mapping[str, float]:
        """A conversion has none: its measurements are per component."""
        return {}

    async def prepare(self, spec: Message, project: str) -> PreparedTask:
        """Resolve the template for the version and gather all that a worker needs.

        Raises:
            LatheError: INVALID_ARGUMENT, NOT_FOUND or FAILED_PRECONDITION for what the caller can correct.
        """
        assert isinstance(spec, ConversionSpec)
        found, resolved = await self._start(spec, project)
        require_target(found.model, project)
        version = found.original if found.HasField("original") else found.model_version
        complete_template(resolved, version)
        template = resolved.template
        device = load_catalog().devices[template.device]
        with engine_rules("task.spec"):
            check_waivers(spec.parity_waivers, [component.name for component in template.components])
        check_memory(spec.memory_limit_bytes)
        has_samples = spec.HasField("samples")
        check_inputs(template, description_of(found), spec.tensor_information, has_samples=has_samples)
        work = await self._sources.compose(
            version,
            template,
            seed=spec.seed,
            parity_waivers=spec.parity_waivers,
            samples=spec.samples if has_samples else None,
            known=found.architectures,
        )
        work.tensor_information = spec.tensor_information
        if found.HasField("original"):
            require_same_architectures(work, found.model_version)
        return PreparedTask(
            work=work,
            device=template.device,
            project=project or found.model.project,
            display_name=f"{found.model.display_name} {datetime.now():%Y-%m-%d %H:%M:%S}",
            timeout_seconds=whole_seconds(spec.timeout) or device.timeout_seconds,
            memory_limit_bytes=spec.memory_limit_bytes or device.memory_limit_bytes,
            fill=partial(_fill, resolved),
            owned=keep_timings([template.runtime]),
            standing=found.made,
        )

    async def hold(self, task_name: str, spec: Message) -> bool:
        """Keep the source version from being deleted while the task runs."""
        assert isinstance(spec, ConversionSpec)
        await self._holds.hold(task_name, [spec.model_version])
        return True

    async def renew(self, task_names: Sequence[str]) -> None:
        """Let the holds last for another hour."""
        await self._holds.renew(task_names)

    async def release(self, task_name: str, spec: Message) -> None:
        """End the hold."""
        assert isinstance(spec, ConversionSpec)
        await self._holds.release(task_name, [spec.model_version])

    async def complete(self, task: Message, outcome: Message, work: AnyMessage) -> Message:
        """Register the package as a version; a request id made from the task's uid makes a repeat harmless."""
        assert isinstance(task, ConversionTask)
        assert isinstance(outcome, ConversionOutcome)
        template = task.resolved.template
        version = ModelVersion(
            format=MODEL_FORMAT_PACKAGE,
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
        asked = ConversionWork()
        unpack(work, asked)
        return ConversionResult(
            model_version=await self._packages.register(task, asked, version, description_of(outcome)),
            manifest=manifest_of(outcome.files),
            components=outcome.components,
            software=outcome.software,
            hardware=outcome.hardware,
        )

    def unverified(self, outcome: Message) -> bool:
        """Return whether a component was not compared with its source on the device."""
        assert isinstance(outcome, ConversionOutcome)
        return any(not component.parity.device for component in outcome.components)

    async def share(
        self, task: Message, original: Message, outcome: Message, work: AnyMessage, standing: Collection[str]
    ) -> Message | None:
        """Return the original's version, or register the outcome under another model; None if its bytes are gone."""
        complete = partial(self.complete, work=work)
        return await self._packages.share(task, original, outcome, complete, standing)

    async def _start(self, spec: ConversionSpec, project: str) -> tuple[TaskSource, ResolvedTemplate]:
        """Return what the conversion starts from, and its template: the one that is named, or the package's own.

        Raises:
            LatheError: INVALID_ARGUMENT if there is no template; FAILED_PRECONDITION for a package without a source.
        """
        if spec.template:
            named = ResolveTaskTemplateRequest(name=spec.template, overrides=spec.overrides)
            found, resolved = await asyncio.gather(
                self._read(spec, project), self._templates.ResolveTaskTemplate(named)
            )
            await self._sources.original(found)
            return found, resolved
        found = await self._read(spec, project)
        _, own = await self._sources.original(found)
        if own is None:
            raise invalid_argument(
                "task.spec.template",
                f"'{found.model_version.name}' is no package, which brings its own template: name one here",
            )
        own.display_name = found.model.display_name  # every template has one, and that of a package is kept without
        given = ResolveTaskTemplateRequest(template=own, overrides=spec.overrides)
        resolved = await self._templates.ResolveTaskTemplate(given)
        return found, resolved

    async def _read(self, spec: ConversionSpec, project: str) -> TaskSource:
        return await self._sources.read(
            spec.model_version,
            output_model=spec.output_model,
            described=formats_to_describe(spec.tensor_information, has_samples=spec.HasField("samples")),
            architectures=architectures_of(spec),
            project=project,
        )


def _fill(resolved: ResolvedTemplate, task: Message) -> None:
    assert isinstance(task, ConversionTask)
    task.resolved.CopyFrom(resolved)
    if task.spec.HasField("overrides"):
        task.spec.overrides.CopyFrom(named_only(task.spec.overrides))
