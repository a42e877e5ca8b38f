"""Removing versions, and refusing to while something uses them."""

from __future__ import annotations

from collections.abc import Sequence

from services.database.pool import Connection, Record
from services.platform.access import is_visible
from services.platform.errors import failed_precondition
from services.registry import lineage
from services.registry.blobs import drop_uses
from services.resources.scope import told

_NAMED_AT_MOST = 5


async def remove_versions(connection: Connection, versions: Sequence[str]) -> None:
    """Delete versions, all or none.

    Args:
        connection: A transaction that has locked the rows of the versions.
        versions: Their names. Those made from each other may be deleted together.

    Raises:
        LatheError: FAILED_PRECONDITION, reason IN_USE, naming who uses one of them, as far as the caller may see it.
    """
    await _refuse_held(connection, versions)
    await _refuse_released(connection, versions)
    await _refuse_aliased(connection, versions)
    if made := await lineage.made_from(connection, versions, limit=_NAMED_AT_MOST):
        raise failed_precondition(
            "IN_USE",
            f"{_subject(versions)} cannot be deleted, because other versions were made from it: {', '.join(made)}. "
            "Delete those first.",
            subject=versions[0],
        )
    await drop_uses(connection, versions)
    await connection.execute("DELETE FROM model_versions WHERE name = ANY($1)", list(versions))


async def _refuse_held(connection: Connection, versions: Sequence[str]) -> None:
    rows = await connection.fetch(
        "SELECT version, holder, readers FROM holds JOIN model_versions ON name = version "
        "WHERE version = ANY($1) AND expire_time > now() ORDER BY version, holder LIMIT $2",
        list(versions),
        _NAMED_AT_MOST,
    )
    if rows:
        holders = ", ".join(f"{told(row['holder'], row['readers'])} ({row['version']})" for row in rows)
        raise failed_precondition(
            "IN_USE",
            f"{_subject(versions)} cannot be deleted while it is used by {holders}. Wait for its end, or cancel it.",
            subject=rows[0]["version"],
        )


async def _refuse_released(connection: Connection, versions: Sequence[str]) -> None:
    rows = await connection.fetch(
        "SELECT r.parent, r.model_version, max(r.number) AS number, c.readers FROM releases r "
        "JOIN channels c ON c.name = r.parent WHERE r.model_version = ANY($1) "
        "GROUP BY r.parent, r.model_version, c.readers ORDER BY r.parent, r.model_version LIMIT $2",
        list(versions),
        _NAMED_AT_MOST,
    )
    if rows:
        channels = ", ".join(map(_channel, rows))
        raise failed_precondition(
            "IN_USE",
            f"{_subject(versions)} cannot be deleted: it serves in a channel, or the channel can be rolled back to it: "
            f"{channels}. Delete the channel first.",
            subject=rows[0]["model_version"],
        )


async def _refuse_aliased(connection: Connection, versions: Sequence[str]) -> None:
    rows = await connection.fetch(
        "SELECT name, model_version FROM aliases WHERE model_version = ANY($1) ORDER BY name LIMIT $2",
        list(versions),
        _NAMED_AT_MOST,
    )
    if rows:
        raise failed_precondition(
            "IN_USE",
            f"{_subject(versions)} cannot be deleted while it has the alias {', '.join(row['name'] for row in rows)}. "
            "Move the alias to another version, or delete it.",
            subject=rows[0]["model_version"],
        )


def _channel(row: Record) -> str:
    if not is_visible(row["readers"]):
        return "a channel of another project"
    return f"{row['parent']} (release {row['number']}: {row['model_version']})"


def _subject(versions: Sequence[str]) -> str:
    return f"'{versions[0]}'" if len(versions) == 1 else f"The {len(versions)} versions"
