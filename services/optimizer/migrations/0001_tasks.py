"""Optimization tasks, the places of saved models, records of searches, and groups of tasks."""

from services.database.migration import execute
from services.resources.table import resource_table
from services.tasks.state.schema import DELETED_REQUESTS, TASK_TABLES, TASK_USES

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of the task engine, and the service's own."""
    execute(*TASK_TABLES, *DELETED_REQUESTS, *TASK_USES)
    execute(
        """
        CREATE TABLE output_locations (
            -- Folder of the bucket: `vision/m-digits/mv-3`.
            place text COLLATE "C" PRIMARY KEY,
            -- Who alone may write it.
            task text COLLATE "C" NOT NULL,
            -- False while the task is in flight: then the place is free again when it ends.
            saved boolean NOT NULL,
            -- The version whose files lie there, once it is registered.
            version text COLLATE "C" NOT NULL DEFAULT '',
            -- When the task took it.
            take_time timestamptz NOT NULL DEFAULT clock_timestamp()
        )
        """,
        "CREATE INDEX output_locations_task ON output_locations (task)",
        """
        CREATE TABLE records (
            -- What was searched: the digest of the source's files, and the device.
            source text COLLATE "C" NOT NULL,
            device text COLLATE "C" NOT NULL,
            -- The task that wrote it.
            task text COLLATE "C" NOT NULL,
            sha256 text COLLATE "C" NOT NULL,
            size_bytes bigint NOT NULL,
            create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (source, device, task)
        )
        """,
        "CREATE INDEX records_newest ON records (source, device, create_time)",
        *resource_table("task_groups"),
    )
