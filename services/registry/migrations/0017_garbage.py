"""Collections of garbage, and what they know of stored bytes."""

from services.database.migration import execute
from services.operations.backlog import backlog_table
from services.resources.table import resource_table

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Create the tables, and name the installation."""
    execute(
        *resource_table("garbage_collections", "state smallint NOT NULL", indexed=["state"]),
        *backlog_table("garbage_collection_work", 'collection text COLLATE "C"', "garbage_collections (name)"),
        # What the collection that goes on has found to be referred to.
        "CREATE TABLE marks (sha256 bytea PRIMARY KEY)",
        # Stored bytes that no collection has found referred to since, and the collection that saw them last.
        """
        CREATE TABLE condemned (
            sha256 text COLLATE "C" PRIMARY KEY,
            since timestamptz NOT NULL,
            seen text COLLATE "C" NOT NULL
        )
        """,
        # By which a bucket knows those who use it.
        "CREATE TABLE installation (uid uuid PRIMARY KEY, create_time timestamptz NOT NULL)",
        "INSERT INTO installation SELECT gen_random_uuid(), now()",
    )
