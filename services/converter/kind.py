"""The API side of conversions: what the task engine asks of this service."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Sequence
from datetime import datetime

import grpc
from google.protobuf.message import Message
from lathe.converter.v1.conversion_service_pb2 import (
    ConversionOutcome,
    ConversionResult,
    ConversionSpec,
    ConversionTask,
    ConversionWork,
    WorkArchitecture,
    WorkInput,
)
from lathe.registry.v1.architecture_service_pb2 import Architecture, GetArchitectureRequest
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub
from lathe.registry.v1.model_service_pb2 import (
    PACKAGE,
    CreateModelVersionRequest,
    GetModelRequest,
    GetModelVersionRequest,
    HoldModelVersionRequest,
    Lineage,
    Model,
    ModelVersion,
    PackageInfo,
    UnholdModelVersionRequest,
)
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
from lathe.template.v1.template_service_pb2 import ResolvedTemplate, ResolveTemplateRequest, Template
from lathe.template.v1.template_service_pb2_grpc import TemplateServiceStub
from lathe.type.v1.digest_pb2 import Digest, File

from engines.devices import load_catalog
from services.common.errors import failed_precondition, invalid_argument
from services.common.storage import ContentStore
from services.common.tasks.kind import Prepared
from services.converter.uses import used_by

SOURCE_FOLDER = "source"
MANIFEST = "manifest.json"
MINIMUM_MEMORY = 1 << 30
"""Below this the frameworks themselves do not load."""


class ConversionKind:
    """Conversions, as the task engine sees them."""

    name = "conversion"
    service = "lathe.converter.v1.ConversionService"
    collection = "conversionTasks"
    task_type = ConversionTask
    outcome_type = ConversionOutcome

    def __init__(self, registry: grpc.aio.Channel, template: grpc.aio.Channel, cas: ContentStore) -> None:
        self._models = ModelServiceStub(registry)
        self._architectures = ArchitectureServiceStub(registry)
        self._templates = TemplateServiceStub(template)
        self._cas = cas

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
        work = await self._work(spec, version, template)
        return Prepared(
            work=work,
            device=template.device,
            display_name=f"{model.display_name} {datetime.now():%Y-%m-%d %H:%M:%S}",
            timeout_seconds=spec.timeout_seconds or device.timeout_seconds,
            memory_limit_bytes=spec.memory_limit_bytes or device.memory_limit_bytes,
            fill=lambda task: task.resolved.CopyFrom(resolved),  # type: ignore[attr-defined]
        )

    async def hold(self, task_name: str, spec: Message) -> bool:
        """Keep the source version from being deleted while the task runs."""
        assert isinstance(spec, ConversionSpec)
        await self._models.HoldModelVersion(HoldModelVersionRequest(name=spec.model_version, holder=task_name))
        return True

    async def release(self, task_name: str, spec: Message) -> None:
        """End the hold."""
        assert isinstance(spec, ConversionSpec)
        await self._models.UnholdModelVersion(UnholdModelVersionRequest(name=spec.model_version, holder=task_name))

    async def complete(self, task: Message, outcome: Message) -> Message:
        """Register the package as a version; a request id made from the task's uid makes a repeat harmless."""
        assert isinstance(task, ConversionTask)
        assert isinstance(outcome, ConversionOutcome)
        parent = _output_model(task.spec)
        template = task.resolved.template
        version = ModelVersion(
            format=PACKAGE,
            files=outcome.files,
            description=f"{task.spec.model_version} for {template.device} with {template.runtime}",
            package=PackageInfo(
                repo=template.repo,
                package_name=parent.removeprefix("models/"),
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
        request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, task.uid))
        created = await self._models.CreateModelVersion(
            CreateModelVersionRequest(parent=parent, model_version=version, request_id=request_id)
        )
        return ConversionResult(
            model_version=created.name,
            manifest=_manifest(outcome.files),
            components=outcome.components,
            software=outcome.software,
            hardware=outcome.hardware,
        )

    async def share(self, task: Message, original: Message, outcome: Message) -> Message | None:
        """Return the original's version, or register the outcome under another model; None where its bytes are gone."""
        assert isinstance(task, ConversionTask)
        assert isinstance(original, ConversionTask)
        assert isinstance(outcome, ConversionOutcome)
        same_place = _output_model(task.spec) == _output_model(original.spec)
        # While a version is registered its blobs are kept, so that the store need not be asked.
        if same_place and await self._exists(original.result.model_version):
            return original.result
        if not await self._cas.exists(_manifest(outcome.files)):  # the files were stored together: one stands for all
            return None
        return await self.complete(task, outcome)  # wanted elsewhere, or deleted since

    async def _exists(self, version: str) -> bool:
        try:
            await self._models.GetModelVersion(GetModelVersionRequest(name=version))
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return False
        return True

    async def _look_up(self, spec: ConversionSpec) -> tuple[ModelVersion, Model, ResolvedTemplate]:
        version, model, resolved = await asyncio.gather(
            self._models.GetModelVersion(GetModelVersionRequest(name=spec.model_version)),
            self._models.GetModel(GetModelRequest(name=_output_model(spec))),
            self._templates.ResolveTemplate(
                ResolveTemplateRequest(name=spec.template, overrides=spec.overrides, model_version=spec.model_version)
            ),
        )
        return version, model, resolved

    async def _work(self, spec: ConversionSpec, version: ModelVersion, template: Template) -> ConversionWork:
        work = ConversionWork(
            seed=spec.seed, parity_waivers=spec.parity_waivers, source_digest=_files_digest(version.files)
        )
        work.template.CopyFrom(template)
        for field in (
            "name",
            "uid",
            "display_name",
            "description",
            "labels",
            "owner",
            "create_time",
            "update_time",
            "etag",
        ):
            work.template.ClearField(field)  # equal work is equal bytes, whoever asks
        work.template.ClearField("built_in")
        work.inputs.extend(WorkInput(path=f"{SOURCE_FOLDER}/{file.path}", digest=file.digest) for file in version.files)
        for component in template.components:
            if component.architecture:
                architecture = await self._architectures.GetArchitecture(
                    GetArchitectureRequest(name=component.architecture)
                )
                work.architectures[component.name].CopyFrom(_add_architecture(work, architecture))
        if spec.HasField("samples"):
            if not await self._cas.exists(spec.samples):
                raise failed_precondition(
                    "BLOB_NOT_FOUND", f"the samples {spec.samples.sha256} are not stored; upload them first", "samples"
                )
            work.samples_path = "samples/samples.npz"
            work.inputs.append(WorkInput(path=work.samples_path, digest=spec.samples))
        return work


def _add_architecture(work: ConversionWork, architecture: Architecture) -> WorkArchitecture:
    """Return the architecture as a worker uses it, its source added once to the work's inputs."""
    path = f"architecture/{architecture.source_digest.sha256[:16]}.py"
    if path not in {entry.path for entry in work.inputs}:
        work.inputs.append(WorkInput(path=path, digest=architecture.source_digest))
    return WorkArchitecture(
        name=architecture.name,
        class_name=architecture.class_name,
        function=architecture.function,
        source_path=path,
        config=architecture.config,
        digest=architecture.digest,
    )


def _output_model(spec: ConversionSpec) -> str:
    return spec.output_model or spec.model_version.partition("/versions/")[0]


def _files_digest(files: Sequence[File]) -> str:
    """Return one sha256 over paths and contents, in the order of the paths."""
    lines = sorted(f"{file.path}\0{file.digest.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _manifest(files: Sequence[File]) -> Digest:
    return next(file.digest for file in files if file.path == MANIFEST)
