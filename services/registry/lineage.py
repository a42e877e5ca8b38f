"""Lineage: edges between resource names, kept in PostgreSQL and followed both ways.

An edge leads from what was used (a version, an architecture, a template, a task) to the version that was made.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from asyncpg import Connection
from lathe.registry.v1.model_service_pb2 import Lineage, LineageEdge, LineageGraph, LineageNode, ModelVersion

from services.platform.access import is_visible, readable
from services.registry import naming

DEFAULT_DEPTH = 10
# An answer has to stay under gRPC's 4 MiB; nearest nodes come first.
MAX_NODES = 5_000

_GRAPH = """
WITH RECURSIVE
ancestors(name, distance) AS (
    SELECT $1::text COLLATE "C", 0
    UNION
    SELECT edge.source, ancestors.distance - 1
    FROM ancestors JOIN {edges} edge ON edge.target = ancestors.name
    WHERE ancestors.distance > -$2::int
),
descendants(name, distance) AS (
    SELECT $1::text COLLATE "C", 0
    UNION
    SELECT edge.target, descendants.distance + 1
    FROM descendants JOIN {edges} edge ON edge.source = descendants.name
    WHERE descendants.distance < $2::int
),
nodes AS (
    SELECT name, max(distance) AS distance FROM ancestors GROUP BY name
    UNION
    SELECT name, min(distance) FROM descendants GROUP BY name
)
SELECT nodes.name, nodes.distance,
       coalesce(version.display_name, architecture.display_name, '') AS display_name
FROM nodes
LEFT JOIN model_versions version ON version.name = nodes.name
LEFT JOIN architectures architecture ON architecture.name = nodes.name
ORDER BY abs(nodes.distance), nodes.name
LIMIT $3
"""

# Templates and tasks that a version names are told to the members of its project.
_SEEN_EDGES = """(
    SELECT edge.source, edge.target FROM lineage_edges edge
    JOIN model_versions target ON target.name = edge.target
    LEFT JOIN model_versions source ON source.name = edge.source
    LEFT JOIN architectures used ON used.name = edge.source
    WHERE target.readers && $4 AND coalesce(source.readers, used.readers, ARRAY[target.project]) && $4
)"""


def used_by(version: ModelVersion) -> list[str]:
    """Return the resource names that `version` was made from."""
    lineage: Lineage = version.lineage
    used = [*lineage.sources, *lineage.architectures, version.architecture, lineage.template, lineage.task]
    return sorted({name for name in used if name})


def used_elsewhere(version: ModelVersion) -> set[str]:
    """Return the versions of other models, and the architectures, that `version` names."""
    own = f"{naming.model_of(version.name)}/"
    names = {*version.lineage.sources, *version.lineage.architectures, version.architecture} - {""}
    return {name for name in names if not name.startswith(own)}


async def visible(connection: Connection, names: Collection[str]) -> set[str]:
    """Return those of some versions and architectures that the caller may see."""
    query = " UNION ALL ".join(
        f"SELECT name FROM {table} WHERE name = ANY ($1) AND ($2::text[] IS NULL OR readers && $2)"  # noqa: S608
        for table in ("model_versions", "architectures")
    )
    return {row["name"] for row in await connection.fetch(query, list(names), readable())}


def leave_out(version: ModelVersion, names: Collection[str]) -> None:
    """Take the names of versions and architectures out of what a version says of its origin."""
    if version.architecture in names:
        version.ClearField("architecture")
    if names and version.HasField("lineage"):
        kept = [name for name in version.lineage.sources if name not in names]
        del version.lineage.sources[:]
        version.lineage.sources.extend(kept)
        for name in names:
            version.lineage.architectures.pop(name, None)


async def add_edges(connection: Connection, version: ModelVersion) -> None:
    """Record what `version` was made from."""
    await connection.executemany(
        "INSERT INTO lineage_edges (source, target) VALUES ($1, $2)",
        [(name, version.name) for name in used_by(version)],
    )


async def made_from(connection: Connection, sources: Sequence[str], *, limit: int = 5) -> list[str]:
    """Return at most `limit` versions, none of them among `sources`, that were made from one of `sources`.

    They are to be told to the caller: one that the caller may not see is "a version of another project".
    """
    rows = await connection.fetch(
        "SELECT DISTINCT edge.target, made.readers FROM lineage_edges edge "
        "JOIN model_versions made ON made.name = edge.target "
        "WHERE edge.source = ANY($1) AND NOT edge.target = ANY($1) ORDER BY 1 LIMIT $2",
        list(sources),
        limit,
    )
    told = (row["target"] if is_visible(row["readers"]) else "a version of another project" for row in rows)
    return list(dict.fromkeys(told))


async def graph(connection: Connection, version: str, max_depth: int) -> LineageGraph:
    """Return what `version` was made from and what was made from it, `max_depth` steps each way (10 if 0).

    What the caller may not see, and what is only behind it, is left out. At most `MAX_NODES` nodes are returned, the
    nearest first.
    """
    readers = readable()
    query = _GRAPH.format(edges="lineage_edges" if readers is None else _SEEN_EDGES)
    args = [version, max_depth or DEFAULT_DEPTH, MAX_NODES, *([] if readers is None else [readers])]
    rows = await connection.fetch(query, *args)
    names = [row["name"] for row in rows]
    edges = await connection.fetch(
        "SELECT source, target FROM lineage_edges WHERE source = ANY($1) AND target = ANY($1) ORDER BY 1, 2", names
    )
    found = LineageGraph(
        nodes=[
            LineageNode(
                name=row["name"],
                kind=naming.node_kind(row["name"]),
                display_name=row["display_name"] or row["name"].rsplit("/", 1)[1],
                distance=row["distance"],
            )
            for row in rows
        ]
    )
    found.edges.extend(LineageEdge(source=edge["source"], target=edge["target"]) for edge in edges)
    return found
