"""Who may read stored bytes: those who may read something that has them."""

from services.database.migration import execute

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Create the table, and let what is stored be readable in the default project."""
    execute(
        """
        CREATE TABLE artifact_uses (
            sha256 text COLLATE "C" NOT NULL,
            -- What has the bytes: a version, a dataset, a release…; or a project, to which somebody uploaded them.
            resource text COLLATE "C" NOT NULL,
            -- With whose readers those of the resource change.
            parent text COLLATE "C" NOT NULL,
            readers text[] COLLATE "C" NOT NULL,
            PRIMARY KEY (sha256, resource)
        )
        """,
        "CREATE INDEX ON artifact_uses (resource)",
        "CREATE INDEX ON artifact_uses (parent)",
        """
        INSERT INTO artifact_uses (sha256, resource, parent, readers)
        SELECT sha256, 'projects/default', 'projects/default', '{projects/default}' FROM blobs
        """,
        # Written by releases before 0.2 alone: whether a file could be sent to its name at once.
        "ALTER TABLE uploads ADD COLUMN direct boolean NOT NULL DEFAULT true",
    )
