"""The sources of a package: a version with a graph of its own, a full template, architectures.

Converter, quantizer and optimizer gather it here, from their siblings and the object store, as the worker will read it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

import grpc
from google.protobuf.json_format import ParseError
from google.protobuf.message import Message
from lathe.internal.v1.conversion_pb2 import ConversionWork, WorkArchitecture, WorkInput
from lathe.internal.v1.registry_service_pb2 import ReadTaskSourceRequest, TaskSource
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub
from lathe.registry.v1.architecture_service_pb2 import Architecture, GetArchitectureRequest
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub
from lathe.registry.v1.artifact_service_pb2 import GetArtifactRequest
from lathe.registry.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_PACKAGE, ModelFormat, ModelVersion
from lathe.template.v1.template_service_pb2 import Template
from lathe.type.v1.digest_pb2 import Digest, File

from services.platform.errors import LatheError, failed_precondition
from services.platform.words import from_values
from services.storage import ContentStore

SOURCE_FOLDER = "source"
TEMPLATE_FILE = "template.json"
"""File of a package with the specification that it was made with."""

# Fields about the template as a resource, not about the work: equal work is equal bytes, for every user.
_OF_THE_RESOURCE = (
    "name",
    "uid",
    "display_name",
    "description",
    "labels",
    "owner",
    "create_time",
    "update_time",
    "etag",
    "built_in",
)


class Sources:
    """Reads versions, templates and architectures, and composes the work that reads a source."""

    def __init__(self, registry: grpc.aio.Channel, cas: ContentStore) -> None:
        self._registry = RegistryServiceStub(registry)
        self._architectures = ArchitectureServiceStub(registry)
        self._artifacts = ArtifactServiceStub(registry)
        self._cas = cas

    async def read(
        self,
        version: str,
        *,
        output_model: str = "",
        described: Iterable[ModelFormat.ValueType] = (),
        architectures: Iterable[str] = (),
        project: str = "",
    ) -> TaskSource:
        """Return a version and what a task that starts from it needs, in one call of the registry.

        Args:
            version: Its name.
            output_model: The model under which the task registers its result; the version's own if empty.
            described: Formats whose description the task needs.
            architectures: Those that the task names itself.
            project: The task's, if its creator named one.

        Raises:
            AioRpcError: NOT_FOUND for the version, the model or the project.
        """
        request = ReadTaskSourceRequest(
            name=version,
            output_model=output_model,
            described_formats=described,
            architectures=set(architectures),
            project=project,
        )
        found: TaskSource = await self._registry.ReadTaskSource(request)
        return found

    async def original(self, found: TaskSource) -> tuple[ModelVersion, Template | None]:
        """Return the version that a version was made from, with the template that read it.

        A version that is no package is its own original, and brings no template.

        Raises:
            LatheError: FAILED_PRECONDITION, reason NO_SOURCE_GRAPH, for a package that no task made, or whose original
                is not known.
        """
        version = found.model_version
        if version.format != MODEL_FORMAT_PACKAGE:
            return version, None
        if version.package.directly_uploaded or not version.lineage.sources:
            raise _no_source_graph(
                version, "was uploaded as a package, and a package holds no source graph. Upload the model itself"
            )
        template = await self._template_of(version)
        if not found.HasField("original"):
            gone = version.lineage.sources[-1]
            raise _no_source_graph(version, f"was made from '{gone}', which is gone. Upload that again")
        return found.original, template

    async def compose(
        self,
        version: ModelVersion,
        template: Template,
        *,
        seed: int = 0,
        parity_waivers: Mapping[str, str] | None = None,
        samples: Digest | None = None,
        known: Iterable[Architecture] = (),
    ) -> ConversionWork:
        """Return the work that reads `version` as the full `template` says, with all that it needs.

        Args:
            version: A version that is no package.
            template: Fully resolved.
            seed: Of generated samples.
            parity_waivers: Names under which a failed parity is let through, by component.
            samples: An NPZ artifact of parity samples.
            known: Architectures that were read with the version; others are read here.

        Raises:
            LatheError: NOT_FOUND for an architecture; FAILED_PRECONDITION, reason BLOB_NOT_FOUND, for samples.
        """
        work = ConversionWork(seed=seed, parity_waivers=parity_waivers, source_digest=files_digest(version.files))
        work.template.CopyFrom(template)
        resource: Message = work.template
        for field in _OF_THE_RESOURCE:
            resource.ClearField(field)
        work.inputs.extend(WorkInput(path=f"{SOURCE_FOLDER}/{file.path}", digest=file.digest) for file in version.files)
        by_name = {each.name: each for each in known}
        for component in template.components:
            if name := component.architecture:
                if (architecture := by_name.get(name)) is None:
                    architecture = await self._architectures.GetArchitecture(GetArchitectureRequest(name=name))
                    by_name[name] = architecture
                work.architectures[component.name].CopyFrom(_add_architecture(work, architecture))
        if samples is not None:
            await self.require_stored(samples, "samples")
            work.samples_path = "samples/samples.npz"
            work.inputs.append(WorkInput(path=work.samples_path, digest=samples))
        return work

    async def require_stored(self, digest: Digest, what: str) -> None:
        """Refuse bytes that are not stored, as far as the caller may know: a digest by itself gives nobody anything.

        Raises:
            LatheError: FAILED_PRECONDITION, reason BLOB_NOT_FOUND, naming `what` they are, in the plural.
        """
        try:
            await self._artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{digest.sha256}"))
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            message = f"the {what} {digest.sha256} are not stored; upload them first"
            raise failed_precondition("BLOB_NOT_FOUND", message, what) from None

    async def _template_of(self, version: ModelVersion) -> Template:
        stored = next((file.digest for file in version.files if file.path == TEMPLATE_FILE), None)
        again = "Convert its source again"
        if stored is None:
            raise _no_source_graph(version, f"does not say how its source is read (it has no {TEMPLATE_FILE}). {again}")
        try:
            return from_values(json.loads(await self._cas.read(stored)), Template())
        except (ParseError, ValueError) as error:
            message = f"has a {TEMPLATE_FILE} that is not a template ({str(error)[:200]}). {again}"
            raise _no_source_graph(version, message) from None


def require_same_architectures(work: ConversionWork, version: ModelVersion) -> None:
    """Refuse a package whose network is built by code that has changed since: it would be another network.

    Raises:
        LatheError: FAILED_PRECONDITION, reason ARCHITECTURE_CHANGED.
    """
    for architecture in work.architectures.values():
        built_with = version.lineage.architectures.get(architecture.name, architecture.digest)
        if built_with != architecture.digest:
            raise failed_precondition(
                "ARCHITECTURE_CHANGED",
                f"'{architecture.name}' has changed since '{version.name}' was made with it. Convert the source again, "
                "and start from the version that the conversion makes.",
                version.name,
            )


def files_digest(files: Sequence[File]) -> str:
    """Return one sha256 over paths and contents, in the order of the paths."""
    lines = sorted(f"{file.path}\0{file.digest.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _no_source_graph(version: ModelVersion, what: str) -> LatheError:
    return failed_precondition("NO_SOURCE_GRAPH", f"'{version.name}' {what}, and start from that.", version.name)


def _add_architecture(work: ConversionWork, architecture: Architecture) -> WorkArchitecture:
    """Return the architecture as a worker uses it, its source added once to the work's inputs."""
    # Errors name its lines by the last part, as its author calls the file.
    file_name = architecture.file_name or f"{architecture.name.rpartition('/')[2]}.py"
    path = f"architecture/{architecture.source_digest.sha256[:16]}/{file_name}"
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
