"""Channels, their releases, and the repositories that are to be brought in line with them."""

from services.database.migration import execute
from services.resources.table import resource_table

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create every table of releases."""
    execute(
        *resource_table("channels"),
        "ALTER TABLE channels ADD FOREIGN KEY (parent) REFERENCES models (name)",
        # A version stays for as long as a channel can go back to it.
        """
        CREATE TABLE releases (
            uid uuid PRIMARY KEY,
            name text COLLATE "C" NOT NULL UNIQUE,
            parent text COLLATE "C" NOT NULL REFERENCES channels (name) ON DELETE CASCADE,
            number int NOT NULL,
            model_version text COLLATE "C" NOT NULL REFERENCES model_versions (name),
            body bytea NOT NULL
        )
        """,
        "CREATE UNIQUE INDEX ON releases (parent, number)",
        "CREATE INDEX ON releases (model_version)",
        # Channels, there or deleted, whose folder in the bucket may not be what the rows say.
        """
        CREATE TABLE unsettled_channels (
            channel text COLLATE "C" PRIMARY KEY,
            -- Another one with every marking, so that who settles cannot take away a mark that was set meanwhile.
            mark uuid NOT NULL,
            create_time timestamptz NOT NULL DEFAULT now()
        )
        """,
    )
