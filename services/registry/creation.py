"""Creation of versions: the files are checked and described first, then everything is written at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from lathe.internal.v1.registry_service_pb2 import RegisterModelVersionRequest
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_PACKAGE,
    MODEL_FORMAT_PTH,
    CreateModelVersionRequest,
    Model,
    ModelDescription,
    ModelVersion,
)
from lathe.type.v1.digest_pb2 import File

from services.database.leases import Leases
from services.database.pool import Connection, Database
from services.platform.errors import failed_precondition, invalid_argument, missing_references, not_found
from services.registry import lineage, naming
from services.registry.architectures import Architectures
from services.registry.attestation import Attestation
from services.registry.blobs import Blobs, add_uses
from services.registry.descriptions import Describer, require_described
from services.registry.files import check_paths
from services.registry.kinds import MODELS, VERSIONS
from services.registry.packages import MANIFEST, complete_package, fill_from_manifest
from services.resources.idempotency import made_once
from services.resources.scope import kept
from services.resources.store import ResourceStore
from services.storage import ContentStore

Request = CreateModelVersionRequest | RegisterModelVersionRequest

MOST_BYTES_OF_A_CALL = 2 << 30

_OUTPUT_ONLY = ("name", "uid", "size_bytes")


class Creation:
    """Creates versions."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        blobs: Blobs,
        architectures: Architectures,
        attestation: Attestation,
        *,
        folder: Path,
    ) -> None:
        """Describe versions in folders inside `folder`."""
        self._database = database
        self._content = content
        self._blobs = blobs
        self._describer = Describer(content, folder)
        self._architectures = architectures
        self._attestation = attestation
        self._leases = Leases(database)
        self._models: ResourceStore[Model] = ResourceStore(database, MODELS)
        self._store: ResourceStore[ModelVersion] = ResourceStore(database, VERSIONS)

    async def create(self, request: Request, told: Callable[[float], None] = lambda part: None) -> ModelVersion:
        """Add a version to a model, once per request id; `told` takes the part of its bytes that is here.

        Raises:
            LatheError: NOT_FOUND for the model, and for what its lineage refers to (REFERENCE_NOT_FOUND);
                INVALID_ARGUMENT for files that are not what the format says (INVALID_MODEL), or carry code
                (UNSAFE_MODEL); FAILED_PRECONDITION for files that are not stored (BLOB_NOT_FOUND).
        """
        if isinstance(request, CreateModelVersionRequest) and request.validate_only:
            return await self._make(request, "", told)
        provenance = ""
        if isinstance(request, RegisterModelVersionRequest):
            # Another attempt at the same work may tell another time: it is the same request all the same.
            provenance = request.provenance_json
            request.ClearField("provenance_json")
        return await made_once(
            self._leases,
            request,
            find=lambda: self._store.first_made(request),
            make=lambda: self._make(request, provenance, told),
        )

    async def check(self, request: Request, inside: str = "model_version") -> tuple[Model, ModelVersion]:
        """Return the model, and the version to store as far as it is known without its files.

        Args:
            request: The creation.
            inside: Where the version stands in what the caller sent.

        Raises:
            LatheError: As `create`, but for what only the contents of the files tell.
        """
        model = await self._models.get(request.parent)
        await self._models.require_change(request.parent)
        version = _composed(request.model_version, inside)
        require_described(version.format)
        await self._blobs.require(version.files)
        return model, version

    async def check_references(self, version: ModelVersion, inside: str) -> None:
        """Refuse a version that names what its creator may not see; LatheError NOT_FOUND."""
        async with self._database.transaction() as connection:
            await self._require_references(connection, version, inside)

    async def _make(self, request: Request, provenance: str, told: Callable[[float], None]) -> ModelVersion:
        model, version = await self.check(request)
        if provenance:
            await self._attestation.add(version, provenance)
            version.size_bytes = _size(version)
        description = await self._description(request, version, told)
        if version.format == MODEL_FORMAT_PACKAGE:
            manifest = next(file for file in version.files if file.path == MANIFEST)
            fill_from_manifest(version.package, await self._content.read(manifest.digest))
        return await self._write(request, model, version, description)

    async def _description(
        self, request: Request, version: ModelVersion, told: Callable[[float], None]
    ) -> ModelDescription:
        """Return the description of the task that made the package, or else of a sandboxed child."""
        known = request.description if isinstance(request, RegisterModelVersionRequest) else ModelDescription()
        if version.format != MODEL_FORMAT_PACKAGE or not known.graphs:
            return await self._describer.describe(version.format, version.files, told)
        parameter_count = sum(graph.parameter_count for graph in known.graphs)
        return ModelDescription(
            format=version.format, size_bytes=version.size_bytes, graphs=known.graphs, parameter_count=parameter_count
        )

    async def _write(
        self, request: Request, model: Model, version: ModelVersion, description: ModelDescription
    ) -> ModelVersion:
        async def write_with(connection: Connection, made: ModelVersion) -> None:
            await self._require_references(connection, made, "model_version")
            await connection.execute(
                "UPDATE models SET last_number = last_number + 1, version_count = version_count + 1 WHERE name = $1",
                request.parent,
            )
            await connection.execute(
                "INSERT INTO descriptions (version, body) VALUES ($1, $2)", made.name, description.SerializeToString()
            )
            await lineage.add_edges(connection, made)
            await add_uses(connection, MODELS.table, request.parent, made.name, (file.digest for file in made.files))

        only = isinstance(request, CreateModelVersionRequest) and request.validate_only
        async with self._database.transaction(undo=only) as connection:
            # The lock on the model's row makes creations take turns, so that numbers have no gaps and no doubles.
            last = await connection.fetchval(
                "SELECT last_number FROM models WHERE name = $1 FOR UPDATE", request.parent
            )
            if last is None:
                raise not_found(MODELS.noun, request.parent)
            number = str(last + 1)
            version.display_name = version.display_name or naming.default_name(model.display_name, number)
            return await self._store.create(
                version,
                resource_id=number,
                parent=request.parent,
                request_id=request.request_id,
                request=request,
                on_create=write_with,
                connection=connection,
                validate_only=only,
            )

    async def _require_references(self, connection: Connection, version: ModelVersion, inside: str) -> None:
        sources = set(version.lineage.sources)
        missing = sorted(sources - await kept(connection, "model_versions", sources))
        wrong = [(f"{inside}.lineage.sources", f"There is no model version named '{name}'.") for name in missing]
        for name in await self._architectures.use(connection, version.lineage, version.architecture):
            field = "architecture" if name == version.architecture else "lineage.architectures"
            wrong.append((f"{inside}.{field}", f"There is no architecture named '{name}'."))
        if wrong:
            raise missing_references(wrong)


def require_short(files: Iterable[File]) -> None:
    """Refuse a call that would read too much; LatheError FAILED_PRECONDITION, reason VERSION_NEEDS_IMPORT."""
    size = sum(file.digest.size_bytes for file in files)
    if size > MOST_BYTES_OF_A_CALL:
        raise failed_precondition(
            "VERSION_NEEDS_IMPORT",
            f"To read {size} bytes takes longer than a call should; at most {MOST_BYTES_OF_A_CALL} are read in one. "
            "Call CreateModelVersionImport with the same version, and follow it with WatchModelVersionImport.",
        )


def _composed(asked: ModelVersion, inside: str) -> ModelVersion:
    """Return the version to store, without what callers do not decide, and with what follows from the rest."""
    version = ModelVersion()
    version.CopyFrom(asked)
    for field in _OUTPUT_ONLY:
        version.ClearField(field)  # type: ignore[arg-type]  # all of them are fields
    check_paths(version.files, f"{inside}.files")
    if version.architecture and version.format != MODEL_FORMAT_PTH:
        raise invalid_argument(
            f"{inside}.architecture", "Only a version of format PTH has an architecture; leave it empty."
        )
    complete_package(version)
    version.size_bytes = _size(version)
    return version


def _size(version: ModelVersion) -> int:
    return sum(file.digest.size_bytes for file in version.files)
