"""How much of an upload has been verified."""

from services.database.migration import execute

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    execute("ALTER TABLE uploads ADD COLUMN verified_bytes bigint NOT NULL DEFAULT 0")
