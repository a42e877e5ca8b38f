"""Packages that tasks make, each of which becomes a version, once."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from lathe.internal.v1.registry_service_pb2 import RegisterModelVersionRequest
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_PACKAGE,
    GetLineageRequest,
    GetModelVersionRequest,
    Lineage,
    Model,
    ModelDescription,
    ModelVersion,
    PackageInfo,
)
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
from lathe.type.v1.digest_pb2 import Digest, File
from pydantic import ValidationError

from engines.failures import first_objection
from engines.package.manifest import Manifest
from services.platform.errors import failed_precondition
from services.platform.words import from_values
from services.siblings.provenance import predicate_json
from services.storage import ContentStore

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20


class Packages:
    """Registers packages and finds those that are registered. Tasks have `spec` and `result` as conversions have."""

    def __init__(self, registry: grpc.aio.Channel, cas: ContentStore) -> None:
        self._models = ModelServiceStub(registry)
        self._registry = RegistryServiceStub(registry)
        self._cas = cas

    async def register(
        self, task: Any, work: Message, version: ModelVersion, description: ModelDescription | None = None
    ) -> str:
        """Register what a task made and return the version's name; a repeat for the same task returns the first.

        If the task's result names a version already, that version is gone, and gets a successor.

        Args:
            task: The task.
            work: What its service asked of the worker, which the package's provenance tells.
            version: The version to create.
            description: What the worker found in the files; the registry reads them itself if there is none.
        """
        created = await self._registry.RegisterModelVersion(
            RegisterModelVersionRequest(
                parent=output_model(task.spec),
                model_version=version,
                description=description,
                provenance_json=predicate_json(task, work, version),
                request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, task.uid + task.result.model_version)),
            )
        )
        return created.name

    async def share(
        self,
        task: Any,
        original: Any,
        outcome: Any,
        complete: Callable[[Message, Message], Awaitable[Message]],
        standing: Collection[str],
    ) -> Message | None:
        """Return the original's result, or `complete` under another model; None if its bytes are gone.

        `standing` are versions that are known to exist.
        """
        registered = original.result.model_version
        same_place = bool(registered) and output_model(task.spec) == output_model(original.spec)
        # While a version is registered its blobs are kept, so that the store need not be asked.
        if same_place and (registered in standing or await self.exists(registered)):
            result: Message = original.result
            return result
        if not await self._cas.exists(manifest_of(outcome.files)):  # the files were stored together: one stands for all
            return None
        return await complete(task, outcome)  # wanted elsewhere, deleted since, or never registered

    async def made_by(self, task: Any) -> str:
        """Return the version that a task's package became; empty if there is none.

        For work that was interrupted: it follows the lineage of the version that the task started from.
        """
        try:
            graph = await self._models.GetLineage(GetLineageRequest(name=task.spec.model_version, max_depth=1))
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return ""  # what others were made from cannot be deleted
        for node in graph.nodes:
            if node.distance == 1:
                version = await self._models.GetModelVersion(GetModelVersionRequest(name=node.name))
                if version.lineage.task == task.name:
                    return str(version.name)
        return ""

    async def exists(self, version: str) -> bool:
        """Return whether a version is there."""
        try:
            await self._models.GetModelVersion(GetModelVersionRequest(name=version))
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return False
        return True


def require_target(model: Model, project: str) -> None:
    """Refuse to register the result of a task under a model of another project; empty stands for the model's own.

    Raises:
        LatheError: FAILED_PRECONDITION, reason PROJECTS_DIFFER.
    """
    if project and model.project != project:
        raise failed_precondition(
            "PROJECTS_DIFFER",
            f"The result would become a version of '{model.name}', which is in '{model.project}'; what a task of "
            f"'{project}' makes stays there. Name a model of '{project}' in output_model, or create the task in "
            f"'{model.project}'.",
            model.name,
        )


def output_model(spec: Any) -> str:
    """Return the model under which a task's package becomes a version: the specification's, or else the source's."""
    model: str = spec.output_model or spec.model_version.partition("/versions/")[0]
    return model


def package_version(
    task: Any, files: Sequence[File], architectures: Mapping[str, str], asked: ModelVersion, manifest: bytes
) -> ModelVersion:
    """Return the version to register for a package that a task made.

    Args:
        task: The task; its specification has `template` and `output_model` as those of quantizations have.
        files: Files of the package.
        architectures: Digests of the architectures that were run, by name.
        asked: The version that the task started from.
        manifest: Text of the package's manifest.
    """
    read = Manifest.model_validate_json(manifest)
    # The original comes last: what is made of a package in turn is read from there.
    sources = dict.fromkeys([asked.name, *asked.lineage.sources[-1:]])
    template = task.spec.template or asked.lineage.template
    version = ModelVersion(
        format=MODEL_FORMAT_PACKAGE,
        files=files,
        description=f"{asked.name} for {read.device}: {' and '.join(map(str, read.forms))}",
        # The registry reads device, runtime and precision from the manifest.
        package=PackageInfo(
            repo=read.repo,
            package_name=output_model(task.spec).removeprefix("models/"),
            method=read.method,
            version=read.version,
            template=template,
        ),
        lineage=Lineage(sources=sources, architectures=architectures, template=template, task=task.name),
    )
    for component in read.components:
        from_values(component.parity, version.parity[component.name], ignore_unknown_fields=True)
    return version


def manifest_of(files: Sequence[File]) -> Digest:
    """Return the digest of a package's manifest."""
    return next(file.digest for file in files if file.path == MANIFEST)


async def read_manifest(cas: ContentStore, version: ModelVersion) -> Manifest:
    """Return the manifest of a version that is a package.

    Raises:
        LatheError: FAILED_PRECONDITION, reason INVALID_PACKAGE, if it is not valid.
    """
    digest = manifest_of(version.files)
    if digest.size_bytes > MAX_MANIFEST_BYTES:
        message = f"The manifest of '{version.name}' has {digest.size_bytes} bytes; {MAX_MANIFEST_BYTES} are read."
        raise failed_precondition("INVALID_PACKAGE", message, version.name)
    return parse_manifest(version, await cas.read(digest))


def parse_manifest(version: ModelVersion, text: bytes) -> Manifest:
    """Return the manifest of a package; LatheError FAILED_PRECONDITION, reason INVALID_PACKAGE, if it is not valid."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        where, what = first_objection(error, "the file")
        message = f"The {MANIFEST} of '{version.name}' is wrong at {where}: {what}. Build the package again."
        raise failed_precondition("INVALID_PACKAGE", message, version.name) from None
