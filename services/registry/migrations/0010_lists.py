"""What releases and uploads are listed by."""

from datetime import UTC
from typing import Any

from lathe.registry.v1.release_service_pb2 import Release

from services.database.migration import execute

revision = "0010"
down_revision = "0009"

_SET = "UPDATE releases SET kind = $2, owner = $3, create_time = $4 WHERE uid = $1"


def upgrade() -> None:
    """Add the columns and the indexes; a release that an older service writes meanwhile has no owner in lists."""
    execute(
        "ALTER TABLE releases ADD COLUMN kind smallint NOT NULL DEFAULT 0",
        """ALTER TABLE releases ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT ''""",
        "ALTER TABLE releases ADD COLUMN create_time timestamptz NOT NULL DEFAULT now()",
        "CREATE INDEX uploads_recent ON uploads (create_time, uid)",
        "CREATE INDEX uploads_owner ON uploads (owner, create_time, uid)",
    )
    _fill()


def _fill() -> None:
    from alembic import op

    connection: Any = op.get_bind()
    values = []
    for uid, body in connection.exec_driver_sql("SELECT uid, body FROM releases").all():
        release = Release.FromString(body)
        values.append((uid, release.kind, release.owner, release.create_time.ToDatetime(tzinfo=UTC)))
    if values:
        connection.exec_driver_sql(_SET, values)
