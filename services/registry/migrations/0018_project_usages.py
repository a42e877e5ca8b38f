"""What each project uses of the object store."""

from services.database.migration import execute

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Let marks say for which project they are, and create the table."""
    execute(
        "ALTER TABLE marks ADD COLUMN project text COLLATE \"C\" NOT NULL DEFAULT ''",
        "ALTER TABLE marks DROP CONSTRAINT marks_pkey",
        "ALTER TABLE marks ADD PRIMARY KEY (sha256, project)",
        """
        CREATE TABLE project_usages (
            project text COLLATE "C" PRIMARY KEY,
            files bigint NOT NULL,
            bytes bigint NOT NULL,
            measure_time timestamptz NOT NULL
        )
        """,
    )
