"""Verifications of large uploads, which go on by themselves."""

from services.database.migration import execute
from services.operations.backlog import backlog_table

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the table, and the columns of what is verified and of how it failed."""
    execute(
        "ALTER TABLE uploads ADD COLUMN wanted_sha256 text COLLATE \"C\" NOT NULL DEFAULT ''",
        "ALTER TABLE uploads ADD COLUMN failure bytea NOT NULL DEFAULT ''",
        *backlog_table("upload_checks", "upload uuid", "uploads (uid)"),
    )
