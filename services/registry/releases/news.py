"""What the stream of changes says of a release."""

from __future__ import annotations

from lathe.registry.v1.release_service_pb2 import Release
from lathe.watch.v1.change_pb2 import CHANGE_TYPE_CREATED, Change

from services.changes.outbox import add_change
from services.database.pool import Connection


async def tell_release(connection: Connection, release: Release) -> None:
    """Let those who watch know of a release, inside the transaction that makes it."""
    news = Change(
        name=release.name,
        uid=release.uid,
        type=CHANGE_TYPE_CREATED,
        revision=1,
        time=release.create_time,
        release=release,
    )
    news.release.ClearField("files")
    await add_change(connection, "release", news)
