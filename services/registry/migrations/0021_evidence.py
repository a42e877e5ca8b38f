"""Releases are found by the evaluation that they rest on, and holds by who has them."""

from lathe.registry.v1.release_service_pb2 import Release

from services.database.migration import execute

revision = "0021"
down_revision = "0020"

_BATCH = 500


def upgrade() -> None:
    """Add the column, fill it in, and create the indexes."""
    execute(
        # NULL: written by an earlier release, while this one runs beside it; the body tells.
        """ALTER TABLE releases ADD COLUMN evaluation_task text COLLATE "C" """,
        "CREATE INDEX ON holds (holder)",
        "CREATE INDEX ON dataset_holds (holder)",
    )
    _fill()
    execute("CREATE INDEX ON releases (evaluation_task) WHERE evaluation_task IS NULL OR evaluation_task <> ''")


def _fill() -> None:
    from alembic import op

    connection = op.get_bind()
    page = "SELECT uid, body FROM releases WHERE uid > $1 ORDER BY uid LIMIT $2"
    after = "00000000-0000-0000-0000-000000000000"
    while rows := connection.exec_driver_sql(page, (after, _BATCH)).all():
        after = rows[-1][0]
        values = [(uid, Release.FromString(body).evaluation_task) for uid, body in rows]
        connection.exec_driver_sql("UPDATE releases SET evaluation_task = $2 WHERE uid = $1", values)
