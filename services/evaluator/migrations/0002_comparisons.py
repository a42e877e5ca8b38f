"""Comparisons of evaluations."""

from services.database.migration import execute

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    execute(
        """
        CREATE TABLE comparisons (
            uid uuid PRIMARY KEY,
            name text COLLATE "C" NOT NULL UNIQUE,
            owner text COLLATE "C" NOT NULL,
            create_time timestamptz NOT NULL,
            -- Names of the evaluations.
            tasks text[] COLLATE "C" NOT NULL,
            -- The message without its differences and samples, and these alone.
            body bytea NOT NULL,
            detail bytea NOT NULL
        )
        """,
        "CREATE INDEX comparisons_recent ON comparisons (create_time, uid)",
        "CREATE INDEX comparisons_owner ON comparisons (owner, create_time, uid)",
        "CREATE INDEX comparisons_tasks ON comparisons USING gin (tasks)",
    )
