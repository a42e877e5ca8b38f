"""Approvals of versions for channels."""

from services.database.migration import execute

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the table."""
    execute(
        """
        CREATE TABLE approvals (
            uid uuid PRIMARY KEY,
            name text COLLATE "C" NOT NULL UNIQUE,
            parent text COLLATE "C" NOT NULL REFERENCES channels (name) ON DELETE CASCADE,
            model_version text COLLATE "C" NOT NULL REFERENCES model_versions (name) ON DELETE CASCADE,
            owner text COLLATE "C" NOT NULL,
            create_time timestamptz NOT NULL,
            body bytea NOT NULL,
            UNIQUE (parent, model_version, owner)
        )
        """,
        "CREATE INDEX ON approvals (parent, create_time, uid)",
        "CREATE INDEX ON approvals (model_version)",
    )
