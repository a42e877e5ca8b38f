"""Everything that a task service needs to know about a version before it creates a task, in one answer."""

from __future__ import annotations

from lathe.internal.v1.registry_service_pb2 import ReadTaskSourceRequest, TaskSource
from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_PACKAGE, GraphDescription, ModelDescription, ModelVersion

from services.database.pool import Connection, Database
from services.platform import access
from services.platform.errors import not_found
from services.registry import naming
from services.registry.kinds import ARCHITECTURES, MODELS, PROJECTS, VERSIONS

# The architectures of the version, of what it was made from, and of what was made from it: most tasks use again what
# earlier packages of the version were made with.
_VERSION = """
WITH made AS MATERIALIZED (
    SELECT made.name, made.uid FROM lineage_edges edge JOIN model_versions made ON made.name = edge.target
    WHERE edge.source = $1 AND ($4::text[] IS NULL OR made.readers && $4) ORDER BY made.uid DESC LIMIT 20
),
related AS (
    SELECT $1::text COLLATE "C" AS name UNION ALL SELECT name FROM made
    UNION ALL SELECT source FROM lineage_edges WHERE target = $1
),
used AS (
    SELECT unnest($3::text[]) COLLATE "C" AS name UNION
    SELECT source FROM lineage_edges WHERE target IN (SELECT name FROM related) AND source LIKE 'architectures/%'
)
SELECT version.body || version.detail AS version,
       (SELECT body || detail FROM models WHERE name = $2 AND ($4 IS NULL OR readers && $4)) AS model,
       ARRAY(SELECT name FROM made ORDER BY uid DESC) AS made,
       ARRAY(SELECT body || detail FROM architectures
             WHERE name IN (SELECT name FROM used) AND ($4 IS NULL OR readers && $4) ORDER BY name) AS architectures,
       $5 = '' OR EXISTS (SELECT FROM projects WHERE name = $5) AS project_exists
FROM model_versions version WHERE version.name = $1 AND ($4 IS NULL OR version.readers && $4)
"""
_ORIGINAL = """
SELECT body || detail FROM model_versions WHERE name = $1 AND ($2::text[] IS NULL OR readers && $2)
"""
_MOST_PACKAGES = 16
"""Longest chain of packages, each converted from the one before, that is followed to its original."""
_DESCRIPTION = "SELECT body FROM descriptions WHERE version = $1"


class TaskSources:
    """Reads what tasks start from."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, request: ReadTaskSourceRequest) -> TaskSource:
        """Return a version with what belongs to it, as far as the caller may see that.

        Raises:
            LatheError: NOT_FOUND for the version, the output model, or the project.
        """
        output = request.output_model or naming.model_of(request.name)
        for noun, name in ((VERSIONS.noun, request.name), (MODELS.noun, output), (PROJECTS.noun, request.project)):
            if "\0" in name:
                raise not_found(noun, name)
        async with self._database.connection() as connection:
            named = [name for name in request.architectures if "\0" not in name]
            row = await connection.fetchrow(_VERSION, request.name, output, named, access.readable(), request.project)
            if row is None:
                raise not_found(VERSIONS.noun, request.name)
            if row["model"] is None:
                raise not_found(MODELS.noun, output)
            if not row["project_exists"]:
                raise not_found(PROJECTS.noun, request.project)
            version = VERSIONS.parse(row["version"])
            found = TaskSource(model_version=version, model=MODELS.parse(row["model"]), made=row["made"])
            source = version
            if (original := await _original(connection, version)) is not None:
                source = original
                found.original.CopyFrom(source)
            if source.format in request.described_formats:
                found.description.CopyFrom(await _description(connection, source))
            found.architectures.extend(map(_architecture, row["architectures"]))
        return found


async def _original(connection: Connection, version: ModelVersion) -> ModelVersion | None:
    """Return the version that a package was made from, through the packages between; None if there is none."""
    source: ModelVersion | None = None
    for _ in range(_MOST_PACKAGES):
        if version.format != MODEL_FORMAT_PACKAGE or not version.lineage.sources:
            return source
        # A quantized package names the package that it was made from first, and the original last.
        body = await connection.fetchval(_ORIGINAL, version.lineage.sources[-1], access.readable())
        if body is None:
            return None
        source = version = VERSIONS.parse(body)
    return source


async def _description(connection: Connection, version: ModelVersion) -> ModelDescription:
    """Return the interface of a version's graphs, without their contents: the whole may have megabytes."""
    stored = ModelDescription.FromString(await connection.fetchval(_DESCRIPTION, version.name) or b"")
    graphs = (
        GraphDescription(path=graph.path, signature=graph.signature, metadata=graph.metadata) for graph in stored.graphs
    )
    return ModelDescription(model_version=version.name, format=version.format, graphs=graphs)


def _architecture(body: bytes) -> Architecture:
    architecture = ARCHITECTURES.parse(body)
    architecture.ClearField("source")
    return architecture
